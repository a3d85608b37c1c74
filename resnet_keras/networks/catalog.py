"""The networks of He et al. 2015, "Deep Residual Learning" (arXiv:1512.03385), and their descendants, as data."""

from __future__ import annotations

import itertools
import re
from typing import Any

from resnet_keras.checks.fields import nearest
from resnet_keras.networks.architecture import Architecture, Block, Shortcut

DEPTHS: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),  # arXiv:1603.05027, §5
    270: ("bottleneck", (4, 29, 53, 4)),  # arXiv:2103.07579, Table 11, and those below
    350: ("bottleneck", (4, 36, 72, 4)),
    420: ("bottleneck", (4, 44, 87, 4)),
}
"""Kind of block and blocks in each stage, by depth (Table 1, and later papers)."""


def _imagenet(depth: int, *, widths: tuple[int, ...] = (64, 128, 256, 512), **options: Any) -> Architecture:
    block, repeats = DEPTHS[depth]
    return Architecture(stem="imagenet", block=block, repeats=repeats, widths=widths).replace(**options)


def _cifar(n: int, *, shortcut: Shortcut | None = "A", block: Block = "basic", **options: Any) -> Architecture:
    row = Architecture(stem="cifar", block=block, repeats=(n, n, n), widths=(16, 32, 64), shortcut=shortcut)
    return row.replace(**options)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        *(_imagenet(depth) for depth in (18, 34, 50, 101, 152)),  # Table 1
        *(_imagenet(depth, shortcut=None) for depth in (18, 34)),
        *(_cifar(n) for n in (3, 5, 7, 9, 18, 200)),  # §4.2: 6n + 2 layers
        *(_cifar(n, shortcut=None) for n in (3, 5, 7, 9, 18)),
    )
}
"""Every network of the paper, under its name."""

# Activation before each convolution: shortcuts are identities from end to end.
_V2: dict[str, Any] = {"activation": "before", "projection": "bare"}
# ResNet-D: a deep stem, strides in the 3x3 convolutions, projections after average pooling.
_VD: dict[str, Any] = {"stem": "deep", "projection": "pooled", "bottleneck_stride": "3x3"}
_RS: dict[str, Any] = {**_VD, "stem": "strided", "se_reduction": 4}
_V15: dict[str, Any] = {"bottleneck_stride": "3x3"}
_WIDE: dict[str, Any] = {**_V15, "stem_width": 64}

FAMILY: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        # Identity Mappings in Deep Residual Networks, arXiv:1603.05027.
        *(
            _imagenet(depth, **_V2, bottleneck_stride="3x3", label=f"resnet{depth}v2")
            for depth in (18, 34, 50, 101, 152, 200)
        ),
        _cifar(18, activation="before", label="resnet110v2"),
        _cifar(18, shortcut="B", block="bottleneck", **_V2, stem_width=16, label="resnet164v2"),
        _cifar(111, shortcut="B", block="bottleneck", **_V2, stem_width=16, label="resnet1001v2"),
        # Bag of Tricks, arXiv:1812.01187; of 18 and 34 layers as PaddlePaddle has them, which named them "vd".
        *(
            _imagenet(depth, **_VD, first_projection=depth < 50, label=f"resnet{depth}vd")
            for depth in (18, 34, 50, 101, 152, 200)
        ),
        # Wide Residual Networks, arXiv:1605.07146: depth there counts projections.
        _cifar(4, shortcut="B", **_V2, widths=(160, 320, 640), stem_width=16, label="wide_resnet28_10"),
        _cifar(2, shortcut="B", **_V2, widths=(128, 256, 512), stem_width=16, label="wide_resnet16_8"),
        *(
            _imagenet(depth, widths=(128, 256, 512, 1024), expansion=2, **_WIDE, label=f"wide_resnet{depth}_2")
            for depth in (50, 101)
        ),
        # Aggregated Residual Transformations, arXiv:1611.05431: groups x width of a group.
        _imagenet(50, widths=(128, 256, 512, 1024), expansion=2, groups=32, **_WIDE, label="resnext50_32x4d"),
        _imagenet(101, widths=(256, 512, 1024, 2048), expansion=1, groups=32, **_WIDE, label="resnext101_32x8d"),
        _imagenet(101, widths=(256, 512, 1024, 2048), expansion=1, groups=64, **_WIDE, label="resnext101_64x4d"),
        # Squeeze-and-Excitation Networks, arXiv:1709.01507, with the stride where others have it since.
        *(_imagenet(depth, se_reduction=16, **_V15, label=f"se_resnet{depth}") for depth in (50, 101, 152)),
        _imagenet(
            50,
            widths=(128, 256, 512, 1024),
            expansion=2,
            groups=32,
            se_reduction=16,
            **_WIDE,
            label="se_resnext50_32x4d",
        ),
        # Revisiting ResNets, arXiv:2103.07579.
        *(_imagenet(depth, **_RS, label=f"resnet_rs{depth}") for depth in (50, 101, 152, 200, 270, 350, 420)),
        # MLPerf Tiny's image classification, arXiv:2106.07597; trained by TensorFlow, with its "same" padding.
        _cifar(1, shortcut="B", projection="bare", conv_bias=True, padding="same_tf", label="resnet8"),
    )
}
"""Later networks that differ from the paper's only in fields of `Architecture`, under their names."""


def architecture(name: str) -> Architecture:
    """Returns the row of `ARCHITECTURES` or of `FAMILY` called `name`, in any spelling of `network_name`.

    Raises:
        ValueError: There is no network of that name; the message has the nearest.
    """
    return (ARCHITECTURES | FAMILY)[network_name(name)]


def network_name(name: str) -> str:
    """Returns the name of a network in the tables for a usual spelling of it.

    Capitals, hyphens, and underscores do not matter, nor does an ending that only one network has: "ResNet50",
    "resnet-50", "resnext50" for resnext50_32x4d, "WRN-28-10" for wide_resnet28_10.

    Raises:
        ValueError: There is no network of that name, or several; the message has the nearest.
    """
    known = ARCHITECTURES | FAMILY
    if name in known:
        return name
    spelling = re.sub(r"[\s_-]", "", str(name).lower())
    spelling = re.sub(r"^wrn", "wideresnet", spelling)
    found = [each for each in known if each.replace("_", "") == spelling]
    if not found:
        found = [each for each in known if spelling in itertools.accumulate(each.split("_"))]
    if len(found) == 1:
        return found[0]
    near = f" Did you mean {' or '.join(found)}?" if 0 < len(found) <= 3 else nearest(name, known, 3)
    raise ValueError(
        f"Expected the name of a network; `resnet networks` prints all {len(known)}. Received: {name!r}.{near}"
    )
