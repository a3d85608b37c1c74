"""Masks at the size of the image, from scores of fewer pixels, without the scores of all its pixels in memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_SCORES = 2**20
"""Resized scores in memory at a time, about; more are slower, too, because they leave the processor's caches."""


def largest_at(scores: tf.Tensor, size: tf.Tensor, most: int = _SCORES) -> tf.Tensor:
    """Returns the class of the largest score at each pixel of an image: (h, w, classes) -> (H, W).

    The scores are those of `tf.image.resize` by bilinear interpolation, bit for bit. It computes them in tiles: for an
    image of 12 megapixels and 150 classes, all together would be 7.2 GB.

    Args:
        scores: Scores in float32, with a static number of classes.
        size: Height and width of the image, int32 (2,).
        most: Resized scores in memory at a time, about.

    Returns:
        The classes in uint8, or of more than 256 in int32.
    """
    classes = scores.shape[-1]
    kind = tf.uint8 if classes <= 256 else tf.int32
    height, width = size[0], size[1]
    own = tf.shape(scores)
    columns = tf.clip_by_value(tf.constant(most // classes), 1, width)
    in_row = tf.cast(columns * classes, tf.int64)
    # A row of a tile takes several rows of scores where the image is the smaller of the two.
    few = most // in_row * tf.cast(height, tf.int64) // tf.cast(tf.maximum(height, own[0]), tf.int64)
    rows = tf.clip_by_value(tf.cast(few, tf.int32), 1, height)
    down, across = -(-height // rows), -(-width // columns)

    def tile(number: tf.Tensor) -> tf.Tensor:
        upper, lower, part_y = _places(number // across * rows, rows, own[0], height)
        left, right, part_x = _places(number % across * columns, columns, own[1], width)
        part = scores[upper[0] : lower[-1] + 1, left[0] : right[-1] + 1]
        wide = _between(part, left - left[0], right - left[0], part_x[:, None], axis=1)
        full = _between(wide, upper - upper[0], lower - upper[0], part_y[:, None, None], axis=0)
        return tf.cast(tf.argmax(full, -1, tf.int32), kind)

    tiles = tf.map_fn(
        tile, tf.range(down * across), fn_output_signature=tf.TensorSpec((None, None), kind), parallel_iterations=1
    )
    by_rows = tf.transpose(tf.reshape(tiles, (down, across, rows, columns)), (0, 2, 1, 3))
    return tf.reshape(by_rows, (down * rows, across * columns))[:height, :width]


def full_mask(scores: Any, size: tuple[int, int]) -> np.ndarray:
    """Returns the mask of an image from its scores on any backend: (h, w, classes) -> (H, W); see `largest_at`."""
    values = np.asarray(keras.ops.convert_to_numpy(scores), np.float32)
    return _traced(values.shape[-1])(values, np.array(size, np.int32)).numpy()


@lru_cache(maxsize=64)
def _traced(classes: int) -> Any:
    signature = [tf.TensorSpec((None, None, classes), tf.float32), tf.TensorSpec((2,), tf.int32)]
    return tf.function(largest_at, input_signature=signature, autograph=False)


def _places(first: tf.Tensor, count: tf.Tensor, own: tf.Tensor, full: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns between which of the `own` rows or columns each of some of the `full` ones lies, and how far (count,)."""
    numbers = tf.cast(tf.minimum(first + tf.range(count), full - 1), tf.float32)
    at = (numbers + 0.5) * (tf.cast(own, tf.float32) / tf.cast(full, tf.float32)) - 0.5
    below = tf.floor(at)
    low, high = (tf.cast(each, tf.int32) for each in (below, tf.math.ceil(at)))
    return tf.maximum(low, 0), tf.minimum(high, own - 1), at - below


def _between(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor, part: tf.Tensor, axis: int) -> tf.Tensor:
    first, second = tf.gather(values, low, axis=axis), tf.gather(values, high, axis=axis)
    return first + (second - first) * part
