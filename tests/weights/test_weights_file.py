"""Our own safetensors files: facts in the header, a hash of the tensors, and damage that is found."""

import json
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from helpers.small_networks import TWO_STAGES, drawn, images

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.builder import build
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.sources import open_weights
from resnet_keras.weights.weights_file import TrainedWeights, read_facts, rounded, tensor_hash, write_trained

COLOR = Preprocessing(image_size=(8, 8), channels=3, mean=(100.0, 90.0, 80.0), std=(50.0, 60.0, 70.0))
NETWORK = drawn(build(TWO_STAGES, input_shape=(8, 8, 3), classes=3, classifier_activation=None))
TENSORS = rounded(arrays_of_model(NETWORK))
FACTS = TrainedWeights(
    architecture=TWO_STAGES.replace(zero_channels="both_sides"),
    preprocessing=COLOR,
    class_names=("a", "b", "c"),
    dataset="digits",
    recipe={"seed": 3},
    command="resnet train digits --seed 3",
    seed=3,
    machine={"python": "3"},
    history=({"epoch": 1.0, "loss": 0.5},),
    evaluation={"images": 7, "top1_error": 0.5},
    mirrored_evaluation={"images": 7, "top1_error": 0.25},
    sha256=tensor_hash(TENSORS),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_trained(tmp_path / "x.safetensors", TENSORS, FACTS)
    return tmp_path / "x.safetensors"


def with_header(file: Path, change: Any) -> Path:
    """Changes the metadata in the header of a file."""
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["resnet_keras"] = change(header["__metadata__"]["resnet_keras"])
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + size :])
    return file


def test_kernels_are_rounded_to_float16_and_vectors_keep_their_bits() -> None:
    for name, array in arrays_of_model(NETWORK).items():
        assert TENSORS[name].dtype == (np.float16 if array.ndim > 1 else np.float32)
        np.testing.assert_array_equal(TENSORS[name], array.astype(TENSORS[name].dtype))
    with pytest.raises(ValueError, match="Expected finite weights that float16 can hold. Received: a/kernel"):
        rounded({"a/kernel": np.full((1, 1), 7e4)})


def test_facts_and_weights_come_back(file: Path) -> None:
    facts = read_facts(file)
    assert facts is not None
    assert asdict(facts) == asdict(FACTS)
    found = open_weights(file)
    assert (found.preprocessing, found.class_names, found.notes) == (COLOR, ("a", "b", "c"), ())
    assert found.conventions.zero_channels == "both_sides"
    model = build(FACTS.architecture, input_shape=(8, 8, 3), classes=3, classifier_activation=None)
    report = load_weights(model, file)
    assert sorted(report.matched) == sorted(TENSORS)
    assert not report.problems and not report.ignored and not report.notes
    for name, array in arrays_of_model(model).items():
        np.testing.assert_array_equal(array, TENSORS[name].astype(np.float32))
    classifier = Classifier.from_pretrained(file)
    inputs = images(2, 8, 8, 3)
    np.testing.assert_allclose(classifier.logits_of_inputs(inputs), model.predict_on_batch(inputs), atol=1e-5)


def test_a_file_of_another_library_has_no_facts(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert read_facts(tmp_path / "x.safetensors") is None


def test_changed_tensors_are_found_by_their_hash(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"Expected tensors of SHA-256 {FACTS.sha256}.*it is damaged"):
        open_weights(file)
    assert tensor_hash(TENSORS | {"z": np.zeros(1)}) != FACTS.sha256
    renamed = dict(TENSORS)
    renamed["other/bias"] = renamed.pop("logits/bias")
    assert tensor_hash(renamed) != FACTS.sha256


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:40],
        lambda text: "[" * 100_000,
        lambda text: "[1]",
        lambda text: text.replace('"cifar"', '"other"'),
        lambda text: text.replace('"seed": 3,', '"seed": 3, "other": 1,'),
        lambda text: text.replace('"class_names": ["a", "b", "c"]', '"class_names": 5'),
        lambda text: text + " " * 2**22,
    ],
    ids=["cut", "deep", "no object", "architecture", "unknown", "names", "long"],
)
def test_malformed_facts_are_refused(file: Path, change: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected the facts of trained weights.*x\.safetensors"):
        read_facts(with_header(file, change))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"Expected a whole safetensors file.*x\.safetensors"):
        read_facts(tmp_path / "x.safetensors")


def test_a_failed_write_keeps_the_file_that_was_there(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match="characters of facts"):
        write_trained(file, TENSORS, replace(FACTS, command="x" * 2**22))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["x.safetensors"]
