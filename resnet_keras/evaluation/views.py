"""Views of an image in an evaluation: crops, scales and mirror images (arXiv:1512.03385, §3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from resnet_keras.checks.fields import check_fields
from resnet_keras.data.image_ops import center, crop, normalize, resize, scaled_size, window
from resnet_keras.data.preprocessing import Preprocessing

Crops = Literal["center", "ten", "full"]
Average = Literal["probabilities", "logits"]

PAPER_SCALES = (224, 256, 384, 480, 640)
"""Shorter sides in pixels, for networks with 224x224 images (§3.4)."""

TEN_CROP_RATIO = 256 / 224
"""Shorter side of the image from which ten crops are taken, divided by the side of a crop (AlexNet, §4.1)."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """An evaluation protocol.

    Attributes:
        crops: "center" crops the center; "ten" crops the center and the four corners of the image and of its mirror
            image (10-crop, AlexNet §4.1, as torchvision's `TenCrop`); "full" takes the full image: the classifier is
            applied at every position of the last feature map and averaged, which for a linear classifier is the global
            average pooling of these networks.
        scales: Shorter sides in pixels to which an image is resized. If empty: the paper's five for "full", in
            proportion to the network's image size; otherwise the classifier's own.
        flip: Whether to add the mirror image of each view. "ten" contains mirror images already.
        average: What is averaged over views, scales and classifiers. The published 10-crop errors of fb.resnet.torch
            average "logits".

    Raises:
        ValueError: A field has a value that is not listed above, or `flip` is used with "ten".
    """

    crops: Crops = "center"
    scales: tuple[int, ...] = ()
    flip: bool = False
    average: Average = "probabilities"

    def __post_init__(self) -> None:
        if isinstance(self.scales, list):
            object.__setattr__(self, "scales", tuple(self.scales))
        check_fields(self)
        if any(scale < 1 for scale in self.scales):
            raise ValueError(f"Expected `scales` of positive whole numbers of pixels. Received: {self.scales}")
        if self.flip and self.crops == "ten":
            raise ValueError('Expected no `flip` with "ten", which mirrors each crop already. Received: flip=True')

    def repeated(self, preprocessing: Preprocessing) -> str | None:
        """Returns a sentence if views of square images would be the same, or too small; `None` if not."""
        side = max(preprocessing.image_size)
        if self.crops == "ten" and not self.scales and (preprocessing.shorter_side or side) <= side:
            larger = round(TEN_CROP_RATIO * side)
            return (
                f"images are resized to the crop of {side} pixels, so that ten crops of a square image are one view "
                f"five times; `scales` {larger} makes them larger"
            )
        if self.crops == "full" and self.scales and min(self.scales) < side:
            return f"the network was made for images of {side} pixels; `scales` below that are seldom of use"
        return None

    @property
    def count(self) -> int:
        """Number of views of an image at each scale."""
        return 10 if self.crops == "ten" else 2 if self.flip else 1

    def sides(self, preprocessing: Preprocessing) -> tuple[int | None, ...]:
        """Returns the shorter sides for one classifier; `None` stands for its own.

        Raises:
            ValueError: A scale is shorter than the crop.
        """
        smallest = max(preprocessing.image_size)
        if self.crops == "full":
            return self.scales or tuple(round(side * smallest / PAPER_SCALES[0]) for side in PAPER_SCALES)
        if self.scales and min(self.scales) < smallest:
            raise ValueError(
                f"Expected `scales` no shorter than the crop of {preprocessing.image_size}. Received: {self.scales}"
            )
        return self.scales or (None,)

    def of(self, image: tf.Tensor, preprocessing: Preprocessing, side: int | None) -> tf.Tensor:
        """Returns normalized views of images at one scale: (..., H, W, C) -> float32 (..., views, h, w, C)."""
        if self.crops == "full":
            views = [resize(image, scaled_size(tf.shape(image)[-3:-1], preprocessing, side), preprocessing)]
        elif self.crops == "center" and side is None:
            views = [tf.cast(crop(image, preprocessing), tf.float32)]
        else:
            views = _crops(image, preprocessing, side, corners=self.crops == "ten")
        stacked = tf.stack(views, axis=-4)
        if self.flip:
            stacked = tf.concat([stacked, stacked[..., ::-1, :]], axis=-4)
        return normalize(stacked, preprocessing)


def _crops(image: tf.Tensor, preprocessing: Preprocessing, side: int | None, *, corners: bool) -> list[tf.Tensor]:
    """Returns the central crop of an image resized to `side`; with `corners`, also its corners, all mirrored, too.

    The image is mirrored before it is cropped: where a margin is odd, its center is another pixel.
    """
    height, width = preprocessing.image_size
    size = scaled_size(tf.shape(image)[-3:-1], preprocessing, side)
    middle = center(size, preprocessing.image_size)
    if not corners:
        return [window(image, size, middle, preprocessing)]
    scaled = resize(image, size, preprocessing)
    bottom, right = size[0] - height, size[1] - width
    places = [(middle[0], middle[1]), (0, 0), (0, right), (bottom, 0), (bottom, right)]
    crops = [
        each[..., top : top + height, left : left + width, :]
        for each in (scaled, scaled[..., ::-1, :])
        for top, left in places
    ]
    for each in crops:
        each.set_shape((*image.shape[:-3], height, width, preprocessing.channels))
    return crops
