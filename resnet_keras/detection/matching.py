"""Which object each anchor or proposal is trained toward."""

from __future__ import annotations

from typing import Any

from keras import ops

BACKGROUND, IGNORED = -1, -2
"""Matches that are no index of an object: too little overlap, and neither enough nor too little."""


def match(iou: Any, is_object: Any, high: float, low: float, *, best_of_objects: bool = False) -> Any:
    """Returns the index of the object that each box overlaps most, `BACKGROUND`, or `IGNORED`: int32 (N, A).

    Boxes are background below `low`, ignored between the thresholds, and matched from `high` on. In an image without
    objects all are background. Differs from torchvision's `Matcher` in one case only: there an object that no box
    overlaps matches all boxes.

    Args:
        iou: Intersection over union of boxes and objects (N, A, G), from `pairwise_iou`.
        is_object: Whether an object is one, and not padding, bool (N, G).
        high: Least overlap of a match, 0 to 1.
        low: Overlap below which a box is background, at most `high`.
        best_of_objects: Whether boxes with the largest overlap of an object (all with the same) match in any case,
            with the object that they overlap most (arXiv:1506.01497, section 3.1.2).
    """
    iou = ops.where(ops.expand_dims(is_object, 1), iou, -1.0)
    most = ops.max(iou, axis=-1)
    nearest = ops.cast(ops.argmax(iou, axis=-1), "int32")
    matches = ops.where(most >= high, nearest, ops.where(most < low, BACKGROUND, IGNORED))
    if best_of_objects:
        best = ops.max(iou, axis=1, keepdims=True)
        matches = ops.where(ops.any(ops.logical_and(iou == best, best > 0), axis=-1), nearest, matches)
    return matches
