"""Keras's files, old and new: the arrays that a model had, from the file itself, or an error that names the file."""

from __future__ import annotations

import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from helpers.foreign_weights import network
from helpers.small_networks import TWO_STAGES, drawn
from keras.src.legacy.saving import legacy_h5_format

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.builder import build
from resnet_keras.surgery.quantization import quantize
from resnet_keras.weights.keras_file import arrays_of_model, read_keras, read_member

FORMATS = [".keras", ".weights.h5", ".whole.h5", ".legacy.h5"]


def write(model: keras.Model, path: Path) -> Path:
    """Writes a model in the format that the name ends in; the last two are those of Keras 2 and before."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.name.endswith(".legacy.h5"):
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    else:
        model.save(path)
    return path


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model by layer and kind, collected in another way than in the package."""
    kinds = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 2: ("kernel", "bias"), 1: ("kernel",)}
    return {
        f"{layer.name}/{kind}": array
        for layer in flat_layers(model)
        if layer.weights
        for kind, array in zip(kinds[len(layer.weights)], layer.get_weights(), strict=True)
    }


def assert_same(received: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert received.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array, err_msg=name)


def refused(path: Path, match: str) -> str:
    """Returns why a file is refused; the error always names it."""
    with pytest.raises(ValueError, match=match) as raised:
        read_keras(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.fixture
def policy() -> Iterator[None]:
    """Puts Keras's global precision policy back after a test that sets it."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A small network in Keras 3's file of weights, one layer of which is called `dense` there."""
    return write(network(1), tmp_path / "net.weights.h5")


# What models and files hold


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_a_file_holds_the_arrays_of_each_layer_by_name(tmp_path: Path, option: Any, suffix: str) -> None:
    saved = network(1, shortcut=option)
    found = read_keras(write(saved, tmp_path / f"net{suffix}"))
    assert found["logits/kernel"].shape == (8, 5)
    assert_same(found, weights(saved))


def test_a_model_holds_what_its_file_does(tmp_path: Path) -> None:
    saved = network(1)
    assert_same(arrays_of_model(saved), weights(saved))
    assert_same(arrays_of_model(saved), read_keras(write(saved, tmp_path / "net.weights.h5")))


@pytest.mark.parametrize("suffix", FORMATS)
def test_layers_of_nested_models_stand_under_their_own_names(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = drawn(build("resnet20"), 2)
    assert any(isinstance(layer, keras.Model) for layer in segmented.layers)
    assert_same(arrays_of_model(segmented), weights(segmented))
    assert_same(read_keras(write(segmented, tmp_path / f"net{suffix}")), weights(segmented))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("suffix", FORMATS[:3])
def test_optimizer_state_in_a_file_is_ignored(tmp_path: Path, optimizer: str, suffix: str) -> None:
    saved = network(8)
    saved.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    saved.optimizer.build(saved.trainable_variables)
    path = write(saved, tmp_path / f"net{suffix}")
    if suffix == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
            assert len(file["optimizer/vars"]) >= 2
    assert_same(read_keras(path), weights(saved))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16", "float16", "float64"])
def test_numbers_of_any_precision_come_back_as_they_are(tmp_path: Path, name: str, suffix: str, policy: None) -> None:
    keras.config.set_dtype_policy(name)
    saved = network(10)
    found = read_keras(write(saved, tmp_path / f"net{suffix}"))
    assert_same(found, weights(saved))
    assert found["stem_conv/kernel"].dtype == keras.backend.standardize_dtype(saved.weights[0].dtype)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_bfloat16_which_hdf5_does_not_know_is_restored(tmp_path: Path, suffix: str, policy: None) -> None:
    keras.config.set_dtype_policy("bfloat16")
    saved = network(11)
    found = read_keras(write(saved, tmp_path / f"net{suffix}"))
    assert_same(found, weights(saved))
    assert found["stem_conv/kernel"].dtype == ml_dtypes.bfloat16


def legacy(path: Path, layers: dict[str, dict[str, np.ndarray]], root: str = "/", chunks: int = 1) -> Path:
    """Writes what Keras 2 did: names of layers, spread over attributes, and in each the names of its arrays."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root)
        names = [name.encode() for name in layers]
        for i in range(chunks):
            top.attrs["layer_names" if chunks == 1 else f"layer_names{i}"] = names[i::chunks]
        for layer, arrays in layers.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return path


@pytest.mark.parametrize("root", ["/", "model_weights"])
@pytest.mark.parametrize("chunks", [1, 3])
def test_names_as_keras_2_wrote_them_lose_what_surrounds_them(tmp_path: Path, root: str, chunks: int) -> None:
    kernel, gamma = np.ones((3, 3, 1, 2), "float32"), np.zeros(2, "float32")
    layers = {
        "input_1": {},
        "conv1": {"conv1/kernel:0": kernel},
        "bn": {"bn/gamma:0": gamma},
        "resnet": {"resnet/inner/conv2/kernel:0": 2 * kernel, "inner/bn2/gamma:0": gamma + 1},
    }
    found = read_keras(legacy(tmp_path / "net.h5", layers, root, chunks))
    expected = {"conv1/kernel": kernel, "bn/gamma": gamma, "conv2/kernel": 2 * kernel, "bn2/gamma": gamma + 1}
    assert_same(found, expected)


def test_only_the_arrays_of_an_archive_are_read(tmp_path: Path) -> None:
    saved = network(12)
    with zipfile.ZipFile(write(saved, tmp_path / "net.keras")) as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as archive:
        archive.writestr("config.json", "not a configuration")
        archive.writestr("model.weights.h5", arrays)
    assert_same(read_keras(tmp_path / "bare.keras"), weights(saved))


def test_layers_of_other_kinds_number_their_arrays(tmp_path: Path) -> None:
    layers = [keras.layers.Input((4, 4, 2)), keras.layers.SeparableConv2D(3, 3, name="separable")]
    model = drawn(keras.Sequential(layers), 1)
    found = read_keras(write(model, tmp_path / "net.weights.h5"))
    assert set(found) == {"separable/0", "separable/1", "separable/2"}


def test_a_member_of_an_archive_is_its_json_or_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("a.json", '{"b": [1, 2]}')
        archive.writestr("broken.json", '{"b": ')
        archive.writestr("binary.json", b"\xff\xfe\x00")
        archive.writestr("deep.json", "[" * 100_000)
    assert read_member(tmp_path / "x.keras", "a.json") == {"b": [1, 2]}
    assert read_member(tmp_path / "x.keras", "c.json") is None
    for name in ("broken.json", "binary.json", "deep.json"):
        with pytest.raises(ValueError, match=r"Expected a whole \.keras file. Received: .*x\.keras"):
            read_member(tmp_path / "x.keras", name)


# Files that are none


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(network(1), tmp_path / f"net{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, r"Expected a whole weights file. Received: .* which can't be read")


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text("<html>404 Not Found</html>" * 100)
    refused(path, r"Expected a whole weights file. Received: .* which can't be read")


def test_arrays_under_the_suffix_of_an_archive_are_refused(written: Path) -> None:
    refused(written.rename(written.with_name("net.keras")), r"Expected a whole weights file. .*not a zip file")


def test_compressed_archive_with_a_damaged_byte_is_refused(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(written, "model.weights.h5")
    whole = path.read_bytes()
    for where in np.linspace(100, len(whole) - 200, 30, dtype=int):
        damaged = bytearray(whole)
        damaged[where] ^= 0xFF
        path.write_bytes(damaged)
        refused(path, r"Expected a whole weights file. Received: .* which can't be read")


@pytest.mark.parametrize("member", ["model.weights.h5", "config.json"])
@pytest.mark.parametrize(("byte", "value"), [(8, 1), (10, 8), (10, 9), (10, 12), (10, 14), (10, 99)])
def test_a_member_that_claims_another_packing_is_refused(tmp_path: Path, member: str, byte: int, value: int) -> None:
    path = write(network(1), tmp_path / "net.keras")
    damaged = bytearray(path.read_bytes())
    entries = [i for i in range(len(damaged)) if damaged[i : i + 4] == b"PK\x01\x02"]
    (entry,) = (i for i in entries if damaged[i + 46 :].startswith(member.encode()))
    damaged[entry + byte] = value
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"Expected a whole .* file. Received: .*net\.keras, which can't be read"):
        read_keras(path) if member == "model.weights.h5" else read_member(path, member)


def test_archive_without_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tmp_path / "net.keras", r"Expected a whole weights file. .*model.weights.h5")


def test_h5_file_without_layers_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file["data"] = np.zeros(3)
    refused(tmp_path / "net.weights.h5", r"Expected a whole weights file. .*no named layers")
    refused(legacy(tmp_path / "old.h5", {"input_1": {}}), r"Expected a whole weights file. .*have no weights")


def no_group(file: h5py.File) -> None:
    file["model_weights"] = np.zeros(3)


def no_group_but_a_type(file: h5py.File) -> None:
    file["model_weights"] = np.dtype("float32")


def array_in_place_of_a_layer(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"conv"]
    file["conv"] = np.zeros(3)


def layer_that_is_not_there(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"conv"]


def layer_without_names(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b""]


def names_that_are_numbers(file: h5py.File) -> None:
    file.attrs["layer_names"] = [1, 2]


def names_that_are_not_text(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"\xff\xfe"]


def array_within_an_array(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"conv"]
    file.create_group("conv").attrs["weight_names"] = [b"conv/kernel:0"]
    file["conv/conv"] = np.zeros(3)


def type_in_place_of_an_array(file: h5py.File) -> None:
    file.create_group("layers/conv/vars").attrs["name"] = "conv"
    file["layers/conv/vars/0"] = np.dtype("float32")


def array_larger_than_any_memory(file: h5py.File) -> None:
    file.create_group("layers/conv/vars").attrs["name"] = "conv"
    file.create_dataset("layers/conv/vars/0", (2**40, 2**10), "float32", chunks=True)


@pytest.mark.parametrize(
    "make",
    [
        no_group, no_group_but_a_type, array_in_place_of_a_layer, layer_that_is_not_there, layer_without_names,
        names_that_are_numbers, names_that_are_not_text, array_within_an_array, type_in_place_of_an_array,
        array_larger_than_any_memory,
    ],
)  # fmt: skip
def test_h5_file_of_another_make_is_refused(tmp_path: Path, make: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "net.h5", "w") as file:
        make(file)
    refused(tmp_path / "net.h5", r"Expected a whole weights file. Received: .* which can't be read")


def test_an_array_of_more_numbers_than_the_file_has_bytes_is_refused(tmp_path: Path) -> None:
    # HDF5 fills what is not stored: 8 kB that would become 256 MB.
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file.create_group("layers/conv/vars").attrs["name"] = "conv"
        file.create_dataset("layers/conv/vars/0", (2**16, 2**10), "float32", chunks=True)
    tracemalloc.start()
    try:
        refused(tmp_path / "net.weights.h5", "Expected a whole weights file. Received: .* which can't be read")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# Files made to mislead. A link could carry any file of the machine into a model that is then published.


def external_link(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    del file[f"{layer}/{array}"]
    file[f"{layer}/{array}"] = h5py.ExternalLink(outside, f"{layer}/{array}")


def soft_link(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    file.move(f"{layer}/{array}", "elsewhere")
    file["way"] = h5py.ExternalLink(outside, layer)
    file[f"{layer}/{array}"] = h5py.SoftLink(f"/way/{array}")


def external_group(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    del file[layer]
    file[layer] = h5py.ExternalLink(outside, layer)


def external_layers(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    top = layer.partition("/")[0]
    del file[top]
    file[top] = h5py.ExternalLink(outside, top)


def external_storage(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    shape = file[f"{layer}/{array}"].shape
    del file[f"{layer}/{array}"]
    stored = [(str(outside), 0, 4 * int(np.prod(shape)))]
    file[layer].create_dataset(array, shape, "float32", external=stored)


def virtual_dataset(file: h5py.File, layer: str, array: str, outside: Path) -> None:
    shape = file[f"{layer}/{array}"].shape
    del file[f"{layer}/{array}"]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(outside, f"{layer}/{array}", shape)
    file[layer].create_virtual_dataset(array, layout)


@pytest.mark.parametrize(
    ("suffix", "layer", "array"),
    [
        (".weights.h5", "layers/dense/vars", "0"),
        (".legacy.h5", "logits", "logits/kernel"),
        (".whole.h5", "model_weights/logits", "logits/kernel"),
    ],
)
@pytest.mark.parametrize(
    "mislead", [external_link, soft_link, external_group, external_layers, external_storage, virtual_dataset]
)
def test_numbers_outside_the_file_are_not_read(
    tmp_path: Path, mislead: Callable[[h5py.File, str, str, Path], None], suffix: str, layer: str, array: str
) -> None:
    path = write(network(1), tmp_path / f"net{suffix}")
    outside = Path(shutil.copy(path, tmp_path / f"outside{suffix}"))
    with h5py.File(outside, "a") as file:
        file[f"{layer}/{array}"][...] = 42.0
    with h5py.File(path, "a") as file:
        mislead(file, layer, array, outside)
        # What the link leads to can be read: it is not for a broken link that the file is refused.
        assert file[f"{layer}/{array}"].shape == (8, 5)
    try:
        found = read_keras(path)
    except ValueError as error:
        assert "outside the file" in str(error) or "no named layers" in str(error)
    else:
        assert "logits/kernel" not in found


def text(shape: tuple[int, ...]) -> Any:
    return np.full(shape, b"x")


def nothing(shape: tuple[int, ...]) -> Any:
    return h5py.Empty("float32")


def complex_numbers(shape: tuple[int, ...]) -> Any:
    return np.full(shape, 1j)


def booleans(shape: tuple[int, ...]) -> Any:
    return np.full(shape, True)


def pairs(shape: tuple[int, ...]) -> Any:
    return np.zeros(shape, [("a", "float32"), ("b", "float32")])


@pytest.mark.parametrize("content", [text, nothing, complex_numbers, booleans, pairs])
@pytest.mark.parametrize("claim", [None, "bfloat16"])
def test_array_that_holds_no_real_numbers_is_refused(
    written: Path, content: Callable[[tuple[int, ...]], Any], claim: str | None
) -> None:
    with h5py.File(written, "a") as file:
        shape = file["layers/dense/vars/0"].shape
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"]["0"] = content(shape)
        if claim:
            file["layers/dense/vars/0"].attrs["dtype"] = claim
    refused(written, r"Expected a whole weights file. Received: ")


def test_numbers_that_only_claim_to_be_bfloat16_are_none(written: Path) -> None:
    with h5py.File(written, "a") as file:
        file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
        expected = file["layers/dense/vars/0"][...]
    try:
        np.testing.assert_array_equal(read_keras(written)["logits/kernel"], expected)
    except ValueError as error:
        assert "Expected a whole weights file" in str(error)


def test_group_in_place_of_an_array_is_refused(written: Path) -> None:
    with h5py.File(written, "a") as file:
        del file["layers/dense/vars/0"]
        file.create_group("layers/dense/vars/0")
    refused(written, r"Expected a whole weights file. Received: ")


def test_array_without_a_number_for_a_name_is_refused(written: Path) -> None:
    with h5py.File(written, "a") as file:
        file.move("layers/dense/vars/0", "layers/dense/vars/kernel")
    refused(written, r"Expected a whole weights file. Received: ")


def test_weights_of_quantization_aware_training_name_what_to_take(tmp_path: Path) -> None:
    model = quantize(drawn(build(TWO_STAGES, input_shape=(8, 8, 3))), (50.0, 50.0, 50.0))
    path = write(model, tmp_path / "net.keras")
    refused(path, r"stem_conv has an array of its own, scale, .*; name the network in floating point")


def fragile(content: bytes) -> set[int]:
    """Bytes around texts in an HDF5 file, where some damages make HDF5's own library crash or never return."""
    starts = [(found.start(), 100) for found in re.finditer(rb"name\x00|_names\x00|version\x00|backend\x00", content)]
    starts += [(found.start(), 4096) for found in re.finditer(b"GCOL", content)]
    return {where for start, length in starts for where in range(start, start + length)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "suffix",
    [".keras", pytest.param(".weights.h5", marks=pytest.mark.slow), pytest.param(".legacy.h5", marks=pytest.mark.slow)],
)
def test_flipped_bytes_are_a_value_error_or_other_numbers(tmp_path: Path, suffix: str) -> None:
    path = write(network(1), tmp_path / f"net{suffix}")
    whole = path.read_bytes()
    left_out = fragile(whole) if suffix.endswith(".h5") else set()  # in a .keras file, checksums tell
    rng = np.random.default_rng(7)
    refusals = 0
    for where in rng.integers(len(whole), size=120):
        if where in left_out:
            continue
        damaged = bytearray(whole)
        damaged[where] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_keras(path).values())
        except ValueError as error:
            assert str(error).startswith("Expected a whole weights file")
            refusals += 1
    assert refusals
