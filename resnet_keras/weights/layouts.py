"""How libraries name the weights of these networks, as data: each name translated to that of our layer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from resnet_keras.architectures import BottleneckStride

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_KERNEL = {"weight": "kernel", "bias": "bias"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names that one library gives the weights of a residual network.

    Attributes:
        name: Of the library or libraries.
        axes: "torch": kernels are (out, in, H, W) and (out, in); "keras": (H, W, in, out) and (in, out).
        anchors: Names that every file of this layout holds, after a prefix that all names share.
        modules: Patterns of its modules (stage `s`, block `b`, convolution `k`) and our layers.
        first: What the library's first stage, block and convolution are numbered.
        passed_over: Pattern of names that are no weights.
        bottleneck_stride: Where its bottlenecks have their stride, unless a file says otherwise.
        epsilon: Of its batch normalisation.
    """

    name: str
    axes: Literal["torch", "keras"]
    anchors: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    first: tuple[int, int, int] = (1, 1, 1)
    passed_over: str = r"(?!)"
    bottleneck_stride: BottleneckStride | None = None
    epsilon: float | None = None

    def ours(self, name: str) -> str | None:
        """Returns `layer/weight` of our networks for a name without its prefix; `None` if there is none."""
        separator = "." if self.axes == "torch" else "/"
        module, _, weight = name.rpartition(separator)
        for pattern, template in self.modules:
            if match := re.fullmatch(pattern, module):
                numbers = {
                    key: int(match[key]) - first + 1
                    for key, first in zip("sbk", self.first, strict=True)
                    if key in match.re.groupindex
                }
                layer = template.format(**match.groupdict() | numbers)
                if self.axes == "torch":
                    weight = (_BATCH_NORM if layer.endswith("_bn") else _KERNEL).get(weight, "")
                return f"{layer}/{weight}" if weight else None
        return None

    def passes_over(self, name: str) -> bool:
        """Tells whether a name is one of what is no weight."""
        return re.fullmatch(self.passed_over, name) is not None


def _keras_modules(stage: str, *, head: str) -> tuple[tuple[str, str], ...]:
    """Returns the modules of Keras's own libraries, which differ in what they call a stage and a head."""
    block = rf"{stage}(?P<s>\d+)_block(?P<b>\d+)"
    return (
        (r"conv1_conv", "stem_conv"),
        (r"conv1_bn", "stem_conv_bn"),
        (rf"{block}_0_conv", "stage{s}_block{b}_projection"),
        (rf"{block}_0_bn", "stage{s}_block{b}_projection_bn"),
        (rf"{block}_(?P<k>\d)_conv", "stage{s}_block{b}_conv{k}"),
        (rf"{block}_(?P<k>\d)_bn", "stage{s}_block{b}_conv{k}_bn"),
        (head, "logits"),
    )


