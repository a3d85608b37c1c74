"""Networks of KerasCV: their weights in ours, compared with KerasCV's own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import drawn, images

from resnet_keras.applications.conversion import convert
from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.networks.catalog import DEPTHS, architecture
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import open_weights

keras_cv = pytest.importorskip("keras_cv", reason="keras-cv is not installed or does not import with this Keras")


def backbone(version: int, repeats: tuple[int, ...], block: str, **options: Any) -> keras.Model:
    """Returns a backbone of KerasCV, of any repeats."""
    kind = keras_cv.models.ResNetBackbone if version == 1 else keras_cv.models.ResNetV2Backbone
    settings: dict[str, Any] = {
        "stackwise_filters": [64, 128, 256, 512][: len(repeats)],
        "stackwise_blocks": list(repeats),
        "stackwise_strides": [1, 2, 2, 2][: len(repeats)],
        "block_type": "basic_block" if block == "basic" else "block",
        "include_rescaling": False,
        "input_shape": (None, None, 3),
    }
    return kind(**settings | options)


def small(version: int, block: str, **options: Any) -> keras.Model:
    # The first block of basic ones has no projection, so its width is the stem's.
    return backbone(version, (2, 2), block, stackwise_filters=[64 if block == "basic" else 8, 12], **options)


def assert_close(received: np.ndarray, expected: np.ndarray) -> None:
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_backbone_computes_the_same_from_a_model_and_from_files(version: int, block: str, tmp_path: Path) -> None:
    theirs = drawn(small(version, block))
    theirs.save(tmp_path / "x.keras")
    theirs.save_weights(tmp_path / "x.weights.h5")
    found = open_weights(theirs)
    assert found.layout == "KerasCV"
    row = recognize_architecture(found)
    assert (row.block, row.repeats, row.widths[1], row.stem_width or row.widths[0]) == (block, (2, 2), 12, 64)
    ours = build_with_weights(row, include_top=False, weights=found)
    for size in ((32, 32), (33, 46)):  # TensorFlow pads even and odd sizes differently
        x = images(2, *size, 3)
        assert_close(np.asarray(ours(x)), np.asarray(theirs(x)))
    for file in ("x.keras", "x.weights.h5"):
        again = build_with_weights(row, include_top=False)
        report = load_weights(again, tmp_path / file)
        assert report.problems == ()
        assert set(report.matched) == {f"{la.name}/{w.name}" for la in theirs.layers for w in la.weights}
        np.testing.assert_array_equal(again(x), ours(x))


@pytest.mark.parametrize("version", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("depth", [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 50, 101, 152))])
def test_logits_of_a_classifier_are_those_of_keras_cv(version: int, depth: int, tmp_path: Path) -> None:
    block, repeats = DEPTHS[depth]
    classifier = keras_cv.models.ImageClassifier(backbone(version, repeats, block), num_classes=7, activation=None)
    theirs = drawn(classifier)
    theirs.save_weights(tmp_path / "x.weights.h5")
    name = f"resnet{depth}{'v2' if version == 2 else ''}"
    x = images(2, 64, 64, 3)
    expected = np.asarray(theirs(x))
    options: dict[str, Any] = {"input_shape": (64, 64, 3), "classes": 7, "classifier_activation": None}
    ours = None
    for source in (theirs, tmp_path / "x.weights.h5"):
        found = open_weights(source)
        assert recognize_architecture(found) == architecture(name).following(found.conventions)
        if ours is None:
            ours = build_with_weights(name, weights=found, **options)
        else:
            ours.set_weights([np.zeros(weight.shape, "float32") for weight in ours.weights])
            load_weights(ours, found)
        assert_close(np.asarray(ours(x)), expected)


def test_a_classifier_is_converted_with_its_rescaling(tmp_path: Path) -> None:
    theirs = drawn(keras_cv.models.ImageClassifier(small(2, "basic", include_rescaling=True), num_classes=5))
    theirs.save(tmp_path / "x.keras")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    expected = np.asarray(theirs(pixels))
    for source in (theirs, tmp_path / "x.keras"):
        classifier, report = convert(source)
        preprocessing = classifier.preprocessing
        assert (preprocessing.mean, preprocessing.std) == ((0.0,) * 3, (255.0,) * 3)
        assert "pixels become 0 to 1; 224 of 256 pixels, bilinear" in report.notes
        assert_close(classifier.probabilities_of_inputs(pixels / 255), expected)


@pytest.mark.parametrize(
    ("version", "options", "pooling"),
    [
        (1, {"stackwise_strides": [1, 1]}, "avg"),
        (2, {"stackwise_dilations": [1, 2]}, "avg"),
        (1, {}, "max"),
    ],
)
def test_another_function_of_the_same_weights_is_refused(
    version: int, options: dict[str, Any], pooling: str, tmp_path: Path
) -> None:
    theirs = keras_cv.models.ImageClassifier(small(version, "basic", **options), num_classes=5, pooling=pooling)
    theirs.save(tmp_path / "x.keras")
    for source in (theirs, tmp_path / "x.keras"):
        with pytest.raises(
            ValueError, match=r"Expected a network of KerasCV with strides 1, 2, 2, \.\.\., without dil"
        ):
            open_weights(source)
