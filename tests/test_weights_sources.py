"""Files, folders and models as sources of weights: what is in them, what they tell, and what is assumed."""

from __future__ import annotations

import json
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from foreign_weights import SMALL, foreign, network, write_torch, zeros
from keras.src.legacy.saving import legacy_h5_format

from resnet_keras import class_names
from resnet_keras.architectures import Architecture
from resnet_keras.classifier import Classifier
from resnet_keras.images import crop, normalize
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.weights.keras_file import of_model
from resnet_keras.weights.sources import CLASSIFIER_MEMBER, open_checkpoint
from resnet_keras.weights.traits import Traits

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(4, 6))
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
OURS = Preprocessing(
    image_size=(8, 8), channels=3, mean=(1, 2, 3), std=(4, 5, 6), shorter_side=9, interpolation="bicubic"
)


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with")


@pytest.fixture(scope="module")
def keras_hub() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras_hub", reason="KerasHub is not installed: nothing to compare with")


def told(traits: Traits) -> tuple[str | None, str | None, float | None]:
    return traits.bottleneck_stride, traits.zero_channels, traits.epsilon


def write_safetensors(arrays: dict[str, np.ndarray], path: Path) -> Path:
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


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


def folder_of(path: Path, arrays: dict[str, np.ndarray], **settings: Any) -> Path:
    """Writes a folder as the hub has it: safetensors, and JSON of each of `settings`."""
    path.mkdir(exist_ok=True)
    write_safetensors(arrays, path / "model.safetensors")
    for name, content in settings.items():
        (path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
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
        found = open_checkpoint(source)
        assert found.source == str(path)
        assert found.tensors.keys() == of_model(model).keys()
        for weight, array in of_model(model).items():
            np.testing.assert_array_equal(found.tensors[weight], array)


def test_a_model_is_a_source(tmp_path: Path) -> None:
    model = network(1, zero_channels="around")
    found = open_checkpoint(model)
    assert (found.source, found.layout, found.classes) == ("resnet6", "resnet_keras", 5)
    assert told(found.traits) == (None, "around", 1e-5)
    assert found.tensors.keys() == of_model(model).keys()


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
    found = open_checkpoint(tmp_path / "x.safetensors").tensors
    assert found["stem_conv/kernel"].dtype == dtype
    np.testing.assert_array_equal(found["stem_conv/kernel"].transpose(3, 2, 0, 1), arrays["conv1.weight"])


def test_an_empty_tensor_and_a_counter_do_no_harm(tmp_path: Path) -> None:
    arrays = foreign(zeros(SMALL), "cifar") | {
        "empty": np.zeros((0, 3), "float32"),
        "bn1.num_batches_tracked": np.array(3),
    }
    found = open_checkpoint(write_safetensors(arrays, tmp_path / "x.safetensors"))
    assert found.unexpected == ("empty",)
    assert found.passed_over == ("bn1.num_batches_tracked",)


@pytest.mark.parametrize("name", ["x.json", "x.onnx", "x.tar", "x.keras.zip", "imagenet.v2", "x", "resnet50", ""])
def test_another_source_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / name if name.startswith("x") else name or "nothing"
    with pytest.raises(
        ValueError, match=r"Expected weights in a file ending in .safetensors, .pth, .*, a folder, or by"
    ) as raised:
        open_checkpoint(source)
    assert f"Received: {str(source)!r}" in str(raised.value)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.keras", "x.weights.h5", "x.h5"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"Expected a weights file. Received: .*{name}, which does not exist"):
        open_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.th", "x.keras", "x.weights.h5", "x.h5"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    path = write(network(1), tmp_path / name)
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20, dtype=int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"Expected a whole .*{name}, which can't be read"):
            open_checkpoint(path)


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
            open_checkpoint(tmp_path / "x.safetensors")


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
            open_checkpoint(path)
        except ValueError as error:
            assert "Expected " in str(error)
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (4, 3, 3)])
@pytest.mark.parametrize("name", ["conv1.weight", "linear.weight", "layer1.0.conv2.weight"])
def test_kernels_of_too_few_axes_are_a_value_error(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    arrays = foreign(zeros(SMALL), "cifar") | {name: np.zeros(shape, "float32")}
    path = write_safetensors(arrays, tmp_path / "x.safetensors")
    try:
        open_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)


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
        return open_checkpoint(tmp_path / "x.h5")
    return open_checkpoint(write_safetensors(arrays, tmp_path / "x.safetensors"))


