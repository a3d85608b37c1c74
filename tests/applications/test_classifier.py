"""Classifiers in files: the network, its preprocessing and its class names."""

from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from helpers.foreign_weights import foreign
from helpers.small_networks import TWO_STAGES, drawn
from PIL import Image

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.named_networks import ResNet20
from resnet_keras.applications.outputs import outputs_logits, softmax
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.builder import build

GREY = Preprocessing(image_size=(8, 8), channels=1, mean=(100.0,), std=(50.0,), shorter_side=9)


def small(activation: str | None = None) -> keras.Model:
    return ResNet20(input_shape=(8, 8, 1), classes=3, classifier_activation=activation)


def test_a_classifier_is_restored_completely(tmp_path: Path) -> None:
    classifier = Classifier(small(), GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    assert loaded.preprocessing == GREY
    assert loaded.class_names == ("a", "b", "c")
    assert isinstance(loaded.model.get_layer("stem_conv_bn"), BatchNormalization)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(
        loaded.probabilities_of_inputs(images), classifier.probabilities_of_inputs(images), atol=1e-6
    )


@pytest.mark.slow
def test_a_dilated_classifier_is_restored_dilated(tmp_path: Path) -> None:
    model = ResNet20(input_shape=(8, 8, 1), classes=3, classifier_activation=None, output_stride=1)
    classifier = Classifier(model, GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    assert loaded.model.get_layer("stage3_block3_conv2").dilation_rate == (4, 4)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(
        loaded.probabilities_of_inputs(images), classifier.probabilities_of_inputs(images), atol=1e-6
    )


@pytest.mark.slow
def test_a_classifier_in_segments_is_restored_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    classifier = Classifier(small(), GREY, ("a", "b", "c"))
    classifier.save(tmp_path / "x.keras")
    loaded = Classifier.load(tmp_path / "x.keras")
    norms = [la for la in flat_layers(loaded.model) if isinstance(la, keras.layers.BatchNormalization)]
    assert len(norms) == 19
    assert all(isinstance(layer, BatchNormalization) for layer in norms)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(
        loaded.probabilities_of_inputs(images), classifier.probabilities_of_inputs(images), atol=1e-6
    )


def test_logits_and_probabilities_are_distinguished() -> None:
    assert outputs_logits(small())
    assert not outputs_logits(small("softmax"))


def test_probabilities_sum_to_one_whatever_the_output() -> None:
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    for activation in (None, "softmax"):
        probabilities = Classifier(small(activation), GREY, ("a", "b", "c")).probabilities_of_inputs(images)
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


PIXELS = np.random.default_rng(3).integers(0, 256, (5, 9, 9, 3), np.uint8)
COLOR = Preprocessing(image_size=(8, 8), channels=3, mean=(100.0, 90.0, 80.0), std=(50.0, 60.0, 70.0), shorter_side=9)


@pytest.fixture(scope="module")
def color() -> Classifier:
    """A classifier of three classes with drawn weights, which ends in logits."""
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=3, classifier_activation=None))
    return Classifier(model, COLOR, ("a", "b", "c"))


def test_methods_take_images_as_they_are(color: Classifier, tmp_path: Path) -> None:
    # The center of 9 x 9 pixels begins at half a pixel, rounded to the even one.
    inputs = normalize(PIXELS[:, :8, :8], COLOR).numpy()
    np.testing.assert_array_equal(color.preprocess(PIXELS), inputs)
    np.testing.assert_array_equal(color.logits(PIXELS), color.logits_of_inputs(inputs))
    np.testing.assert_array_equal(color.probabilities(PIXELS), softmax(color.logits(PIXELS)))
    Image.fromarray(PIXELS[0]).save(tmp_path / "x.png")
    predictions = color.predict([tmp_path / "x.png", PIXELS[1]], top_k=2)
    assert [each.path for each in predictions] == [str(tmp_path / "x.png"), None]
    for prediction, row in zip(predictions, color.probabilities(PIXELS[:2]), strict=True):
        best = np.argsort(-row)[:2]
        assert [name for name, _ in prediction.classes] == ["abc"[i] for i in best]
        np.testing.assert_allclose([value for _, value in prediction.classes], row[best], atol=1e-6)
        assert (prediction.class_name, prediction.probability) == prediction.classes[0]
    name, value = predictions[1].classes[0]
    assert str(predictions[1]).startswith(f"{name} {value:.2%}, ")
    assert str(predictions[0]).startswith(f"{tmp_path / 'x.png'}: ")


def test_one_image_gives_a_list_of_one_and_no_image_an_empty_one(color: Classifier) -> None:
    assert len(color.predict(PIXELS[0])) == 1
    assert color.predict([]) == []
    shapes = [each([]).shape for each in (color.logits, color.probabilities, color.embed, color.preprocess)]
    assert shapes == [(0, 3), (0, 3), (0, 8), (0, 8, 8, 3)]
    with pytest.raises(ValueError, match="`top_k` of at least 1. Received: 0"):
        color.predict(PIXELS, top_k=0)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_logits_are_the_last_layer_of_the_embedding(activation: str | None) -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=3, classifier_activation=activation))
    classifier = Classifier(model, COLOR, ("a", "b", "c"))
    kernel, bias = model.get_layer("logits").get_weights()
    embedded = classifier.embed(PIXELS)
    assert (embedded.shape, embedded.dtype) == ((5, 8), np.float32)
    np.testing.assert_allclose(softmax(embedded @ kernel + bias), classifier.probabilities(PIXELS), atol=1e-6)


def test_normalized_images_are_refused_where_pixels_are_expected(color: Classifier) -> None:
    with pytest.raises(ValueError, match="call `logits_of_inputs` or `probabilities_of_inputs`"):
        color.predict(color.preprocess(PIXELS))


def test_a_classifier_is_shown_in_one_line(color: Classifier) -> None:
    assert repr(color) == "Classifier(resnet12, 8x8x3, 3 classes: a, b, c)"


def test_pretrained_classifiers_come_from_files_models_and_folders(color: Classifier, tmp_path: Path) -> None:
    color.save(tmp_path / "run" / "model.keras")
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array) for name, array in foreign(color.model, "cifar").items()},
        tmp_path / "x.safetensors",
    )
    given = {"preprocessing": COLOR, "class_names": ("a", "b", "c")}
    expected = color.logits(PIXELS)
    for source, options in (
        (tmp_path / "run", {}),
        (str(tmp_path / "run" / "model.keras"), {}),
        (color.model, given),
    ):
        found = Classifier.from_pretrained(source, **options)
        assert (found.preprocessing, found.class_names) == (COLOR, ("a", "b", "c"))
        np.testing.assert_allclose(found.logits(PIXELS), expected, atol=1e-5)
    found = Classifier.from_pretrained(tmp_path / "x.safetensors", **given)
    np.testing.assert_array_equal(found.model.get_layer("logits").get_weights()[0], color.model.get_weights()[-2])
    renamed = Classifier.from_pretrained(tmp_path / "run", class_names=("x", "y", "z"))
    assert renamed.class_names == ("x", "y", "z")
