"""Conventions of residual networks: choices that their weights do not show, and that change what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from resnet_keras.checks.fields import check_fields

BottleneckStride = Literal["1x1", "3x3"]
BasicStride = Literal["conv1", "conv2"]
ZeroChannels = Literal["end", "both_sides"]
Projection = Literal["normalized", "pooled", "bare"]
StridedBlock = Literal["first", "last", "last_of_previous"]
FirstActivation = Literal["stem", "block"]
Padding = Literal["symmetric", "same_tf"]
PoolBorder = Literal["zeros", "edge"]


_MEANINGS = {
    "bottleneck_stride": "the stride of bottlenecks",
    "basic_stride": "the stride of basic blocks",
    "zero_channels": "the zero channels of option A",
    "projection": "the projection of shortcuts",
    "strided_block": "the strides of stages",
    "padding": "the padding of kernels with a stride",
    "pool_border": "the border of the stem's pool",
    "plain": "a network without shortcuts",
}
"""The conventions in which weights and the network that they are loaded into must agree."""


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """The choices that libraries and papers make differently in networks of one name.

    An `Architecture` knows all of them. Of imported weights, some may be unknown or have no effect: these are `None`.

    Attributes:
        bottleneck_stride: Which convolution of a bottleneck has the stride: the first "1x1" as in the paper, or the
            "3x3" as in torchvision ("v1.5", ResNet-B of arXiv:1812.01187).
        basic_stride: Which of the two 3x3 convolutions of a basic block has the stride: "conv1" as in the paper, or
            "conv2" as in KerasCV's V2.
        zero_channels: Where option A adds its zero channels: all at the "end", after the others, or half before and
            half after them ("both_sides"), as in akamaster/pytorch_resnet_cifar10.
        projection: "normalized" after a 1x1 convolution with the stride (the paper), "pooled" before one without
            (arXiv:1812.01187, ResNet-D), or "bare", the convolution alone (arXiv:1603.05027).
        first_projection: Whether the network's first block projects although its shape does not change.
        strided_block: Which block has the stride of a stage: its "first" (the paper), its "last" (KerasCV's V2), or
            the "last_of_previous" stage (TF-slim's and keras.applications' V2).
        first_activation: With activation before convolutions, the first one is the "stem"'s, after its convolution
            (arXiv:1603.05027, §4.1), or the first "block"'s, after the pool, as in keras.applications and timm.
        conv_bias: Whether convolutions without a normalization after them add a bias.
        padding: Padding of kernels with a stride, the stem's pool included: "symmetric", or "same_tf", TensorFlow's
            "same", whose larger half is at the bottom and right.
        pool_border: What the stem's symmetric pool sees beyond the image: "zeros", or the "edge" repeated, which
            changes no maximum. After a ReLU both are the same.
        output_stride: Pixels of the image per pixel of the last feature map. Stages beyond it dilate their
            convolutions instead of their stride (arXiv:1606.00915, §3.1). `None` keeps every stride.
        epsilon: Of batch normalization; 1e-5 in an `Architecture` if `None`.
        plain: Whether the network has no shortcuts; follows from `shortcut` in an `Architecture`.

    Raises:
        ValueError: A field has a value that is not listed above.
    """

    bottleneck_stride: BottleneckStride | None = None
    basic_stride: BasicStride | None = None
    zero_channels: ZeroChannels | None = None
    projection: Projection | None = None
    first_projection: bool | None = None
    strided_block: StridedBlock | None = None
    first_activation: FirstActivation | None = None
    conv_bias: bool | None = None
    padding: Padding | None = None
    pool_border: PoolBorder | None = None
    output_stride: int | None = None
    epsilon: float | None = None
    plain: bool | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def known(self, *names: str) -> dict[str, Any]:
        """Returns the fields that are not `None`: all of them, or those among `names`."""
        chosen = names or tuple(each.name for each in fields(self))
        return {name: getattr(self, name) for name in chosen if getattr(self, name) is not None}

    def merged(self, other: Conventions) -> Conventions:
        """Returns these conventions with what is known in `other`, which wins."""
        return replace(self, **other.known())

    def conflicts(self, other: Conventions) -> Iterator[tuple[str, str]]:
        """Yields the name and the meaning of each field that is known in both and differs."""
        for name, meaning in _MEANINGS.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if None not in (mine, theirs) and mine != theirs:
                yield name, meaning


PAPER = Conventions(
    bottleneck_stride="1x1",
    basic_stride="conv1",
    zero_channels="end",
    projection="normalized",
    first_projection=False,
    strided_block="first",
    first_activation="stem",
    conv_bias=False,
    padding="symmetric",
    pool_border="zeros",
)
"""Those of arXiv:1512.03385."""
