"""How libraries name the weights of these networks, as data: each name translated to that of our layer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from resnet_keras.networks.architecture import BottleneckStride, Halving, Padding, PoolBorder, Projection

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
        epsilon: Of its batch normalization.
        projection: How its shortcuts project, where names tell.
        halving: Which blocks of its networks with activation before convolutions have the strides.
        pool_border: What its stems without activation pool beyond the image.
        padding: Of its strided kernels.
    """

    name: str
    axes: Literal["torch", "keras"]
    anchors: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    first: tuple[int, int, int] = (1, 1, 1)
    passed_over: str = r"(?!)"
    bottleneck_stride: BottleneckStride | None = None
    epsilon: float | None = None
    projection: Projection | None = None
    halving: Halving = "first"
    pool_border: PoolBorder = "edge"
    padding: Padding = "both"

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


_STEM = ((r"conv1", "stem_conv"), (r"bn1", "stem_conv_bn"))
# ResNet-C's, a Sequential of convolutions 0, 3 and 6, with ReLUs; and what may stand in the place of the pool.
_DEEP_STEM = (
    *((rf"conv1\.{3 * i}", f"stem_conv{i + 1}") for i in range(3)),
    *((rf"conv1\.{3 * i + 1}", f"stem_conv{i + 1}_bn") for i in range(2)),
    (r"bn1", "stem_conv3_bn"),
    (r"maxpool\.0", "stem_conv4"),
    (r"maxpool\.1", "stem_conv4_bn"),
)


def _torchvision(*, deep: bool, pooled: bool) -> Layout:
    """Returns torchvision's names, or timm's of them for deep stems and shortcuts that pool before they project."""
    block = r"layer(?P<s>\d+)\.(?P<b>\d+)"
    at = 1 if pooled else 0
    return Layout(
        name="timm" if deep or pooled else "torchvision, timm",
        axes="torch",
        anchors=(
            "conv1.6.weight" if deep else "conv1.weight",
            *(["layer2.0.downsample.2.weight"] if pooled else []),
            "layer1.0.conv1.weight",
        ),
        modules=(
            *(_DEEP_STEM if deep else _STEM),
            (rf"{block}\.conv(?P<k>\d)", "stage{s}_block{b}_conv{k}"),
            (rf"{block}\.bn(?P<k>\d)", "stage{s}_block{b}_conv{k}_bn"),
            (rf"{block}\.(downsample|shortcut)\.{at}", "stage{s}_block{b}_projection"),
            (rf"{block}\.(downsample|shortcut)\.{at + 1}", "stage{s}_block{b}_projection_bn"),
            (rf"{block}\.se\.fc1", "stage{s}_block{b}_reduce"),
            (rf"{block}\.se\.fc2", "stage{s}_block{b}_expand"),
            (r"fc|linear", "logits"),
        ),
        first=(1, 0, 1),
        passed_over=r".*\.num_batches_tracked",
        bottleneck_stride="3x3",
        epsilon=1e-5,
        projection="pooled" if pooled else "normalized",
    )


def _keras_modules(stage: str, *, head: str, before: str, deep: bool = False) -> tuple[tuple[str, str], ...]:
    """Returns the modules of Keras's own libraries, which differ in what they call a stage and a head."""
    block = rf"{stage}(?P<s>\d+)_block(?P<b>\d+)"
    stem = r"conv(?P<n>\d)" if deep else "conv1"
    ours = "stem_conv{n}" if deep else "stem_conv"
    return (
        (rf"{stem}_conv", ours),
        (rf"{stem}_bn", f"{ours}_bn"),
        (rf"{block}_0_conv", "stage{s}_block{b}_projection"),
        (rf"{block}_0_bn", "stage{s}_block{b}_projection_bn"),
        (rf"{block}_{before}_bn", "stage{s}_block{b}_preact_bn"),
        (rf"{block}_(?P<k>\d)_conv", "stage{s}_block{b}_conv{k}"),
        (rf"{block}_(?P<k>\d)_bn", "stage{s}_block{b}_conv{k}_bn"),
        (r"post_bn", "final_bn"),
        (head, "logits"),
    )


