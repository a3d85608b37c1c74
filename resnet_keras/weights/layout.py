"""A layout: the names and shapes of one library's tensors, and what is usual for its networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resnet_keras.networks.blocks import HEAD
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.usual_preprocessing import (
    CIFAR10_IMAGES,
    IMAGENET_PHOTOS,
    OPTION_A_IMAGES,
    UsualPreprocessing,
)

PREACTIVATED = Conventions(bottleneck_stride="3x3")
"""With activation before convolutions, those of every library."""

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_KERNEL = {"weight": "kernel", "bias": "bias"}
_GROUP = r"\(\?P<(\w+)>([^()]*)\)"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names that one library gives the weights of a residual network, and what is usual for its networks.

    Attributes:
        name: The library or libraries, then what distinguishes the networks.
        axes: "torch": kernels are (out, in, H, W) and (out, in); "keras": (H, W, in, out) and (in, out).
        anchors: Names that every file of this layout holds, after a prefix that all names share.
        modules: Patterns of its modules (stage `s`, block `b`, convolution `k`) and our layers.
        first: The library's numbers of the first stage, block and convolution.
        ignored: Pattern of names that are not weights.
        conventions: Those of its networks, unless a source says otherwise; `None` for networks of this package.
        preactivated: Conventions that differ in its networks with activation before convolutions.
        head_is_convolution: Whether its classifier is a convolution of one pixel.
        without_bias: Pattern of our convolutions that have no bias there although others without a normalization do.
        photos: Usual preprocessing of its networks for photographs; `None` if unknown.
        preactivated_photos: The same with activation before convolutions; `photos` if `None`.
        small_images: Usual preprocessing of its networks with CIFAR's stem; `None` if unknown.
        option_a_images: The same without projections.
    """

    name: str
    axes: Literal["torch", "keras"]
    anchors: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    first: tuple[int, int, int] = (1, 1, 1)
    ignored: str = r"(?!)"
    conventions: Conventions | None = None
    preactivated: Conventions = PREACTIVATED
    head_is_convolution: bool = False
    without_bias: str = r"(?!)"
    photos: UsualPreprocessing | None = IMAGENET_PHOTOS
    preactivated_photos: UsualPreprocessing | None = None
    small_images: UsualPreprocessing | None = CIFAR10_IMAGES
    option_a_images: UsualPreprocessing | None = OPTION_A_IMAGES

    def ours(self, name: str) -> str | None:
        """Returns `layer/weight` of our networks for a name without its prefix; `None` if there is none."""
        module, _, weight = name.rpartition(self.separator)
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

    def theirs(self, name: str, spelling: int = 0) -> str | None:
        """Returns the library's name, without a prefix, for `layer/weight` of ours; `None` if there is none.

        It is the inverse of `ours`.

        Args:
            name: Name of one of our weights.
            spelling: Index of the spelling of a module for which its pattern has several, e.g. `fc|linear`.
        """
        layer, _, weight = name.rpartition("/")
        for pattern, template in self.modules:
            if match := re.fullmatch(_pattern_of(template, pattern), layer):
                numbers = {
                    key: int(match[key]) + first - 1
                    for key, first in zip("sbk", self.first, strict=True)
                    if key in match.re.groupindex
                }
                module = _template_of(pattern, spelling).format(**match.groupdict() | numbers)
                if self.axes == "torch":
                    known = _BATCH_NORM if layer.endswith("_bn") else _KERNEL
                    weight = {ours: theirs for theirs, ours in known.items()}.get(weight, "")
                return f"{module}{self.separator}{weight}" if weight else None
        return None

    @property
    def separator(self) -> str:
        """The character between modules, and before the name of a weight."""
        return "." if self.axes == "torch" else "/"

    def to_keras(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of the library with Keras's order of axes."""
        if self.axes == "torch" and array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        return array.transpose(1, 0) if self.axes == "torch" and array.ndim == 2 else array

    def from_keras(self, name: str, array: np.ndarray) -> np.ndarray:
        """Returns an array of ours, called `layer/weight`, with the library's order of axes: inverse of `to_keras`."""
        if name == f"{HEAD}/kernel" and self.head_is_convolution:
            array = array[None, None]
        if self.axes == "torch" and array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        return array.transpose(1, 0) if self.axes == "torch" and array.ndim == 2 else array

    def ignores(self, name: str) -> bool:
        """Returns whether a name is not that of a weight."""
        return re.fullmatch(self.ignored, name) is not None

    def usual_conventions(self, *, preactivated: bool) -> Conventions:
        """Returns the conventions of the library's networks; none are known of networks of this package."""
        if self.conventions is None:
            return Conventions()
        return self.conventions.merged(self.preactivated) if preactivated else self.conventions

    def usual_preprocessing(self, *, cifar_stem: bool, projects: bool, preactivated: bool) -> UsualPreprocessing | None:
        """Returns the usual preprocessing of RGB images for one of the library's networks; `None` if unknown."""
        if cifar_stem:
            return self.small_images if projects else self.option_a_images
        return (preactivated and self.preactivated_photos) or self.photos


def _pattern_of(template: str, pattern: str) -> str:
    """Returns the pattern of our layers that `template` makes; the parts between braces are as in their `pattern`."""
    groups = dict(re.findall(_GROUP, pattern))
    return re.sub(r"\{(\w+)\}", lambda match: f"(?P<{match[1]}>{groups[match[1]]})", template)


def _template_of(pattern: str, spelling: int) -> str:
    """Returns the template of a module's name that `pattern` matches, with one of the spellings it allows."""

    def chosen(spellings: str) -> str:
        return spellings.split("|")[min(spelling, spellings.count("|"))]

    template = re.sub(_GROUP, r"{\1}", pattern)
    template = re.sub(r"\(([^()]*)\)", lambda match: chosen(match[1]), template)
    return chosen(template).replace("\\.", ".")
