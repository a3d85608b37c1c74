"""Boxes as tensors: their offsets from other boxes, areas, and overlap.

A box is its left, top, right, and bottom edge in pixels, float32; an image's left edge is at 0, its right edge at its
width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

MOST_GROWTH = math.log(1000 / 16)
"""Largest logarithm of the factor by which an offset makes a box wider or higher: to 1,000 pixels from 16."""

Weights = tuple[float, float, float, float]


def encode(boxes: Any, references: Any, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Any:
    """Returns the offsets that lead from reference boxes to boxes: (..., 4) -> float32 (..., 4).

    They are the distances of the centers, divided by the reference's width and height, and the logarithms of the
    ratios of widths and heights (arXiv:1311.2524, appendix C), each times its weight. Inverse of `decode`. Both boxes
    must have an area.

    Args:
        boxes: Boxes that are looked for.
        references: Anchors or proposals.
        weights: Weights of x, y, width, and height.
    """
    x, y, width, height = _centers(ops.cast(references, "float32"))
    to_x, to_y, to_width, to_height = _centers(ops.cast(boxes, "float32"))
    return ops.stack(
        [
            weights[0] * (to_x - x) / width,
            weights[1] * (to_y - y) / height,
            weights[2] * ops.log(to_width / width),
            weights[3] * ops.log(to_height / height),
        ],
        axis=-1,
    )


def decode(offsets: Any, references: Any, weights: Weights = (1.0, 1.0, 1.0, 1.0)) -> Any:
    """Returns the boxes that offsets lead to from reference boxes: (..., 4) -> float32 (..., 4); see `encode`.

    Args:
        offsets: Offsets; those of width and height are cut off at `MOST_GROWTH`.
        references: Anchors or proposals.
        weights: Weights of x, y, width, and height, by which the offsets are divided.
    """
    x, y, width, height = _centers(ops.cast(references, "float32"))
    dx, dy, dw, dh = _columns(ops.cast(offsets, "float32") / np.asarray(weights, np.float32))
    x, y = dx * width + x, dy * height + y
    width, height = ops.exp(ops.minimum(dw, MOST_GROWTH)) * width, ops.exp(ops.minimum(dh, MOST_GROWTH)) * height
    return ops.stack([x - 0.5 * width, y - 0.5 * height, x + 0.5 * width, y + 0.5 * height], axis=-1)


def clip_boxes(boxes: Any, sizes: Any) -> Any:
    """Returns boxes cut off at the edges of their images: (N, ..., 4) -> (N, ..., 4).

    Args:
        boxes: Boxes of each image.
        sizes: Height and width of each image in pixels (N, 2).
    """
    height, width = ops.split(ops.cast(sizes, "float32"), 2, axis=-1)
    limits = ops.concatenate([width, height, width, height], axis=-1)
    for _ in range(len(boxes.shape) - 2):
        limits = ops.expand_dims(limits, 1)
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def has_sides(boxes: Any, least: float) -> Any:
    """Returns whether width and height of each box are at least `least` pixels: (..., 4) -> bool (...)."""
    left, top, right, bottom = _columns(boxes)
    return ops.logical_and(right - left >= least, bottom - top >= least)


def areas(boxes: Any) -> Any:
    """Returns the area of each box in square pixels: (..., 4) -> (...)."""
    left, top, right, bottom = _columns(boxes)
    return (right - left) * (bottom - top)


def pairwise_iou(boxes: Any, others: Any) -> Any:
    """Returns the intersection over union of all pairs: (..., A, 4), (..., B, 4) -> (..., A, B); 0 without an area."""
    one, other = ops.expand_dims(boxes, -2), ops.expand_dims(others, -3)
    sides = ops.minimum(one[..., 2:], other[..., 2:]) - ops.maximum(one[..., :2], other[..., :2])
    width, height = ops.maximum(sides[..., 0], 0.0), ops.maximum(sides[..., 1], 0.0)
    shared = width * height
    union = ops.expand_dims(areas(boxes), -1) + ops.expand_dims(areas(others), -2) - shared
    return ops.where(union > 0, shared / ops.where(union > 0, union, 1.0), 0.0)


def _columns(boxes: Any) -> tuple[Any, Any, Any, Any]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _centers(boxes: Any) -> tuple[Any, Any, Any, Any]:
    """Returns x and y of the centers, widths and heights."""
    left, top, right, bottom = _columns(boxes)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height
