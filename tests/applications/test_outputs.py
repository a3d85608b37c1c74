"""What a classifier returns: logits, a softmax, the sigmoid of each class; and what is none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.small_networks import drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.conversion import convert
from resnet_keras.applications.outputs import features_and_logits, head_of
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.exporter import export
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

PIXELS = Preprocessing(image_size=(8, 8), channels=3, mean=(0.0,) * 3, std=(255.0,) * 3)
TINY = Architecture(stem="cifar", block="basic", repeats=(1,), widths=(4,), shortcut="A")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


def tiny(activation: str | None, classes: int = 3) -> keras.Model:
    return build(TINY, input_shape=(8, 8, 3), classes=classes, classifier_activation=activation)


def pooled() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image)))


@pytest.mark.parametrize(
    ("activation", "place"),
    [
        *((activation, "dense") for activation in ("sigmoid", "softmax", "log_softmax", None)),
        *(("softmax", place) for place in ("network", "layer", "sequential")),
        ("sigmoid", "layer"),
    ],
)
def test_logits_and_features_are_those_before_the_activation(activation: str | None, place: str) -> None:
    dense = keras.layers.Dense(3, activation=activation)
    body = pooled()
    bare = tiny(None) if place == "network" else keras.Model(body.input, keras.layers.Dense(3)(body.output))
    model = {
        "network": lambda: tiny(activation),
        "dense": lambda: keras.Model((other := pooled()).input, dense(other.output)),
        "sequential": lambda: keras.Sequential([keras.Input((8, 8, 3)), pooled(), dense]),
        "layer": lambda: keras.Model(bare.input, keras.layers.Activation(activation)(bare.output)),
    }[place]()
    model.set_weights(bare.get_weights())
    inputs = IMAGES.astype("float32") / 255
    expected = np.asarray(bare(inputs))
    np.testing.assert_allclose(features_and_logits(model)(inputs)["logits"], expected, atol=1e-5)
    classifier = Classifier(model, PIXELS, ("a", "b", "c"))
    probabilities = keras.ops.sigmoid(expected) if activation == "sigmoid" else keras.ops.softmax(expected)
    np.testing.assert_allclose(classifier.probabilities(list(IMAGES)), probabilities, atol=1e-5)
    logits = classifier.logits(list(IMAGES))
    if activation == "sigmoid":
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(keras.ops.softmax(logits), keras.ops.softmax(expected), atol=1e-5)


def test_a_nested_model_ends_in_the_activation_of_its_last_layer() -> None:
    outer = keras.Sequential([keras.Input((8, 8, 3)), tiny("softmax")])
    assert head_of(outer) == "softmax"
    with pytest.raises(ValueError, match=r"`resnet_keras\.convert` makes one .*is the model .*which ends in softmax"):
        features_and_logits(outer)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_another_activation_is_refused_by_its_name(activation: str) -> None:
    with pytest.raises(ValueError, match=f"logits, their softmax, or the sigmoid.*with the activation {activation}"):
        Classifier(tiny(activation), PIXELS, ("a", "b", "c"))


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
def test_one_output_is_refused_with_a_way_on(activation: str | None) -> None:
    with pytest.raises(ValueError, match="at least 2. `resnet_keras.convert` makes two of one"):
        Classifier(tiny(activation, 1), PIXELS, ("yes",))


@pytest.mark.parametrize("names", [None, ("cat", "dog")])
def test_one_output_becomes_two_classes_of_the_same_probability(names: tuple[str, ...] | None) -> None:
    model = tiny("sigmoid", 1)
    classifier, report = convert(model, preprocessing=PIXELS, class_names=names)
    assert classifier.class_names == (names or ("no", "yes"))
    expected = np.asarray(model(IMAGES.astype("float32") / 255))[:, 0]
    np.testing.assert_allclose(classifier.probabilities(list(IMAGES))[:, 1], expected, atol=1e-6)
    assert any("one output is taken for the second of two classes" in note for note in report.notes)


def test_a_mean_of_pixels_from_0_to_1_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    unit = Preprocessing(image_size=(8, 8), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for preprocessing in (PIXELS, unit, unit, replace(PIXELS, std=(1.0,) * 3)):
        Classifier(tiny(None), preprocessing, ("a", "b", "c"))
    (record,) = caplog.records
    assert record.message.endswith("look like those of pixels from 0 to 1; pixels are 0-255 here: multiply both by 255")


def test_a_network_for_several_labels_is_exported_by_none_of_its_names() -> None:
    classifier = Classifier(tiny("sigmoid"), PIXELS, ("a", "b", "c"))
    assert head_of(classifier.model) == "sigmoid"
    with pytest.raises(ValueError, match=r"for an export, a network of one label.*the sigmoid of each class"):
        export(classifier, "nowhere", dataset="no such data")  # before anything is read
    with pytest.raises(ValueError, match="for weights of torchvision, a network of one label"):
        convert(tiny("sigmoid"), preprocessing=PIXELS, to="x.safetensors", layout="torchvision")


@pytest.mark.parametrize("as_file", [True, False])
def test_another_activation_is_not_converted(as_file: bool, tmp_path: Path) -> None:
    model = tiny("relu")
    model.save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"Expected a classifier that ends in logits.*ends in the activation relu"):
        convert(tmp_path / "x.keras" if as_file else model, preprocessing=PIXELS)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_sigmoid_stays_one_in_conversion(as_file: bool, tmp_path: Path) -> None:
    model = drawn(tiny("sigmoid"))
    model.save(tmp_path / "x.keras")
    classifier, _ = convert(tmp_path / "x.keras" if as_file else model, preprocessing=PIXELS, class_names="abc")
    assert head_of(classifier.model) == "sigmoid"
    expected = np.asarray(model(IMAGES.astype("float32") / 255))
    np.testing.assert_allclose(classifier.probabilities(list(IMAGES)), expected, atol=1e-6)