LAYOUTS = (
    Layout(
        name="torchvision, timm",
        axes="torch",
        anchors=("conv1.weight", "layer1.0.conv1.weight"),
        modules=(
            (r"conv1", "stem_conv"),
            (r"bn1", "stem_conv_bn"),
            (r"layer(?P<s>\d+)\.(?P<b>\d+)\.conv(?P<k>\d)", "stage{s}_block{b}_conv{k}"),
            (r"layer(?P<s>\d+)\.(?P<b>\d+)\.bn(?P<k>\d)", "stage{s}_block{b}_conv{k}_bn"),
            (r"layer(?P<s>\d+)\.(?P<b>\d+)\.(downsample|shortcut)\.0", "stage{s}_block{b}_projection"),
            (r"layer(?P<s>\d+)\.(?P<b>\d+)\.(downsample|shortcut)\.1", "stage{s}_block{b}_projection_bn"),
            (r"fc|linear", "logits"),
        ),
        first=(1, 0, 1),
        passed_over=r".*\.num_batches_tracked",
        bottleneck_stride="3x3",
        epsilon=1e-5,
    ),
    Layout(
        name="transformers",
        axes="torch",
        anchors=("embedder.embedder.convolution.weight", "encoder.stages.0.layers.0.layer.0.convolution.weight"),
        modules=(
            (r"embedder\.embedder\.convolution", "stem_conv"),
            (r"embedder\.embedder\.normalization", "stem_conv_bn"),
            (
                r"encoder\.stages\.(?P<s>\d+)\.layers\.(?P<b>\d+)\.layer\.(?P<k>\d)\.convolution",
                "stage{s}_block{b}_conv{k}",
            ),
            (
                r"encoder\.stages\.(?P<s>\d+)\.layers\.(?P<b>\d+)\.layer\.(?P<k>\d)\.normalization",
                "stage{s}_block{b}_conv{k}_bn",
            ),
            (
                r"encoder\.stages\.(?P<s>\d+)\.layers\.(?P<b>\d+)\.shortcut\.convolution",
                "stage{s}_block{b}_projection",
            ),
            (
                r"encoder\.stages\.(?P<s>\d+)\.layers\.(?P<b>\d+)\.shortcut\.normalization",
                "stage{s}_block{b}_projection_bn",
            ),
            (r"classifier\.1", "logits"),
        ),
        first=(0, 0, 0),
        passed_over=r".*\.num_batches_tracked",
        bottleneck_stride="3x3",
        epsilon=1e-5,
    ),
    Layout(
        name="keras.applications",
        axes="keras",
        anchors=("conv1_conv/kernel", "conv2_block1_1_conv/kernel"),
        modules=_keras_modules("conv", head="predictions|probs"),
        first=(2, 1, 1),
        bottleneck_stride="1x1",
        epsilon=1.001e-5,
    ),
    Layout(
        name="KerasHub",
        axes="keras",
        anchors=("conv1_conv/kernel", "stack0_block0_1_conv/kernel"),
        modules=_keras_modules("stack", head="predictions"),
        first=(0, 0, 1),
        bottleneck_stride="3x3",
        epsilon=1e-5,
    ),
    Layout(
        name="resnet_keras",
        axes="keras",
        anchors=("stem_conv/kernel",),
        modules=((r"(?P<layer>[^/]+)", "{layer}"),),
    ),
)
"""The layouts that are recognised."""

_OTHER_NETWORKS = (
    (r"preact_bn|pre_activation|post_bn/", "a pre-activation network (arXiv:1603.05027)"),
    (r"(^|\.)conv1\.\d+\.weight$|^conv2_conv/kernel$", "a stem of three convolutions (arXiv:1812.01187)"),
    (r"downsample\.2\.running_mean$", "a shortcut with average pooling (arXiv:1812.01187)"),
    (r"\.se\.|\.se_module\.|_se_", "squeeze-and-excitation (arXiv:1709.01507)"),
)


def recognise(names: Iterable[str]) -> tuple[Layout, str]:
    """Returns the layout of a file that holds `names`, and the prefix before all of its names.

    Raises:
        ValueError: No layout, or more than one network; or a kind of network that is not among ours.
    """
    names = set(names)
    for pattern, what in _OTHER_NETWORKS:
        if found := sorted(name for name in names if re.search(pattern, name)):
            raise ValueError(f"Expected a network of arXiv:1512.03385. Received: {what}, by its {found[0]}")
    for layout in LAYOUTS:
        first, *others = layout.anchors
        ends = (name.removesuffix(first) for name in names if name.endswith(first))
        prefixes = sorted(
            p for p in ends if (not p or p[-1] in "./") and all(f"{p}{other}" in names for other in others)
        )
        if len(prefixes) > 1:
            raise ValueError(f"Expected the weights of one network. Received: {len(prefixes)}, {', '.join(prefixes)}")
        if prefixes:
            return layout, prefixes[0]
    known = "; ".join(f"{layout.name} ({layout.anchors[-1]})" for layout in LAYOUTS)
    shown = ", ".join(sorted(names)[:5])
    raise ValueError(
        f"Expected names as of one of these: {known}. Received: {shown}{', ...' if len(names) > 5 else ''}"
    )
