"""Boxes: offsets and their inverse, clipping, overlap; values of torchvision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from helpers.torchvision_boxes import BOX_WEIGHTS, IMAGE_SIZE

from resnet_keras.detection.boxes import areas, clip_boxes, decode, encode, has_sides, pairwise_iou

ANCHOR, OBJECT = np.float32([[10, 20, 30, 60]]), np.float32([[15, 10, 55, 50]])


def test_offsets_are_distances_and_logarithms_by_the_size_of_the_reference() -> None:
    offsets = np.asarray(encode(OBJECT, ANCHOR, BOX_WEIGHTS))
    np.testing.assert_allclose(offsets, [[10 * 15 / 20, 10 * -10 / 40, 5 * math.log(2), 0]], rtol=1e-6)
    np.testing.assert_allclose(decode(offsets, ANCHOR, BOX_WEIGHTS), OBJECT, rtol=1e-6)


def test_offsets_of_size_are_cut_off_at_1000_of_16_pixels() -> None:
    found = np.asarray(decode(np.float32([[0, 0, 90, -90]]), np.float32([[0, 0, 16, 16]])))
    np.testing.assert_allclose(found, [[8 - 500, 8, 8 + 500, 8]], rtol=1e-5)


def test_boxes_are_clipped_to_their_own_image() -> None:
    boxes = np.float32([[[-5, 2, 30, 9]], [[-5, 2, 30, 9]]])
    found = clip_boxes(boxes, np.int32([[8, 20], [50, 60]]))
    np.testing.assert_array_equal(found, [[[0, 2, 20, 8]], [[0, 2, 30, 9]]])
    np.testing.assert_array_equal(clip_boxes(boxes[:, :, None], np.int32([[8, 20], [50, 60]]))[0, 0], [[0, 2, 20, 8]])


def test_boxes_without_an_area_overlap_nothing() -> None:
    boxes = np.float32([[0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3]])
    np.testing.assert_allclose(pairwise_iou(boxes, boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(areas(boxes), [100, 100, 0])
    np.testing.assert_array_equal(has_sides(boxes, 10.0), [True, True, False])


def test_offsets_clipping_and_overlap_are_torchvisions(theirs: Any) -> None:
    given, found = theirs
    boxes, others = given["boxes"], given["others"]
    np.testing.assert_allclose(encode(boxes, others, BOX_WEIGHTS), found["encoded"], rtol=1e-5, atol=1e-5)
    decoded = np.asarray(decode(given["offsets"], others, BOX_WEIGHTS))
    np.testing.assert_allclose(decoded, found["decoded"], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(clip_boxes(decoded[None], np.int32([IMAGE_SIZE]))[0], found["clipped"], atol=1e-4)
    np.testing.assert_allclose(pairwise_iou(boxes, others), found["iou"], rtol=1e-6, atol=1e-7)
