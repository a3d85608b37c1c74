"""Artifacts in processes of their own, and their speeds side by side."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.artifacts import convert_classifier
from helpers.tables import unpadded

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.checks.extras import MissingExtra
from resnet_keras.cli import bench
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting import export_speed
from resnet_keras.exporting.artifact_process import Latency, default_threads, measure_latencies, run_artifact
from resnet_keras.exporting.artifact_worker import LiteRTModel, open_artifact
from resnet_keras.exporting.child_process import ArtifactError, ChildProcess
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.options import ExportOptions

GREY = Preprocessing(image_size=(8, 8), channels=1, mean=(100.0,), std=(50.0,))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's SavedModel, files for any batch and for four images, in one folder."""
    folder = tmp_path_factory.mktemp("artifacts")
    inputs = keras.Input((8, 8, 1), name="x")
    keras.Model(inputs, keras.layers.Flatten()(inputs)).export(folder, verbose=False)
    classifier = Classifier(named_networks.PlainNet20(input_shape=(8, 8, 1), classes=3), GREY, ("a", "b", "c"))
    images = np.zeros((2, 8, 8, 1), np.uint8)
    convert_classifier(classifier, images, {"float32": folder / "any.tflite"})
    edges = {"int8_input": "float32", "int8_output": "uint8"}
    convert_classifier(classifier, images, {"int8": folder / "four.tflite"}, batch=4, **edges)
    return folder


