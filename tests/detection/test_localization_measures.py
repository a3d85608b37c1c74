"""Errors of localization by hand."""

from pathlib import Path

import numpy as np
import pytest

from resnet_keras.detection import BoxExample, LocalizationResult, measure_localization
from resnet_keras.detection.localization_input import class_of

CLASSES = 7


def example(label: int, *boxes: tuple[float, ...]) -> BoxExample:
    count = len(boxes)
    no = np.zeros(count, bool)
    return BoxExample(
        Path("a.jpg"), 100, 100, np.array(boxes, float), np.full(count, label), no, no, np.ones(count), "a"
    )


def found(order: list[int], box: tuple[float, ...], label: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that fall in an order of classes, and boxes, of which only the label's is not empty."""
    scores, boxes = np.zeros(CLASSES), np.zeros((CLASSES, 4))
    scores[order] = np.arange(len(order), 0, -1)
    boxes[label] = box
    return scores, boxes


def test_an_image_is_right_by_one_of_five_classes_with_an_overlap_of_one_half() -> None:
    half, less = (0, 0, 10, 5), (0, 0, 10, 4.9)
    images = [
        (example(2, (0, 0, 10, 10)), found([2, 0, 1, 3, 4], half, 2)),  # all right
        (example(2, (0, 0, 10, 10)), found([2, 0, 1, 3, 4], less, 2)),  # the class alone
        (example(2, (0, 0, 10, 10)), found([0, 1, 3, 4, 2], half, 2)),  # fifth
        (example(2, (50, 50, 90, 90), (0, 0, 10, 10)), found([0, 1, 3, 4, 5, 2], half, 2)),  # sixth; of two objects
    ]
    result = measure_localization([each for each, _ in images], (each for _, each in images))
    assert result == LocalizationResult(
        localization_top5_error=0.5,
        localization_top1_error=0.75,
        top5_error=0.25,
        top1_error=0.5,
        given_class_error=0.25,
        mean_iou=pytest.approx((0.5 + 0.49 + 0.5 + 0.5) / 4),
        images=4,
    )
    assert str(result) == (
        "top-5 localization error 50.00%, top-1 75.00%, with the class given 25.00%, class error 50.00% on 4 images"
    )
    assert class_of(images[0][0]) == 2


def test_there_are_images_and_as_many_results() -> None:
    with pytest.raises(ValueError, match="Expected images to measure localization on. Received: none"):
        measure_localization([], [])
    with pytest.raises(ValueError, match="shorter"):
        measure_localization([example(2, (0, 0, 10, 10))], [])
