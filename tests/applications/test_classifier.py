"""Classifiers in files: the network, its preprocessing and its class names."""

from pathlib import Path

import keras
import numpy as np
import pytest

from resnet_keras.applications.classifier import Classifier, outputs_logits, softmax
from resnet_keras.applications.named_networks import ResNet20
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models

GREY = Preprocessing(image_size=(8, 8), channels=1, mean=(100.0,), std=(50.0,), shorter_side=9)


def small(activation: str | None = None) -> keras.Model:
    return ResNet20(input_shape=(8, 8, 1), classes=3, classifier_activation=activation)


def test_a_classifier_comes_back_whole(tmp_path: Path) -> None:
    classifier = Classifier(small(), GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    assert loaded.preprocessing == GREY
    assert loaded.class_names == ("a", "b", "c")
    assert isinstance(loaded.model.get_layer("stem_conv_bn"), BatchNormalization)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(loaded.probabilities(images), classifier.probabilities(images), atol=1e-6)


def test_a_dilated_classifier_comes_back_dilated(tmp_path: Path) -> None:
    model = ResNet20(input_shape=(8, 8, 1), classes=3, classifier_activation=None, output_stride=1)
    classifier = Classifier(model, GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    assert loaded.model.get_layer("stage3_block3_conv2").dilation_rate == (4, 4)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(loaded.probabilities(images), classifier.probabilities(images), atol=1e-6)


def test_a_classifier_in_segments_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    classifier = Classifier(small(), GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    norms = [la for la in flat_layers(loaded.model) if isinstance(la, keras.layers.BatchNormalization)]
    assert len(norms) == 19
    assert all(isinstance(layer, BatchNormalization) for layer in norms)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(loaded.probabilities(images), classifier.probabilities(images), atol=1e-6)


def test_logits_and_probabilities_are_told_apart() -> None:
    assert outputs_logits(small())
    assert not outputs_logits(small("softmax"))


def test_probabilities_sum_to_one_whatever_the_output() -> None:
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    for activation in (None, "softmax"):
        probabilities = Classifier(small(activation), GREY, ("a", "b", "c")).probabilities(images)
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0.0]])), [[1.0, 0.0]])


def test_class_names_must_fit_the_outputs() -> None:
    with pytest.raises(ValueError, match=r"one output per class name \(2\)"):
        Classifier(small(), GREY, ("a", "b"))


def test_files_that_are_no_classifier_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a finished run's folder"):
        Classifier.load(tmp_path)
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"Expected a whole \.keras file.*cut\.keras"):
        Classifier.load(tmp_path / "cut.keras")
    small().save(tmp_path / "bare.keras")
    with pytest.raises(ValueError, match=r"with its preprocessing and class names.*bare\.keras"):
        Classifier.load(tmp_path / "bare.keras")


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(small(), GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    before = (tmp_path / "x.keras").read_bytes()

    def full(path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(classifier.model, "save", full)
    with pytest.raises(OSError, match="No space left"):
        classifier.save(tmp_path / "x.keras")
    assert (tmp_path / "x.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.keras"]
