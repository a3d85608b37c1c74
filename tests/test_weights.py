"""What a file holds arrives in the network, or nothing does and the message says why."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from resnet_keras import models, weights
from resnet_keras.architectures import Architecture
from resnet_keras.models import build

SMALL = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A")
SUFFIXES = [".keras", ".weights.h5"]


def network(seed: int, **options: Any) -> keras.Model:
    """A small network whose weights, the moving statistics too, are drawn from `seed`."""
    defaults: dict[str, Any] = {"input_shape": (8, 8, 3), "classes": 5}
    return drawn(build(SMALL, **defaults | options), seed)


def drawn(model: keras.Model, seed: int) -> keras.Model:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1.0, weight.shape) for weight in model.weights])
    return model


def write(model: keras.Model, path: Path) -> Path:
    if path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)
    return path


def assert_equal_weights(model: keras.Model, expected: list[np.ndarray]) -> None:
    for received, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(received, value)


def assert_refused(model: keras.Model, path: Path, match: str, error: type[Exception] = ValueError) -> str:
    """Tells what `load` says, and that it leaves every weight as it was."""
    before = model.get_weights()
    with pytest.raises(error, match=match) as raised:
        weights.load(model, path)
    assert_equal_weights(model, before)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_weights_of_a_file_arrive_in_a_network_like_the_one_saved(tmp_path: Path, option: Any, suffix: str) -> None:
    saved = network(1, shortcut=option)
    path = write(saved, tmp_path / f"net{suffix}")
    # Unnamed layers, of which option A has some, are numbered on from network to network.
    network(2, shortcut="A")
    twin = network(3, shortcut=option)
    weights.load(twin, path)
    assert_equal_weights(twin, saved.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_builder_loads_the_file_that_it_is_given(tmp_path: Path, suffix: str) -> None:
    saved = drawn(build("resnet20"), 4)
    path = write(saved, tmp_path / f"net{suffix}")
    for given in (path, str(path)):
        assert_equal_weights(models.ResNet20(weights=given), saved.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_returns_the_arrays_of_each_layer_in_keras_order(tmp_path: Path, suffix: str) -> None:
    saved = network(5)
    stored = weights.read(write(saved, tmp_path / f"net{suffix}"))
    assert set(stored) == {layer.name for layer in saved.layers if layer.weights}
    for name, arrays in stored.items():
        for received, expected in zip(arrays, saved.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(received, expected)


def test_input_size_and_activation_do_not_matter_to_a_file(tmp_path: Path) -> None:
    saved = network(6)
    path = write(saved, tmp_path / "net.keras")
    other = network(7, input_shape=(None, None, 3), classifier_activation=None)
    weights.load(other, path)
    assert_equal_weights(other, saved.get_weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_network_in_segments_and_in_one_read_each_others_files(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = drawn(build("resnet20"), 1)
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = drawn(build("resnet20"), 2)
    assert any(isinstance(layer, keras.Model) for layer in segmented.layers)
    paths = [write(model, tmp_path / f"{i}{suffix}") for i, model in enumerate((flat, segmented))]
    expected = flat.get_weights(), segmented.get_weights()
    weights.load(flat, paths[1])
    weights.load(segmented, paths[0])
    assert_equal_weights(flat, expected[1])
    assert_equal_weights(segmented, expected[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_optimizer_state_in_a_file_is_passed_over(tmp_path: Path, optimizer: str) -> None:
    saved = network(8)
    saved.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    saved.train_on_batch(np.zeros((2, 8, 8, 3), "float32"), np.array([0, 4]))
    path = write(saved, tmp_path / "net.keras")
    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
        assert len(file["optimizer/vars"]) >= 2
    twin = network(9)
    weights.load(twin, path)
    assert_equal_weights(twin, saved.get_weights())


@pytest.fixture
def policy() -> Iterator[None]:
    """Puts Keras's global precision policy back after a test that sets it."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16", "float16", "bfloat16", "float64"])
def test_weights_of_any_precision_policy_come_back(tmp_path: Path, name: str, policy: None) -> None:
    keras.config.set_dtype_policy(name)
    saved = network(10)
    path = write(saved, tmp_path / "net.weights.h5")
    twin = network(11)
    weights.load(twin, path)
    assert_equal_weights(twin, saved.get_weights())


