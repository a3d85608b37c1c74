"""ONNX files: ONNX Runtime computes what the classifier does, and the file says what it is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import TWO_STAGES, drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.checks.extras import MissingExtra
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.artifact_worker import ONNXModel
from resnet_keras.exporting.exporter import export
from resnet_keras.exporting.onnx_file import OPSET, PACKAGES, onnx_metadata, onnx_operators, require_onnx, write_onnx
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.serving import serving_network
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

CLASSES = tuple("abcde")
CIFAR = Architecture(stem="cifar", block="basic", repeats=(2, 2), widths=(4, 8), shortcut="A")
IMAGENET = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(8, 12))
NETWORKS = {
    "option A": CIFAR,
    "zero channels on both sides": CIFAR.replace(zero_channels="both_sides"),
    "TensorFlow's padding": CIFAR.replace(shortcut="B", projection="bare", conv_bias=True, padding="same_tf"),
    "plain": CIFAR.replace(shortcut=None),
    "groups": IMAGENET.replace(groups=4),
    "v2": IMAGENET.replace(activation="before", projection="bare", first_activation="block", pool_border="edge"),
    "RS": IMAGENET.replace(stem="strided", projection="pooled", se_reduction=4),
    "dilated": IMAGENET.replace(repeats=(1, 2, 1), widths=(8, 12, 16), output_stride=4),
}


@pytest.fixture
def onnx() -> Any:
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return importlib.import_module("onnx")


def classifier(row: Architecture, *, channels: int = 3, activation: str | None = None) -> Classifier:
    side = 12 if row.stem == "cifar" else 48
    model = drawn(build(row, input_shape=(side, side, channels), classes=5, classifier_activation=activation))
    means, stds = (120.0, 110.0, 100.0)[:channels], (50.0, 60.0, 70.0)[:channels]
    order = "bgr" if channels == 3 else "rgb"
    return Classifier(
        model,
        Preprocessing(image_size=(side, side), channels=channels, mean=means, std=stds, channel_order=order),
        CLASSES,
    )


def pixels(network: keras.Model, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *network.input_shape[1:]), dtype=np.uint8)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in ("RS", "dilated") else kind for kind in NETWORKS]
)
def test_onnx_runtime_computes_the_outputs_of_every_kind_of_network(onnx: Any, tmp_path: Path, kind: str) -> None:
    network = serving_network(classifier(NETWORKS[kind]))
    write_onnx(network, tmp_path / "x.onnx")
    model = ONNXModel(tmp_path / "x.onnx", threads=1)
    assert model.inputs == {"images": {"type": "uint8", "shape": [None, *network.input_shape[1:]]}}
    for count in (1, 3):
        x = pixels(network, count)
        received, expected = model(x), network.predict_on_batch(x.astype("float32"))
        assert set(received) == {"probabilities", "logits", "features"}
        for name, values in expected.items():
            np.testing.assert_allclose(received[name], values, atol=2e-5 * np.abs(values).max())
        powers = np.exp(expected["logits"] - expected["logits"].max(1, keepdims=True))
        np.testing.assert_allclose(received["probabilities"], powers / powers.sum(1, keepdims=True), atol=1e-5)


def test_a_file_has_one_opset_no_custom_operators_and_fused_convolutions(onnx: Any, tmp_path: Path) -> None:
    network = serving_network(classifier(NETWORKS["RS"]))
    write_onnx(network, tmp_path / "x.onnx")
    model = onnx.load(tmp_path / "x.onnx")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert model.graph.name == network.name
    used = onnx_operators(tmp_path / "x.onnx")
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in network.layers[-1].layers)
    assert used["Conv"] == convolutions
    assert used["Transpose"] <= 2  # of the pixels, and before the head
    assert not {name for name in used if name.startswith("custom:") or name == "BatchNormalization"}


def test_pixels_and_batch_are_as_asked_for(onnx: Any, tmp_path: Path) -> None:
    network = serving_network(classifier(CIFAR, channels=1))
    write_onnx(network, tmp_path / "x.onnx", pixels="float32", batch=2)
    model = ONNXModel(tmp_path / "x.onnx", threads=1)
    assert model.inputs == {"images": {"type": "float32", "shape": [2, 12, 12, 1]}}
    x = pixels(network, 2)
    np.testing.assert_allclose(model(x)["logits"], network.predict_on_batch(x.astype("float32"))["logits"], atol=1e-5)


def test_metadata_hold_class_names_and_preprocessing(onnx: Any, tmp_path: Path) -> None:
    original = classifier(CIFAR, activation="softmax")
    write_onnx(serving_network(original), tmp_path / "x.onnx", metadata=onnx_metadata(original))
    found = {each.key: each.value for each in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert json.loads(found["class_names"]) == list(CLASSES)
    assert Preprocessing(**json.loads(found["preprocessing"])) == original.preprocessing
    assert found["producer"].startswith("resnet_keras, tf2onnx 1.")


def test_an_export_verifies_its_onnx_file(onnx: Any, tmp_path: Path) -> None:
    model = drawn(build(TWO_STAGES, input_shape=(8, 8, 1), classes=10, classifier_activation=None))
    digits = Classifier(
        model, Preprocessing(image_size=(8, 8), channels=1, mean=(77.9,), std=(95.9,)), tuple("0123456789")
    )
    done = export(digits, tmp_path, dataset="digits", formats=("onnx",), test_images=20, latency=True)
    (found,) = done.verifications
    assert (found.format, found.file, found.input, found.images) == ("onnx", "float32.onnx", "uint8", 20)
    assert found.failures == ()
    assert found.agreement == 1.0
    assert found.difference <= 1e-5
    assert found.logit_difference is not None and found.logit_difference <= 1e-4
    assert found.operators == onnx_operators(done.path / "float32.onnx")
    assert found.size_bytes == (done.path / "float32.onnx").stat().st_size
    assert found.latency_ms is not None and found.latency_ms > 0
    report = json.loads((done.path / "export.json").read_text())
    assert set(PACKAGES) < set(report["versions"])
    card = (done.path / "README.md").read_text()
    assert "The ONNX file takes `images` and returns `probabilities`, `logits` and `features`" in card
    assert "XNNPACK" not in card


def test_a_missing_package_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"package onnx, for ONNX: pip install onnx .*\(the extra onnx\)"):
        require_onnx()
    with pytest.raises(MissingExtra):
        export(classifier(CIFAR), tmp_path, dataset="digits", formats=("onnx",))
    assert not list(tmp_path.iterdir())


def test_networks_of_quantization_aware_training_are_not_for_onnx() -> None:
    with pytest.raises(ValueError, match=r"among saved_model, int8 for a network from .* Received: onnx"):
        ExportOptions(formats=("onnx",)).formats_for(quantization_aware=True)
    assert "onnx" not in ExportOptions().formats_for(quantization_aware=False)