@pytest.mark.parametrize("library", ["torchvision", "transformers", "KerasHub"])
def test_imagenet_s_mean_and_std_are_assumed_and_said(tmp_path: Path, library: str) -> None:
    found = opened(tmp_path, library, BOTTLENECK)
    assert found.preprocessing == Preprocessing(image_size=(224, 224), channels=3, shorter_side=256, **IMAGENET)
    assert found.class_names == class_names.imagenet()
    assert found.notes == (
        "pixels are normalised by ImageNet's mean and std; 224 of 256 pixels, bilinear",
        "1000 classes are taken for ImageNet's",
    )


def test_the_authors_mean_colour_is_assumed_of_keras_applications_and_said(tmp_path: Path) -> None:
    found = opened(tmp_path, "keras.applications", BOTTLENECK)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype("float32")
    expected = keras.applications.resnet.preprocess_input(pixels.copy())
    np.testing.assert_allclose(normalize(pixels, found.preprocessing), expected, atol=1e-4)
    assert (found.preprocessing.image_size, found.preprocessing.shorter_side) == ((224, 224), 256)
    assert "pixels become BGR and lose the authors' mean colour" in found.notes[0]


def test_cifar_s_pixels_are_normalised_as_each_code_does_and_that_is_said(tmp_path: Path) -> None:
    projecting = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
    zeros_ = opened(tmp_path, "cifar", SMALL)
    projected = opened(tmp_path, "cifar", projecting)
    assert zeros_.preprocessing == Preprocessing(image_size=(32, 32), channels=3, **IMAGENET)
    assert projected.preprocessing.mean == (125.3, 123.0, 113.9)
    assert zeros_.notes[0] == "pixels are normalised by ImageNet's mean and std"
    assert projected.notes[0] == "pixels are normalised by CIFAR-10's mean and std"
    assert zeros_.class_names[3] == "cat"


def test_nothing_is_assumed_of_our_own_pixels_nor_of_other_channels(tmp_path: Path) -> None:
    assert open_checkpoint(network(1)).preprocessing is None
    assert opened(tmp_path, "cifar", SMALL, channels=1).preprocessing is None


def test_classes_without_names_are_numbered_and_that_is_said(tmp_path: Path) -> None:
    found = opened(tmp_path, "cifar", SMALL, classes=3)
    assert found.class_names == ("0", "1", "2")
    assert found.notes[1:] == ("the names of the 3 classes are not known: they are numbered",)


def test_a_backbone_has_no_class_names(tmp_path: Path) -> None:
    arrays = {name: array for name, array in foreign(zeros(SMALL), "cifar").items() if not name.startswith("linear")}
    found = open_checkpoint(write_safetensors(arrays, tmp_path / "x.safetensors"))
    assert (found.classes, found.class_names) == (None, None)
    assert len(found.notes) == 1


# Our own files


def test_a_classifier_s_file_tells_its_preprocessing_and_classes(tmp_path: Path) -> None:
    model = network(1, zero_channels="around", classifier_activation=None)
    Classifier(model, OURS, tuple("abcde")).save(tmp_path / "x.keras")
    Classifier(model, OURS, tuple("abcde")).save(tmp_path / "model.keras")
    for source in (tmp_path / "x.keras", tmp_path):  # a folder, as of a finished run
        found = open_checkpoint(source)
        assert (found.preprocessing, found.class_names, found.notes) == (OURS, tuple("abcde"), ())
        assert told(found.traits) == (None, "around", 1e-5)


def rewritten(path: Path, **members: str) -> Path:
    """Writes an archive anew with other JSON in it."""
    with zipfile.ZipFile(path) as archive:
        content: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (content | {f"{name}.json": text for name, text in members.items()}).items():
            archive.writestr(name, text)
    return path