def _keras_hub(*, deep: bool) -> Layout:
    return Layout(
        name="KerasHub",
        axes="keras",
        anchors=("conv3_conv/kernel" if deep else "conv1_conv/kernel", "stack0_block0_1_conv/kernel"),
        modules=_keras_modules("stack", head="predictions", before="pre_activation", deep=deep),
        first=(0, 0, 1),
        bottleneck_stride="3x3",
        epsilon=1e-5,
        projection="pooled" if deep else "normalized",  # its only networks with deep stems are vd
    )


# Of MLPerf Tiny's ResNet-8: as Keras numbers layers without names, in the order of their making.
_RESNET8 = (
    "stem_conv",
    *(f"stage1_block1_{part}" for part in ("conv1", "conv2")),
    *(f"stage{stage}_block1_{part}" for stage in (2, 3) for part in ("conv1", "conv2", "projection")),
)

_ENCODER = r"encoder\.stages\.(?P<s>\d+)\.layers\.(?P<b>\d+)"

LAYOUTS = (
    *(_torchvision(deep=deep, pooled=pooled) for deep in (True, False) for pooled in (True, False)),
    Layout(
        name="timm, activation before",
        axes="torch",
        anchors=("stem.conv.weight", "stages.0.blocks.0.norm1.running_mean", "stages.0.blocks.0.conv1.weight"),
        modules=(
            (r"stem\.conv", "stem_conv"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.conv(?P<k>\d)", "stage{s}_block{b}_conv{k}"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.norm1", "stage{s}_block{b}_preact_bn"),
            # There the second normalization stands before the second convolution.
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.norm2", "stage{s}_block{b}_conv1_bn"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.norm3", "stage{s}_block{b}_conv2_bn"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.downsample\.conv", "stage{s}_block{b}_projection"),
            (r"norm", "final_bn"),
            (r"head\.fc", "logits"),
        ),
        first=(0, 0, 1),
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
            (rf"{_ENCODER}\.layer\.(?P<k>\d)\.convolution", "stage{s}_block{b}_conv{k}"),
            (rf"{_ENCODER}\.layer\.(?P<k>\d)\.normalization", "stage{s}_block{b}_conv{k}_bn"),
            (rf"{_ENCODER}\.shortcut\.convolution", "stage{s}_block{b}_projection"),
            (rf"{_ENCODER}\.shortcut\.normalization", "stage{s}_block{b}_projection_bn"),
            (r"classifier\.1", "logits"),
        ),
        first=(0, 0, 0),
        projection="normalized",
        passed_over=r".*\.num_batches_tracked",
        bottleneck_stride="3x3",
        epsilon=1e-5,
    ),
    Layout(
        name="keras.applications",
        axes="keras",
        anchors=("conv1_conv/kernel", "conv2_block1_1_conv/kernel"),
        modules=_keras_modules("conv", head="predictions|probs", before="preact"),
        first=(2, 1, 1),
        bottleneck_stride="1x1",
        epsilon=1.001e-5,
        projection="normalized",
        halving="last",
        pool_border="zeros",
    ),
    _keras_hub(deep=True),
    _keras_hub(deep=False),
    Layout(
        name="MLPerf Tiny",
        axes="keras",
        anchors=("conv2d/kernel", "conv2d_8/kernel", "batch_normalization_6/gamma", "dense/kernel"),
        modules=(
            *((rf"conv2d{f'_{i}' if i else ''}", layer) for i, layer in enumerate(_RESNET8)),
            *(
                (rf"batch_normalization{f'_{i}' if i else ''}", f"{layer}_bn")
                for i, layer in enumerate(layer for layer in _RESNET8 if not layer.endswith("projection"))
            ),
            ("dense", "logits"),
        ),
        epsilon=1e-3,
        padding="behind",
    ),
    *(
        Layout(
            name="resnet_keras", axes="keras", anchors=(f"{stem}/kernel",), modules=((r"(?P<layer>[^/]+)", "{layer}"),)
        )
        for stem in ("stem_conv", "stem_conv3")
    ),
)
"""The layouts that are recognized."""


def recognize_layout(names: Iterable[str]) -> tuple[Layout, str]:
    """Returns the layout of a file that holds `names`, and the prefix before all of its names.

    Raises:
        ValueError: No layout, or more than one network.
    """
    names = set(names)
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
    known = "; ".join(dict.fromkeys(f"{layout.name} ({layout.anchors[-1]})" for layout in LAYOUTS))
    shown = ", ".join(sorted(names)[:5])
    raise ValueError(
        f"Expected names as of one of these: {known}. Received: {shown}{', ...' if len(names) > 5 else ''}"
    )
