"""The warning of a `fit` on pixels, where the weights expect normalized images."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_networks import TWO_STAGES

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.applications.pixel_warning import warn_of_pixels
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build

IMAGENET = Preprocessing(image_size=(4, 4), channels=3, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3)).astype("float32")
LABELS = np.zeros(8, "float32")


class Batches(keras.utils.PyDataset):
    """Two batches of pixels."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return PIXELS[:4], LABELS[:4]


def batches(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield x[:4], LABELS[:4]


def network(preprocessing: Preprocessing | None = IMAGENET) -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs, name="net")
    warn_of_pixels(model, preprocessing)
    return model


def fitted(model: keras.Model, x: Any, eagerly: bool = True) -> list[str]:
    """Returns the warnings about pixels of `fit`."""
    model.compile("sgd", "mse", run_eagerly=eagerly)
    labels = {"y": LABELS} if isinstance(x, (np.ndarray, tf.Tensor)) else {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, **labels, verbose=0)
    assert all(each.filename == __file__ for each in caught if "pixels 0-255" in str(each.message))
    return [str(each.message) for each in caught if "pixels 0-255" in str(each.message)]


@pytest.mark.parametrize(
    ("of", "nested"),
    [
        (lambda x: x, False),
        (tf.constant, True),
        (lambda x: tf.data.Dataset.from_tensor_slices((x.astype("uint8"), LABELS)).batch(4), True),
        (lambda x: Batches(), False),
        (batches, True),
    ],
)
def test_pixels_warn_with_the_values_that_the_weights_expect(of: Callable[[np.ndarray], Any], nested: bool) -> None:
    model = keras.Sequential([keras.Input((4, 4, 3)), network()]) if nested else network()
    (message,) = fitted(model, of(PIXELS))
    assert message.startswith("'net' is trained on images of up to 25")
    assert (
        "expect RGB less (123.7, 116.3, 103.5), divided by (58.4, 57.1, 57.4): `resnet_keras.preprocess_in" in message
    )


@pytest.mark.parametrize(
    ("x", "preprocessing"),
    [
        ((PIXELS - 120) / 58, IMAGENET),
        (PIXELS - 120, IMAGENET),
        (PIXELS, None),
        (PIXELS, Preprocessing(image_size=(4, 4), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)),
        (tf.data.Dataset.from_tensor_slices((PIXELS - 120, LABELS)).batch(4), IMAGENET),
        (batches(PIXELS - 120), IMAGENET),
    ],
)
def test_normalized_images_do_not_warn(x: Any, preprocessing: Preprocessing | None) -> None:
    assert fitted(network(preprocessing), x) == []


def around(inner: keras.Model, *before: keras.layers.Layer) -> list[keras.Model]:
    """Returns models around a network as Keras's guides make them."""
    inputs = x = keras.Input((4, 4, 3))
    for layer in before:
        x = layer(x)
    outputs = keras.layers.Dense(1)(inner(x, training=False))
    return [keras.Sequential([keras.Input((4, 4, 3)), *before, inner]), keras.Model(inputs, outputs)]


@pytest.mark.parametrize("kind", [0, 1])
def test_layers_before_the_network_count(kind: int) -> None:
    assert fitted(around(network(), keras.layers.Rescaling(1 / 127.5, -1))[kind], PIXELS) == []
    assert len(fitted(around(network(), keras.layers.RandomFlip())[kind], PIXELS)) == 1


def test_a_network_of_which_a_layer_is_taken_warns_too() -> None:
    inner = network()
    model = keras.Model(inner.input, keras.layers.Dense(1)(inner.layers[-2].output))
    assert len(fitted(model, PIXELS)) == 1


def test_a_model_of_several_inputs_trains_without_a_warning() -> None:
    inner, other = network(), keras.Input((1,))
    model = keras.Model([inner.input, other], keras.layers.Add()([inner.output, other]))
    model.compile("sgd", "mse", run_eagerly=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit([PIXELS, LABELS[:, None]], LABELS, verbose=0)


def test_a_traced_fit_warns_once_after_other_calls_and_the_file_is_keras_own(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 4, 3)), network(), keras.layers.Dense(1)])
    assert model(PIXELS).shape == model.predict(PIXELS, verbose=0).shape == (8, 1)
    assert [len(fitted(model, PIXELS, eagerly=False)) for _ in range(2)] == [1, 0]
    assert all("call" not in vars(layer) for layer in model.layers[0].layers)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(PIXELS), model(PIXELS))


def test_networks_with_loaded_weights_warn(tmp_path: Path) -> None:
    plain = build(TWO_STAGES, input_shape=(4, 4, 3), classes=2)
    Classifier(plain, IMAGENET, ("a", "b")).save(tmp_path / "weights.keras")
    inner = build_with_weights(TWO_STAGES, weights=tmp_path / "weights.keras", include_top=False, pooling="avg")
    inner.trainable = False
    assert len(fitted(keras.Sequential([inner, keras.layers.Dense(1)]), PIXELS)) == 1
