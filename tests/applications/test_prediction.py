"""Predictions on image files."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.prediction import predict
from resnet_keras.data.image_files import image_paths
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.opening import open_split


def test_a_file_gives_what_its_pixels_give(digits_run: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(digits_run)
    pixels = open_split("digits", "test").images[:3]
    for i, image in enumerate(pixels):
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    expected = classifier.probabilities_of_inputs(normalize(pixels, classifier.preprocessing))
    found = list(predict(classifier, [tmp_path], top_k=10))
    assert [Path(prediction.path).name for prediction in found] == ["0.png", "1.png", "2.png"]
    for prediction, row in zip(found, expected, strict=True):
        assert [int(name) for name, _ in prediction.classes] == list(np.argsort(-row))
        assert sum(value for _, value in prediction.classes) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose([value for _, value in prediction.classes], np.sort(row)[::-1], atol=1e-6)


def test_a_large_color_jpeg_is_fitted_to_the_network(digits_run: Path, tmp_path: Path) -> None:
    image = np.full((60, 90, 3), 128, np.uint8)
    (tmp_path / "gray.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    (prediction,) = predict(Classifier.load(digits_run), [tmp_path / "gray.jpg"], top_k=3)
    assert len(prediction.classes) == 3


def test_a_broken_image_is_named(digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"Expected a whole JPEG.*no\.png"):
        list(predict(Classifier.load(digits_run), [tmp_path / "no.png"]))


def test_a_broken_image_among_others_can_be_skipped(
    digits_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(4):
        content = tf.io.encode_png(np.full((8, 8, 1), 40 * i, np.uint8)).numpy()
        (tmp_path / f"{i}.png").write_bytes(content[:60] if i == 2 else content)
    found = list(predict(Classifier.load(digits_run), [tmp_path], on_corrupt="skip"))
    assert [Path(prediction.path or "").name for prediction in found] == ["0.png", "1.png", "3.png"]
    (said,) = caplog.messages
    assert said.startswith("skipped: Expected a whole JPEG")
    assert said.endswith("2.png")


def test_missing_paths_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png, which does not exist"):
        image_paths([tmp_path / "nowhere.png"])
    with pytest.raises(FileNotFoundError, match="Expected images"):
        image_paths([tmp_path])


def test_top_k_below_one_is_refused(digits_run: Path) -> None:
    with pytest.raises(ValueError, match="`top_k` of at least 1. Received: 0"):
        list(predict(Classifier.load(digits_run), [digits_run / "samples"], top_k=0))
