"""Measures of masks, on cases whose values can be counted."""

import keras
import numpy as np
import pytest

from resnet_keras.segmentation import MaskConfusion, evaluate_masks


def test_measures_are_those_that_one_counts() -> None:
    confusion = MaskConfusion(["a", "b", "c", "never"])
    confusion.add([[0, 0, 1], [1, 2, 255]], [[0, 1, 1], [1, 0, 2]])
    confusion.add([[2]], [[2]])
    np.testing.assert_array_equal(confusion.matrix, [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    found = confusion.result()
    assert (found.images, found.pixels) == (2, 6)
    assert found.pixel_accuracy == pytest.approx(4 / 6)
    assert found.class_iou == {"a": pytest.approx(1 / 3), "b": pytest.approx(2 / 3), "c": 0.5, "never": None}
    assert found.mean_iou == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)


def test_another_label_may_be_ignored() -> None:
    confusion = MaskConfusion(["a", "b"], ignored=7)
    confusion.add([[0, 7], [1, 7]], [[0, 0], [0, 1]])
    assert confusion.result().pixels == 2


@pytest.mark.parametrize(
    ("mask", "predicted", "said"),
    [
        ([[0, 2]], [[0, 0]], r"labels from 0 to 1, or 255.*Received: 2"),
        ([[0, -1]], [[0, 0]], r"Received: -1"),
        ([[0, 1]], [[0], [1]], r"of one shape .*Received: \(1, 2\) and \(2, 1\)"),
    ],
)
def test_masks_that_cannot_be_are_refused(mask: list, predicted: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MaskConfusion(["a", "b"]).add(mask, predicted)


def test_without_pixels_there_is_no_result() -> None:
    confusion = MaskConfusion(["a", "b"])
    confusion.add([[255]], [[0]])
    with pytest.raises(ValueError, match="Received: 1 images, without any"):
        confusion.result()


def test_scores_are_resized_to_the_mask() -> None:
    image = keras.Input((None, None, 2))
    model = keras.Model(image, keras.layers.AveragePooling2D(2)(image))
    pixels = np.zeros((4, 4, 2), np.float32)
    pixels[:2, :, 0] = pixels[2:, :, 1] = 1
    mask = np.repeat([[0], [0], [1], [1]], 4, 1)
    assert evaluate_masks(model, [(pixels, mask)], ["up", "down"]).mean_iou == 1
    with pytest.raises(ValueError, match="network of 3 classes. Received: .*, of 2"):
        evaluate_masks(model, [(pixels, mask)], ["a", "b", "c"])
