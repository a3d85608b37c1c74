"""RoIAlign (arXiv:1703.06870, section 3): the part of feature maps under each box, at one size.

There are two forms, with the same numbers. "crop" cuts by TensorFlow's `crop_and_resize` out of maps that are padded by
their own border; it is several times as fast, its gradient above all. "gather" has only operations that LiteRT and all
backends of Keras have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import keras
from keras import ops

from resnet_keras.detection.boxes import areas

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

Form = Literal["auto", "crop", "gather"]

_BOX_SIDE, _BOX_LEVEL = 224, 4  # arXiv:1612.03144, equation 1: such a box is cut out of the map of stride 2^4
_portable: ContextVar[bool] = ContextVar("portable", default=False)


@contextmanager
def portable_operations() -> Iterator[None]:
    """Makes the form "auto" be "gather" in a context, for graphs that become LiteRT files."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def box_levels(boxes: Any, strides: Sequence[int]) -> Any:
    """Returns the index of the map that each box is cut out of: (..., 4) -> int32 (...).

    Source: arXiv:1612.03144, equation 1, with torchvision's rounding.

    Args:
        boxes: Boxes in pixels of the image.
        strides: Stride of each map, each double the one before.
    """
    lowest = round(math.log2(strides[0]))
    side = ops.sqrt(ops.maximum(areas(boxes), 1e-6))
    level = ops.floor(_BOX_LEVEL + ops.log(side / _BOX_SIDE) / math.log(2) + 1e-6)
    return ops.cast(ops.clip(level, lowest, lowest + len(strides) - 1), "int32") - lowest


def roi_align(
    maps: Sequence[Any],
    boxes: Any,
    strides: Sequence[int],
    size: int,
    *,
    samples: int = 2,
    aligned: bool = False,
    form: Form = "auto",
    deterministic: bool = False,
) -> Any:
    """Returns the means of samples of maps in a grid over each box: float32 (N * R, size, size, C).

    Args:
        maps: Feature maps (N, h, w, C), the finest first.
        boxes: Boxes of each image in pixels, float32 (N, R, 4). They have no gradient.
        strides: Pixels of the image per pixel of each map.
        size: Cells along each side of the grid.
        samples: Samples of a cell along each side, by bilinear interpolation.
        aligned: Whether pixels of a map are areas, whose centers are at halves; if not, they are points, as in
            torchvision's detectors, and boxes have at least a pixel of the map.
        form: How it is computed; "auto" is "crop" under TensorFlow.
        deterministic: Whether the gradient of "crop" on a CPU is the same to the last bit each time, which takes five
            times as long.
    """
    if form == "auto":
        form = "gather" if _portable.get() or keras.backend.backend() != "tensorflow" else "crop"
    images, count = ops.shape(boxes)[0], ops.shape(boxes)[1]
    index = ops.reshape(ops.broadcast_to(ops.arange(images, dtype="int32")[:, None], (images, count)), (-1,))
    boxes = ops.reshape(ops.stop_gradient(boxes), (-1, 4))
    maps = [ops.cast(each, "float32") for each in maps]
    if form == "gather":
        return _gathered(maps, boxes, index, strides, size, samples, aligned)
    if len(maps) == 1:
        return _cropped(maps[0], boxes, index, strides[0], size, samples, aligned, deterministic)
    rows = tf.dynamic_partition(tf.range(tf.shape(boxes)[0]), box_levels(boxes, strides), len(maps))
    parts = [
        _cropped(each, tf.gather(boxes, row), tf.gather(index, row), stride, size, samples, aligned, deterministic)
        for each, row, stride in zip(maps, rows, strides, strict=True)
    ]
    pooled = tf.dynamic_stitch(rows, parts)
    return tf.ensure_shape(pooled, (boxes.shape[0], size, size, maps[0].shape[-1]))


def _extents(boxes: Any, scale: Any, aligned: bool) -> tuple[Any, Any, Any, Any]:
    """Returns left and top edge, width and height of boxes in pixels of their maps."""
    boxes = boxes * scale - (0.5 if aligned else 0.0)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    if not aligned:
        width, height = ops.maximum(width, 1.0), ops.maximum(height, 1.0)
    return boxes[:, 0], boxes[:, 1], width, height


