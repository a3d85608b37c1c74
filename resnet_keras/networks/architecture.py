"""What one residual network is, as data (arXiv:1512.03385, and its relatives)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from resnet_keras.fields import expect_choices

Stem = Literal["imagenet", "cifar", "deep", "strided"]
Block = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]
ZeroChannels = Literal["behind", "around"]
BottleneckStride = Literal["1x1", "3x3"]
BatchNorm = Literal["per_replica", "synchronized"]
Activation = Literal["after", "before"]
FirstActivation = Literal["stem", "block"]
Projection = Literal["normalized", "pooled", "bare"]
Halving = Literal["first", "last"]
Padding = Literal["both", "behind"]
PoolBorder = Literal["zeros", "edge"]
Part = Literal["stem", "stage1", "stage2", "stage3", "stage4", "backbone"]

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Channels that leave a block of the paper, per channel of its 3x3 convolutions (Fig. 5)."""

_CONVOLUTIONS = {"basic": 2, "bottleneck": 3}


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
        preactivated: Whether it normalizes and rectifies its input, before its first convolution.
    """

    name: str
    width: int
    stride: int
    dilation: int
    dilation_after: int
    drop: float = 0.0
    preactivated: bool = False


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One column of the paper's Table 1, one member of its CIFAR family (§4.2), a relative, or a network of your own.

    Attributes:
        stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2 (Table 1); "cifar" is one
            3x3 convolution of stride 1 (§4.2); "deep" has three 3x3 convolutions in the place of the 7x7
            (arXiv:1812.01187, ResNet-C); "strided" besides a fourth in the place of the pool (arXiv:2103.07579).
        block: "basic" has two 3x3 convolutions, "bottleneck" 1x1, 3x3 and 1x1 (Fig. 5).
        repeats: Blocks in each stage. The first block of every stage but the first halves height and width.
        widths: Channels of the 3x3 convolutions in each stage.
        shortcut: How a shortcut meets a change of shape (§3.3, §4.1): "A" subsamples and adds zero channels, "B"
            projects, "C" projects in every block; `None` leaves the shortcuts out, which is the paper's plain network.
        zero_channels: Where option A adds its zero channels: all "behind" the others, or half in front and half
            behind ("around"), as a widespread PyTorch code does.
        bottleneck_stride: Which convolution of a bottleneck carries its stride: the first "1x1" as in the paper, or
            the "3x3" as in torchvision ("v1.5", ResNet-B of arXiv:1812.01187).
        output_stride: Pixels of the image per pixel of the last feature map. Stages that would go beyond it dilate
            their convolutions instead of halving (arXiv:1606.00915, §3.1); `None` leaves every stride in place.
        stochastic_depth: Probability that training leaves the last block's residual function out, for one image; from
            the first block on it rises to that, alike from block to block (arXiv:1603.09382, §3).
        zero_init_residual: Whether the last scale of each residual function begins at 0, and each block as its shortcut
            (arXiv:1706.02677, §5.1).
        batch_norm: Over which images batch normalization takes its statistics under a distribution strategy: those
            of one replica, as in the paper, or those of all ("synchronized").
        stem_width: Channels that leave the stem; those of the first stage's 3x3 convolutions if `None`.
        expansion: Channels that leave a block, per channel of its 3x3 convolutions; the paper's if `None`.
        groups: Groups of a bottleneck's 3x3 convolution (arXiv:1611.05431: cardinality).
        squeeze: Squeeze-and-excitation (arXiv:1709.01507) of each residual, by this reduction; none if 0.
        activation: Normalization and ReLU "after" each convolution, or "before" it (arXiv:1603.05027).
        first_activation: Where activation comes before, its first is the "stem"'s, after its convolution
            (arXiv:1603.05027, §4.1), or the first "block"'s, after the pool, as in keras.applications and timm.
        projection: "normalized" after a 1x1 convolution with the stride (the paper), "pooled" before one without
            (arXiv:1812.01187, ResNet-D), or "bare", the convolution alone (arXiv:1603.05027).
        first_projection: Whether the first block of all projects even where its shape stays.
        halving: Which block of a stage has the stride: the "first", or the "last" of the stage before.
        biases: Whether convolutions that no normalization follows add a bias.
        padding: Of strided kernels: "both" sides alike, or as TensorFlow's "same", the larger half "behind".
        pool_border: What the stem's pool sees beyond the image: "zeros", or its "edge" again, which changes no maximum.
        label: Its name, where depth alone does not tell.

    Raises:
        ValueError: A field has a value that is not listed above, or `repeats` and `widths` are not positive integers
            of equal number, or shrink under option A; or fields do not go together (the message says which).
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
    stem_width: int | None = None
    expansion: int | None = None
    groups: int = 1
    squeeze: int = 0
    activation: Activation = "after"
    first_activation: FirstActivation = "stem"
    projection: Projection = "normalized"
    first_projection: bool = False
    halving: Halving = "first"
    biases: bool = False
    padding: Padding = "both"
    pool_border: PoolBorder = "zeros"
    label: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        expect_choices(self)
        for name in ("repeats", "widths"):
            values = getattr(self, name)
            if isinstance(values, (list, tuple)):
                values = tuple(values)
                object.__setattr__(self, name, values)
            whole = isinstance(values, tuple) and values and all(isinstance(v, int) and v >= 1 for v in values)
            if not whole:
                raise ValueError(f"Expected `{name}` to hold positive integers, one per stage. Received: {values}")
        if len(self.repeats) != len(self.widths):
            raise ValueError(
                f"Expected as many `widths` as `repeats`, one per stage. "
                f"Received: repeats={self.repeats}, widths={self.widths}"
            )
        for name, least in (("stem_width", 1), ("expansion", 1), ("groups", 1), ("squeeze", 0)):
            value = getattr(self, name)
            optional = value is None and name in ("stem_width", "expansion")
            self._expect(
                optional or (isinstance(value, int) and value >= least), name, f"an integer of at least {least}"
            )
        strides = [self._stem_stride * 2**i for i in range(len(self.repeats))]
        if self.output_stride is not None and self.output_stride not in strides:
            raise ValueError(
                f"Expected `output_stride` to be one of {strides}, the strides of {self.name}'s stages, or None. "
                f"Received: {self.output_stride!r}"
            )
        self._expect(0 <= self.stochastic_depth < 1, "stochastic_depth", "in [0, 1)")
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
        grouped = self.groups == 1 or (
            self.block == "bottleneck" and all(width % self.groups == 0 for width in self.widths)
        )
        self._expect(grouped, "groups", f"1, or for bottlenecks a divisor of all widths {self.widths}")
        before = self.activation == "before"
        self._expect(not (before and self.zero_init_residual), "zero_init_residual", 'False with activation "before"')
        self._expect(self.halving == "first" or self.output_stride is None, "output_stride", 'None with halving "last"')

    def _expect(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"Expected `{name}` to be {expected}. Received: {getattr(self, name)!r}")

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: stem, residual functions, classifier; no projections."""
        return 2 + _CONVOLUTIONS[self.block] * sum(self.repeats)

    @property
    def name(self) -> str:
        """Its label; else `resnet<depth>`, or `plainnet<depth>` without shortcuts."""
        return self.label or f"{'plainnet' if self.shortcut is None else 'resnet'}{self.depth}"

    @property
    def channels_per_width(self) -> int:
        """Channels that leave a block, per channel of its 3x3 convolutions."""
        return self.expansion or EXPANSION[self.block]

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last stage, along each side."""
        return self.output_stride or self._stem_stride * 2 ** (len(self.repeats) - 1)

    @property
    def image_size(self) -> int:
        """Height and width, in pixels, of the images that the papers feed to a network with this stem."""
        return 32 if self.stem == "cifar" else 224

    @property
    def classes(self) -> int:
        """Classes of the data set that the papers use this stem for."""
        return 10 if self.stem == "cifar" else 1000

    @property
    def _stem_stride(self) -> int:
        return 1 if self.stem == "cifar" else 4

    @property
    def blocks(self) -> tuple[tuple[PlannedBlock, ...], ...]:
        """Every residual block, stage by stage."""
        plan = []
        drops = (self.stochastic_depth * i / sum(self.repeats) for i in range(1, sum(self.repeats) + 1))
        at = 0 if self.halving == "first" else -1
        for stage, (repeats, width) in enumerate(zip(self.repeats, self.widths, strict=True)):
            halves, before, dilation = self._steps[stage if at == 0 else stage + 1]
            strides = [1] * repeats
            strides[at] = 2 if halves else 1
            plan.append(
                tuple(
                    PlannedBlock(
                        f"stage{stage + 1}_block{i + 1}",
                        width,
                        strides[i],
                        before if i == 0 else dilation,
                        dilation,
                        next(drops),
                        self.activation == "before" and (stage + i > 0 or self.first_activation == "block"),
                    )
                    for i in range(repeats)
                )
            )
        return tuple(plan)

    @property
    def _steps(self) -> list[tuple[bool, int, int]]:
        """Whether the way to each stage halves, and the dilations before and after it; at last, the way to none."""
        steps = [(False, 1, 1)]
        reached, dilation = self._stem_stride, 1
        for _ in self.repeats[1:]:
            before, halves = dilation, 2 * reached <= self.total_stride
            if halves:
                reached *= 2
            else:
                dilation *= 2
            steps.append((halves, before, dilation))
        return [*steps, (False, dilation, dilation)]