def test_only_the_arrays_of_an_archive_are_read(tmp_path: Path) -> None:
    saved = network(12)
    write(saved, tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "bare.keras", "w") as archive:
        archive.writestr("config.json", "not a configuration")
        archive.writestr("model.weights.h5", arrays)
    twin = network(13)
    weights.load(twin, tmp_path / "bare.keras")
    assert_equal_weights(twin, saved.get_weights())


# Files of another network


def test_file_of_resnet18_does_not_fit_resnet34(tmp_path: Path) -> None:
    path = write(models.ResNet18(), tmp_path / "resnet18.weights.h5")
    message = assert_refused(models.ResNet34(), path, r"weights that fit 'resnet34' \(73 layers with weights\)")
    assert "(41 layers)" in message
    assert "stage1_block3_conv1: not in the file" in message
    assert "... and 27 more" in message


def test_file_of_resnet34_does_not_fit_resnet18(tmp_path: Path) -> None:
    path = write(models.ResNet34(), tmp_path / "resnet34.weights.h5")
    message = assert_refused(models.ResNet18(), path, r"weights that fit 'resnet18' \(41 layers with weights\)")
    assert "(73 layers)" in message
    assert message.count(": in the file only") == 5
    assert "... and 27 more" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_another_width_names_the_layers_and_both_shapes(tmp_path: Path, suffix: str) -> None:
    wide = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(6, 8), shortcut="A")
    path = write(build(wide, input_shape=(8, 8, 3), classes=5), tmp_path / f"net{suffix}")
    message = assert_refused(network(1), path, r"Expected weights that fit 'resnet6'")
    # In the order of the network, whose first layer that differs is the first of all.
    first, *others = message.splitlines()[1:]
    assert first.strip() == "stem_conv: expected shapes [(3, 3, 3, 4)], the file has [(3, 3, 3, 6)]"
    assert [line.strip().partition(":")[0] for line in others] == [
        "stem_conv_bn",
        "stage1_block1_conv1",
        "stage1_block1_conv1_bn",
        "stage1_block1_conv2",
        "... and 2 more",
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_other_classes_names_the_logits_and_both_shapes(tmp_path: Path, suffix: str) -> None:
    path = write(network(1, classes=7), tmp_path / f"net{suffix}")
    message = assert_refused(network(2), path, r"Expected weights that fit 'resnet6'")
    assert "logits: expected shapes [(8, 5), (5,)], the file has [(8, 7), (7,)]" in message
    assert message.count("\n") == 1


def test_shapes_that_differ_are_told_before_layers_that_are_missing(tmp_path: Path) -> None:
    path = write(build("resnet32", classes=7), tmp_path / "net.weights.h5")
    message = assert_refused(build("resnet20"), path, r"differs in\n  logits: expected shapes")
    assert message.count("\n") == 6


def test_file_without_a_head_names_the_logits(tmp_path: Path) -> None:
    path = write(network(1, include_top=False), tmp_path / "net.weights.h5")
    assert_refused(network(2), path, r"logits: not in the file")
    path = write(network(1), tmp_path / "whole.weights.h5")
    assert_refused(network(2, include_top=False), path, r"logits: in the file only")


# Files that are none


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(network(1), tmp_path / f"net{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert_refused(network(2), path, r"Expected a whole weights file. Received: .* which can't be read")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text("<html>404 Not Found</html>" * 100)
    assert_refused(network(1), path, r"Expected a whole weights file. Received: .* which can't be read")


def test_arrays_under_the_suffix_of_an_archive_are_refused(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "net.weights.h5").rename(tmp_path / "net.keras")
    assert_refused(network(2), path, r"Expected a whole weights file. .*not a zip file")


def test_compressed_archive_with_a_damaged_byte_is_refused(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "net.keras")
    with zipfile.ZipFile(path) as archive:
        arrays = archive.read("model.weights.h5")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", arrays)
    whole = path.read_bytes()
    for where in np.linspace(100, len(whole) - 200, 30, dtype=int):
        damaged = bytearray(whole)
        damaged[where] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"Expected a whole weights file. Received: .* which can't be read"):
            weights.read(path)


def test_archive_without_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert_refused(network(1), tmp_path / "net.keras", r"Expected a whole weights file. .*model.weights.h5")


def test_h5_file_without_layers_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert_refused(network(1), tmp_path / "net.weights.h5", r"Expected a whole weights file. .*no named layers")


@pytest.mark.parametrize("name", ["net.h5", "net.ckpt", "net.pth", "net.weights.json", "net.keras.zip", "imagenet.v2"])
def test_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert_refused(network(1), tmp_path / name, r"Expected a weights file ending in .keras or .weights.h5. Received: ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    assert_refused(network(1), tmp_path / f"net{suffix}", r"which does not exist", FileNotFoundError)
    with pytest.raises(FileNotFoundError, match=f"net{suffix}"):
        models.ResNet20(weights=tmp_path / f"net{suffix}")


# Files made to mislead. A link could carry any file of the machine into a model that is then published.


def external_link(file: h5py.File, group: str, outside: Path) -> None:
    del file[group]["0"]
    file[group]["0"] = h5py.ExternalLink(outside, f"{group}/0")


def external_group(file: h5py.File, group: str, outside: Path) -> None:
    del file[group]
    file[group] = h5py.ExternalLink(outside, group)


def external_layers(file: h5py.File, group: str, outside: Path) -> None:
    del file["layers"]
    file["layers"] = h5py.ExternalLink(outside, "layers")


def external_storage(file: h5py.File, group: str, outside: Path) -> None:
    shape = file[group]["0"].shape
    del file[group]["0"]
    stored = [(str(outside), 0, 4 * int(np.prod(shape)))]
    file[group].create_dataset("0", shape, "float32", external=stored)


def virtual_dataset(file: h5py.File, group: str, outside: Path) -> None:
    shape = file[group]["0"].shape
    del file[group]["0"]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(outside, f"{group}/0", shape)
    file[group].create_virtual_dataset("0", layout)


@pytest.mark.parametrize(
    ("mislead", "message"),
    [
        (external_link, "outside the file"),
        (external_storage, "outside the file"),
        (virtual_dataset, "outside the file"),
        (external_group, "outside the file|logits: not in the file"),
        (external_layers, "outside the file|no named layers"),
    ],
)
def test_numbers_outside_the_file_are_refused(
    tmp_path: Path, mislead: Callable[[h5py.File, str, Path], None], message: str
) -> None:
    path = write(network(1), tmp_path / "net.weights.h5")
    outside = Path(shutil.copy(path, tmp_path / "outside.weights.h5"))
    with h5py.File(path, "a") as file:
        mislead(file, "layers/dense/vars", outside)
        # What the link leads to can be read: it is not for a broken link that the file is refused.
        assert file["layers/dense/vars/0"].shape == (8, 5)
    assert_refused(network(2), path, message)


def text(shape: tuple[int, ...]) -> Any:
    return np.full(shape, b"x")


def nothing(shape: tuple[int, ...]) -> Any:
    return h5py.Empty("float32")


def complex_numbers(shape: tuple[int, ...]) -> Any:
    return np.full(shape, 1j)


@pytest.mark.parametrize("content", [text, nothing, complex_numbers])
def test_array_that_holds_no_real_numbers_is_refused(tmp_path: Path, content: Callable[[tuple[int, ...]], Any]) -> None:
    path = write(network(1), tmp_path / "net.weights.h5")
    with h5py.File(path, "a") as file:
        shape = file["layers/dense/vars/0"].shape
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"]["0"] = content(shape)
    assert_refused(network(2), path, r"Expected .* Received: ")


def test_group_in_place_of_an_array_is_refused(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "net.weights.h5")
    with h5py.File(path, "a") as file:
        del file["layers/dense/vars/0"]
        file.create_group("layers/dense/vars/0")
    assert_refused(network(2), path, r"Expected .* Received: ")


def test_array_without_a_number_for_a_name_is_refused(tmp_path: Path) -> None:
    path = write(network(1), tmp_path / "net.weights.h5")
    with h5py.File(path, "a") as file:
        file.move("layers/dense/vars/0", "layers/dense/vars/kernel")
    assert_refused(network(2), path, r"Expected .* Received: ")