def _cropped(
    feature: Any,
    boxes: Any,
    index: Any,
    stride: int,
    size: int,
    samples: int,
    aligned: bool,
    deterministic: bool,
) -> Any:
    left, top, width, height = _extents(boxes, 1 / stride, aligned)
    padded = tf.pad(feature, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    last_row, last_column = tf.cast(tf.shape(padded)[1] - 1, tf.float32), tf.cast(tf.shape(padded)[2] - 1, tf.float32)
    half = 0.5 / (size * samples)  # from the box's edge to the first sample, as a part of its side
    y, x = top + 1 + half * height, left + 1 + half * width
    bottom, right = y + height * (1 - 2 * half), x + width * (1 - 2 * half)
    edges = tf.stack([y / last_row, x / last_column, bottom / last_row, right / last_column], axis=1)
    # On a GPU, no gradient of TensorFlow's adds in one order.
    in_order = deterministic and not tf.config.list_physical_devices("GPU")
    crop = _crop_with_ordered_gradient if in_order else tf.image.crop_and_resize
    return tf.nn.avg_pool2d(crop(padded, edges, index, [size * samples] * 2), samples, samples, "VALID")


def _crop_with_ordered_gradient(image: Any, boxes: Any, index: Any, size: list[int]) -> Any:
    """Returns what `tf.image.crop_and_resize` does, whose own gradient adds in the order in which threads finish."""

    @tf.custom_gradient
    def cropped(image: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            images, height, width, channels = tf.unstack(tf.shape(image))
            rows = _corners(boxes[:, 0], boxes[:, 2], height, size[0])
            columns = _corners(boxes[:, 1], boxes[:, 3], width, size[1])
            total = tf.zeros((images * height * width, channels))
            for row, row_weight in rows:
                for column, column_weight in columns:
                    places = ((index[:, None] * height + row) * width)[:, :, None] + column[:, None, :]
                    weighted = upstream * (row_weight[:, :, None] * column_weight[:, None, :])[..., None]
                    total = tf.tensor_scatter_nd_add(
                        total, tf.reshape(places, (-1, 1)), tf.reshape(weighted, (-1, channels))
                    )
            return tf.reshape(total, tf.shape(image))

        return tf.image.crop_and_resize(image, boxes, index, size), gradient

    return cropped(image)


def _corners(first: Any, last: Any, length: Any, count: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns the pixels before and after `count` samples from `first` to `last`, with their weights; see the op."""
    end = tf.cast(length - 1, tf.float32)
    place = first[:, None] * end + tf.range(count, dtype=tf.float32) * ((last - first) * end / (count - 1))[:, None]
    inside = tf.cast((place >= 0) & (place <= end), tf.float32)
    place = tf.clip_by_value(place, 0.0, end)
    low = tf.floor(place)
    fraction = place - low
    return (
        (tf.cast(low, tf.int32), (1 - fraction) * inside),
        (tf.cast(tf.math.ceil(place), tf.int32), fraction * inside),
    )


def _gathered(
    maps: Sequence[Any], boxes: Any, index: Any, strides: Sequence[int], size: int, samples: int, aligned: bool
) -> Any:
    channels = maps[0].shape[-1]
    flat = ops.concatenate([ops.reshape(each, (-1, channels)) for each in maps], axis=0)
    sides = [[ops.cast(side, "int32") for side in ops.shape(each)[:3]] for each in maps]
    heights, widths = (ops.stack([each[axis] for each in sides]) for axis in (1, 2))
    counts = ops.stack([count * height * width for count, height, width in sides])
    level = box_levels(boxes, strides) if len(maps) > 1 else ops.zeros_like(index)
    high, wide = ops.take(heights, level), ops.take(widths, level)
    start = ops.take(ops.cumsum(counts) - counts, level) + index * high * wide
    scale = ops.take(ops.convert_to_tensor([1 / stride for stride in strides], "float32"), level)
    left, top, width, height = _extents(boxes, scale[:, None], aligned)
    pooled = 0.0
    for rows, row_weights in _neighbors(top, height, high, size * samples):
        for columns, column_weights in _neighbors(left, width, wide, size * samples):
            places = (start[:, None] + rows * wide[:, None])[:, :, None] + columns[:, None, :]
            weights = row_weights[:, :, None] * column_weights[:, None, :]
            pooled = pooled + ops.take(flat, ops.reshape(places, (-1,)), axis=0) * ops.reshape(weights, (-1, 1))
    pooled = ops.reshape(pooled, (-1, size * samples, size * samples, channels))
    return ops.average_pool(pooled, samples, data_format="channels_last") if samples > 1 else pooled


def _neighbors(start: Any, length: Any, limit: Any, count: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Returns the pixels before and after `count` samples of each box along one axis, with their weights."""
    limit = ops.cast(limit, "float32")[:, None]
    place = start[:, None] + (ops.arange(count, dtype="float32") + 0.5)[None] / count * length[:, None]
    inside = ops.cast(ops.logical_and(place >= -1.0, place <= limit), "float32")
    place = ops.minimum(ops.maximum(place, 0.0), limit - 1)
    low = ops.floor(place)
    high = ops.minimum(low + 1, limit - 1)
    fraction = place - low
    return (
        (ops.cast(low, "int32"), (1 - fraction) * inside),
        (ops.cast(high, "int32"), fraction * inside),
    )