def test_a_configuration_is_read_and_not_run(tmp_path: Path) -> None:
    # A Lambda layer's code, or any class by its module: what Keras would make of it, nobody asks.
    path = write(network(1, zero_channels="around"), tmp_path / "x.keras")
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
    found = open_checkpoint(rewritten(path, config=json.dumps(config)))
    assert found.traits.zero_channels == "around"
    assert not marker.exists()


def test_an_archive_without_a_configuration_holds_weights_all_the_same(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "x.keras")
    with zipfile.ZipFile(path) as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", arrays)
    found = open_checkpoint(path)
    assert found.tensors.keys() == of_model(network(1)).keys()
    assert found.traits == Traits()


@pytest.mark.parametrize(
    "config",
    [
        "not a configuration", "{", "[" * 100_000,
        '{"class_name": "Conv2D", "config": {}}', '{"class_name": "Conv2D", "config": {"name": "a", "strides": 3}}',
        '{"class_name": "Conv2D", "config": {"name": "a", "strides": []}}',
        '{"class_name": "Conv2D", "config": {"name": 3, "strides": [1, 1]}}',
        '{"class_name": "Pad", "config": {"pad_width": 1}}', '{"class_name": "Pad", "config": {"pad_width": []}}',
        '{"class_name": "Pad", "config": {"pad_width": [["a", "b"]]}}',
        '{"class_name": "BatchNormalization", "config": {"epsilon": [1]}}',
        '{"class_name": "BatchNormalization", "config": {}}',
    ],
)  # fmt: skip
def test_a_broken_configuration_is_a_value_error_that_names_the_file(tmp_path: Path, config: str) -> None:
    # KeyError, TypeError, RecursionError. A layer of another make may also be passed over.
    path = rewritten(write(network(1), tmp_path / "x.keras"), config=config)
    try:
        open_checkpoint(path)
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "about",
    [
        "not JSON", "[1]", '"x"', "3", '{"x": 1}', '{"preprocessing": {}, "class_names": []}',
        '{"preprocessing": null, "class_names": null}', '{"preprocessing": {"a": 1}, "class_names": ["a"]}',
        '{"preprocessing": {"image_size": 8, "channels": 3, "mean": [0], "std": [1]}, "class_names": ["a"]}',
    ],
)  # fmt: skip
def test_a_broken_description_is_a_value_error_that_names_the_file(tmp_path: Path, about: str) -> None:
    path = rewritten(write(network(1), tmp_path / "x.keras"), classifier=about)
    assert CLASSIFIER_MEMBER == "classifier.json"
    with pytest.raises(ValueError, match="Expected") as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)


# Folders of the hub. Their settings are those of timm/resnet18.tv_in1k and microsoft/resnet-50.


TIMM = {
    "architecture": "resnet18",
    "num_classes": 1000,
    "num_features": 512,
    "pretrained_cfg": {
        "tag": "tv_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "crop_mode": "center",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}
RESNET_CONFIG = {
    "architectures": ["ResNetForImageClassification"],
    "depths": [1, 1],
    "downsample_in_first_stage": False,
    "embedding_size": 4,
    "hidden_act": "relu",
    "hidden_sizes": [16, 24],
    "layer_type": "bottleneck",
    "model_type": "resnet",
    "num_channels": 3,
}
PROCESSOR = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_processor_type": "ConvNextImageProcessor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 224},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"image_size": (224, 224), "shorter_side": 256, "interpolation": "bilinear"}),
        ({"interpolation": "bicubic", "crop_pct": 0.95}, {"shorter_side": 235, "interpolation": "bicubic"}),
        ({"input_size": [3, 288, 288], "crop_pct": 1.0}, {"image_size": (288, 288), "shorter_side": 288}),
        ({"input_size": [3, 160, 224], "crop_pct": None}, {"image_size": (160, 224), "shorter_side": 224}),
        ({"interpolation": "lanczos"}, {"interpolation": "bilinear"}),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}, {"mean": (127.5,) * 3, "std": (127.5,) * 3}),
    ],
)
def test_a_folder_of_timm_tells_its_preprocessing(
    tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | changes}
    found = open_checkpoint(folder_of(tmp_path / "x", foreign(zeros(BOTTLENECK), "torchvision"), config=config))
    usual = {"image_size": (224, 224), "channels": 3, "shorter_side": 256, "interpolation": "bilinear", **IMAGENET}
    received = found.preprocessing.to_json() | {"mean": None, "std": None}
    assert received == Preprocessing(**usual | expected).to_json() | {"mean": None, "std": None}
    for field in ("mean", "std"):
        np.testing.assert_allclose(getattr(found.preprocessing, field), (usual | expected)[field], rtol=1e-6)
    assert told(found.traits) == ("3x3", "around", 1e-5)
    assert found.notes == ("1000 classes are taken for ImageNet's",)


