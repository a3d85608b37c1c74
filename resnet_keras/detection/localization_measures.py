"""Errors of localization, as ILSVRC measures them: a class and a box of it in each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_keras.detection.average_precision import pairwise_iou
from resnet_keras.detection.box_split import BoxExample
from resnet_keras.detection.localization_input import class_of

LEAST_OVERLAP = 0.5
"""Intersection over union from which a box is that of the object."""
_GUESSES = 5
_ERRORS = (
    *("localization_top5_error", "localization_top1_error", "top5_error", "top1_error"),
    "given_class_error",
)


@dataclass(frozen=True)
class LocalizationResult:
    """Errors on images whose objects are of one class each, fractions of the images.

    Attributes:
        localization_top5_error: None of the 5 most probable classes is the true one with a box that overlaps one of its
            objects by 0.5 and more (ILSVRC's measure).
        localization_top1_error: Likewise, of the most probable class.
        top5_error: The true class is not among the 5 most probable ones.
        top1_error: The most probable class is wrong.
        given_class_error: The box of the true class overlaps none of its objects by 0.5 (Table 13 of
            arXiv:1512.03385, "LOC error on GT class").
        mean_iou: Mean overlap of the box of the true class with the object that it overlaps most.
        images: Number of images.
    """

    localization_top5_error: float
    localization_top1_error: float
    top5_error: float
    top1_error: float
    given_class_error: float
    mean_iou: float
    images: int

    def __str__(self) -> str:
        """Returns the main numbers in percent."""
        named = {
            "localization error": self.localization_top5_error,
            "top-1": self.localization_top1_error,
            "with the class given": self.given_class_error,
            "class error": self.top1_error,
        }
        top5, *others = (f"{name} {value:.2%}" for name, value in named.items())
        return f"top-5 {top5}, {', '.join(others)} on {self.images:,} images"


def measure_localization(
    examples: Sequence[BoxExample], found: Iterable[tuple[np.ndarray, np.ndarray]]
) -> LocalizationResult:
    """Returns the errors of localization.

    Args:
        examples: Images whose objects are of one class each; see `one_class_images`.
        found: For each, the score of all classes (K,), and their boxes in the image's pixels (K, 4).

    Raises:
        ValueError: There are no images, or more or fewer results.
    """
    rows = [_judged(example, *each) for example, each in zip(examples, found, strict=True)]
    if not rows:
        raise ValueError("Expected images to measure localization on. Received: none")
    *errors, mean_iou = (float(value) for value in np.mean(rows, axis=0))
    return LocalizationResult(**dict(zip(_ERRORS, errors, strict=True)), mean_iou=mean_iou, images=len(rows))


def _judged(example: BoxExample, scores: np.ndarray, boxes: np.ndarray) -> tuple[float, ...]:
    """Returns what is wrong of an image, in the order of `_ERRORS`, and the overlap."""
    label, guesses = class_of(example), np.argsort(-np.asarray(scores), kind="stable")[:_GUESSES]
    overlap = float(pairwise_iou(np.asarray(boxes, np.float64)[[label]], example.boxes[example.trained]).max())
    placed, named = overlap >= LEAST_OVERLAP, label in guesses
    first = label == guesses[0]
    return not (named and placed), not (first and placed), not named, not first, not placed, overlap
