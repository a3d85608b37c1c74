"""examples/serving/classify.c: compiled as it says, it predicts as `predict` does."""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.prediction import predict
from resnet_keras.data.opening import open_split
from resnet_keras.exporting.saved_model import write_saved_model

SOURCE = Path(__file__).parents[2] / "examples" / "serving" / "classify.c"
WHEEL = Path(tf.__file__).parent
CLASS_NAMES = ("nil", "one", "two, a pair", "trois", "четыре", "five", "six", "sept", "huit", "neuf")

pytestmark = pytest.mark.slow

Prediction = list[tuple[str, float, float]]  # name, probability and score of each class


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, made by the commands that stand in its first comment."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler called cc")
    missing = [
        name for name in ("libtensorflow_cc.so.2", "include/tensorflow/c/c_api.h") if not (WHEEL / name).exists()
    ]
    if missing:
        pytest.skip(f"TensorFlow's wheel has no {missing[0]} here")
    commands = re.search(r"^ +TF=.*?(?=^ +TF_CPP)", SOURCE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    assert "python -c" in commands and "cc -O2 classify.c" in commands
    commands = commands.replace("python -c", f"'{sys.executable}' -c")
    commands = commands.replace("cc -O2", "cc -O2 -Wall -Wextra -Wpedantic -Werror")
    folder = tmp_path_factory.mktemp("program")
    shutil.copy(SOURCE, folder)
    done = subprocess.run(["sh", "-ec", commands], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "classify"


@pytest.fixture(scope="module")
def classifier(digits_run: Path) -> Classifier:
    return replace(Classifier.load(digits_run), class_names=CLASS_NAMES)


@pytest.fixture(scope="module")
def saved_model(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved_models") / "digits" / "1"
    write_saved_model(classifier, folder, top_k=4)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    digits = open_split("digits", "test").images
    large = tf.cast(tf.image.resize(digits[6], (61, 43), "bicubic"), tf.uint8)
    files = {f"{i} of eight.png": tf.io.encode_png(digits[i]) for i in range(4)}
    files |= {f"{i}.jpg": tf.io.encode_jpeg(digits[i], quality=95) for i in (4, 5)}
    files["large.jpeg"] = tf.io.encode_jpeg(tf.image.grayscale_to_rgb(large))
    for name, content in files.items():
        (folder / name).write_bytes(content.numpy())
    return sorted(folder.iterdir())


def run(program: Path, *arguments: object) -> tuple[int, dict[str, Prediction], str]:
    """Returns the program's status, its predictions, and its standard error."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False)
    predictions: dict[str, Prediction] = {}
    image = ""
    for line in done.stdout.decode().splitlines():
        if line.startswith("  "):
            probability, score, name = line.split(maxsplit=2)
            predictions[image].append((name, float(probability), float(score)))
        else:
            image = re.fullmatch(r"(.*)  \d+\.\d ms", line)[1]
            predictions[image] = []
    return done.returncode, predictions, done.stderr.decode(errors="replace")


def check(predictions: dict[str, Prediction], classifier: Classifier, images: Sequence[Path]) -> None:
    assert list(predictions) == list(map(str, images))
    for prediction in predict(classifier, images, top_k=4):
        answer = predictions[prediction.path]
        assert [name for name, _, _ in answer] == [name for name, _ in prediction.classes]
        for (_, probability, score), (_, expected) in zip(answer, prediction.classes, strict=True):
            assert probability == pytest.approx(expected, abs=1e-4)
            # Probabilities are the softmax of the scores: their ratios are those of the scores' powers.
            ratio = math.exp(score - answer[0][2])
            assert probability / answer[0][1] == pytest.approx(ratio, abs=1e-3)


@pytest.mark.slow
def test_it_predicts_as_predict_does(
    program: Path, saved_model: Path, classifier: Classifier, images: list[Path]
) -> None:
    status, predictions, _ = run(program, saved_model, *images)
    assert status == 0
    check(predictions, classifier, images)
    assert len({answer[0][0] for answer in predictions.values()}) >= 3


def test_files_that_cannot_be_classified_stop_none_of_the_others(
    program: Path, saved_model: Path, classifier: Classifier, images: list[Path], tmp_path: Path
) -> None:
    bad = {"broken.png": images[0].read_bytes()[:60], "text.jpg": b"no image", "empty.jpg": b""}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    files = [images[0], *(tmp_path / name for name in bad), tmp_path / "none.png", tmp_path, images[1]]
    status, predictions, errors = run(program, saved_model, *files)
    assert status == 1
    check(predictions, classifier, [images[0], images[1]])
    no_image = "Expected a JPEG or PNG image. Received something else"
    reasons = {
        "broken.png": "Invalid PNG",
        "text.jpg": no_image,
        "empty.jpg": no_image,
        "none.png": "Expected a file that can be read. Received: No such file",
    }
    for name, reason in reasons.items():
        assert re.search(rf"^{re.escape(str(tmp_path / name))}: .*{reason}", errors, re.MULTILINE), errors
    assert re.search(rf"^{re.escape(str(tmp_path))}: Expected a file.*Is a directory", errors, re.MULTILINE), errors


def test_another_saved_model_is_an_error(program: Path, images: list[Path], tmp_path: Path) -> None:
    status, predictions, errors = run(program, tmp_path / "none", images[0])
    assert (status, predictions) == (1, {})
    assert re.search(rf"^{re.escape(str(tmp_path / 'none'))}: Could not find SavedModel", errors, re.MULTILINE)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def other_names(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def other_types(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"names": tf.as_string(image_bytes), "scores": image_bytes, "probabilities": image_bytes}

    signatures = {
        "another": {"other": other_types},
        "names": {"serve_bytes": other_names},
        "types": {"serve_bytes": other_types},
    }
    for name, functions in signatures.items():
        tf.saved_model.save(tf.Module(), str(tmp_path / name), signatures=functions)
        status, predictions, errors = run(program, tmp_path / name, images[0])
        assert (status, predictions) == (1, {})
        expected = f"Expected a SavedModel with the signature serve_bytes. Received: {tmp_path / name}"
        assert expected in errors.splitlines()


def test_it_says_how_it_is_called(program: Path, saved_model: Path) -> None:
    status, predictions, errors = run(program, saved_model)
    assert (status, predictions) == (2, {})
    assert errors.splitlines()[-1] == f"usage: {program} SAVED_MODEL_FOLDER IMAGE..."
