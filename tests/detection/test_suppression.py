"""Non-maximum suppression: order, groups, thresholds, padding, with and without TensorFlow's operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_keras.detection import suppression
from resnet_keras.detection.suppression import non_max_suppression

FORMS = pytest.mark.parametrize("backend", ["tensorflow", "any"])
BOXES = np.float32([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [0, 1, 10, 10], [50, 50, 60, 60]])
SCORES = np.float32([0.5, 0.9, 0.3, 0.9, 0.05])


def suppressed(monkeypatch: pytest.MonkeyPatch, backend: str, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    if backend == "any":
        monkeypatch.setattr(suppression, "_by_tensorflow", suppression._by_rounds)
    kept, number = non_max_suppression(*arguments)
    return np.asarray(kept), np.asarray(number)


@FORMS
def test_the_best_of_overlapping_boxes_stays_and_the_first_of_equals(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.stack([BOXES, BOXES]), np.stack([SCORES, SCORES[::-1]])
    kept, number = suppressed(monkeypatch, backend, *images, np.zeros(5, np.int32), 4, 0.5, 0.05)
    # Boxes 0, 1 and 3 overlap by 0.7 and more; box 4 has no more than the least score, then it has 0.5.
    np.testing.assert_array_equal(kept, [[1, 2, 0, 0], [1, 4, 2, 0]])
    np.testing.assert_array_equal(number, [2, 3])


@FORMS
def test_boxes_of_other_groups_are_not_suppressed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.int32([0, 1, 0, 2, 0])
    kept, number = suppressed(monkeypatch, backend, BOXES[None], SCORES[None], groups, 3, 0.5, 0.05)
    np.testing.assert_array_equal(kept, [[1, 3, 0]])
    np.testing.assert_array_equal(number, [3])


@FORMS
def test_what_stays_is_what_torchvision_keeps(backend: str, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, found = theirs
    for name, scores in (("kept", given["scores"]), ("kept_of_equal", given["scores"].round(1))):
        images = given["boxes"][None], scores[None], given["groups"]
        kept, _ = suppressed(monkeypatch, backend, *images, 30, 0.4, -1.0)
        np.testing.assert_array_equal(kept[0], found[name][:30])
