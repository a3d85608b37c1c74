"""Pictures of detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.drawing import draw_boxes, write_boxes
from resnet_keras.segmentation.segmenter import class_colors

FOUND = FoundBoxes(np.float32([[10, 20, 80, 90], [-5, 150, 300, 260]]), np.float32([0.9, 0.4]), np.int32([1, 0]))


def test_edges_have_the_color_of_their_class_and_what_is_inside_stays() -> None:
    image = np.full((200, 200, 3), 77, np.uint8)
    found = draw_boxes(image, FOUND, ("cat", "dog"))
    colors = class_colors(3)
    np.testing.assert_array_equal(found[90, 30:70], np.broadcast_to(colors[2], (40, 3)))
    np.testing.assert_array_equal(found[150, 100:190], np.broadcast_to(colors[1], (90, 3)))
    np.testing.assert_array_equal(found[60, 40], [77] * 3)
    np.testing.assert_array_equal(image, 77)


def test_gray_pixels_of_any_type_are_drawn_on_in_color(tmp_path: Path) -> None:
    write_boxes(tmp_path / "new" / "cat", np.full((200, 200, 1), 76.6, np.float32), FOUND, ("cat", "dog"))
    with Image.open(tmp_path / "new" / "cat.boxes.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (200, 200, 3)
    np.testing.assert_array_equal(pixels[60, 40], [77] * 3)
    nothing = FoundBoxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    np.testing.assert_array_equal(draw_boxes(pixels, nothing, ("cat",)), pixels)
