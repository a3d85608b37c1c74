"""How far the detections of two implementations of one detector agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_keras.detection.average_precision import FoundBoxes

_SAME_IOU = 0.95


@dataclass(frozen=True)
class Agreement:
    """Agreement of detections; sums over images.

    Attributes:
        expected: Detections of the model.
        found: Detections of the artifact.
        equal: Pairs of the same class whose boxes overlap by 0.95 and more.
        box_difference: Largest difference of an edge in a pair, in pixels.
        score_difference: Largest difference of the scores of a pair.
    """

    expected: int = 0
    found: int = 0
    equal: int = 0
    box_difference: float = 0.0
    score_difference: float = 0.0

    @property
    def fraction(self) -> float:
        """Fraction of all detections, of both, that are in a pair, 0 to 1; 1 if there are none."""
        return 2 * self.equal / (self.expected + self.found) if self.expected + self.found else 1.0

    def __add__(self, other: Agreement) -> Agreement:
        """Returns the agreement in the images of both."""
        return Agreement(
            self.expected + other.expected,
            self.found + other.found,
            self.equal + other.equal,
            max(self.box_difference, other.box_difference),
            max(self.score_difference, other.score_difference),
        )


def agreement_of(expected: FoundBoxes, found: FoundBoxes) -> Agreement:
    """Returns the agreement of detections in one image; each is in one pair at most, with the box it overlaps most.

    Args:
        expected: Detections of the model.
        found: Detections of the artifact.
    """
    free = np.ones(len(found.scores), bool)
    equal, box_difference, score_difference = 0, 0.0, 0.0
    for box, score, label in zip(*expected, strict=True):
        overlap = np.where(free & (found.labels == label), _iou(box, found.boxes), -1.0)
        if not len(overlap) or overlap.max() < _SAME_IOU:
            continue
        # Of several that overlap as much, the one with the nearest score.
        best = int(np.argmin(np.where(overlap == overlap.max(), np.abs(found.scores - score), np.inf)))
        free[best] = False
        equal += 1
        box_difference = max(box_difference, float(np.abs(found.boxes[best] - box).max()))
        score_difference = max(score_difference, float(abs(found.scores[best] - score)))
    return Agreement(len(expected.scores), len(found.scores), equal, box_difference, score_difference)


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of a box (4,) and each of others (N, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    own, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(own + areas - shared, 1e-9)
