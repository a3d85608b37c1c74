"""Names of weights in other libraries, as data: each is translated to the name of our layer, and back."""

from __future__ import annotations

from collections.abc import Iterable

from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.layout import PREACTIVATED, Layout
from resnet_keras.weights.usual_preprocessing import KERAS_PHOTOS, KERAS_V2_PHOTOS, for_photos, for_small_images

# Counters of batch normalization, torch.optim.swa_utils and thop.
_COUNTERS = r"(.*\.)?(num_batches_tracked|n_averaged|total_ops|total_params)"

_FRAMEWORK = Conventions(strided_block="first", padding="symmetric", pool_border="edge")
# Code for PyTorch that pads channels pads them on both sides.
_TORCH = _FRAMEWORK.merged(
    Conventions(bottleneck_stride="3x3", basic_stride="conv1", zero_channels="both_sides", epsilon=1e-5)
)

_STEM = ((r"conv1", "stem_conv"), (r"bn1", "stem_conv_bn"))
# ResNet-C's stem, a Sequential of convolutions 0, 3 and 6 with ReLUs, and the convolution instead of the pool.
_DEEP_STEM = (
    *((rf"conv1\.{3 * i}", f"stem_conv{i + 1}") for i in range(3)),
    *((rf"conv1\.{3 * i + 1}", f"stem_conv{i + 1}_bn") for i in range(2)),
    (r"bn1", "stem_conv3_bn"),
    (r"maxpool\.0", "stem_conv4"),
    (r"maxpool\.1", "stem_conv4_bn"),
)


def _torchvision(*, deep: bool, pooled: bool) -> Layout:
    """Returns torchvision's names, or timm's for deep stems and for shortcuts that pool before they project."""
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
        ignored=_COUNTERS,
        conventions=_TORCH.merged(Conventions(projection="pooled" if pooled else "normalized")),
    )


def _keras_modules(stage: str, *, head: str, before: str, deep: bool = False) -> tuple[tuple[str, str], ...]:
    """Returns the modules of Keras's own libraries, which name stages, heads and first normalizations differently."""
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
        conventions=_FRAMEWORK.merged(
            Conventions(
                bottleneck_stride="3x3",
                epsilon=1e-5,
                projection="pooled" if deep else "normalized",  # its only networks with deep stems are vd
            )
        ),
    )


# MLPerf Tiny's ResNet-8: Keras numbers layers without names in the order of their creation.
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
            # There the second normalization is before the second convolution.
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.norm2", "stage{s}_block{b}_conv1_bn"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.norm3", "stage{s}_block{b}_conv2_bn"),
            (r"stages\.(?P<s>\d+)\.blocks\.(?P<b>\d+)\.downsample\.conv", "stage{s}_block{b}_projection"),
            (r"norm", "final_bn"),
            (r"head\.fc", "logits"),
        ),
        first=(0, 0, 1),
        ignored=_COUNTERS,
        conventions=_TORCH,
        head_is_convolution=True,
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
        ignored=_COUNTERS,
        conventions=_TORCH.merged(Conventions(projection="normalized")),
    ),
    Layout(
        name="keras.applications",
        axes="keras",
        anchors=("conv1_conv/kernel", "conv2_block1_1_conv/kernel"),
        modules=_keras_modules("conv", head="predictions|probs", before="preact"),
        first=(2, 1, 1),
        conventions=_FRAMEWORK.merged(
            Conventions(bottleneck_stride="1x1", epsilon=1.001e-5, projection="normalized", pool_border="zeros")
        ),
        preactivated=PREACTIVATED.merged(Conventions(strided_block="last_of_previous")),
        photos=KERAS_PHOTOS,
        preactivated_photos=KERAS_V2_PHOTOS,
    ),
    Layout(
        name="KerasCV",
        axes="keras",
        anchors=("conv1_conv/kernel", "v2_stack_0_block1_1_conv/kernel"),
        modules=_keras_modules("v2_stack_", head="predictions", before="use_preactivation"),
        first=(0, 1, 1),
        conventions=Conventions(
            bottleneck_stride="1x1",
            epsilon=1.001e-5,
            projection="normalized",
            strided_block="first",
            padding="same_tf",
        ),
        preactivated=PREACTIVATED.merged(Conventions(basic_stride="conv2", strided_block="last")),
        without_bias=r"stage\d+_block\d+_conv2",
        photos=for_photos((0.0,) * 3, (255.0,) * 3, "pixels become 0 to 1"),
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
        conventions=_FRAMEWORK.merged(Conventions(epsilon=1e-3, padding="same_tf")),
        small_images=for_small_images((0.0,) * 3, (1.0,) * 3, "pixels stay what they are, 0 to 255"),
    ),
    *(
        Layout(
            name="resnet_keras",
            axes="keras",
            anchors=(f"{stem}/kernel",),
            modules=((r"(?P<layer>[^/]+)", "{layer}"),),
            photos=None,
            small_images=None,
            option_a_images=None,
        )
        for stem in ("stem_conv", "stem_conv3")
    ),
)
"""The layouts that are recognized, in the order in which they are tried."""


def recognize_layout(names: Iterable[str], prefix: str | None = None) -> tuple[Layout, str]:
    """Returns the layout of a file that holds `names`, and the prefix before all of its names.

    Args:
        names: Names of tensors.
        prefix: The prefix of the network among several; `None` if there is one network.

    Raises:
        ValueError: No layout, or more than one network.
    """
    names = set(names)
    others_found: list[str] = []
    for layout in LAYOUTS:
        first, *others = layout.anchors
        ends = (name.removesuffix(first) for name in names if name.endswith(first))
        prefixes = sorted(
            p for p in ends if (not p or p[-1] in "./") and all(f"{p}{other}" in names for other in others)
        )
        if not prefixes:
            continue
        if prefix is not None:
            if chosen := [p for p in prefixes if p.rstrip("./") == prefix.rstrip("./")]:
                return layout, chosen[0]
            others_found += prefixes
        elif len(prefixes) > 1:
            raise ValueError(
                "Expected the weights of one network. `prefix`, in training `weights_prefix`, chooses one. "
                f"Received: {len(prefixes)}, {_shown(prefixes)}"
            )
        else:
            return layout, prefixes[0]
    if others_found:
        raise ValueError(f"Expected `prefix` of a network, one of {_shown(others_found)}. Received: {prefix!r}")
    known = "; ".join(dict.fromkeys(f"{layout.name} ({layout.anchors[-1]})" for layout in LAYOUTS))
    shown = ", ".join(sorted(names)[:5])
    raise ValueError(
        f"Expected the names of one of these layouts: {known}. Received: {shown}{', ...' if len(names) > 5 else ''}"
    )


def _shown(prefixes: list[str]) -> str:
    return ", ".join(repr(prefix.rstrip("./")) for prefix in prefixes)