def test_a_folder_of_timm_tells_its_class_names_where_it_has_them(tmp_path: Path) -> None:
    arrays = foreign(zeros(BOTTLENECK, classes=3), "torchvision")
    found = open_checkpoint(folder_of(tmp_path / "x", arrays, config=TIMM | {"label_names": ["a", "b", "c"]}))
    assert (found.class_names, found.notes) == (("a", "b", "c"), ())


def test_a_folder_of_transformers_tells_preprocessing_classes_and_stride(tmp_path: Path) -> None:
    labels = {"10": "k", **{str(i): "abcdefghij"[i] for i in range(10)}}  # in JSON, in no order
    for key, stride in ((None, "3x3"), (False, "3x3"), (True, "1x1")):
        config = RESNET_CONFIG | {"id2label": labels} | ({} if key is None else {"downsample_in_bottleneck": key})
        arrays = foreign(zeros(BOTTLENECK, classes=11), "transformers")
        folder = folder_of(tmp_path / "x", arrays, config=config, preprocessor_config=PROCESSOR)
        for source in (folder, folder / "model.safetensors"):
            found = open_checkpoint(source)
            assert found.preprocessing == Preprocessing(
                image_size=(224, 224), channels=3, shorter_side=256, interpolation="bicubic",
                mean=found.preprocessing.mean, std=found.preprocessing.std,
            )  # fmt: skip
            np.testing.assert_allclose(found.preprocessing.mean, IMAGENET["mean"], rtol=1e-6)
            np.testing.assert_allclose(found.preprocessing.std, IMAGENET["std"], rtol=1e-6)
            assert (found.class_names, found.notes) == (tuple("abcdefghijk"), ())
            assert told(found.traits) == (stride, "around", 1e-5)


@pytest.mark.parametrize(
    ("changes", "size", "shorter_side", "interpolation"),
    [
        ({"size": 224}, 224, 256, "bicubic"),  # as files before transformers 4.26 have it
        ({"size": {"shortest_edge": 384}}, 384, None, "bicubic"),
        (
            {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "crop_pct": None},
            224,
            256,
            "bicubic",
        ),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "crop_pct": None, "resample": 2}, 224, 256, "bilinear"),
        ({"size": {"height": 224, "width": 224}, "crop_pct": None}, 224, None, "bicubic"),
        ({"crop_pct": 0.95}, 224, 235, "bicubic"),
        ({"resample": 1}, 224, 256, "bilinear"),
    ],
)
def test_sizes_of_a_processor_are_ours(
    tmp_path: Path, changes: dict[str, Any], size: int, shorter_side: int | None, interpolation: str
) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = folder_of(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=PROCESSOR | changes)
    found = open_checkpoint(folder).preprocessing
    assert (found.image_size, found.shorter_side, found.interpolation) == ((size, size), shorter_side, interpolation)


def test_the_scale_of_a_processor_is_heeded(tmp_path: Path) -> None:
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    processor = PROCESSOR | {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}
    found = open_checkpoint(folder_of(tmp_path / "x", arrays, config=RESNET_CONFIG, preprocessor_config=processor))
    np.testing.assert_allclose(found.preprocessing.mean + found.preprocessing.std, 127.5)


