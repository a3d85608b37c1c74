"""SavedModel and LiteRT files of segmentation networks, against the masks of the network."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_networks import FOUR_STAGES, drawn
from PIL import Image

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.dense_formats import expected_files
from resnet_keras.exporting.detector_export import AP_LOSS, DETECTION_AGREEMENT
from resnet_keras.exporting.litert import operators
from resnet_keras.exporting.mask_export import AGREEMENT, MASK_FORMATS, MaskArtifact, export_segmenter
from resnet_keras.segmentation import FCN, DeepLabV3, Segmenter, UNet

PREPROCESSING = Preprocessing(
    image_size=(32, 64), channels=3, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 55.0), channel_order="bgr"
)
IMAGES = [np.random.default_rng(i).integers(0, 256, (40 + i, 70, 3)).astype(np.uint8) for i in range(2)]


def segmenter_of(builder: Callable[..., keras.Model]) -> Segmenter:
    model = drawn(builder(FOUR_STAGES, 5, input_shape=(32, 64, 3)))
    kernel = model.get_layer("logits").kernel
    kernel.assign(kernel - keras.ops.mean(kernel, (0, 1, 2), keepdims=True))  # no class wins everywhere
    return Segmenter(model, PREPROCESSING, tuple("abcde"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path, list[MaskArtifact]]:
    segmenter, folder = segmenter_of(DeepLabV3), tmp_path_factory.mktemp("exported") / "street"
    return segmenter, folder, export_segmenter(segmenter, folder, IMAGES, agreement=0.9)


def test_every_format_has_the_masks_of_the_network(
    exported: tuple[Segmenter, Path, list[MaskArtifact]],
) -> None:
    segmenter, folder, artifacts = exported
    assert len({int(label) for mask in segmenter.predict(IMAGES) for label in np.unique(mask)}) > 1
    assert [each.format for each in artifacts] == list(MASK_FORMATS)
    for artifact in artifacts[:2]:
        assert artifact.agreement > 0.999
    sizes = {each.format: each.size_bytes for each in artifacts}
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]
    report = json.loads((folder / "export.json").read_text())
    assert [each["path"] for each in report["artifacts"]][:2] == ["saved_model", "float32.tflite"]
    assert report["class_names"] == list("abcde")
    assert report["task"] == "segmentation"


def test_litert_files_have_builtin_operators_only(exported: tuple[Segmenter, Path, list[MaskArtifact]]) -> None:
    for artifact in exported[2][1:]:
        found = operators(Path(artifact.path))
        assert not [name for name in found if name.startswith(("custom", "FLEX"))]
        assert found["ARG_MAX"] == found["RESIZE_BILINEAR"] == 1


def test_a_saved_model_takes_images_and_files_of_any_size(
    exported: tuple[Segmenter, Path, list[MaskArtifact]],
) -> None:
    segmenter, folder, _ = exported
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    files = []
    for image in IMAGES:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    masks = served["serve_bytes"](tf.constant(files))["masks"].numpy()
    for image, file, expected in zip(IMAGES, masks, segmenter.predict(IMAGES), strict=True):
        found = np.asarray(Image.open(io.BytesIO(file)))
        assert found.shape == image.shape[:2]
        assert (found == expected).mean() > 0.999
    batch = served["serving_default"](tf.constant(np.stack([IMAGES[0], IMAGES[0][::-1]])))["masks"]
    assert batch.shape == (2, 40, 70)
    assert batch.dtype == tf.uint8
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 89478485 pixels"):
        served["serving_default"](tf.zeros((1, 0, 5, 3), tf.uint8))
    for number in (0, 257):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"Expected 1 to 256 images in a request. .*{number}"):
            served["serve_bytes"](tf.constant(files[:1] * number, tf.string))
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"Expected 1 to 256 images in a request. .*{number}"):
            served["serving_default"](tf.zeros((number, 1, 1, 3), tf.uint8))


def test_files_of_a_request_are_bounded_together() -> None:
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (9000).to_bytes(4, "big") + b"\x08\x02\0\0\0" + bytes(4)
    assert expected_files(tf.constant([header] * 4)).shape == (4,)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)together at most 357913940 pixels.*405000000"):
        expected_files(tf.constant([header] * 5))


def test_what_does_not_agree_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = segmenter_of(FCN)
    monkeypatch.setitem(AGREEMENT, "saved_model", 1.01)
    with pytest.raises(ValueError, match=r"saved_model to have at least 101\.00% .* Received: \d+\.\d+%"):
        export_segmenter(segmenter, tmp_path / "street", IMAGES, formats=["saved_model"])
    assert not list(tmp_path.iterdir())


def test_arguments_that_cannot_be_are_refused(tmp_path: Path) -> None:
    segmenter = segmenter_of(FCN)
    with pytest.raises(ValueError, match=r"among saved_model, .*Received: int4"):
        export_segmenter(segmenter, tmp_path / "street", IMAGES, formats=["int4"])  # type: ignore[list-item]
    for wrong in (98, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"Expected `agreement` from 0 to 1. Received: {wrong}"):
            export_segmenter(segmenter, tmp_path / "street", IMAGES, agreement=wrong)
    with pytest.raises(ValueError, match="images to compare the artifacts on. Received: none"):
        export_segmenter(segmenter, tmp_path / "street", [])


@pytest.mark.slow
@pytest.mark.parametrize("builder", [FCN, UNet])
def test_other_networks_agree_in_every_format(builder: Callable[..., keras.Model], tmp_path: Path) -> None:
    artifacts = export_segmenter(segmenter_of(builder), tmp_path / "street", IMAGES, agreement=0.9)
    assert [each.format for each in artifacts] == list(MASK_FORMATS)
    assert artifacts[0].agreement > 0.999
    assert artifacts[1].agreement > 0.999


def test_formats_have_the_tolerances_of_the_docs() -> None:
    assert AGREEMENT == {"saved_model": 0.999, "float32": 0.999, "float16": 0.995, "dynamic_range": 0.95, "int8": 0.95}
    found = {"saved_model": 0.99, "float32": 0.99, "float16": 0.95, "dynamic_range": 0.8, "int8": 0.8}
    assert found == DETECTION_AGREEMENT
    assert AP_LOSS == 0.01
