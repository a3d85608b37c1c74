"""What pixels go through before a network sees them: one object, which belongs to a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input, outside training.

    Attributes:
        image_size: Height and width of the network's input, in pixels.
        channels: 3 for RGB, 1 for grey.
        mean: What is subtracted from the pixels (0–255), per channel.
        std: What the difference is divided by, per channel.
        shorter_side: Length in pixels that an image's shorter side is resized to before the central crop. `None`
            scales the image so that it just fills `image_size`.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        for field, number in (("image_size", int), ("mean", float), ("std", float)):
            object.__setattr__(self, field, tuple(number(value) for value in getattr(self, field)))
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"Expected one mean and one std per channel ({self.channels}). "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"Expected `std` above 0. Received: {self.std}")
        if self.shorter_side is not None and self.shorter_side < max(self.image_size):
            raise ValueError(
                f"Expected `shorter_side` to be no shorter than the crop, {self.image_size}. "
                f"Received: {self.shorter_side}"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON can hold them."""
        return asdict(self)

    def normalize(self, pixels: tf.Tensor) -> tf.Tensor:
        """Returns (pixels - mean) / std: 0–255 of any type (..., C) -> float32 (..., C)."""
        return (tf.cast(pixels, tf.float32) - tf.constant(self.mean)) / tf.constant(self.std)

    def decode(self, encoded: tf.Tensor) -> tf.Tensor:
        """Decodes a JPEG, PNG, GIF (first frame) or BMP: bytes -> uint8 (H, W, C).

        Raises:
            tf.errors.InvalidArgumentError: The bytes are no such image, or cut short.
        """
        # The accurate transform gives Pillow's pixels, bit for bit, in the same time; TensorFlow's default is up to 20
        # grey levels off.
        image = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: tf.io.decode_jpeg(encoded, channels=self.channels, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_image(encoded, channels=self.channels, expand_animations=False),
        )
        image.set_shape((None, None, self.channels))
        return image

    def crop(self, image: tf.Tensor) -> tf.Tensor:
        """Resizes the shorter side, antialiased and bilinear, and takes the centre: (..., H, W, C) -> (*image_size, C).

        Pixels stay on their scale of 0–255. Without `shorter_side`, an image of the right size passes unchanged, and
        any other is scaled so that it just fills `image_size`.
        """
        height, width = self.image_size
        if self.shorter_side is None and tuple(image.shape[-3:-1]) == self.image_size:
            return image
        size = tf.shape(image)[-3:-1]
        if self.shorter_side is None:
            scale = tf.reduce_max(self.image_size / size)
        else:
            scale = self.shorter_side / tf.reduce_min(size)
        scaled = tf.maximum(tf.cast(tf.round(tf.cast(size, scale.dtype) * scale), tf.int32), self.image_size)
        image = tf.image.resize(image, scaled, antialias=True)
        top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
        image = image[..., top : top + height, left : left + width, :]
        image.set_shape((*image.shape[:-3], height, width, self.channels))
        return image
