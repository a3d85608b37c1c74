"""Refinements of detections in evaluation (arXiv:1512.03385, appendix B), as arithmetic of boxes and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np

from resnet_keras.checks.fields import Range, check_fields
from resnet_keras.detection.average_precision import FoundBoxes, pairwise_iou

UNION_IOU = 0.3
"""Overlap above which a box of the union of original and refined boxes is suppressed (appendix B)."""
VOTE_IOU = 0.5
"""Least overlap of the boxes that vote for a box (arXiv:1505.01749, section 4)."""

_REGION_SIDE, _SHORTER_SIDE = 224, 600  # arXiv:1504.06066 takes scales at which regions are near the former
_MOST_SCALES = 8
_Scales: TypeAlias = Annotated[
    tuple[int, ...],
    Range(
        f"at most {_MOST_SCALES} rising lengths of 32 to 2000",
        lambda sides: (
            len(sides) <= _MOST_SCALES
            and all(32 <= side <= 2000 for side in sides)
            and list(sides) == sorted(set(sides))
        ),
    ),
]


@dataclass(frozen=True, kw_only=True)
class Refinements:
    """What evaluation adds to a detector, without training (arXiv:1512.03385, appendix B).

    Example:
        >>> refinements = detection.Refinements(boxes=True, scales=(200, 400, 600, 800, 1000))
        >>> detector.evaluate(test, refinements=refinements)

    Attributes:
        boxes: Whether each proposal's best box is classified and refined once more, and the union of all boxes goes
            through suppression at an IoU of 0.3 and box voting.
        flip: Whether probabilities and boxes of each proposal are averaged with those of the mirrored image.
        scales: Shorter sides in pixels at which regions are classified, rising. Each region takes the two adjacent ones
            at which it is nearest to 224x224 pixels, for a detector of shorter sides of 600, and to a square in
            proportion for others; the larger one of each feature counts (maxout). Proposals are made at the detector's
            own scale. Empty: that one alone.

    Raises:
        ValueError: The scales do not rise, are too many, or are out of their range.
    """

    boxes: bool = False
    flip: bool = False
    scales: _Scales = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def __bool__(self) -> bool:
        return self.boxes or self.flip or bool(self.scales)


def mirrored(boxes: np.ndarray, width: float) -> np.ndarray:
    """Returns boxes in the mirror image: (..., 4) -> (..., 4).

    Args:
        boxes: Left, top, right, and bottom edges.
        width: Width of the image.
    """
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([width - right, top, width - left, bottom], -1)


def adjacent_scales(boxes: np.ndarray, factors: np.ndarray, shorter: float) -> np.ndarray:
    """Returns the lower one of the two adjacent scales that suit each box best: (N, 4) -> int (N,).

    Args:
        boxes: Boxes in pixels.
        factors: Factor of the boxes' sides at each scale, rising (S,). With one scale, it is that one.
        shorter: Shorter side in pixels of images at the detector's own scale.
    """
    if len(factors) == 1:
        return np.zeros(len(boxes), int)
    sides = np.sqrt(np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1), 1e-6))
    usual = _REGION_SIDE * shorter / _SHORTER_SIDE
    distances = np.abs(np.log(sides[:, None] * factors[None] / usual))
    return np.argmin(distances[:, :-1] + distances[:, 1:], axis=-1)


def suppressed(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Returns the indices of boxes of one class that no better one overlaps by more than `iou`, the best first."""
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size:
        kept.append(int(left[0]))
        overlap = pairwise_iou(boxes[left[:1]], boxes[left[1:]])[0]
        left = left[1:][overlap <= iou]
    return np.array(kept, int)


def voted(kept: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns boxes as means of all that overlap them by 0.5 and more, weighted by their scores.

    Source: arXiv:1505.01749, section 4, "bounding box voting".

    Args:
        kept: Boxes after suppression (K, 4).
        boxes: All boxes of the class, those among them (N, 4).
        scores: Their scores (N,).
    """
    weights = (pairwise_iou(kept, boxes) >= VOTE_IOU) * scores[None]
    return (weights @ boxes) / weights.sum(-1, keepdims=True)


def combined(
    boxes: np.ndarray, scores: np.ndarray, *, iou: float, least_score: float, count: int, voting: bool
) -> FoundBoxes:
    """Returns the detections of an image from the boxes and scores of all regions and classes, the best first.

    Args:
        boxes: Box of each region and class (R, K, 4).
        scores: Their scores (R, K).
        iou: Overlap above which a worse box of the class is suppressed.
        least_score: Detections have scores above it.
        count: Detections, at most.
        voting: Whether the boxes vote; see `voted`.
    """
    parts = []
    for label in range(scores.shape[1]):
        chosen = scores[:, label] > least_score
        own, own_scores = boxes[chosen, label], scores[chosen, label]
        kept = suppressed(own, own_scores, iou)
        found = voted(own[kept], own, own_scores) if voting and kept.size else own[kept]
        parts.append((found, own_scores[kept], np.full(len(kept), label, np.int32)))
    together = FoundBoxes(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    best = np.argsort(-together.scores, kind="stable")[:count]
    return FoundBoxes(*(each[best] for each in together))
