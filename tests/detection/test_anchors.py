"""Anchors: those of torchvision's detectors, at known and unknown sizes of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from helpers.torchvision_boxes import ANCHOR_RATIOS, ANCHOR_SIZES, IMAGE_SIZE, MAP_SIZES

from resnet_keras.detection.anchors import anchors_at, cell_anchors, grid_anchors, level_anchors


def test_anchors_of_a_place_are_those_of_torchvision_rounded_to_even_pixels() -> None:
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(cell_anchors((32,), (0.5, 1.0, 2.0)), expected)
    # py-faster-rcnn's nine, centered and rounded; sizes vary fastest.
    nine = cell_anchors((128, 256, 512), (0.5, 1.0, 2.0))
    np.testing.assert_array_equal(nine[3:6], [[-64] * 2 + [64] * 2, [-128] * 2 + [128] * 2, [-256] * 2 + [256] * 2])
    np.testing.assert_array_equal(nine[0], [-91, -45, 91, 45])


def test_a_map_has_anchors_row_by_row_from_the_corner_with_whole_steps() -> None:
    cell = np.float32([[-1, -2, 1, 2], [0, 0, 3, 3]])
    found = grid_anchors((65, 100), (2, 3), cell)  # steps of 32 and 33 pixels
    assert found.shape == (12, 4)
    np.testing.assert_array_equal(found[[0, 1, 2, 6]], [[-1, -2, 1, 2], [0, 0, 3, 3], [32, -2, 34, 2], [-1, 30, 1, 34]])


def test_an_anchor_alone_is_that_of_the_list() -> None:
    cell = cell_anchors((16, 40), (0.5, 2.0))
    index = np.random.default_rng(0).integers(0, 6 * 10 * 4, (2, 50)).astype(np.int32)
    whole = grid_anchors((100, 165), (6, 10), cell)
    np.testing.assert_array_equal(anchors_at(index, (100, 165), (6, 10), cell), whole[index])


def test_sizes_that_only_the_graph_knows_give_the_same_anchors() -> None:
    cell = cell_anchors((16, 40), (0.5, 2.0))

    @tf.function(input_signature=[tf.TensorSpec((4,), tf.int32)])
    def of_sizes(sizes: Any) -> Any:
        height, width, rows, columns = tf.unstack(sizes)
        return grid_anchors((height, width), (rows, columns), cell)

    np.testing.assert_array_equal(of_sizes(tf.constant([96, 160, 6, 10])), grid_anchors((96, 160), (6, 10), cell))


def test_anchors_are_torchvisions(theirs: Any) -> None:
    found = level_anchors(IMAGE_SIZE, MAP_SIZES, ANCHOR_SIZES, ANCHOR_RATIOS)
    np.testing.assert_array_equal(np.concatenate(found), theirs[1]["anchors"])
