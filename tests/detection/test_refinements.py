"""Arithmetic of refined detections: votes, suppression, scales."""

import numpy as np
import pytest

from resnet_keras.detection.refinements import (
    Refinements,
    adjacent_scales,
    combined,
    mirrored,
    suppressed,
    voted,
)


def test_boxes_vote_by_their_scores_from_an_overlap_of_one_half_on() -> None:
    # The second box covers the upper two thirds of the first and half as much below: IoU is 20 / 30 and 10 / 30.
    boxes = np.array([[0.0, 0, 10, 30], [0, 0, 10, 20], [0, 20, 10, 30], [50, 50, 60, 60]])
    scores = np.array([0.6, 0.3, 0.9, 0.8])
    found = voted(boxes[:1], boxes, scores)
    np.testing.assert_allclose(found, [[0, 0, 10, (0.6 * 30 + 0.3 * 20) / 0.9]])
    half = np.array([[0.0, 0, 10, 10], [0, 0, 10, 20]])  # IoU 0.5
    np.testing.assert_allclose(voted(half[:1], half, np.array([0.5, 0.5])), [[0, 0, 10, 15]])


def test_a_box_is_suppressed_above_the_overlap_alone() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 9]])
    assert suppressed(boxes, np.array([0.5, 0.9, 0.4]), 0.5).tolist() == [1, 0]
    assert suppressed(boxes, np.array([0.5, 0.9, 0.4]), 0.4).tolist() == [1]
    assert suppressed(boxes[:0], np.zeros(0), 0.5).tolist() == []


def test_classes_are_suppressed_and_vote_by_themselves() -> None:
    boxes = np.array([[[0.0, 0, 10, 10]] * 2, [[0.0, 0, 10, 8]] * 2, [[20.0, 0, 30, 10]] * 2])
    scores = np.array([[0.8, 0.3], [0.4, 0.7], [0.05, 0.9]])
    found = combined(boxes, scores, iou=0.3, least_score=0.1, count=10, voting=True)
    assert found.labels.tolist() == [1, 0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7])
    edges = [10, (0.8 * 10 + 0.4 * 8) / 1.2, (0.3 * 10 + 0.7 * 8) / 1.0]
    np.testing.assert_allclose(found.boxes[:, 3], edges)
    assert len(combined(boxes, scores, iou=0.3, least_score=0.1, count=2, voting=True).scores) == 2
    plain = combined(boxes, scores, iou=0.3, least_score=0.1, count=10, voting=False)
    np.testing.assert_allclose(plain.boxes[:, 3], [10, 10, 8])


def test_a_mirrored_box_keeps_its_width() -> None:
    np.testing.assert_array_equal(mirrored(np.array([[10.0, 1, 30, 2]]), 100), [[70, 1, 90, 2]])


def test_regions_take_the_adjacent_scales_at_which_they_are_nearest_to_224_pixels() -> None:
    factors = np.array([200, 400, 600, 800, 1000]) / 600
    sides = np.array([30, 134, 224, 380, 2000])
    boxes = np.stack([np.zeros(5), np.zeros(5), sides, sides], -1)
    assert adjacent_scales(boxes, factors, 600).tolist() == [3, 3, 2, 1, 0]
    assert adjacent_scales(boxes / 2, factors, 300).tolist() == [3, 3, 2, 1, 0]
    assert adjacent_scales(boxes, factors[:1], 600).tolist() == [0] * 5


@pytest.mark.parametrize("scales", [(600, 400), (400, 400), (16, 400), (400, 4000), tuple(range(100, 1000, 100))])
def test_scales_rise_in_their_range(scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected `scales` to be at most 8 rising lengths of 32 to 2000"):
        Refinements(scales=scales)
    assert not Refinements()
    assert Refinements(flip=True)
