"""Files, folders and models as sources of weights: what is in them, what they tell, and what is assumed."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from helpers.foreign_weights import SMALL, foreign, network, write_folder, write_safetensors, write_torch, zeros
from keras.src.legacy.saving import legacy_h5_format

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data import class_names
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.keras_archive import save_archive
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.sources import CLASSIFIER_MEMBER, DETECTOR_MEMBER, LOCALIZER_MEMBER, open_weights

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(4, 6))
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
OURS = Preprocessing(
    image_size=(8, 8), channels=3, mean=(1, 2, 3), std=(4, 5, 6), shorter_side=9, interpolation="bicubic"
)


def summary(conventions: Conventions) -> tuple[str | None, str | None, float | None]:
    return conventions.bottleneck_stride, conventions.zero_channels, conventions.epsilon


def write(model: keras.Model, path: Path) -> Path:
    """Writes a network to a file of the kind that the name ends in."""
    if path.suffix == ".safetensors":
        return write_safetensors(foreign(model, "cifar"), path)
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    else:
        write_torch({"state_dict": foreign(model, "cifar")}, path, zipped=path.suffix != ".th")
    return path


# Files


@pytest.mark.parametrize(
    "name",
    [
        "x.safetensors",
        "x.pth",
        "x.pt",
        "x.th",
        "x.bin",
        "x.ckpt",
        "x.keras",
        "x.weights.h5",
        "x.h5",
        "model.safetensors",
    ],
)
def test_a_file_of_every_kind_holds_the_same_weights(tmp_path: Path, name: str) -> None:
    model = network(1)
    path = write(model, tmp_path / name)
    for source in (path, str(path)):
        found = open_weights(source)
        assert found.source == str(path)
        assert found.tensors.keys() == arrays_of_model(model).keys()
        for weight, array in arrays_of_model(model).items():
            np.testing.assert_array_equal(found.tensors[weight], array)


def test_a_model_is_a_source(tmp_path: Path) -> None:
    model = network(1, zero_channels="both_sides")
    found = open_weights(model)
    assert (found.source, found.layout, found.classes) == ("resnet6", "resnet_keras", 5)
    assert summary(found.conventions) == (None, "both_sides", 1e-5)
    assert found.tensors.keys() == arrays_of_model(model).keys()


@pytest.mark.parametrize(
    "number_type", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
)
def test_numbers_of_every_type_come_back_from_safetensors(tmp_path: Path, number_type: str) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if number_type == "bfloat16" else np.dtype(number_type)
    name = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "uint8": "U8"}
    arrays = {name: array.astype(dtype) for name, array in foreign(network(1), "cifar").items()}
    header: dict[str, Any] = {}
    numbers = b""
    for tensor, array in arrays.items():
        kind = name.get(number_type) or f"I{8 * dtype.itemsize}"
        header[tensor] = {
            "dtype": kind,
            "shape": array.shape,
            "data_offsets": [len(numbers), len(numbers) + array.nbytes],
        }
        numbers += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + numbers)
    found = open_weights(tmp_path / "x.safetensors").tensors
    assert found["stem_conv/kernel"].dtype == dtype
    np.testing.assert_array_equal(found["stem_conv/kernel"].transpose(3, 2, 0, 1), arrays["conv1.weight"])


def test_an_empty_tensor_and_a_counter_do_no_harm(tmp_path: Path) -> None:
    arrays = foreign(zeros(SMALL), "cifar") | {
        "empty": np.zeros((0, 3), "float32"),
        "bn1.num_batches_tracked": np.array(3),
    }
    found = open_weights(write_safetensors(arrays, tmp_path / "x.safetensors"))
    assert found.beside == ("empty",)
    assert found.ignored == ("bn1.num_batches_tracked",)


@pytest.mark.parametrize("name", ["x.json", "x.onnx", "x.tar", "x.keras.zip", "imagenet.v2", "x", "resnet50", ""])
def test_another_source_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / name if name.startswith("x") else name or "nothing"
    with pytest.raises(
        ValueError, match=r"Expected weights in a file ending in .safetensors, .pth, .*, a folder, or by"
    ) as raised:
        open_weights(source)
    assert f"Received: {str(source)!r}" in str(raised.value)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.keras", "x.weights.h5", "x.h5"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"Expected a weights file. Received: .*{name}, which does not exist"):
        open_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.th", "x.keras", "x.weights.h5", "x.h5"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = write(network(1), tmp_path / name)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20, dtype=int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"Expected a whole .*{name}, which can't be read"):
            open_weights(path)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"conv1.weight": {}}',
        b'{"conv1.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"conv1.weight": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"conv1.weight": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 4]}}',
        b'{"conv1.weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}',
        b'{"conv1.weight": {"dtype": "X", "shape": [4], "data_offsets": [0, 4]}}',
    ],
)  # fmt: skip
def test_a_broken_safetensors_file_is_refused(tmp_path: Path, header: bytes) -> None:
    for length in (len(header), 2**62):
        (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + header + bytes(4))
        with pytest.raises(ValueError, match=r"Expected a whole safetensors file. Received: .*x\.safetensors"):
            open_weights(tmp_path / "x.safetensors")


def test_flipped_bytes_of_a_safetensors_file_are_a_value_error_or_other_numbers(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "x.safetensors")
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole) if rng.integers(2) else 2500)] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            open_weights(path)
        except ValueError as error:
            assert "Expected " in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("shape", [(), (4,), (4, 3, 3)])
@pytest.mark.parametrize("name", ["conv1.weight", "linear.weight", "layer1.0.conv2.weight"])
def test_kernels_of_too_few_axes_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    arrays = foreign(zeros(SMALL), "cifar") | {name: np.zeros(shape, "float32")}
    with pytest.raises(ValueError, match=rf"Expected a kernel of . axes. Received: .*x\.safetensors, with {name}"):
        open_weights(write_safetensors(arrays, tmp_path / "x.safetensors"))


# What is assumed, and said


def opened(tmp_path: Path, library: str, row: Architecture, **options: Any) -> Any:
    """Opens a file of a library's names and nothing else."""
    arrays = foreign(zeros(row, **options), library)
    if library in ("keras.applications", "KerasHub"):
        layers: dict[str, list[str]] = {}
        for name in arrays:
            layers.setdefault(name.split("/")[0], []).append(name)
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.attrs["layer_names"] = [layer.encode() for layer in layers]
            for layer, names in layers.items():
                group = file.create_group(layer)
                group.attrs["weight_names"] = [f"{name}:0".encode() for name in names]
                for name in names:
                    group[f"{name}:0"] = arrays[name]
        return open_weights(tmp_path / "x.h5")
    return open_weights(write_safetensors(arrays, tmp_path / "x.safetensors"))