def test_artifacts_are_found_by_what_they_are(files: Path, tmp_path: Path) -> None:
    found = export_speed.find_artifacts([files, files / "any.tflite"])
    assert [(each.kind, each.path.name) for each in found] == [
        ("saved_model", files.name),
        ("litert", "any.tflite"),
        ("litert", "four.tflite"),
        ("litert", "any.tflite"),
    ]
    with pytest.raises(FileNotFoundError, match=r"Expected a SavedModel's folder.*Received: .*nothing"):
        export_speed.find_artifacts([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="Received: .*, none"):
        export_speed.find_artifacts([tmp_path])
    with pytest.raises(ValueError, match="Expected at least one artifact"):
        export_speed.measure_speed([])
    with pytest.raises(ValueError, match="Expected a network that keras.applications has"):
        export_speed.export_peers("resnet18", tmp_path)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_turn_has_a_length(seconds: float) -> None:
    contender = export_speed.Contender("a", "litert", Path("a"))
    with pytest.raises(ValueError, match=f"Expected `seconds` above 0, a finite number. Received: {seconds}"):
        export_speed.measure_speed([contender], seconds=seconds)


def test_a_missing_runtime_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(MissingExtra, match=r"package onnxruntime, for ONNX Runtime: pip install .*\(the extra onnx\)"):
        export_speed.measure_speed([export_speed.Contender("a", "onnx", Path("a"))])


def test_inputs_that_are_no_images_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    details = [{"name": "images"}, {"name": "sizes"}]
    interpreter = SimpleNamespace(allocate_tensors=lambda: None, get_input_details=lambda: details)
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", lambda path, num_threads: interpreter)
    with pytest.raises(ValueError, match=r"file of one input, images\. Received: x\.tflite with images, sizes"):
        LiteRTModel("x.tflite")
    inputs = [SimpleNamespace(name="images", type="tensor(float16)", shape=["N", 8, 8, 1])]
    runtime = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=lambda *_, **__: SimpleNamespace(get_inputs=lambda: inputs)
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    assert open_artifact("onnx", "x.onnx", 1).inputs == {"images": {"type": "float16", "shape": [None, 8, 8, 1]}}
    inputs[0].type = "tensor(string)"
    with pytest.raises(ValueError, match=r"Expected an \.onnx file of .*Received: x\.onnx of tensor\(string\)"):
        open_artifact("onnx", "x.onnx", 1)


def test_an_artifact_that_does_not_run_is_one_line_in_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.tflite").write_bytes(b"junk")
    assert bench.main(["export", str(tmp_path / "x.tflite"), "--threads", "1", "--batches", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("resnet bench: Expected an artifact that runs. Received: ")
    assert len(said.splitlines()) == 1 and "Leave it out; what is measured" in said and "--formats" not in said


@pytest.mark.slow
def test_artifacts_are_measured_in_turns(files: Path) -> None:
    measured = export_speed.measure_speed(
        export_speed.find_artifacts([files]), threads=(1,), batches=(1, 2), seconds=0.01, turns=2
    )
    assert [[(each.threads, each.batch) for each in one.latencies] for one in measured] == [
        [(1, 1), (1, 2)],
        [(1, 1), (1, 2)],
        [(1, 4), (1, 4)],  # the only batch that it takes
    ]
    for one in measured:
        assert all(each.calls >= 10 and 0 < each.p50_ms <= each.p95_ms for each in one.latencies)
        assert one.size_bytes > 1000
    saved_model, litert, _ = measured
    assert saved_model.peak_memory_bytes > 3 * litert.peak_memory_bytes  # TensorFlow
    lines = unpadded(export_speed.speed_table(measured)).splitlines()
    assert len(lines) == 2 + 3
    assert "(1.00x" in lines[2]


def test_the_table_compares_with_one_of_them() -> None:
    one, two = (
        export_speed.ArtifactSpeed(
            export_speed.Contender(name, "litert", Path(name)),
            2_000_000,
            50_000_000,
            (Latency(threads=2, batch=4, p50_ms=milliseconds, p95_ms=2 * milliseconds, calls=5),),
            (32, 32, 3),
        )
        for name, milliseconds in (("a", 8.0), ("b", 2.0))
    )
    table = unpadded(export_speed.speed_table([one, two])).splitlines()
    assert table[0] == "| artifact | images | MB | memory, MB | 2 threads, batch 4 |"
    assert table[3] == "| b | 32x32x3 | 2.00 | 50 | 0.5 (4.00x, p95 1) |"
    assert unpadded(export_speed.speed_table([one, two], reference=1)).splitlines()[2].endswith("| 2 (0.25x, p95 4) |")


def test_artifacts_of_other_images_or_batches_are_compared_by_image_or_not_at_all() -> None:
    def speed(shape: tuple[int, ...], batch: int, milliseconds: float) -> export_speed.ArtifactSpeed:
        latency = Latency(threads=1, batch=batch, p50_ms=milliseconds, p95_ms=milliseconds, calls=5)
        return export_speed.ArtifactSpeed(export_speed.Contender("a", "litert", Path("a")), 1, 1, (latency,), shape)

    peer = speed((224, 224, 3), 16, 160.0)
    rows = unpadded(export_speed.speed_table([peer, speed((224, 224, 3), 1, 5.0), speed((8, 8, 1), 16, 0.08)]))
    assert [row.rsplit("| ", 1)[1] for row in rows.splitlines()[2:]] == [
        "10 (1.00x, p95 10) |",
        "5 (batch 1, 2.00x, p95 5) |",
        "0.005 (p95 0.005) |",
    ]


@pytest.mark.slow
def test_a_runner_predicts_as_the_model_does(files: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    with run_artifact("litert", files / "any.tflite", 1) as runner:
        (found,) = runner.outputs(images, batch=4).values()
        assert runner.description["operators"]["CONV_2D"] == 19
        assert runner.description["undelegated"] == []
        assert runner.fixed_batch is None
    (expected,) = LiteRTModel(files / "any.tflite")(images).values()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    with run_artifact("saved_model", files, 1) as runner:
        assert runner.description["forbidden_modules"] == []
        for signature in (None, "serve"):
            (found,) = runner.outputs(images, signature=signature).values()
            np.testing.assert_array_equal(found, images.reshape(6, 64))
        with pytest.raises(ArtifactError, match="signature nosuch .it has serve"):
            runner.outputs(images, signature="nosuch")


def test_the_edges_of_int8_are_what_was_asked_for(files: Path) -> None:
    model = LiteRTModel(files / "four.tflite")
    assert model.input_type == "float32"
    (details,) = model._interpreter.get_output_details()
    assert details["dtype"] == np.uint8
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    (found,) = model(images).values()
    np.testing.assert_allclose(found.sum(1), 1, atol=3 / 256)


@pytest.mark.slow
def test_a_file_that_is_none_ends_with_the_reason_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing of the kind")
    with run_artifact("litert", tmp_path / "x.tflite", 1) as runner, pytest.raises(ArtifactError) as raised:
        runner.ask("describe")
    (line,) = str(raised.value).splitlines()
    assert re.match(r"Expected an artifact that runs. Received: .*x.tflite, status 1: ValueError: .*Flatbuffer", line)
    assert "Export it again" in line
    assert "Traceback" in raised.value.output
    with run_artifact("saved_model", tmp_path, 1) as runner, pytest.raises(ArtifactError, match="not exist|not found"):
        runner.ask("describe")


def test_an_unknown_signature_lists_the_known(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process, whose TensorFlow has its threads already.
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, lambda threads: None)
    with pytest.raises(ValueError, match="signature nosuch .it has serve"):
        open_artifact("saved_model:nosuch", str(files), 1)


def test_an_error_names_the_signal_that_killed_a_process(files: Path) -> None:
    with ChildProcess("artifact_worker.py", "litert", str(files / "any.tflite"), "1") as child:
        child._process.kill()
        with pytest.raises(ArtifactError, match=r"status -9: it was killed by signal 9; is there enough memory\?"):
            child.receive("an artifact that runs", "x", "")


def test_latencies_are_of_each_number_of_threads(files: Path) -> None:
    (found,) = measure_latencies([("litert", files / "any.tflite")], threads=(1, 2), batches=(3,), seconds=0.01)
    assert [(each.threads, each.batch) for each in found.latencies] == [(1, 3), (2, 3)]
    assert 1e7 < found.peak_memory_bytes < 1e9
    assert default_threads()[0] == 1


def test_the_runner_is_a_program_of_its_own(files: Path) -> None:
    program = Path(export_speed.__file__).with_name("artifact_worker.py")
    done = subprocess.run(
        [sys.executable, "-I", str(program), "litert", str(files / "any.tflite"), "1"],
        input=json.dumps({"command": "time", "batch": 2, "calls": 3}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 3


def test_options_are_checked_before_any_work() -> None:
    assert ExportOptions().formats_for(quantization_aware=False) == tuple(FORMATS)[:5]
    assert ExportOptions().formats_for(quantization_aware=True) == ("saved_model", "int8")
    assert tuple(FORMATS) == get_args(Format)
    assert (ExportOptions().least_agreement, ExportOptions(agreement=0.5).least_agreement) == (0.98, 0.5)
    assert all(info.tolerance is None or hasattr(ExportOptions(), info.tolerance) for info in FORMATS.values())
    for wrong, message in (
        ({"formats": ("int4",)}, "`formats` among saved_model, float32.*Received: int4"),
        ({"formats": ()}, "Received: none"),
        ({"precision": "float16"}, "`precision` to be one of .*Received: 'float16'"),
        ({"int8_input": "int8"}, "`int8_input` to be one of"),
        ({"batch": 0}, "`batch` of at least 1. Received: 0"),
        ({"agreement": 98.0}, r"`agreement` to be in \[0, 1\], or None. Received: 98.0"),
        ({"probability_tolerance": -1.0}, "`probability_tolerance` to be at least 0. Received: -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ExportOptions(**wrong)
