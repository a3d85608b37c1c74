"""Images of any size on a canvas of one: resized as torchvision's detectors do, at the upper left, padded."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing


def resized_size(size: tf.Tensor, canvas: tuple[int, int], fit: tuple[int | tf.Tensor, int] | None = None) -> tf.Tensor:
    """Returns the size of an image on a canvas, in whole pixels rounded down: int32 (2,) -> int32 (2,).

    Args:
        size: Height and width of the image.
        canvas: Height and width of the canvas, which the image does not exceed.
        fit: Length of its shorter side, and the most of its longer one, as torchvision's (800, 1333); `None` fills the
            canvas.
    """
    wide = tf.cast(size, tf.float64)  # as Python computes it: 960 x (800 / 960) must not become 799
    scale = tf.reduce_min(tf.constant(canvas, tf.float64) / wide)
    if fit is not None:
        shorter, longest = (tf.cast(each, tf.float64) for each in fit)
        scale = tf.minimum(scale, tf.minimum(shorter / tf.reduce_min(wide), longest / tf.reduce_max(wide)))
    return tf.maximum(tf.cast(tf.floor(wide * scale), tf.int32), 1)


def on_canvas(image: tf.Tensor, preprocessing: Preprocessing, size: tf.Tensor) -> tf.Tensor:
    """Returns a normalized image on the canvas: (H, W, C) of 0–255 -> float32 (*image_size, C).

    It is resized by bilinear interpolation without antialiasing, as by torchvision's detectors; what is right of it and
    below it is 0, the mean color.

    Args:
        image: Pixels in RGB or gray.
        preprocessing: Its `image_size` is the canvas; channels, mean, and standard deviation apply.
        size: Height and width of the image on the canvas, from `resized_size`.
    """
    pixels = tf.image.resize(image, size, "bilinear", antialias=False)
    pixels = normalize(pixels, preprocessing)
    below, right = tf.unstack(tf.constant(preprocessing.image_size) - size)
    padded = tf.pad(pixels, [[0, below], [0, right], [0, 0]])
    return tf.ensure_shape(padded, (*preprocessing.image_size, preprocessing.channels))