def test_pixels_are_those_of_transformers_own_processor(tmp_path: Path, transformers: Any) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed: nothing to compare with")
    module = pytest.importorskip("transformers.models.convnext.image_processing_pil_convnext")
    fields = {"image_mean": PROCESSOR["image_mean"], "image_std": PROCESSOR["image_std"]}
    processor = module.ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875, resample=3, **fields)
    arrays = foreign(zeros(BOTTLENECK), "transformers")
    folder = folder_of(tmp_path / "x", arrays, config=RESNET_CONFIG)
    processor.save_pretrained(folder)
    preprocessing = open_checkpoint(folder).preprocessing
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), "uint8")
    image = np.asarray(image_module.fromarray(coarse).resize((401, 297), 3))
    expected = processor(image_module.fromarray(image))["pixel_values"][0].transpose(1, 2, 0)
    received = np.asarray(normalize(crop(image, preprocessing), preprocessing))
    grey_levels = np.abs(received - expected) * preprocessing.std
    assert grey_levels.max() < 1.01
    assert (grey_levels > 0.01).mean() < 0.002


def test_settings_of_the_wrong_length_are_not_believed(tmp_path: Path) -> None:
    config = RESNET_CONFIG | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    found = open_checkpoint(folder_of(tmp_path / "x", foreign(zeros(BOTTLENECK), "transformers"), config=config))
    assert found.class_names == class_names.imagenet()
    assert found.notes[-1] == "1000 classes are taken for ImageNet's"


@pytest.mark.parametrize(
    "changes", [{"downsample_in_first_stage": True}, {"hidden_act": "gelu"}, {"architecture": "resnetblur50"}]
)
def test_settings_that_make_another_network_of_the_same_weights_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    timm = "architecture" in changes
    config = TIMM | changes if timm else RESNET_CONFIG | changes
    arrays = foreign(zeros(BOTTLENECK), "torchvision" if timm else "transformers")
    with pytest.raises(ValueError, match="Expected"):
        open_checkpoint(folder_of(tmp_path / "x", arrays, config=config))


def test_a_folder_of_pytorch_s_older_file_is_read(tmp_path: Path) -> None:
    write_torch(foreign(network(1), "transformers"), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(
        json.dumps(RESNET_CONFIG | {"id2label": {str(i): "abcde"[i] for i in range(5)}})
    )
    for source in (tmp_path, tmp_path / "pytorch_model.bin"):
        found = open_checkpoint(source)
        assert found.source == str(tmp_path / "pytorch_model.bin")
        assert found.class_names == tuple("abcde")


def test_the_file_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", foreign(network(1), "transformers"), config=RESNET_CONFIG)
    write_torch(foreign(network(2), "transformers"), folder / "pytorch_model.bin")
    network(3).save(folder / "model.keras")
    for seed, name in enumerate(("model.safetensors", "pytorch_model.bin", "model.keras"), start=1):
        found = open_checkpoint(folder / name)
        assert found.source == str(folder / name)
        np.testing.assert_array_equal(found.tensors["logits/bias"], of_model(network(seed))["logits/bias"])


def test_a_file_beside_no_settings_is_a_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", foreign(zeros(BOTTLENECK), "transformers"))
    assert len(open_checkpoint(folder / "model.safetensors").notes) == 2
    assert len(open_checkpoint(folder).notes) == 2


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"Expected one of model\.keras, model\.safetensors, .*Received: none of them"
    ):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config", "preprocessor_config"])