@pytest.mark.parametrize("library", ["torchvision", "transformers", "KerasHub"])
def test_imagenet_s_mean_and_std_are_assumed_and_said(tmp_path: Path, library: str) -> None:
    found = opened(tmp_path, library, BOTTLENECK)
    assert found.preprocessing == Preprocessing(image_size=(224, 224), channels=3, shorter_side=256, **IMAGENET)
    assert found.class_names == class_names.imagenet_class_names()
    assert found.notes == (
        "pixels are normalized by ImageNet's mean and std; 224 of 256 pixels, bilinear",
        "1000 classes are taken for ImageNet's",
    )


def test_the_authors_mean_color_is_assumed_of_keras_applications_and_said(tmp_path: Path) -> None:
    found = opened(tmp_path, "keras.applications", BOTTLENECK)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    expected = keras.applications.resnet.preprocess_input(pixels.copy())
    np.testing.assert_allclose(normalize(pixels, found.preprocessing), expected, atol=1e-4)
    assert (found.preprocessing.image_size, found.preprocessing.shorter_side) == ((224, 224), 256)
    assert "pixels become BGR and lose the authors' mean color" in found.notes[0]


def test_cifar_s_pixels_are_normalized_as_each_code_does_and_that_is_said(tmp_path: Path) -> None:
    projecting = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
    zeros_ = opened(tmp_path, "cifar", SMALL)
    projected = opened(tmp_path, "cifar", projecting)
    assert zeros_.preprocessing == Preprocessing(image_size=(32, 32), channels=3, **IMAGENET)
    assert projected.preprocessing.mean == (125.3, 123.0, 113.9)
    assert zeros_.notes[0] == "pixels are normalized by ImageNet's mean and std"
    assert projected.notes[0] == "pixels are normalized by CIFAR-10's mean and std"
    assert zeros_.class_names[3] == "cat"


def test_nothing_is_assumed_of_our_own_pixels_nor_of_other_channels(tmp_path: Path) -> None:
    assert open_weights(network(1)).preprocessing is None
    assert opened(tmp_path, "cifar", SMALL, channels=1).preprocessing is None


def test_classes_without_names_are_numbered_and_that_is_said(tmp_path: Path) -> None:
    found = opened(tmp_path, "cifar", SMALL, classes=3)
    assert found.class_names == ("0", "1", "2")
    assert found.notes[1:] == ("the names of the 3 classes are not known: they are numbered",)


def test_a_backbone_has_no_class_names(tmp_path: Path) -> None:
    arrays = {name: array for name, array in foreign(zeros(SMALL), "cifar").items() if not name.startswith("linear")}
    found = open_weights(write_safetensors(arrays, tmp_path / "x.safetensors"))
    assert (found.classes, found.class_names) == (None, None)
    assert len(found.notes) == 1


# Our own files


def test_preprocessing_and_classes_are_read_from_a_classifier_s_file(tmp_path: Path) -> None:
    model = network(1, zero_channels="both_sides", classifier_activation=None)
    Classifier(model, OURS, tuple("abcde")).save(tmp_path / "x.keras")
    Classifier(model, OURS, tuple("abcde")).save(tmp_path / "model.keras")
    for source in (tmp_path / "x.keras", tmp_path):  # a folder, as of a finished run
        found = open_weights(source)
        assert (found.preprocessing, found.class_names, found.notes) == (OURS, tuple("abcde"), ())
        assert summary(found.conventions) == (None, "both_sides", 1e-5)


