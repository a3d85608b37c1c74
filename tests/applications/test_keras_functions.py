"""`preprocess_input` and `decode_predictions` beside those of `keras.applications`."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import TWO_STAGES
from keras.applications import imagenet_utils

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.keras_functions import decode_predictions, preprocess_input
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.data.class_names import imagenet_words, wordnet_ids
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.weights.published import PUBLISHED, imagenet_preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), np.uint8)
FUNCTIONS = {
    "resnet50": keras.applications.resnet.preprocess_input,
    "resnet152": keras.applications.resnet50.preprocess_input,
    "resnet101v2": keras.applications.resnet_v2.preprocess_input,
    "resnet18": lambda x, data_format=None: imagenet_utils.preprocess_input(x, data_format, mode="torch"),
    "resnext50_32x4d": lambda x, data_format=None: imagenet_utils.preprocess_input(x, data_format, mode="torch"),
}


@pytest.mark.parametrize("network", FUNCTIONS)
def test_pixels_become_those_of_keras_applications(network: str) -> None:
    theirs = FUNCTIONS[network]
    expected = theirs(PIXELS.astype(np.float32))
    found = preprocess_input(PIXELS, model=network)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(preprocess_input(PIXELS[0], model=network), expected[0], atol=2e-5)
    first = np.moveaxis(PIXELS, -1, 1)
    expected = theirs(first.astype(np.float32), data_format="channels_first")
    np.testing.assert_allclose(preprocess_input(first, "channels_first", model=network), expected, atol=2e-5)
    tensor = preprocess_input(keras.ops.convert_to_tensor(PIXELS), model=network)
    assert keras.ops.is_tensor(tensor)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), found)
    symbolic = preprocess_input(keras.Input((5, 6, 3)), model=network)
    assert symbolic.shape == (None, 5, 6, 3)


def test_every_network_with_imagenet_weights_has_a_preprocessing() -> None:
    assert {imagenet_preprocessing(name).channels for name in PUBLISHED} == {3}


def test_a_model_and_a_classifier_know_what_their_weights_expect(tmp_path: Path) -> None:
    gray = Preprocessing(image_size=(8, 8), channels=1, mean=(100.0,), std=(50.0,))
    bare = build(TWO_STAGES, input_shape=(8, 8, 1), classes=3, classifier_activation=None)
    classifier = Classifier(bare, gray, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    model = build_with_weights(TWO_STAGES, weights=tmp_path / "x.keras", input_shape=(8, 8, 1), classes=3)
    image = PIXELS[..., :1]
    for known in (model, classifier, gray):
        np.testing.assert_allclose(preprocess_input(image, model=known), (image - 100.0) / 50.0, atol=1e-6)
    with pytest.raises(ValueError, match="Expected `model`, because networks differ .* Received: 'resnet12', without"):
        preprocess_input(image, model=bare)
    with pytest.raises(ValueError, match="Received: None"):
        preprocess_input(image)
    with pytest.raises(ValueError, match="'imagenet', one of .* Received: resnet51. Did you mean resnet50"):
        preprocess_input(image, model="resnet51")
    with pytest.raises(ValueError, match=r"with 1 channels, channels_last. Received: shape \(2, 5, 6, 3\)"):
        preprocess_input(PIXELS, model=gray)


def test_predictions_are_decoded_as_by_keras_applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Keras fetches this file; its layout is [id, name] by index.
    index = {str(i): pair for i, pair in enumerate(zip(wordnet_ids(), imagenet_words(), strict=True))}
    (tmp_path / "index.json").write_text(json.dumps(index))
    module: Any = __import__("sys").modules[imagenet_utils.decode_predictions.__module__]
    monkeypatch.setattr(module, "CLASS_INDEX", None)
    monkeypatch.setattr(module.file_utils, "get_file", lambda *args, **options: tmp_path / "index.json")
    scores = np.random.default_rng(1).permutation(3000).reshape(3, 1000).astype(np.float32) / 3000
    expected = imagenet_utils.decode_predictions(scores, top=7)
    assert decode_predictions(scores, top=7) == [[(i, n, float(s)) for i, n, s in row] for row in expected]
    assert decode_predictions(keras.ops.convert_to_tensor(scores)) == decode_predictions(scores, top=5)


def test_names_are_those_of_the_index_file_of_keras_applications() -> None:
    known = {0: ("n01440764", "tench"), 2: ("n01484850", "great_white_shark"), 134: ("n02012849", "crane")}
    known |= {
        517: ("n03126707", "crane"),
        165: ("n02089078", "black-and-tan_coonhound"),
        999: ("n15075141", "toilet_tissue"),
    }
    assert {i: (wordnet_ids()[i], imagenet_words()[i]) for i in known} == known


def test_other_classes_and_no_class_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of shape \(N, 1000\); .* Received: shape \(2, 10\)"):
        decode_predictions(np.zeros((2, 10)))
    with pytest.raises(ValueError, match="`top` of at least 1. Received: 0"):
        decode_predictions(np.zeros((1, 1000)), top=0)
