"""Errors layer by layer: the layer that loses is the one that is named."""

import keras
import numpy as np
import pytest
from helpers.artifacts import convert_classifier

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.layer_errors import LayerError, largest_errors, layer_errors

RGB = Preprocessing(image_size=(32, 32), channels=3, mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> list[LayerError]:
    folder = tmp_path_factory.mktemp("layers")
    keras.utils.set_random_seed(0)
    model = named_networks.PlainNet20(classes=5, classifier_activation=None)
    # One channel of a hundred times the others' range takes all values of int8 for itself.
    kernel = model.get_layer("stage2_block2_conv1").kernel
    kernel.assign(np.asarray(kernel.value) * ([200.0] + [1.0] * 31))
    after = model.get_layer("stage2_block2_conv2").kernel
    after.assign(np.asarray(after.value) * np.array([0.0] + [1.0] * 31)[:, None])
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    files = {form: folder / f"{form}.tflite" for form in ("float32", "int8")}
    convert_classifier(Classifier(model, RGB, tuple("abcde")), images, files)
    return layer_errors(files["float32"], files["int8"], images[:4])


def test_every_layer_has_an_error_in_the_order_of_the_graph(errors: list[LayerError]) -> None:
    names = [each.layer for each in errors]
    stages = [name for name in names if name.startswith("stage")]
    assert len(stages) >= 18  # of as many convolutions, each with its ReLU
    assert stages == sorted(stages)
    assert names.index("stem_relu") < names.index(stages[0])
    assert all(0 <= each.error < 5 for each in errors)


def test_the_layer_that_loses_most_is_named(errors: list[LayerError]) -> None:
    error = {each.layer: each.error for each in errors}
    assert error["stage2_block2_relu"] > 2 * error["stage2_block1_relu"]
    assert "stage2_block2_relu (" in largest_errors(errors)


def test_the_worst_are_those_that_add_most() -> None:
    listed = [LayerError("a", 0.1), LayerError("b", 0.12), LayerError("c", 0.5), LayerError("d", 0.3)]
    assert largest_errors(listed, 2).endswith("c (12.0% to 50.0%), a (0.0% to 10.0%)")