@pytest.mark.parametrize("content", ["{", "\x00", "[" * 100_000, "[]", "3", '"x"', "null"])
def test_settings_that_are_no_json_object_are_a_value_error(tmp_path: Path, name: str, content: str) -> None:
    folder = folder_of(tmp_path / "x", foreign(zeros(SMALL), "transformers"), **{name: content})
    with pytest.raises(ValueError, match=f"Expected .*{name}.json"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config", {"id2label": {"1": "a", "2": "b"}}),
        ("config", {"id2label": ["a", "b"]}),
        ("config", {"id2label": 3}),
        ("config", {"downsample_in_bottleneck": "yes"}),
        ("config", {"label_names": 3}),
        ("config", {"pretrained_cfg": {"tag": "x"}}),
        ("config", {"pretrained_cfg": [1]}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"input_size": [3]}}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"crop_pct": 2.0}}),
        ("config", {"pretrained_cfg": TIMM["pretrained_cfg"] | {"mean": "x"}}),
        ("preprocessor_config", {"image_mean": [0.5]}),
        ("preprocessor_config", {"image_mean": 0.5, "image_std": 0.5}),
        ("preprocessor_config", PROCESSOR | {"size": {}}),
        ("preprocessor_config", PROCESSOR | {"size": "x"}),
        ("preprocessor_config", PROCESSOR | {"crop_size": {}}),
        ("preprocessor_config", PROCESSOR | {"rescale_factor": 0}),
        ("preprocessor_config", PROCESSOR | {"image_std": [0, 0, 0]}),
        ("preprocessor_config", PROCESSOR | {"crop_pct": -1}),
    ],
)
def test_settings_of_another_make_are_a_value_error(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    # KeyError, TypeError, ZeroDivisionError. What does not matter may also be passed over.
    folder = folder_of(tmp_path / "x", foreign(zeros(SMALL), "transformers"), **{name: content})
    try:
        open_checkpoint(folder)
    except ValueError as error:
        assert "Expected" in str(error)


# Folders of KerasHub


def hub_folder(path: Path, model: keras.Model, converter: dict[str, Any] | None) -> Path:
    """Writes a folder as KerasHub does: backbone, task and preprocessor."""
    path.mkdir(exist_ok=True)
    arrays = foreign(model, "KerasHub")
    for file_name, wanted in (("model.weights.h5", False), ("task.weights.h5", True)):
        with h5py.File(path / file_name, "w") as file:
            for layer in {name.split("/")[0] for name in arrays if (name.split("/")[0] == "predictions") == wanted}:
                group = file.create_group(f"layers/{layer}/vars")
                group.attrs["name"] = layer
                for i, name in enumerate(name for name in arrays if name.startswith(f"{layer}/")):
                    group[str(i)] = arrays[name]
    if converter is not None:
        config = {"config": {"image_converter": {"class_name": "ResNetImageConverter", "config": converter}}}
        (path / "preprocessor.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("converter", "mean", "std"),
    [
        (
            {
                "scale": [1 / 255 / s for s in (0.229, 0.224, 0.225)],
                "offset": [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
            },
            IMAGENET["mean"],
            IMAGENET["std"],
        ),
        ({"scale": 1 / 127.5, "offset": -1.0}, (127.5,) * 3, (127.5,) * 3),
        ({"scale": 1 / 255, "offset": None}, (0,) * 3, (255,) * 3),
        ({"scale": None, "offset": [-103.939, -116.779, -123.68]}, (103.939, 116.779, 123.68), (1,) * 3),
        ({}, (0,) * 3, (1,) * 3),
    ],
)
def test_a_folder_of_kerashub_tells_its_preprocessing(
    tmp_path: Path, converter: dict[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    fields = {"image_size": [64, 48], "interpolation": "bicubic", **converter}
    found = open_checkpoint(hub_folder(tmp_path / "x", model, fields))
    assert (found.layout, found.classes) == ("KerasHub", 5)
    assert (found.preprocessing.image_size, found.preprocessing.interpolation) == ((64, 48), "bicubic")
    np.testing.assert_allclose(found.preprocessing.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(found.preprocessing.std, std, rtol=1e-6)
    for name, array in of_model(model).items():
        np.testing.assert_array_equal(found.tensors[name], array)


@pytest.mark.parametrize("converter", [None, {"image_size": None, "scale": 2.0}])
def test_a_folder_of_kerashub_without_an_image_size_is_taken_for_imagenet(tmp_path: Path, converter: Any) -> None:
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    found = open_checkpoint(hub_folder(tmp_path / "x", model, converter))
    assert found.preprocessing == Preprocessing(image_size=(224, 224), channels=3, shorter_side=256, **IMAGENET)
    assert len(found.notes) == 2


def test_pixels_are_those_of_kerashub_s_own_converter(tmp_path: Path, keras_hub: Any) -> None:
    scale, offset = [1 / 255 / s for s in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    converter = keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=scale, offset=offset)
    fields = {name: converter.get_config()[name] for name in ("image_size", "scale", "offset", "interpolation")}
    model = network(1, BOTTLENECK, input_shape=(32, 32, 3), classes=5)
    preprocessing = open_checkpoint(hub_folder(tmp_path / "x", model, fields)).preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(normalize(crop(pixels, preprocessing), preprocessing), converter(pixels), atol=1e-5)
