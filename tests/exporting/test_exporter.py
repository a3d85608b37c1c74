"""Exports: what they are, that they compute what the classifier does, and that a bad one replaces nothing."""

import errno
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.artifacts import convert_classifier
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import outputs_logits, softmax
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting import artifacts, exporter, litert, verification
from resnet_keras.exporting.artifact_worker import LiteRTModel
from resnet_keras.exporting.child_process import ArtifactError, ChildProcess
from resnet_keras.exporting.exporter import ExportRefused, export
from resnet_keras.exporting.formats import FORMATS
from resnet_keras.exporting.litert import convert_to_litert, operators
from resnet_keras.exporting.options import allowed_changes
from resnet_keras.exporting.reference import Reference, images_per_call
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.exporting.serving import probability_network, serving_network
from resnet_keras.exporting.verification import Tolerance, verify
from resnet_keras.exporting.warmup_requests import WARM_UP
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY, architecture
from resnet_keras.surgery.cloning import clone_in_float32

RGB = Preprocessing(image_size=(32, 32), channels=3, mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))
TINY_BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(8, 16))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small classifier of digits, for tests of exporting itself."""
    model = drawn(models.build(TWO_STAGES, input_shape=(8, 8, 1), classes=10, classifier_activation=None))
    digits = open_split("digits", "test")
    preprocessing = Preprocessing(image_size=(8, 8), channels=1, mean=(77.9,), std=(95.9,))
    file = tmp_path_factory.mktemp("small") / "small.keras"
    Classifier(model, preprocessing, tuple(digits.class_names)).save(file)
    return file


def pixels(count: int, channels: int = 3, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def test_an_export_holds_five_artifacts_a_report_and_a_card(digits_export: Path) -> None:
    assert digits_export.name == "1"
    names = {path.name for path in digits_export.iterdir()}
    assert names >= {"saved_model.pb", "variables", "assets", "export.json", "README.md"}
    assert names >= {f"{form}.tflite" for form in list(FORMATS)[1:5]}
    assert (digits_export / WARM_UP).is_file()
    report = json.loads((digits_export / "export.json").read_text())
    assert [artifact["format"] for artifact in report["artifacts"]] == list(FORMATS)[:5]
    for artifact in report["artifacts"]:
        assert artifact["failures"] == []
        assert artifact["images"] == 359
        assert artifact["agreement"] >= 0.98
        assert artifact["latencies"] == []
        assert artifact["tolerance"]["agreement"] == 0.98
        assert 10e6 < artifact["peak_memory_bytes"] < 2e9
        assert len(artifact["sha256"]) == 64
        assert not any(name.startswith(("custom:", "Flex")) for name in artifact["operators"])
    saved_model, float32, float16, _, int8 = report["artifacts"]
    assert max(saved_model["difference"], float32["difference"]) <= 1e-4
    assert (saved_model["input"], float32["input"], int8["input"]) == ("uint8", "float32", "uint8")
    assert int8["size_bytes"] < float16["size_bytes"] < float32["size_bytes"]
    assert saved_model["accuracy"] == saved_model["classifier_accuracy"]
    assert (digits_export / "assets" / "class_names.txt").read_text().split() == list("0123456789")
    card = (digits_export / "README.md").read_text()
    assert f"{int8['agreement']:.2%}" in card
    assert "Latency" not in card


def test_latencies_are_measured_on_request(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporter, "_LATENCY_SECONDS", 0.01)
    done = export(small, tmp_path, dataset="digits", formats=("float32",), test_images=20, latency=True)
    (verification,) = done.verifications
    report = json.loads((done.path / "export.json").read_text())
    (artifact,) = report["artifacts"]
    assert report["calibration_images"] == 0  # nothing is calibrated
    assert {(each["threads"], each["batch"]) for each in artifact["latencies"]} >= {(1, 1), (1, 8)}
    assert all(0 < each["p50_ms"] <= each["p95_ms"] for each in artifact["latencies"])
    assert verification.latency_ms == next(each["p50_ms"] for each in artifact["latencies"][::-1] if each["batch"] == 1)
    assert f"{verification.latency_ms:.2f} /" in (done.path / "README.md").read_text()
    said = caplog.text
    assert "writing float32" in said
    assert "converted to float32 in" in said
    assert "passed" in said


def test_the_saved_model_has_the_signatures_that_serving_expects(digits_export: Path) -> None:
    signatures = tf.saved_model.load(str(digits_export)).signatures
    found = {
        name: (
            {key: (spec.dtype, spec.shape.as_list()) for key, spec in signature.structured_input_signature[1].items()},
            {key: (spec.dtype, spec.shape.as_list()) for key, spec in signature.structured_outputs.items()},
        )
        for name, signature in signatures.items()
    }
    images = {"images": (tf.uint8, [None, None, None, 1])}
    assert found == {
        "serving_default": (images, {"probabilities": (tf.float32, [None, 10])}),
        "serve_bytes": (
            {"image_bytes": (tf.string, [None])},
            {
                "classes": (tf.int32, [None, 5]),
                "names": (tf.string, [None, 5]),
                "scores": (tf.float32, [None, 5]),
                "probabilities": (tf.float32, [None, 5]),
            },
        ),
        "features": (images, {"features": (tf.float32, [None, 64]), "logits": (tf.float32, [None, 10])}),
        "fixed_size": (
            {"images": (tf.uint8, [None, 8, 8, 1])},
            {
                "probabilities": (tf.float32, [None, 10]),
                "features": (tf.float32, [None, 64]),
                "logits": (tf.float32, [None, 10]),
            },
        ),
    }


def test_the_reported_numbers_are_those_of_a_run_by_hand(digits_export: Path, digits_run: Path) -> None:
    classifier = Classifier.load(digits_run)
    test = open_split("digits", "test")
    expected = classifier.probabilities_of_inputs(normalize(test.images, classifier.preprocessing))
    report = json.loads((digits_export / "export.json").read_text())
    for artifact in report["artifacts"][1:]:
        (received,) = LiteRTModel(digits_export / artifact["file"])(test.images).values()
        assert artifact["difference"] == pytest.approx(np.abs(received - expected).max(), abs=1e-6)
        assert artifact["agreement"] == (received.argmax(1) == expected.argmax(1)).mean()
        assert artifact["accuracy"] == (received.argmax(1) == test.labels).mean()


def test_an_artifact_outside_its_tolerance_is_refused_and_nothing_published(
    digits_export: Path, small: Path, tmp_path: Path
) -> None:
    options = {"name": "digits", "dataset": "digits", "formats": ("float32",), "test_images": 50}
    good = Path(shutil.copytree(digits_export, tmp_path / "digits" / "1"))
    before = {path: path.read_bytes() for path in good.rglob("*") if path.is_file()}
    with pytest.raises(ExportRefused, match=r"float32: a probability differs by .*more than 1\.00e-12") as refused:
        export(small, tmp_path, probability_tolerance=1e-12, **options)
    assert [bool(each.failures) for each in refused.value.verifications] == [True]
    assert "Next: allow more with --agreement or a tolerance" in str(refused.value)
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == ["1", "refused-2.json"]
    assert {path: path.read_bytes() for path in good.rglob("*") if path.is_file()} == before
    assert export(small, tmp_path, **options).path.name == "2"
    assert not (tmp_path / "digits" / "refused-2.json").exists()


def test_what_passes_is_published_and_what_fails_is_left_out(small: Path, tmp_path: Path) -> None:
    options = {"name": "digits", "dataset": "digits", "formats": ("float32", "float16"), "test_images": 50}
    with pytest.raises(ExportRefused, match="float16: a probability differs by") as refused:
        export(small, tmp_path, float16_tolerance=1e-12, **options)
    published = refused.value.published
    assert published is not None and published.path == tmp_path / "digits" / "1"
    assert f"float32 passed and is published in {published.path}. Received" in str(refused.value)
    assert "Next: export --formats float16 and allow more" in str(refused.value)
    assert [each.format for each in published.verifications] == ["float32"]
    assert sorted(path.name for path in published.path.iterdir()) == ["README.md", "export.json", "float32.tflite"]
    report = json.loads((published.path / "export.json").read_text())
    assert [each["format"] for each in report["artifacts"]] == ["float32"]
    assert "float16" not in (published.path / "README.md").read_text()
    refusal = json.loads((tmp_path / "digits" / "refused-1.json").read_text())
    assert [bool(each["failures"]) for each in refusal["artifacts"]] == [False, True]


def test_a_retry_converts_only_what_is_not_there(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"name": "digits", "dataset": "digits", "test_images": 50}
    first = export(small, tmp_path, formats=("float32", "float16"), **options)
    asked: list[list[str]] = []

    def counted(*arguments: Any, **others: Any) -> Any:
        asked.append(list(arguments[2]))
        return litert.litert_conversion(*arguments, **others)

    monkeypatch.setattr(artifacts, "litert_conversion", counted)
    formats = ("float32", "float16", "dynamic_range")
    second = export(small, tmp_path, formats=formats, agreement=0.5, **options)
    assert asked == [["dynamic_range"]]
    assert [each.format for each in second.verifications] == list(formats)
    for name in ("float32.tflite", "float16.tflite"):
        assert (second.path / name).read_bytes() == (first.path / name).read_bytes()
    # A damaged file, or another setting, is made again.
    (first.path / "float32.tflite").write_bytes(b"damaged")
    (second.path / "float32.tflite").write_bytes(b"damaged")
    export(small, tmp_path, formats=("float32",), **options)
    export(small, tmp_path, formats=("float16",), batch=2, **options)
    assert asked[1:] == [["float32"], ["float16"]]


@pytest.mark.parametrize(
    ("images", "agreement", "allowed"),
    [(14, 0.98, 1), (3, 0.98, 1), (2, 0.98, 0), (1, 0.98, 0), (1000, 0.98, 20), (100, 0.98, 2), (14, 1.0, 0)],
)
def test_one_image_of_a_few_may_differ(images: int, agreement: float, allowed: int) -> None:
    assert allowed_changes(agreement, images) == allowed


def test_few_test_images_are_told(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = verification.log_softmax

    def one_changed(logits: np.ndarray) -> np.ndarray:
        """Swaps the two most probable classes of the first image."""
        found = honest(logits)
        first, second = found[0].argsort()[::-1][:2]
        found[0, [first, second]] = found[0, [second, first]]
        return found

    monkeypatch.setattr(verification, "log_softmax", one_changed)
    options = {"name": "few", "dataset": "digits", "formats": ("dynamic_range",)}
    published = export(small, tmp_path, test_images=14, **options)
    assert "14 test images decide little: the top-1 of each is 7.1% of the agreement" in caplog.text
    assert published.verifications[0].agreement == pytest.approx(13 / 14)
    with pytest.raises(ExportRefused, match=r"less than 100.00%: it differs on 1 of 14, and may on 0"):
        export(small, tmp_path, test_images=14, agreement=1.0, **options)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            tf.errors.ResourceExhaustedError(None, None, "Graph execution error:\n\nx.pb; No space left on device"),
            "x.pb; No space left on device",
        ),
        (ArtifactError("status 1: OSError: [Errno 28] No space left on device. Leave out"), "No space left on device"),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_nothing_published(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(artifacts, "write_saved_model", full)
    said = rf"Expected space on the disk for .*1, and for temporary files in .*\. Received: {reason}; nothing is"
    with pytest.raises(OSError, match=said) as raised:
        export(small, tmp_path, dataset="digits", name="full", formats=("saved_model",), test_images=5)
    assert raised.value.errno == errno.ENOSPC
    assert not list((tmp_path / "full").iterdir())


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_file_is_converted_is_told_and_nothing_published(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = ChildProcess.send

    def to_a_full_disk(child: ChildProcess, message: dict[str, Any]) -> None:
        artifacts = {"artifacts": dict.fromkeys(message["artifacts"], "/dev/full")} if "artifacts" in message else {}
        send(child, message | artifacts)

    monkeypatch.setattr(ChildProcess, "send", to_a_full_disk)
    with pytest.raises(OSError, match=r"Expected space on the disk .*Received: No space left on device; nothing"):
        export(small, tmp_path, dataset="digits", name="full", formats=("float32",), test_images=5)
    assert not list((tmp_path / "full").iterdir())


def test_a_version_is_never_overwritten(digits_export: Path, digits_run: Path) -> None:
    with pytest.raises(FileExistsError, match="a version that does not exist yet"):
        export(digits_run, digits_export.parents[1], version=1)


def test_bad_options_are_refused_before_any_work(digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`formats` among saved_model, float32.*Received: int4"):
        export(digits_run, tmp_path, formats=("int4",))
    with pytest.raises(ValueError, match="Expected a data set to use with a file"):
        export(digits_run / "model.keras", tmp_path, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected a finished run's folder"):
        export(tmp_path, tmp_path)


@pytest.mark.slow
def test_a_wrong_artifact_is_found_out(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(classifier: Classifier) -> keras.Model:
        model = serving_network(classifier)
        kernel = next(weight for weight in model.trainable_weights if weight.path.endswith("logits/kernel"))
        kernel.assign(-kernel)
        return model

    monkeypatch.setattr(artifacts, "serving_network", spoilt)
    with pytest.raises(ExportRefused, match="int8: the largest quantization errors") as refused:
        export(small, tmp_path, dataset="digits", formats=("saved_model", "int8"), test_images=50)
    assert all(each.failures for each in refused.value.verifications)


@pytest.mark.parametrize(("seconds", "images"), [(0.01, 90), (4.0, 30), (60.0, 16)])
def test_a_slow_format_is_timed_and_verified_on_fewer_images(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seconds: float, images: int
) -> None:
    class Process:
        """An artifact whose second call takes a time."""

        fixed_batch = None

        def outputs(self, given: np.ndarray, batch: int) -> dict[str, np.ndarray]:
            return {"probabilities": np.zeros((len(given), 5))}

    clock = iter([0.0, seconds])
    monkeypatch.setattr(verification, "time", type("Time", (), {"monotonic": lambda: next(clock)}))
    reference = Reference(pixels(90), np.arange(90), np.zeros((90, 5), np.float32), pixels(1))
    found = verification._within_time("int16", Process(), reference)
    assert (len(found.pixels), len(found.labels), len(found.logits)) == (images, images, images)
    assert f"int16 takes {1000 * seconds:,.0f} ms an image" in caplog.text
    assert f"it is verified on {images} images" in caplog.text


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    model.trainable_weights[-1].assign([np.nan, 0.0, 0.0, 0.0, 0.0])
    images = pixels(2, 1, 4)
    convert_to_litert(model, images, {"float32": tmp_path / "x.tflite"})
    reference = Reference(images, np.zeros(2, int), np.zeros((2, 5), np.float32), images)
    found = verify("float32", tmp_path / "x.tflite", reference, Tolerance(difference=1e-4, agreement=0.0))
    assert found.failures == ("a probability differs by nan, more than 1.00e-04", "a probability is not finite")


def test_a_network_of_half_precision_is_rebuilt_in_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(TWO_STAGES, input_shape=(8, 8, 3), classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    rebuilt = clone_in_float32(model)
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    for one, other in zip(model.get_weights(), rebuilt.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    reference = models.build(TWO_STAGES, input_shape=(8, 8, 3), classifier_activation=None)
    reference.set_weights(model.get_weights())
    np.testing.assert_allclose(rebuilt(images), reference(images), atol=1e-5)


KINDS: dict[str, dict[str, Any]] = {
    "option A": {"network": "resnet20"},
    "option A, zeros around": {"network": "resnet20", "zero_channels": "both_sides"},
    "option C, logits": {"network": "resnet20", "shortcut": "C", "classifier_activation": None},
    "plain": {"network": "plainnet20"},
    "bottleneck": {"network": TINY_BOTTLENECK},
    "v1.5": {"network": TINY_BOTTLENECK, "bottleneck_stride": "3x3"},
    "grouped": {"network": replace(TINY_BOTTLENECK, groups=4, expansion=2, stem_width=8)},
    "vd": {"network": TINY_BOTTLENECK.replace(stem="deep", projection="pooled")},
}


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in ("option A, zeros around", "grouped") else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_every_kind_of_network_converts_with_builtin_operators_alone(kind: str, tmp_path: Path) -> None:
    images = pixels(8)
    model = drawn(models.build(**{"input_shape": (32, 32, 3), "classes": 5} | KINDS[kind]))
    classifier = Classifier(model, RGB, tuple("abcde"))
    expected = np.asarray(model(normalize(images, RGB), training=False))
    expected = softmax(expected) if outputs_logits(model) else expected
    forms = ("float32", "int8")
    convert_classifier(classifier, pixels(64), {form: tmp_path / f"{form}.tflite" for form in forms})
    float32, int8 = (LiteRTModel(tmp_path / f"{form}.tflite") for form in forms)
    for batch in (1, 2, 8):  # by the same file
        (found,) = float32(images[:batch]).values()
        np.testing.assert_allclose(found, expected[:batch], atol=1e-4)
    (found,) = int8(images).values()
    np.testing.assert_allclose(found, expected, atol=0.2)
    # What differs from image to image is the same: a file that gives all of them the same answer is within 0.2.
    differences = [(each - each.mean(0)).ravel() for each in (found, expected)]
    if np.abs(differences[1]).max() > 0.02:  # the probabilities of int8 are multiples of 1/256
        assert np.corrcoef(differences)[0, 1] > 0.5
    counts = operators(tmp_path / "int8.tflite")
    assert not any(operator.startswith("custom:") for operator in counts)
    assert counts["QUANTIZE"] >= 1
    # Batch normalization is gone into the convolutions, and the preprocessing, but for the mean, into the first.
    assert counts.get("MUL", 0) == 0
    assert float32.input_type == "float32"
    assert int8.input_type == "uint8"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES | FAMILY if architecture(name).depth <= 152])
def test_every_network_of_the_tables_converts(name: str, tmp_path: Path) -> None:
    side = 32 if architecture(name).stem == "cifar" else 64
    preprocessing = replace(RGB, image_size=(side, side))
    # Drawn so that activations stay near 1. As it is initialized, se_resnet152 answers to a change of its pixels by
    # 1e-6 with another class: its gates open or shut by the rounding.
    model = drawn(models.build(name, input_shape=(side, side, 3), classes=5))
    classifier = Classifier(model, preprocessing, tuple("abcde"))
    images = np.random.default_rng(3).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    expected = classifier.probabilities_of_inputs(normalize(images, preprocessing))
    forms = ("float32", "int8")
    convert_classifier(classifier, images, {form: tmp_path / f"{form}.tflite" for form in forms})
    (found,) = LiteRTModel(tmp_path / "float32.tflite")(images).values()
    np.testing.assert_allclose(np.log(found), np.log(expected), atol=1e-4)
    for form in forms:
        assert not any(operator.startswith("custom:") for operator in operators(tmp_path / f"{form}.tflite"))


def test_an_exported_bgr_network_takes_rgb_pixels() -> None:
    bgr = replace(RGB, mean=RGB.mean[::-1], std=RGB.std[::-1], channel_order="bgr")
    classifier = Classifier(drawn(models.build(TWO_STAGES, input_shape=(32, 32, 3), classes=5)), bgr, tuple("abcde"))
    images = pixels(8)
    found = np.log(probability_network(serving_network(classifier))(images.astype("float32")))
    np.testing.assert_allclose(found, np.log(classifier.probabilities_of_inputs(normalize(images, bgr))), atol=1e-3)
    assert np.abs(found - np.log(classifier.probabilities_of_inputs(normalize(images, RGB)))).max() > 0.1


def test_the_saved_model_ran_in_a_process_without_this_package(digits_export: Path) -> None:
    found, *_ = json.loads((digits_export / "export.json").read_text())["artifacts"]
    assert found["failures"] == []  # a module that it must not need would be one
    assert found["difference"] <= 1e-4
    assert found["agreement"] == 1.0
    assert found["logit_difference"] < 1e-3
    # Folded, and constant.
    assert not {"FusedBatchNormV3", "Rsqrt", "ReadVariableOp"} & set(found["operators"])
    assert found["operators"]["Conv2D"] == 19


def test_a_failed_conversion_names_the_artifact_the_reason_and_the_next_step(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    with pytest.raises(ArtifactError) as raised:
        convert_to_litert(model, pixels(1, 1, 4), {"float16": tmp_path / "nowhere" / "x.tflite"})
    (line,) = str(raised.value).splitlines()
    assert "Expected a network that converts to float16. Received: " in line
    assert "x.tflite, status 1: FileNotFoundError: " in line
    assert "Leave the format out" in line
    assert "Traceback" in raised.value.output


def test_a_conversion_of_variables_gives_the_answers_of_one_of_constants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    answers: dict[float, list[np.ndarray]] = {}
    for constant_bytes in (0, math.inf):
        monkeypatch.setattr(litert, "CONSTANT_BYTES", constant_bytes)
        files = {name: tmp_path / f"{constant_bytes}_{name}.tflite" for name in ("float32", "float16", "int8")}
        convert_to_litert(model, pixels(8, 1, 4), files)
        answers[constant_bytes] = [LiteRTModel(file)(pixels(2, 1, 4)).popitem()[1] for file in files.values()]
    for variables, constants in zip(*answers.values(), strict=True):
        np.testing.assert_array_equal(variables, constants)


def test_one_process_converts_all_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Process:
        """A converter that writes nothing."""

        def __init__(self, program: str) -> None:
            asked.append({"program": program})

        def __enter__(self) -> "Process":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def send(self, message: dict[str, Any]) -> None:
            asked.append(message)

        def receive(self, *words: Any) -> dict[str, float]:
            return {"seconds": 0.0}

        def peak_memory(self) -> int:
            return 0

    monkeypatch.setattr(litert, "ChildProcess", Process)
    litert.convert_saved_model(tmp_path, {"float32": tmp_path / "a.tflite", "float16": tmp_path / "b.tflite"})
    started, job = asked
    assert started == {"program": "litert_converter.py"}
    assert list(job["artifacts"]) == ["float32", "float16"]


@pytest.mark.parametrize(("side", "images"), [(32, 64), (96, 56), (224, 10), (1024, 8)])
def test_fewer_images_are_computed_at_once_the_larger_they_are(side: int, images: int) -> None:
    assert images_per_call(np.zeros((1, side, side, 3), np.uint8)) == images


@pytest.mark.parametrize(
    ("formats", "weight_bytes", "memory", "calibrated", "groups"),
    [
        ("float32 float16 int8", 33 << 20, True, True, [["float32", "float16"], ["int8"]]),
        ("float32 int8 int16", 33 << 20, True, True, [["float32", "int8"], ["int16"]]),
        ("float32 int8", 32 << 20, True, True, [["float32", "int8"]]),
        ("float32 int8", 33 << 20, False, True, [["float32", "int8"]]),
        ("float32 int8", 33 << 20, True, False, [["float32", "int8"]]),
        ("float32 float16", 33 << 20, True, True, [["float32", "float16"]]),
        ("int8", 33 << 20, True, True, [["int8"]]),
    ],
)
def test_formats_of_a_large_network_are_converted_by_two_processes_where_memory_allows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    formats: str,
    weight_bytes: int,
    memory: bool,
    calibrated: bool,
    groups: list[list[str]],
) -> None:
    monkeypatch.setattr(litert, "has_memory_for", lambda conversions, size: memory)
    asked = {name: tmp_path / f"{name}.tflite" for name in formats.split()}
    assert [list(each) for each in litert._groups(asked, weight_bytes, calibrated=calibrated)] == groups


def test_conversions_side_by_side_need_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert.psutil, "virtual_memory", lambda: SimpleNamespace(available=5 << 30))
    assert litert.has_memory_for(2, 102_000_000)  # of 2.3 GB each
    assert not litert.has_memory_for(3, 102_000_000)


@pytest.mark.slow
def test_floats_and_integers_are_converted_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "_LARGE_BYTES", 0)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    files = {name: tmp_path / f"{name}.tflite" for name in ("float32", "int8", "float16")}
    with litert.litert_conversion(model, pixels(8, 1, 4), files) as converted:
        assert list(converted) == ["float32", "float16", "int8"]
    assert all(file.is_file() for file in files.values())


def test_the_converter_needs_nothing_of_this_package() -> None:
    folder = Path(exporter.__file__).parent
    for program in ("litert_converter.py", "artifact_worker.py"):
        assert "resnet_keras" not in [line.split()[1] for line in (folder / program).read_text().splitlines()
                                      if line.startswith(("import ", "from "))]  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "py_compile", str(folder / program)], check=False)
        assert done.returncode == 0


def test_a_bf16_run_exports_within_tolerance(small: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(small)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(TWO_STAGES, input_shape=(8, 8, 1), classes=10, classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(classifier.model.get_weights())
    replace(classifier, model=model).save(tmp_path / "half.keras")
    done = export(tmp_path / "half.keras", tmp_path, dataset="digits", formats=("float32",), test_images=100)
    (verification,) = done.verifications
    test = open_split("digits", "test")
    logits = np.asarray(classifier.model(normalize(test.images, classifier.preprocessing), training=False))
    (received,) = LiteRTModel(done.path / verification.file)(test.images).values()
    np.testing.assert_allclose(received, softmax(logits), atol=1e-4)


def test_an_exported_bgr_classifier_is_the_classifier_in_every_format(tmp_path: Path) -> None:
    bgr = replace(RGB, mean=(104.0, 117.0, 124.0), std=(60.0, 61.0, 62.0), channel_order="bgr")
    # Reddish images, which are bluish to a network that takes their channels in the wrong order.
    images = (pixels(64) * np.array([0.3, 0.3, 0.2]) + np.array([170, 60, 0])).astype(np.uint8)
    model = drawn(models.build(TINY_BOTTLENECK, input_shape=(32, 32, 3), classes=5, classifier_activation=None))
    classifier = Classifier(model, bgr, tuple("abcde"))
    # A head that tells reddish from bluish images.
    head = model.get_layer("logits")
    features = keras.Model(model.input, head.input)
    red, blue = (np.mean(features(normalize(shown, bgr)), 0) for shown in (images, images[..., ::-1]))
    direction = (red - blue) / np.sum((red - blue) ** 2)
    head.set_weights(
        [np.outer(direction, [4, -4, 0, 0, 0]), np.array([4, -4, 0, 0, 0]) * -((red + blue) / 2 @ direction)]
    )
    expected = classifier.probabilities_of_inputs(normalize(images[:8], bgr))
    swapped = classifier.probabilities_of_inputs(normalize(images[:8, ..., ::-1], bgr))
    assert np.abs(expected - swapped).max() > 0.5
    write_saved_model(classifier, tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    found = served(images=tf.constant(images[:8]))["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    files = {form: tmp_path / f"{form}.tflite" for form in ("float32", "int8")}
    convert_classifier(classifier, images, files)
    for form, tolerance in (("float32", 1e-4), ("int8", 0.1)):
        (found,) = LiteRTModel(files[form])(images[:8]).values()
        np.testing.assert_allclose(found, expected, atol=tolerance, err_msg=form)
        names = operators(files[form])
        assert not any(name.startswith(("custom:", "Flex")) for name in names), form
    assert LiteRTModel(files["int8"]).input_type == "uint8"


@pytest.mark.slow
def test_weights_without_images_are_verified_on_noise_and_without_int8(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, ...]] = []

    def only_the_saved_model(job: artifacts.ExportJob, folder: Path) -> Any:
        asked.append(job.formats)
        return artifacts.write_and_verify(replace(job, formats=("saved_model",)), folder)

    monkeypatch.setattr(exporter, "write_and_verify", only_the_saved_model)
    done = export(small, tmp_path, test_images=40)
    assert asked == [("saved_model", "float32", "float16", "dynamic_range")]
    assert (
        "verified on noise; `images` names a folder of real images, which need no labels. int8 needs them"
        in caplog.text
    )
    report = json.loads((done.path / "export.json").read_text())
    assert (report["dataset"], report["images"]) == (None, "noise")
    assert report["artifacts"][0]["images"] == 40
    assert report["artifacts"][0]["accuracy"] is None
    card = (done.path / "README.md").read_text()
    assert card.startswith("# resnet12\n")
    assert "on 40 images of noise and was compared" in card
    assert "accuracy |" not in card
    with pytest.raises(ValueError, match=r"images to calibrate int8 on: `images`, .* or `dataset`\. Received: noise"):
        export(small, tmp_path, formats=("int8",))
    with pytest.raises(ValueError, match=r"Expected `dataset` and `data_dir`, or `images`\. Received: both"):
        export(small, tmp_path, dataset="digits", images=tmp_path)


def test_images_without_labels_verify_and_calibrate(small: Path, tmp_path: Path) -> None:
    for name, image in zip("abcdefg", pixels(7, 1, 8), strict=True):
        (tmp_path / "photos" / name[0]).mkdir(parents=True)
        keras.utils.save_img(tmp_path / "photos" / name[0] / f"{name}.png", image, scale=False)
    done = export(small, tmp_path / "to", images=tmp_path / "photos", formats=("int8",), agreement=0.0)
    report = json.loads((done.path / "export.json").read_text())
    assert (report["images"], report["artifacts"][0]["images"], report["calibration_images"]) == ("photos", 4, 3)
    card = (done.path / "README.md").read_text()
    assert "on 4 images without labels, of `photos`" in card
    assert "3 other images of that folder calibrated the integer formats" in card
    assert "Allowed were another most probable class for 100.00% of the images" in card


@pytest.mark.slow
def test_resnet_1202_converts_to_floats_and_integers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = named_networks.ResNet1202(classifier_activation=None)
    for variable in model.variables:
        if variable.path.endswith("gamma") and "conv2" in variable.path:
            variable.assign(np.full(variable.shape, 0.05))  # otherwise 600 sums of random blocks overflow int8's ranges
    classifier = Classifier(model, RGB, tuple(map(str, range(10))))
    images = pixels(4)
    expected = classifier.probabilities_of_inputs(normalize(images, RGB))
    files = {form: tmp_path / f"{form}.tflite" for form in ("float32", "int8")}
    convert_classifier(classifier, images, files)
    assert [line.split()[2] for line in caplog.messages if line.startswith("converted")] == ["float32", "int8"]
    for form, tolerance in (("float32", 1e-3), ("int8", 0.3)):
        counts = operators(files[form])
        assert counts["CONV_2D"] == 1201
        assert not any(name.startswith("custom:") for name in counts)
        (found,) = LiteRTModel(files[form], threads=2)(images).values()
        np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.slow
def test_a_classifier_and_weights_in_the_package_are_exported(tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained("resnet20_digits")
    options = {"formats": ("saved_model",), "test_images": 40}
    done = classifier.export(tmp_path, dataset="digits", **options)
    assert done.path == tmp_path / "resnet20" / "1"
    named = export("resnet20_digits", tmp_path, **options)
    assert named.path == tmp_path / "resnet20_digits" / "1"
    reports = [json.loads((each.path / "export.json").read_text()) for each in (done, named)]
    assert [report["source"] for report in reports] == ["resnet20", "resnet20_digits"]
    assert reports[0]["weights_sha256"] == reports[1]["weights_sha256"]
    assert {report["dataset"] for report in reports} == {"digits"}
    with pytest.raises(ValueError, match="Expected a data set to use with a file"):
        classifier.export(tmp_path, data_dir=tmp_path)
