"""Residual networks as data (arXiv:1512.03385, and its relatives)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from numbers import Integral
from typing import Annotated, Any, Literal

from resnet_keras.checks.fields import at_least, between, check_fields
from resnet_keras.networks.conventions import PAPER, Conventions

Stem = Literal["imagenet", "cifar", "deep", "strided"]
Block = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C"]
BatchNorm = Literal["per_replica", "synchronized"]
Activation = Literal["after", "before"]
Part = Literal["stem", "stage1", "stage2", "stage3", "stage4", "backbone"]

EXPANSION = {"basic": 1, "bottleneck": 4}
"""Output channels of the paper's blocks, per channel of their 3x3 convolutions (Fig. 5)."""

_CONVOLUTIONS = {"basic": 2, "bottleneck": 3}
_CONVENTIONS = {each.name for each in dataclasses.fields(Conventions)}


@dataclass(frozen=True)
class PlannedBlock:
    """One residual block of a network.

    Attributes:
        name: The prefix of its layers' names, e.g. `stage3_block1`.
        width: Channels of its 3x3 convolutions.
        stride: Stride of its first or second convolution, and of its shortcut.
        dilation: Dilation of its 3x3 convolutions up to the one that has the stride, or would have it.
        dilation_after: Dilation of its 3x3 convolutions after that one.
        drop: Probability of dropping its residual branch in training, for one image.
        preactivated: Whether it normalizes and rectifies its input before its first convolution.
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

    Example:
        >>> own = Architecture(stem="cifar", block="basic", repeats=(2, 2), widths=(16, 32), shortcut="A")
        >>> own.replace(widths=(32, 64), zero_channels="both_sides")

    Attributes:
        stem: "imagenet" is a 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2 (Table 1); "cifar" is one
            3x3 convolution of stride 1 (§4.2); "deep" has three 3x3 convolutions instead of the 7x7
            (arXiv:1812.01187, ResNet-C); "strided" has a fourth instead of the pool (arXiv:2103.07579).
        block: "basic" has two 3x3 convolutions, "bottleneck" 1x1, 3x3 and 1x1 (Fig. 5).
        repeats: Blocks in each stage. Every stage but the first halves height and width.
        widths: Channels of the 3x3 convolutions in each stage.
        shortcut: What a shortcut does where the shape changes (§3.3, §4.1): "A" subsamples and adds zero channels, "B"
            projects, "C" projects in every block; `None` omits the shortcuts, which is the paper's plain network.
        batch_norm: Images over which batch normalization takes its statistics under a distribution strategy: those
            of one replica, as in the paper, or those of all ("synchronized").
        stochastic_depth: Probability of dropping the last residual branch in training, for one image; it rises
            linearly to that from the first block on (arXiv:1603.09382, §3).
        zero_init_residual: Whether the last scale of each residual function begins at 0, and each block as its shortcut
            (arXiv:1706.02677, §5.1).
        stem_width: Output channels of the stem; those of the first stage's 3x3 convolutions if `None`.
        expansion: Output channels of a block, per channel of its 3x3 convolutions; the paper's if `None`.
        groups: Groups of a bottleneck's 3x3 convolution (arXiv:1611.05431: cardinality).
        se_reduction: Reduction ratio of squeeze-and-excitation (arXiv:1709.01507) in each residual; none if 0.
        activation: Normalization and ReLU "after" each convolution, or "before" it (arXiv:1603.05027).
        conventions: The choices that weights alone do not show; the paper's where they are `None`.
        label: The network's name, where depth alone is ambiguous.

    Raises:
        ValueError: A field has a value that is not listed above, or `repeats` and `widths` are not positive integers
            of equal number, or shrink under option A; or fields contradict each other (the message says which).
    """

    stem: Stem
    block: Block
    repeats: tuple[int, ...]
    widths: tuple[int, ...]
    shortcut: Shortcut | None = "B"
    batch_norm: BatchNorm = "per_replica"
    stochastic_depth: Annotated[float, between(0, 1, open_high=True)] = 0.0
    zero_init_residual: bool = False
    stem_width: Annotated[int | None, at_least(1)] = None
    expansion: Annotated[int | None, at_least(1)] = None
    groups: Annotated[int, at_least(1)] = 1
    se_reduction: Annotated[int, at_least(0)] = 0
    activation: Activation = "after"
    conventions: Conventions = PAPER
    label: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        completed = dataclasses.replace(PAPER.merged(self.conventions), plain=self.shortcut is None)
        object.__setattr__(self, "conventions", completed)
        for name in ("repeats", "widths"):
            values = getattr(self, name)
            if isinstance(values, (list, tuple)):
                values = tuple(values)
                object.__setattr__(self, name, values)
            whole = (
                isinstance(values, tuple) and values and all(isinstance(v, Integral) and int(v) >= 1 for v in values)
            )
            if not whole:
                raise ValueError(f"Expected `{name}` to hold positive integers, one per stage. Received: {values}")
        check_fields(self)
        if len(self.repeats) != len(self.widths):
            raise ValueError(
                f"Expected as many `widths` as `repeats`, one per stage. "
                f"Received: repeats={self.repeats}, widths={self.widths}"
            )
        self._expect_combinations()

    def _expect_combinations(self) -> None:
        """Raises a ValueError if fields contradict each other."""
        strides = [self._stem_stride * 2**i for i in range(len(self.repeats))]
        output_stride, strided_block = self.conventions.output_stride, self.conventions.strided_block
        if output_stride is not None and output_stride not in strides:
            raise ValueError(
                f"Expected `output_stride` to be one of {strides}, the strides of {self.name}'s stages, or None. "
                f"Received: {output_stride!r}"
            )
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
        if output_stride is not None and strided_block != "first":
            raise ValueError(
                f"Expected `output_stride` to be None with strided_block={strided_block!r}. Received: {output_stride!r}"
            )

    def replace(self, **fields: Any) -> Architecture:
        """Returns the architecture with other values of some of its fields or of its conventions' fields.

        Raises:
            ValueError: As for a new `Architecture`.
            TypeError: There is no such field.
        """
        conventions = {name: fields.pop(name) for name in _CONVENTIONS & fields.keys()}
        if conventions:
            fields["conventions"] = dataclasses.replace(fields.get("conventions", self.conventions), **conventions)
        return dataclasses.replace(self, **fields)

    def following(self, conventions: Conventions) -> Architecture:
        """Returns the architecture with what is known of the variants that have the same name.

        With activation before convolutions, libraries differ in where it begins and where the strides are.
        """
        followed = ["bottleneck_stride", "basic_stride", "padding", "first_projection", "conv_bias"]
        if self.shortcut:
            followed.append("zero_channels")
        if self.activation == "before":
            followed += ["strided_block", "pool_border", "first_activation"]
        return self.replace(**conventions.known(*followed))

    def _expect(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"Expected `{name}` to be {expected}. Received: {getattr(self, name)!r}")

    @property
    def depth(self) -> int:
        """Layers with weights as the paper counts them: stem, residual functions, classifier; not projections."""
        return 2 + _CONVOLUTIONS[self.block] * sum(self.repeats)

    @property
    def name(self) -> str:
        """The label; else `resnet<depth>`, or `plainnet<depth>` without shortcuts."""
        return self.label or f"{'plainnet' if self.shortcut is None else 'resnet'}{self.depth}"

    @property
    def channels_per_width(self) -> int:
        """Output channels of a block, per channel of its 3x3 convolutions."""
        return self.expansion or EXPANSION[self.block]

    @property
    def total_stride(self) -> int:
        """Pixels of the image per pixel of the last stage, along each side."""
        return self.conventions.output_stride or self._stem_stride * 2 ** (len(self.repeats) - 1)

    @property
    def image_size(self) -> int:
        """Height and width, in pixels, of the papers' images for a network with this stem."""
        return 32 if self.stem == "cifar" else 224

    @property
    def classes(self) -> int:
        """Number of classes of the papers' data set for this stem."""
        return 10 if self.stem == "cifar" else 1000

    @property
    def _stem_stride(self) -> int:
        return 1 if self.stem == "cifar" else 4

    @property
    def blocks(self) -> tuple[tuple[PlannedBlock, ...], ...]:
        """Every residual block, stage by stage."""
        plan = []
        drops = (self.stochastic_depth * i / sum(self.repeats) for i in range(1, sum(self.repeats) + 1))
        where = self.conventions.strided_block
        at = 0 if where == "first" else -1
        for stage, (repeats, width) in enumerate(zip(self.repeats, self.widths, strict=True)):
            halves, before, dilation = self._steps[stage + 1 if where == "last_of_previous" else stage]
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
                        self.activation == "before" and (stage + i > 0 or self.conventions.first_activation == "block"),
                    )
                    for i in range(repeats)
                )
            )
        return tuple(plan)

    @property
    def _steps(self) -> list[tuple[bool, int, int]]:
        """For each stage and for one after the last: whether it halves, and the dilations before and after."""
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
