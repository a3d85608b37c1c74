"""Localizers: sizes of the network, files, boxes in the images' pixels, and the images that they are trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.box_folders import VocFolder
from helpers.shapes_only import shapes_only
from helpers.small_detectors import BACKBONE
from helpers.small_networks import drawn

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection import LocalizationNetwork, Localizer, is_detector, is_localizer, one_class_images, open_voc
from resnet_keras.detection.localization_input import largest_boxes, target_batches

CANVAS = Preprocessing(image_size=(64, 64), channels=3, mean=(124, 116, 104), std=(58, 57, 57))


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    model = drawn(LocalizationNetwork(BACKBONE, 3, input_shape=(64, 64, 3), box_channels=4))
    return Localizer(model, CANVAS, ("cat", "dog", "owl"))


def test_a_network_has_the_parameters_of_its_layers() -> None:
    with shapes_only():
        model = LocalizationNetwork("resnet50", 1000)
    backbone, maps = 23_561_152, 2048
    logits, narrow = 1000 * (maps + 1), 128 * (maps + 1)
    assert model.count_params() == backbone + logits + narrow + 4000 * (7 * 7 * 128 + 1)
    assert model.output_shape == (None, 1000, 5)


def test_boxes_are_in_the_pixels_of_the_image(localizer: Localizer) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 128, 3), np.uint8)  # 16x64 on the canvas
    model = localizer.model
    kept = model.get_weights()
    for name in ("logits", "box_deltas"):
        kernel, bias = model.get_layer(name).weights
        kernel.assign(np.zeros(kernel.shape))
        bias.assign(np.zeros(bias.shape))
    model.get_layer("logits").bias.assign([0.0, 2.0, 1.0])
    # Center at 16, 8 of 64x64, half as wide and an eighth as high as the canvas.
    model.get_layer("box_deltas").bias.assign([*[0.0] * 4, -2.5, -3.75, 5 * np.log(0.5), 5 * np.log(0.125), *[0.0] * 4])
    (found,) = localizer.predict(pixels, top_k=2)
    model.set_weights(kept)
    assert found.labels.tolist() == [1, 2]
    np.testing.assert_allclose(found.scores, np.exp([2, 1]) / np.exp([0, 2, 1]).sum(), rtol=1e-5)
    np.testing.assert_allclose(found.boxes, [[0, 8, 64, 24], [0, 0, 128, 32]], atol=1e-3)


def test_a_file_holds_a_localizer_and_weights_for_another(localizer: Localizer, tmp_path: Path) -> None:
    file, pixels = tmp_path / "model.keras", np.full((64, 64, 3), 90, np.uint8)
    localizer.save(file)
    assert is_localizer(file)
    assert not is_detector(file)
    (found,), (expected,) = Localizer.load(file).predict(pixels), localizer.predict(pixels)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
    again = LocalizationNetwork(BACKBONE, 3, input_shape=(64, 64, 3), box_channels=4, weights=file)
    for one, other in zip(again.get_weights(), localizer.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_class_names_and_shapes_fit_each_other(localizer: Localizer) -> None:
    with pytest.raises(ValueError, match=r"a row for each class name. Received: localization_resnet10, of .* 3, 5\)"):
        Localizer(localizer.model, CANVAS, ("cat", "dog"))


def test_images_have_objects_of_one_class_and_the_largest_is_trained_on(
    voc_folder: Callable[..., VocFolder],
) -> None:
    folder = voc_folder()
    folder.add("one", [("cat", 1, 1, 10, 10), ("cat", 11, 11, 40, 30)])
    folder.add("none")
    folder.add("two", [("cat", 1, 1, 10, 10), ("dog", 11, 11, 40, 30)])
    split = open_voc(folder.root, "train")
    with pytest.raises(ValueError, match=r"one class in each image, .*none.jpg, with no objects"):
        one_class_images(split)
    chosen = one_class_images(split, on_corrupt="skip")
    assert [example.identity for example in chosen.examples] == ["one"]
    assert chosen.skipped_images == 2
    (largest,) = largest_boxes(chosen).examples
    np.testing.assert_array_equal(largest.boxes, [[10, 10, 40, 30]])
    ((images, targets),) = target_batches(largest_boxes(chosen), CANVAS, 2)
    assert images.shape == (1, 64, 64, 3)  # 40x60 on 42x64
    width, height = 30 * 64 / 60, 20 * 42 / 40
    center = (25 * 64 / 60 / 64 - 0.5, 20 * 42 / 40 / 64 - 0.5)
    expected = [0, 10 * center[0], 10 * center[1], 5 * np.log(width / 64), 5 * np.log(height / 64)]
    np.testing.assert_allclose(targets[0], expected, atol=1e-4)
