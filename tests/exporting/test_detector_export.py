"""Exported detectors: suppression inside, boxes in the images' own pixels, verification, refusals."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from helpers.small_detectors import C4, FPN, small_detector
from PIL import Image

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.parts import detector_parts
from resnet_keras.exporting import ArtifactError, detector_export
from resnet_keras.exporting.detection_agreement import Agreement
from resnet_keras.exporting.detector_export import _canvases, export_detector, litert_detector
from resnet_keras.exporting.int8_detector import int8_detector
from resnet_keras.exporting.litert import operators

CANVAS = Preprocessing(image_size=(64, 96), channels=3, mean=(124, 116, 104), std=(58, 57, 57))


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((50, 70), (120, 90), (64, 96))]


@pytest.fixture(scope="module")
def small(detector_of_session: keras.Model) -> Detector:
    return Detector(detector_of_session, CANVAS, ("cat", "dog", "bird"), (48, 80))


@pytest.fixture(scope="module")
def detector_of_session() -> keras.Model:
    return small_detector(input_shape=(None, None, 3))


@pytest.fixture(scope="module")
def exported(small: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "detector"
    export_detector(small, folder, pictures(), formats=["float32"])
    return folder


def assert_same(found: FoundBoxes, expected: FoundBoxes) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)


def first(outputs: dict[str, Any], image: int) -> FoundBoxes:
    number = int(outputs["number"][image])
    return FoundBoxes(*(np.asarray(outputs[name][image])[:number] for name in ("boxes", "scores", "labels")))


@pytest.fixture(scope="module")
def served(small: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "detector"
    (artifact,) = export_detector(small, folder, pictures(), formats=["saved_model"])
    assert artifact.agreement == 1
    return folder


@pytest.mark.slow
def test_the_report_has_the_agreement_of_each_format(exported: Path) -> None:
    report = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert [each["format"] for each in report["artifacts"]] == ["float32"]
    for artifact in report["artifacts"]:
        assert artifact["agreement"] == 1
        assert artifact["box_difference"] < 1e-2
        assert artifact["score_difference"] < 1e-5
        assert artifact["images"] == 3
        assert artifact["detections"] > 3
    assert report["class_names"] == ["cat", "dog", "bird"]


@pytest.mark.slow
def test_smaller_formats_agree_with_the_model(small: Detector, exported: Path, tmp_path: Path) -> None:
    half, quarter = export_detector(small, tmp_path / "detector", pictures(), formats=["float16", "dynamic_range"])
    assert half.agreement > 0.95
    assert quarter.agreement > 0.8
    assert quarter.size_bytes < half.size_bytes < (exported / "float32.tflite").stat().st_size


@pytest.mark.slow
def test_int8_keeps_heads_in_float_and_takes_what_the_other_files_take(small: Detector, tmp_path: Path) -> None:
    (artifact,) = export_detector(small, tmp_path / "detector", pictures(), formats=["int8"], agreement=0.0)
    names = operators(Path(artifact.path))
    assert names["NON_MAX_SUPPRESSION_V4"] == 2
    assert names["QUANTIZE"] >= 1
    assert names["DEQUANTIZE"] >= 4  # the maps of the pyramid
    dense = [each for each in Interpreter(artifact.path).get_tensor_details() if "box_dense1" in each["name"]]
    assert {each["dtype"] for each in dense} == {np.float32}
    canvases = list(_canvases(small, pictures()))
    body = int8_detector(small.model, CANVAS.std, canvases).get_layer(f"{small.model.name}_maps")
    maps = detector_parts(small.model).first_stage(canvases[0])["maps"]
    for found, expected in zip(body(canvases[0]), maps, strict=True):
        assert 0 < np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)


def test_int8_is_refused_by_the_average_precision_that_it_loses(
    small: Detector, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_export, "write_litert_graph", lambda detector, network, folder: None)
    monkeypatch.setattr(detector_export, "int8_detector", lambda model, std, batches: model)
    monkeypatch.setattr(
        detector_export,
        "convert_saved_model",
        lambda folder, lite, quantization_aware: shutil.copy(exported / "float32.tflite", lite["int8"]),
    )
    numbers = iter([0.5, 0.515, 0.5, 0.505])
    monkeypatch.setattr(detector_export._Reference, "average_precision", lambda self, found: next(numbers))
    with pytest.raises(detector_export.DetectionDisagreement, match=r"int8 to lose at most 1.0%.* 50.00% .* 51.50%"):
        export_detector(small, tmp_path / "detector", pictures(), formats=["int8"])
    assert not list(tmp_path.iterdir())
    (artifact,) = export_detector(small, tmp_path / "detector", pictures(), formats=["int8"])
    assert (artifact.ap, artifact.model_ap) == (0.5, 0.505)


@pytest.mark.slow
def test_a_detector_on_c4_is_exported_whole(tmp_path: Path) -> None:
    model = small_detector(C4, input_shape=(None, None, 3))
    detector = Detector(model, CANVAS, ("cat", "dog", "bird"))
    found = export_detector(detector, tmp_path / "detector", pictures(), formats=["saved_model", "float32"])
    assert [each.agreement for each in found] == [1, 1]


@pytest.mark.slow
def test_a_saved_model_takes_images_of_any_size_and_files_of_different_ones(small: Detector, served: Path) -> None:
    loaded = tf.saved_model.load(str(served / "saved_model"))
    expected = small.predict(pictures())
    two = loaded.signatures["serving_default"](tf.constant(np.stack([pictures()[1]] * 2)))
    for image in (0, 1):
        assert_same(first(two, image), expected[1])
    encoded = []
    for picture in pictures():
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "PNG")
        encoded.append(stream.getvalue())
    outputs = loaded.signatures["serve_bytes"](tf.constant(encoded))
    for image, each in enumerate(expected):
        assert_same(first(outputs, image), each)
    assert [name.decode() for name in loaded.class_names.numpy()] == ["cat", "dog", "bird"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected 1 to 256 images"):
        loaded.signatures["serve_bytes"](tf.constant([], tf.string))


def test_a_litert_file_has_builtin_operators_and_suppression_and_ignores_padding(
    small: Detector, exported: Path
) -> None:
    names = operators(exported / "float32.tflite")
    assert names["NON_MAX_SUPPRESSION_V4"] == 2
    assert not [name for name in names if name.startswith(("custom", "FLEX"))]
    run = litert_detector(exported / "float32.tflite", small)
    for picture, expected in zip(pictures(), small.predict(pictures()), strict=True):
        assert_same(run(picture), expected)


def test_nothing_is_published_if_detections_differ(
    small: Detector, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, to = exported / "float32.tflite", tmp_path / "detector"
    monkeypatch.setattr(detector_export, "write_litert_graph", lambda detector, network, folder: None)
    monkeypatch.setattr(
        detector_export, "convert_saved_model", lambda folder, lite: shutil.copy(written, lite["float32"])
    )
    monkeypatch.setattr(detector_export, "agreement_of", lambda expected, found: Agreement(10, 10, 9))
    with pytest.raises(detector_export.DetectionDisagreement, match=r"float32 .* 99.00%.*Received: 90.00%"):
        export_detector(small, to, pictures(), formats=["float32"])
    assert not list(tmp_path.iterdir())
    (artifact,) = export_detector(small, to, pictures(), formats=["float32"], agreement=0.9)
    assert artifact.agreement == 0.9
    assert (to / "float32.tflite").read_bytes() == written.read_bytes()


@pytest.mark.slow
def test_a_converter_that_fails_is_one_error(small: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_export, "write_litert_graph", lambda detector, network, folder: None)
    with pytest.raises(ArtifactError, match="Expected a network that converts to float32"):
        export_detector(small, tmp_path / "detector", pictures(), formats=["float32"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"formats": ["int4"]}, "Expected `formats` among saved_model, .*, int8. Received: int4"),
        ({"formats": []}, "Expected `formats` among saved_model, .* Received: none"),
        ({"agreement": 1.5}, "`agreement` from 0 to 1. Received: 1.5"),
        ({"images": []}, "Received: 0 images, without detections"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    small: Detector, tmp_path: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        export_detector(small, tmp_path / "detector", **{"images": pictures(), **arguments})


@pytest.mark.slow
def test_a_detector_with_global_context_is_exported(tmp_path: Path) -> None:
    small = Detector(small_detector(FPN.replace(global_context=True)), CANVAS, ("cat", "dog", "bird"))
    for artifact in export_detector(small, tmp_path / "detector", pictures(), formats=["saved_model", "float32"]):
        assert artifact.agreement == 1, artifact
    found = operators(tmp_path / "detector" / "float32.tflite")
    assert not {name for name in found if name.startswith(("custom:", "Flex"))}
