"""Proposals and detections: what is chosen, cut off, and left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_keras.detection.region_layers import Detections, Proposals, RoIAlign


def test_proposals_are_the_best_anchors_cut_off_at_the_image() -> None:
    layer = Proposals(((8,), (16,)), (1.0,), (3, 3), (6, 6), 0.7, 1.0)
    objectness = [np.zeros((1, 4, 4, 1), np.float32) - 9, np.zeros((1, 2, 2, 1), np.float32) - 9]
    objectness[0][0, 1, 2], objectness[1][0, 0, 1] = 3, 2  # anchors around (x, y) = (16, 8) and (16, 0)
    objectness[0][0, 3, 3] = 1  # around (24, 24), beyond the image
    deltas = [np.zeros((1, 4, 4, 4), np.float32), np.zeros((1, 2, 2, 4), np.float32)]
    boxes, number = layer(objectness, deltas, np.zeros((1, 32, 32, 3), np.float32), np.int32([[20, 18]]))
    assert boxes.shape == (1, 6, 4)
    # The third of the first map has no place in the image.
    np.testing.assert_array_equal(boxes[0, :2], [[12, 4, 18, 12], [8, 0, 18, 8]])
    assert number[0] == np.asarray(boxes)[0].any(axis=1).sum()


def test_each_class_has_a_box_of_its_own_and_suppresses_only_its_own() -> None:
    layer = Detections(5, 0.5, 0.1, (1.0, 1.0, 1.0, 1.0))
    proposals = np.float32([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 0, 0]]])
    logits = np.log(np.float32([[0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.45, 0.45]]))
    deltas = np.zeros((3, 12), np.float32)
    deltas[0, 8] = 1.0  # the second class of the first proposal is moved by its width
    found = layer(logits, deltas, proposals, np.int32([2]), np.int32([[100, 100]]))
    np.testing.assert_array_equal(found["number"], [2])
    np.testing.assert_allclose(found["scores"][0], [0.5, 0.3, 0, 0, 0], rtol=1e-5)
    np.testing.assert_array_equal(found["labels"][0], [0, 1, -1, -1, -1])
    np.testing.assert_allclose(found["boxes"][0, :2], [[0, 0, 10, 10], [10, 0, 20, 10]], atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "change", "said"),
    [
        (Proposals(((8,),), (1.0,), (3, 3), (6, 6), 0.7, 1.0), {"after": [6, 10**6]}, "1 to 20,000 proposals"),
        (Proposals(((8,),), (1.0,), (3, 3), (6, 6), 0.7, 1.0), {"before": [0, 3]}, "1 to 20,000 proposals"),
        (RoIAlign((16,), 14), {"size": 1000}, "1 to 32 samples along a side of a region"),
        (Detections(5, 0.5, 0.1, (1.0, 1.0, 1.0, 1.0)), {"count": 10**6}, "1 to 20,000 detections"),
    ],
)
def test_a_file_cannot_ask_for_more_than_memory_holds(layer: Any, change: dict[str, Any], said: str) -> None:
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    with pytest.raises((ValueError, TypeError), match=said):  # Keras makes it a TypeError
        type(layer).from_config({**layer.get_config(), **change})
