"""Matching of boxes and objects: thresholds, ties, images without objects; torchvision's matches."""

from __future__ import annotations

from typing import Any

import numpy as np

from resnet_keras.detection.matching import BACKGROUND, IGNORED, match

# Boxes in rows, objects in columns.
IOU = np.float32([[0.7, 0.0], [0.69, 0.1], [0.3, 0.2], [0.29, 0.25], [0.1, 0.25], [0.0, 0.0]])
BOTH = np.array([[True, True]])


def test_thresholds_include_their_own_value() -> None:
    found = np.asarray(match(IOU[None], BOTH, 0.7, 0.3))[0]
    np.testing.assert_array_equal(found, [0, IGNORED, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND])


def test_all_best_boxes_of_an_object_match_the_object_that_they_overlap_most() -> None:
    found = np.asarray(match(IOU[None], BOTH, 0.7, 0.3, best_of_objects=True))[0]
    # Boxes 3 and 4 are the best of object 1; box 3 overlaps object 0 more.
    np.testing.assert_array_equal(found, [0, IGNORED, IGNORED, 0, 1, BACKGROUND])


def test_padding_and_objects_that_nothing_overlaps_match_nothing() -> None:
    iou = np.float32([[[0.9, 1.0], [0.2, 1.0]], [[0.9, 1.0], [0.2, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    found = match(iou, np.array([[True, False], [False, False], [True, False]]), 0.7, 0.3, best_of_objects=True)
    np.testing.assert_array_equal(found, [[0, BACKGROUND], [BACKGROUND] * 2, [BACKGROUND] * 2])


def test_matches_are_torchvisions(theirs: Any) -> None:
    iou = theirs[1]["iou"][:5].T[None]
    objects = np.ones((1, 5), bool)
    np.testing.assert_array_equal(match(iou, objects, 0.7, 0.3, best_of_objects=True)[0], theirs[1]["rpn_matches"])
    np.testing.assert_array_equal(match(iou, objects, 0.5, 0.5)[0], theirs[1]["roi_matches"])