def rewritten(path: Path, **members: str) -> Path:
    """Rewrites an archive with other JSON in it."""
    with zipfile.ZipFile(path) as archive:
        content: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (content | {f"{name}.json": text for name, text in members.items()}).items():
            archive.writestr(name, text)
    return path


def test_a_configuration_is_read_and_not_run(tmp_path: Path) -> None:
    # A Lambda layer's code, or any class by its module: what Keras would make of it, nobody asks.
    path = write(network(1, zero_channels="both_sides"), tmp_path / "x.keras")
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    marker = tmp_path / "it ran"
    config["config"]["layers"] += [
        {
            "class_name": "Lambda",
            "config": {"name": "x", "function": {"class_name": "__lambda__", "config": {"code": "!"}}},
        },
        {
            "module": "os",
            "class_name": "system",
            "config": {"command": f"touch '{marker}'"},
            "registered_name": "os>system",
        },
    ]
    with pytest.raises(ValueError, match="with x, a Lambda"):  # it may do anything to the pixels
        open_weights(rewritten(path, config=json.dumps(config)))
    del config["config"]["layers"][-2]
    found = open_weights(rewritten(path, config=json.dumps(config)))
    assert found.conventions.zero_channels == "both_sides"
    assert not marker.exists()


def test_an_archive_without_a_configuration_holds_weights_all_the_same(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "x.keras")
    with zipfile.ZipFile(path) as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", arrays)
    found = open_weights(path)
    assert found.tensors.keys() == arrays_of_model(network(1)).keys()
    assert found.conventions == Conventions(first_projection=False, conv_bias=False)


@pytest.mark.parametrize(
    "config",
    ["not a configuration", "{", "[" * 100_000, '{"class_name": "Conv2D", "config": {"name": "a", "strides": 3}}'],
    ids=["text", "cut", "deep", "strange"],
)
def test_a_broken_configuration_is_refused_with_the_file(tmp_path: Path, config: str) -> None:
    path = rewritten(write(network(1), tmp_path / "x.keras"), config=config)
    with pytest.raises(ValueError, match="Expected a .*file") as raised:
        open_weights(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "about",
    [
        "not JSON", "[1]", '"x"', "3", '{"x": 1}', '{"preprocessing": {}, "class_names": []}',
        '{"preprocessing": null, "class_names": null}', '{"preprocessing": {"a": 1}, "class_names": ["a"]}',
        '{"preprocessing": {"image_size": 8, "channels": 3, "mean": [0], "std": [1]}, "class_names": ["a"]}',
    ],
)  # fmt: skip
def test_a_broken_description_is_refused_with_the_file(tmp_path: Path, about: str) -> None:
    path = rewritten(write(network(1), tmp_path / "x.keras"), classifier=about)
    assert CLASSIFIER_MEMBER == "classifier.json"
    with pytest.raises(ValueError, match="Expected") as raised:
        open_weights(path)
    assert str(path) in str(raised.value)


# Folders


def test_a_folder_of_pytorch_s_older_file_is_read(tmp_path: Path) -> None:
    write_torch(foreign(network(1), "transformers"), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): "abcde"[i] for i in range(5)}}))
    for source in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = open_weights(source)
        assert found.source == str(tmp_path / "pytorch_model.bin")
        assert found.class_names == tuple("abcde")


def test_the_file_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", foreign(network(1), "transformers"), config={})
    write_torch(foreign(network(2), "transformers"), folder / "pytorch_model.bin")
    network(3).save(folder / "model.keras")
    for seed, name in enumerate(("model.safetensors", "pytorch_model.bin", "model.keras"), start=1):
        found = open_weights(folder / name)
        assert found.source == str(folder / name)
        np.testing.assert_array_equal(found.tensors["logits/bias"], arrays_of_model(network(seed))["logits/bias"])


def test_a_file_beside_no_settings_is_a_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", foreign(zeros(BOTTLENECK), "transformers"))
    assert len(open_weights(folder / "model.safetensors").notes) == 2
    assert len(open_weights(folder).notes) == 2


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError,
        match=r"Expected a finished run.s folder, or a hub.s with one of model\.keras, .*, without any of them",
    ):
        open_weights(tmp_path)


@pytest.mark.parametrize(("member", "size"), [(LOCALIZER_MEMBER, (320, 448)), (DETECTOR_MEMBER, (224, 224))])
def test_of_a_network_of_boxes_the_normalization_comes_with_the_weights(
    tmp_path: Path, member: str, size: tuple[int, int]
) -> None:
    trained = Preprocessing(
        image_size=(320, 448), channels=3, mean=(103.0, 116.0, 123.0), std=(1.0, 1.0, 1.0), channel_order="bgr"
    )
    metadata = {"preprocessing": trained.to_json(), "class_names": ("cat", "dog"), "fit": None}
    save_archive(network(0, include_top=False), tmp_path / "model.keras", member, metadata)
    assert open_weights(tmp_path / "model.keras").preprocessing == trained.at(size)
