"""The networks of He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv:1512.03385), as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Stem = Literal["imagenet", "cifar"]
Block = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]
ZeroChannels = Literal["behind", "around"]
BottleneckStride = Literal["1x1", "3x3"]
BatchNorm = Literal["per_replica", "synchronized"]
Part = Literal["stem", "stage1", "stage2", "stage3", "stage4", "backbone"]

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels that leave a block, per channel of its 3x3 convolutions (Fig. 5)."""

_CONVOLUTIONS = {"basic": 2, "bottleneck": 3}
_STEM_STRIDE = {"imagenet": 4, "cifar": 1}
_IMAGE_SIZE = {"imagenet": 224, "cifar": 32}
_CLASSES = {"imagenet": 1000, "cifar": 10}


@dataclass(frozen=True)
class PlannedBlock:
    """One residual block of a network.

    Attributes:
        name: Its address, e.g. `stage3_block1`.
        width: Channels of its 3x3 convolutions.
        stride: Of its first or second convolution, and of its shortcut.
        dilation: Of its 3x3 convolutions up to the one that has the stride, or would have it.
        dilation_after: Of its 3x3 convolutions after that one.
        drop: Probability that training leaves its residual function out, for one image.
    """

    name: str
    width: int
    stride: int
    dilation: int
    dilation_after: int
    drop: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One column of the paper's Table 1, one member of its CIFAR family (§4.2), or a network of your own.

    Attributes:
        stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2 (Table 1); "cifar" is one
            3x3 convolution of stride 1 (§4.2).
        block: "basic" has two 3x3 convolutions, "bottleneck" 1x1, 3x3 and 1x1 (Fig. 5).
        repeats: Blocks in each stage. The first block of every stage but the first halves height and width.
        widths: Channels of the 3x3 convolutions in each stage.
        shortcut: How a shortcut meets a change of shape (§3.3, §4.1): "A" subsamples and adds zero channels, "B"
            projects, "C" projects in every block; `None` leaves the shortcuts out, which is the paper's plain network.
        zero_channels: Where option A adds its zero channels: all "behind" the others, or half in front and half
            behind ("around"), as a widespread PyTorch code does.
        bottleneck_stride: Which convolution of a bottleneck carries its stride: the first "1x1" as in the paper, or
            the "3x3" as in torchvision ("v1.5").
        output_stride: Pixels of the image per pixel of the last feature map. Stages that would go beyond it dilate
            their convolutions instead of halving (arXiv:1606.00915, §3.1); `None` leaves every stride in place.
        stochastic_depth: Probability that training leaves the last block's residual function out, for one image; from
            the first block on it rises to that, alike from block to block (arXiv:1603.09382, §3).
        zero_init_residual: Whether the last scale of each residual function begins at 0, and each block as its shortcut
            (arXiv:1706.02677, §5.1).
        batch_norm: Over which images batch normalisation takes its statistics under a distribution strategy: those
            of one replica, as in the paper, or those of all ("synchronized").

    Raises:
        ValueError: A field has a value that is not listed above, or `repeats` and `widths` are not positive integers
            of equal number, or shrink under option A.
    """

    stem: Stem
    block: Block
    repeats: tuple[int, ...]
    widths: tuple[int, ...]
    shortcut: Shortcut | None = "B"
    zero_channels: ZeroChannels = "behind"
    bottleneck_stride: BottleneckStride = "1x1"
    batch_norm: BatchNorm = "per_replica"
    output_stride: int | None = None
    stochastic_depth: float = 0.0
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        for field, choices in (
            ("stem", get_args(Stem)),
            ("block", get_args(Block)),
            ("shortcut", (*get_args(Shortcut), None)),
            ("zero_channels", get_args(ZeroChannels)),
            ("bottleneck_stride", get_args(BottleneckStride)),
            ("batch_norm", get_args(BatchNorm)),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(f"Expected `{field}` to be one of {choices}. Received: {getattr(self, field)!r}")
        for field in ("repeats", "widths"):
            values = getattr(self, field)
            if isinstance(values, (list, tuple)):
                values = tuple(values)
                object.__setattr__(self, field, values)
            if not isinstance(values, tuple) or not values or any(not isinstance(v, int) or v < 1 for v in values):
                raise ValueError(f"Expected `{field}` to hold positive integers, one per stage. Received: {values}")
        if len(self.repeats) != len(self.widths):
            raise ValueError(
                f"Expected as many `widths` as `repeats`, one per stage. "
                f"Received: repeats={self.repeats}, widths={self.widths}"
            )
        strides = [_STEM_STRIDE[self.stem] * 2**i for i in range(len(self.repeats))]
        if self.output_stride is not None and self.output_stride not in strides:
            raise ValueError(
                f"Expected `output_stride` to be one of {strides}, the strides of {self.name}'s stages, or None. "
                f"Received: {self.output_stride!r}"
            )
        if not 0 <= self.stochastic_depth < 1:
            raise ValueError(f"Expected `stochastic_depth` in [0, 1). Received: {self.stochastic_depth!r}")
        if self.shortcut is None and (self.stochastic_depth or self.zero_init_residual):
            raise ValueError(
                "Expected neither `stochastic_depth` nor `zero_init_residual` without shortcuts. "
                f"Received: {self.stochastic_depth}, {self.zero_init_residual}"
            )
        if self.shortcut == "A" and list(self.widths) != sorted(self.widths):
            raise ValueError(
                f'Expected `widths` that never shrink with shortcut "A", which can only add channels. '
                f"Received: widths={self.widths}"
            )

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: stem, residual functions, classifier; no projections."""
        return 2 + _CONVOLUTIONS[self.block] * sum(self.repeats)

    @property
    def name(self) -> str:
        """`resnet<depth>`, or `plainnet<depth>` without shortcuts."""
        return f"{'plainnet' if self.shortcut is None else 'resnet'}{self.depth}"

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last stage, along each side."""
        return self.output_stride or _STEM_STRIDE[self.stem] * 2 ** (len(self.repeats) - 1)

    @property
    def image_size(self) -> int:
        """Height and width, in pixels, of the images that the paper feeds to a network with this stem."""
        return _IMAGE_SIZE[self.stem]

    @property
    def classes(self) -> int:
        """Classes of the data set that the paper uses this stem for."""
        return _CLASSES[self.stem]

    @property
    def blocks(self) -> tuple[tuple[PlannedBlock, ...], ...]:
        """Every residual block, stage by stage."""
        plan = []
        reached, dilation = _STEM_STRIDE[self.stem], 1
        drops = (self.stochastic_depth * i / sum(self.repeats) for i in range(1, sum(self.repeats) + 1))
        for stage, (repeats, width) in enumerate(zip(self.repeats, self.widths, strict=True), start=1):
            before = dilation
            halves = stage > 1 and 2 * reached <= self.total_stride
            if halves:
                reached *= 2
            elif stage > 1:
                dilation *= 2
            first = PlannedBlock(f"stage{stage}_block1", width, 2 if halves else 1, before, dilation, next(drops))
            names = (f"stage{stage}_block{i}" for i in range(2, repeats + 1))
            others = [PlannedBlock(name, width, 1, dilation, dilation, next(drops)) for name in names]
            plan.append((first, *others))
        return tuple(plan)


def _imagenet(block: Block, *repeats: int, shortcut: Shortcut | None = "B") -> Architecture:
    return Architecture(stem="imagenet", block=block, repeats=repeats, widths=(64, 128, 256, 512), shortcut=shortcut)


def _cifar(n: int, *, shortcut: Shortcut | None = "A") -> Architecture:
    return Architecture(stem="cifar", block="basic", repeats=(n, n, n), widths=(16, 32, 64), shortcut=shortcut)


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        _imagenet("basic", 2, 2, 2, 2),  # Table 1
        _imagenet("basic", 3, 4, 6, 3),
        _imagenet("bottleneck", 3, 4, 6, 3),
        _imagenet("bottleneck", 3, 4, 23, 3),
        _imagenet("bottleneck", 3, 8, 36, 3),
        _imagenet("basic", 2, 2, 2, 2, shortcut=None),
        _imagenet("basic", 3, 4, 6, 3, shortcut=None),
        *(_cifar(n) for n in (3, 5, 7, 9, 18, 200)),  # §4.2: 6n + 2 layers
        *(_cifar(n, shortcut=None) for n in (3, 5, 7, 9, 18)),
    )
}
"""Every network of the paper, under its name."""


def architecture(name: str) -> Architecture:
    """Returns the row of `ARCHITECTURES` called `name`.

    Raises:
        ValueError: There is none of that name; the message lists those there are.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise ValueError(f"Expected one of {', '.join(ARCHITECTURES)}. Received: {name!r}") from None
