"""PyTorch's checkpoints without PyTorch: every tensor as it was, and nothing of a hostile file is run."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.foreign_weights import (
    NUMBER_TYPES,
    Call,
    Global,
    Raw,
    Stored,
    Tensor,
    foreign,
    legacy_bytes,
    network,
    opcodes,
    pickled,
    torch_bytes,
    write_torch,
    zip_bytes,
)
from helpers.hostile_pickles import overlapping

from resnet_keras.weights import torch_file
from resnet_keras.weights.torch_checkpoint import open_torch, read_torch

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
FOUR = np.arange(1, 5, dtype="float32")
TWO = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array([7, 8, 9], "int64")}


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


def refused(path: Path, match: str) -> str:
    """Returns why a file is refused; the error always names it."""
    with pytest.raises(ValueError, match=match) as raised:
        read_torch(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def assert_same(received: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(received) == list(expected)
    for name, array in expected.items():
        assert received[name].dtype == array.dtype, name
        np.testing.assert_array_equal(received[name], array, strict=True, err_msg=name)


# Tensors


@FORMATS
@pytest.mark.parametrize("number_type", NUMBER_TYPES)
def test_numbers_of_every_type_come_back_bit_for_bit(tmp_path: Path, number_type: str, zipped: bool) -> None:
    bits = np.random.default_rng(0).integers(0, 2, 96, "uint8") if number_type == "bool" else None
    numbers = np.frombuffer(np.random.default_rng(0).bytes(96) if bits is None else bits.tobytes(), "uint8")
    array = numbers.view(NUMBER_TYPES[number_type]).reshape(2, -1)
    found = read_torch(write_torch({"x": array}, tmp_path / "x.pth", zipped=zipped))["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@FORMATS
def test_views_of_a_storage_are_the_tensors_that_they_were(tmp_path: Path, zipped: bool) -> None:
    flat = np.arange(24, dtype="float32")
    whole = flat.reshape(2, 3, 4)
    views = {
        "whole": (Tensor(flat, (2, 3, 4), (12, 4, 1)), whole),
        "transposed": (Tensor(flat, (4, 3, 2), (1, 4, 12)), whole.transpose()),
        "channels last": (Tensor(flat, (2, 4, 3), (12, 1, 4)), whole.transpose(0, 2, 1)),
        "every other": (Tensor(flat, (2, 3, 2), (12, 4, 2), 1), whole[:, :, 1::2]),
        "one number": (Tensor(flat, (), (), 23), whole[1, 2, 3]),
        "the last two": (Tensor(flat, (2,), (1,), 22), flat[22:]),
        "a diagonal": (Tensor(flat, (2,), (17,)), flat[::17]),
        "repeated": (Tensor(flat, (3, 4), (0, 1)), np.broadcast_to(flat[:4], (3, 4))),
        "none": (Tensor(flat, (0, 3), (3, 1)), np.empty((0, 3), "float32")),
    }
    path = write_torch({name: tensor for name, (tensor, _) in views.items()}, tmp_path / "x.pth", zipped=zipped)
    if zipped:
        assert path.read_bytes().count(flat.tobytes()) == 1, "the tensors share their storage"
    assert_same(read_torch(path), {name: np.asarray(array) for name, (_, array) in views.items()})


@FORMATS
def test_a_storage_without_numbers_holds_empty_tensors(tmp_path: Path, zipped: bool) -> None:
    empty = np.empty((0, 3), "float32")
    assert_same(read_torch(write_torch({"x": empty}, tmp_path / "x.pth", zipped=zipped)), {"x": empty})


@FORMATS
@pytest.mark.parametrize("name", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_parameters_sizes_and_older_tensors_are_known(tmp_path: Path, name: str, zipped: bool) -> None:
    stored = Stored(("storage", Global("torch", "FloatStorage"), "0", "cpu", 4))
    size = Call(Global("torch", "Size"), ([2, 2],))
    rest = (False, {}) if name.endswith("2") else ()
    tensor = Call(Global("torch._utils", name), (stored, 0, size, (2, 1), *rest))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (tensor, True, {}))
    data = pickled({"x": tensor, "y": parameter})
    content = zip_bytes(data, {"0": FOUR.tobytes()}) if zipped else legacy_bytes(data, {"0": (4, FOUR.tobytes())})
    (tmp_path / "x.pth").write_bytes(content)
    assert_same(read_torch(tmp_path / "x.pth"), dict.fromkeys("xy", FOUR.reshape(2, 2)))


@FORMATS
def test_a_state_with_attributes_of_its_own_is_its_tensors(tmp_path: Path, zipped: bool) -> None:
    # `Module.state_dict` returns an OrderedDict with versions in `_metadata`, which a pickle sets by BUILD.
    stored = Stored(("storage", Global("torch", "FloatStorage"), "0", "cpu", 4))
    tensor = Call(Global("torch._utils", "_rebuild_tensor_v2"), (stored, 0, (4,), (1,), False, {}))
    data = pickled(Raw(opcodes({"x": tensor}) + opcodes({"_metadata": {"": {"version": 1}}}) + b"b"))
    content = zip_bytes(data, {"0": FOUR.tobytes()}) if zipped else legacy_bytes(data, {"0": (4, FOUR.tobytes())})
    (tmp_path / "x.pth").write_bytes(content)
    assert_same(read_torch(tmp_path / "x.pth"), {"x": FOUR})


@FORMATS
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "module"])
def test_tensors_are_found_in_their_wrapping(tmp_path: Path, wrapper: str, zipped: bool) -> None:
    around = {
        "epoch": 3,
        "best": 0.5,
        "arch": "resnet",
        "optimizer": {"state": {0: TWO["a"]}},
        "history": [1, 2],
        "s": FOUR,
    }
    for content in ({wrapper: TWO}, {**around, wrapper: TWO}, {"model": {wrapper: {**TWO, "version": 2}}, "lr": None}):
        assert_same(read_torch(write_torch(content, tmp_path / "x.pth", zipped=zipped)), TWO)


@FORMATS
def test_tensors_under_names_of_wrappings_are_tensors(tmp_path: Path, zipped: bool) -> None:
    tensors = {"model": FOUR, "net": TWO["a"]}
    assert_same(read_torch(write_torch(tensors, tmp_path / "x.pth", zipped=zipped)), tensors)


@FORMATS
@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"state_dict": {}}, [1, 2], FOUR, None, 3])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any, zipped: bool) -> None:
    refused(write_torch(content, tmp_path / "x.pth", zipped=zipped), "Expected tensors by name, alone or under state_")


@FORMATS
def test_arrays_do_not_share_what_they_are_written_to(tmp_path: Path, zipped: bool) -> None:
    found = read_torch(
        write_torch({"a": Tensor(FOUR, (4,), (1,)), "b": Tensor(FOUR, (4,), (1,))}, tmp_path / "x.pth", zipped=zipped)
    )
    assert found["a"].tobytes() == found["b"].tobytes() == FOUR.tobytes()


# Against PyTorch itself


def tensors_of(torch: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 4, 5, generator=generator)
    norm = torch.nn.BatchNorm2d(3)
    types = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
    )
    return {
        **{str(number_type): (image * 50).to(number_type) for number_type in types},
        "uint8": (image.abs() * 50).to(torch.uint8),
        "bool": image > 0,
        "transposed": image.permute(3, 1, 0, 2),
        "sliced": image[1:, ::2, 1:3],
        "channels last": image.contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "counter": torch.tensor(7),
        "element": image[1, 2, 3, 4],
        "empty": torch.empty(0, 3),
        "shared": image,
        "shared too": image.view(6, 20),
        "parameter": torch.nn.Parameter(image[0]),
        **{f"bn.{name}": value for name, value in norm.state_dict().items()},
    }


@FORMATS
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
def test_tensors_are_those_that_pytorch_wrote(tmp_path: Path, torch: Any, zipped: bool, wrapped: bool) -> None:
    tensors = tensors_of(torch)
    path = tmp_path / "x.pth"
    content = {"epoch": 1, "state_dict": OrderedDict(tensors)} if wrapped else tensors
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_torch(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        array = found[name]
        assert array.shape == tuple(tensor.shape), name
        assert str(tensor.dtype) == f"torch.{array.dtype.name}", name
        numbers = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor
        assert array.tobytes() == bytes(numbers.numpy().tobytes()), name


@FORMATS
def test_a_module_s_state_is_read(tmp_path: Path, torch: Any, zipped: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    torch.save(module.state_dict(), tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert_same(read_torch(tmp_path / "x.pth"), {name: value.numpy() for name, value in module.state_dict().items()})


def test_a_pickled_module_is_refused_by_its_class(tmp_path: Path, torch: Any) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    refused(tmp_path / "x.pth", r"objects of torch\.nn\.modules\.linear\.Linear, which are not run.*torch\.save\(")


@FORMATS
def test_the_files_put_together_here_are_pytorch_s(tmp_path: Path, torch: Any, zipped: bool) -> None:
    path = write_torch({"state_dict": TWO, "epoch": 3}, tmp_path / "x.pth", zipped=zipped)
    loaded = torch.load(path, weights_only=True)
    assert loaded["epoch"] == 3
    assert_same({name: value.numpy() for name, value in loaded["state_dict"].items()}, TWO)


# Real files


def test_the_widespread_cifar_checkpoint_is_read(test_data: Path) -> None:
    path = test_data / "pretrained" / "cifar10_resnet20_option_a.th"
    found = read_torch(path)
    shapes = {name: array.shape for name, array in found.items()}
    # 19 convolutions of one tensor, as many batch normalizations of four, and the classifier's two; perhaps counters.
    weights = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    assert len(weights) == 19 + 19 * 4 + 2
    assert all(name.startswith("module.") for name in weights)
    assert weights["module.conv1.weight"] == (16, 3, 3, 3)
    assert weights["module.layer3.0.conv1.weight"] == (64, 32, 3, 3)
    assert weights["module.linear.weight"] == (10, 64)
    assert sum(int(np.prod(s)) for n, s in weights.items() if "running" not in n) == 269_722  # Table 6: 0.27M
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for n, array in found.items() if n in weights)
    assert all(found[name].min() > 0 for name in weights if name.endswith("running_var"))


def test_the_widespread_cifar_checkpoint_is_what_pytorch_reads(test_data: Path, torch: Any) -> None:
    path = test_data / "pretrained" / "cifar10_resnet20_option_a.th"
    expected = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    assert_same(read_torch(path), {name: value.numpy() for name, value in expected.items()})


def test_the_widespread_cifar_checkpoint_cut_short_is_refused(test_data: Path, tmp_path: Path) -> None:
    whole = (test_data / "pretrained" / "cifar10_resnet20_option_a.th").read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40, dtype=int):
        (tmp_path / "x.th").write_bytes(whole[:length])
        refused(tmp_path / "x.th", "Expected a whole checkpoint of PyTorch")


# Hostile files


def call(module: str, name: str, *arguments: Any) -> dict[str, bytes]:
    """Opcodes that call something, each way that pickle has."""
    found, given = opcodes(Global(module, name)), b"".join(map(opcodes, arguments))
    text = [b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)]
    return {
        "REDUCE": found + b"(" + given + b"tR",
        "STACK_GLOBAL": text[0] + text[1] + b"\x93(" + given + b"tR",
        "INST": b"(" + given + f"i{module}\n{name}\n".encode(),
        "OBJ": b"(" + found + given + b"o",
        "NEWOBJ": found + b"(" + given + b"t\x81",
        "NEWOBJ_EX": found + b"(" + given + b"t}\x92",
        "BUILD": found + b")\x81(" + given + b"tb",
        "named only": found,
    }


def shell(marker: Path) -> str:
    return f"touch '{marker}'"


def script(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


HOSTILE = {
    "os.system": shell,
    "posix.system": shell,
    "subprocess.getoutput": shell,
    "builtins.eval": script,
    "builtins.exec": script,
    "__builtin__.eval": script,
    "numpy.load": str,
    "numpy._core.multiarray._reconstruct": str,
    "numpy.core.multiarray.scalar": str,
    "pickle.loads": str,
    "argparse.Namespace": str,
    "torch.load": str,
    "torch.ComplexFloatStorage": str,
    "torch.Size.__base__": str,
    "collections.namedtuple": str,
    "resnet_keras.weights.torch_file.Path": str,
}
PLACES = ("the whole", "beside the state", "in the state", "as a storage's type", "as a name")


def hostile(opcodes_: bytes, place: str, zipped: bool) -> bytes:
    """Returns a checkpoint with something hostile in it."""
    stored = Stored(("storage", Raw(opcodes_), "0", "cpu", 4, *([] if zipped else [None])))
    content = {
        "the whole": Raw(opcodes_),
        "beside the state": {"state_dict": TWO, "args": Raw(opcodes_)},
        "in the state": {"state_dict": {**TWO, "c": Raw(opcodes_)}},
        "as a storage's type": {"x": Call(Global("torch._utils", "_rebuild_tensor_v2"), (stored, 0, (4,), (1,)))},
        "as a name": Raw(b"}(" + opcodes_ + b"Ku" + b"u"),
    }[place]
    return torch_bytes(content, zipped=zipped)


@FORMATS
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("named", HOSTILE)
def test_what_is_no_part_of_a_tensor_is_named_and_not_run(tmp_path: Path, named: str, place: str, zipped: bool) -> None:
    marker = tmp_path / "it ran"
    module, _, name = named.rpartition(".") if named != "torch.Size.__base__" else ("torch", ".", "Size.__base__")
    for way, program in call(module, name, HOSTILE[named](marker)).items():
        (tmp_path / "x.pth").write_bytes(hostile(program, place, zipped))
        if place == "beside the state" or (place == "in the state" and not named.endswith("Storage")):
            found = open_torch(tmp_path / "x.pth")
            assert_same(dict(found.tensors), TWO)
            assert found.notes == (f"passed over, and not run: objects of {named}",), way
        else:
            message = refused(tmp_path / "x.pth", "Expected")
            assert "objects of" not in message or f"objects of {named}, which are not run" in message, way
        assert not marker.exists(), way


class Writer:
    """Would write a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "it ran")


@FORMATS
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_object_that_writes_a_file_where_it_is_read_writes_none(tmp_path: Path, protocol: int, zipped: bool) -> None:
    marker = tmp_path / "it ran"
    data = pickle.dumps({"state_dict": {"x": Writer(marker)}}, protocol)
    pickle.loads(data)
    assert marker.exists(), "the object does what it is here for"
    marker.unlink()
    (tmp_path / "x.pth").write_bytes(zip_bytes(data, {}) if zipped else legacy_bytes(data, {}))
    # Protocol 0 is text, which no checkpoint is.
    said = r"which holds objects of \w+\.\w+.*, which are not run. Save the weights alone"
    refused(tmp_path / "x.pth", said if protocol else "has the opcode b'd'")
    assert not marker.exists()


@pytest.mark.parametrize("part", range(5))
def test_every_pickle_of_the_older_format_is_guarded(tmp_path: Path, part: int) -> None:
    marker = tmp_path / "it ran"
    program = pickled(Raw(call("os", "system", shell(marker))["REDUCE"]))
    pickles = [
        pickled(0x1950A86A20F9469CFC6C),
        pickled(1001),
        pickled({"little_endian": True}),
        pickled(TWO and {}),
        pickled([]),
    ]
    pickles[part] = program
    (tmp_path / "x.th").write_bytes(b"".join(pickles))
    refused(tmp_path / "x.th", "Expected")
    assert not marker.exists()


@FORMATS
def test_names_that_tensors_are_made_of_are_no_way_out(tmp_path: Path, zipped: bool) -> None:
    known = [Global(*name) for name in torch_file._KNOWN]
    for name in known:
        for arguments in ((), ("x",), (1, 2, 3, 4), (name,), ({"x": 1},), ([["x", 1]],)):
            for program in (Call(name, arguments), Raw(opcodes(name) + opcodes(arguments) + b"\x81")):
                (tmp_path / "x.pth").write_bytes(torch_bytes({"state_dict": {"x": program}}, zipped=zipped))
                refused(tmp_path / "x.pth", "Expected")


@pytest.mark.parametrize(
    ("module", "name", "state"),
    [
        ("torch", "FloatStorage", {"dtype": None}),
        ("torch", "FloatStorage", (None, {"dtype": "int8"})),
        ("torch._utils", "_rebuild_tensor_v2", (None, {"__defaults__": (0, (1,), (1,))})),
    ],
)
def test_a_file_does_not_change_how_the_next_one_is_read(tmp_path: Path, module: str, name: str, state: Any) -> None:
    # BUILD sets attributes of whatever stands on the stack; the names in a pickle are the reader's own objects.
    good = write_torch(TWO, tmp_path / "good.pth")
    (tmp_path / "bad.pth").write_bytes(
        torch_bytes(Raw(opcodes(Global(module, name)) + opcodes(state) + b"b"), zipped=True)
    )
    refused(tmp_path / "bad.pth", "Expected")
    assert_same(read_torch(good), TWO)


# Damaged files


@FORMATS
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    whole = torch_bytes({"state_dict": TWO}, zipped=zipped)
    path = tmp_path / "x.pth"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "Expected a whole checkpoint of PyTorch. Received: .* which can't be read")
    path.write_bytes(whole)
    assert_same(read_torch(path), TWO)


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "behind the end": {"size": (4,), "stride": (1,), "offset": 1},
    "an offset at the end": {"size": (), "stride": (), "offset": 4},
    "a huge offset": {"size": (1,), "stride": (1,), "offset": 2**70},
    "steps behind the end": {"size": (3,), "stride": (2,)},
    "a huge step": {"size": (2,), "stride": (2**61,)},
    "a million times one number": {"size": (1_000_000,), "stride": (0,)},
    "more numbers than there are bytes": {"size": (2**40, 2**40), "stride": (0, 0)},
    "more numbers than the storage has": {"size": (5,), "stride": (0,)},
    "a huge empty": {"size": (0, 2**62, 2**62), "stride": (0, 0, 0)},
    "an offset below zero": {"size": (1,), "stride": (1,), "offset": -1},
    "a step below zero": {"size": (2,), "stride": (-1,), "offset": 3},
    "a size below zero": {"size": (-1,), "stride": (1,)},
    "two sizes below zero": {"size": (-2, -2), "stride": (1, 1)},
    "fewer steps than sizes": {"size": (2, 2), "stride": (1,)},
    "more steps than sizes": {"size": (2,), "stride": (1, 1)},
    "a broken size": {"size": (2.0,), "stride": (1,)},
    "a size of text": {"size": ("2",), "stride": (1,)},
    "no size": {"size": None, "stride": (1,)},
    "no offset": {"size": (1,), "stride": (1,), "offset": None},
    "a size that is a number": {"size": 4, "stride": 1},
    "more numbers than are stored": {"size": (4,), "stride": (1,), "count": 5},
    "fewer numbers than are stored": {"size": (3,), "stride": (1,), "count": 3},
    "fewer than no numbers": {"size": (4,), "stride": (1,), "count": -4},
    "another type of numbers": {"size": (4,), "stride": (1,), "kind": "DoubleStorage"},
}


@FORMATS
@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_tensor_is_refused(tmp_path: Path, what: str, zipped: bool) -> None:
    path = write_torch({"a": FOUR, "x": Tensor(FOUR.copy(), **IMPOSSIBLE[what])}, tmp_path / "x.pth", zipped=zipped)
    tracemalloc.start()
    try:
        refused(path, "Expected a whole checkpoint of PyTorch. Received: .* which can't be read")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@FORMATS
@pytest.mark.parametrize(
    "identity",
    [
        (),
        ("storage",),
        ("module", Global("torch", "FloatStorage"), "0", "cpu", 4),
        ("storage", "FloatStorage", "0", "cpu", 4),
        ("storage", Global("torch", "Size"), "0", "cpu", 4),
        ("storage", Global("torch", "FloatStorage"), "0", "cpu", None, None),
        ("storage", Global("torch", "FloatStorage"), "1", "cpu", 4, None),
        ("storage", Global("torch", "FloatStorage"), [], "cpu", 4, None),
    ],
)
def test_a_reference_to_no_storage_is_refused(tmp_path: Path, identity: tuple[Any, ...], zipped: bool) -> None:
    tensor = Call(Global("torch._utils", "_rebuild_tensor_v2"), (Stored(identity), 0, (4,), (1,), False, {}))
    data = pickled({"x": tensor})
    content = zip_bytes(data, {"0": FOUR.tobytes()}) if zipped else legacy_bytes(data, {"0": (4, FOUR.tobytes())})
    (tmp_path / "x.pth").write_bytes(content)
    refused(tmp_path / "x.pth", "Expected a whole checkpoint of PyTorch. Received: .* which can't be read")


def test_a_view_of_a_storage_as_of_the_oldest_files_is_refused(tmp_path: Path) -> None:
    stored = Stored(("storage", Global("torch", "FloatStorage"), "0", "cpu", 4, ("1", 0, 2)))
    tensor = Call(Global("torch._utils", "_rebuild_tensor_v2"), (stored, 0, (4,), (1,), False, {}))
    (tmp_path / "x.th").write_bytes(legacy_bytes(pickled({"x": tensor}), {"0": (4, FOUR.tobytes())}))
    refused(tmp_path / "x.th", "storage 0 is a view of another")


@FORMATS
def test_a_tensor_of_something_else_than_a_storage_is_refused(tmp_path: Path, zipped: bool) -> None:
    tensor = Call(Global("torch._utils", "_rebuild_tensor_v2"), ("x", 0, (4,), (1,), False, {}))
    refused(write_torch({"x": tensor}, tmp_path / "x.pth", zipped=zipped), "a tensor has no storage")


def test_one_storage_of_two_types_is_refused(tmp_path: Path) -> None:
    both = {
        name: Call(
            Global("torch._utils", "_rebuild_tensor_v2"),
            (Stored(("storage", Global("torch", kind), "0", "cpu", 4)), 0, (4,), (1,), False, {}),
        )
        for name, kind in (("x", "FloatStorage"), ("y", "IntStorage"))
    }
    (tmp_path / "x.pth").write_bytes(zip_bytes(pickled(both), {"0": FOUR.tobytes()}))
    refused(tmp_path / "x.pth", "storage 0 has two types")


@FORMATS
def test_big_endian_numbers_are_refused(tmp_path: Path, zipped: bool) -> None:
    options: dict[str, Any] = {"byteorder": b"big"} if zipped else {"little_endian": False}
    refused(write_torch(TWO, tmp_path / "x.pth", zipped=zipped, **options), "its numbers are big-endian")


def test_files_from_before_the_byte_order_was_written_are_read(tmp_path: Path) -> None:
    assert_same(read_torch(write_torch(TWO, tmp_path / "x.pth", byteorder=None)), TWO)


def test_compressed_numbers_are_refused(tmp_path: Path) -> None:
    # PyTorch stores them as they are; a small file may unpack to any size.
    refused(write_torch(TWO, tmp_path / "x.pth", compressed=("data/1",)), "Expected a whole checkpoint")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_compressed_byte_order_is_not_unpacked(tmp_path: Path, method: int, damaged: bool) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({}))
        archive.writestr("archive/byteorder", b" " * 20_000_000, compress_type=method)
    changed = bytearray(content.getvalue())
    if damaged:
        start = changed.find(b"archive/byteorder") + len("archive/byteorder")
        changed[start + 4] ^= 0xFF
    (tmp_path / "x.pth").write_bytes(changed)
    tracemalloc.start()
    try:
        refused(tmp_path / "x.pth", "Expected a whole checkpoint")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_tensors_of_one_storage_take_its_room_once(tmp_path: Path) -> None:
    # A name takes 100 bytes in a file; each could ask for the whole storage again.
    flat = np.zeros(1_000_000, "uint8")
    tensors = {f"x{i}": Tensor(flat, (1_000_000,), (1,)) for i in range(100)}
    path = write_torch(tensors, tmp_path / "x.pth")
    tracemalloc.start()
    try:
        assert len(read_torch(path)) == 100
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_storages_over_the_same_bytes_are_refused_whatever_python_does(tmp_path: Path) -> None:
    """`zipfile` of some versions refuses them itself, when the second is opened."""
    (tmp_path / "x.pth").write_bytes(overlapping(100, bytes(1_000_000)))
    tracemalloc.start()
    try:
        refused(tmp_path / "x.pth", "its storages have more bytes than the file|[Oo]verlap")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_the_time_of_many_storages_grows_with_their_number(tmp_path: Path) -> None:
    seconds = []
    for count in (500, 4_000):
        tensors = {f"x{i}": Tensor(np.zeros(1, "uint8"), (1,), (1,)) for i in range(count)}
        path = write_torch(tensors, tmp_path / "x.pth")
        begun = time.process_time()
        assert len(read_torch(path)) == count
        seconds.append(time.process_time() - begun)
    assert seconds[1] < 20 * seconds[0]  # 64 times if each looked at all before


def test_a_directory_of_a_million_members_is_not_read(tmp_path: Path) -> None:
    path = write_torch(TWO, tmp_path / "x.pth")
    content = bytearray(path.read_bytes())
    content[-10:-6] = (2**25).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, "its directory has 33,554,432 bytes, more than 16,777,216")


def test_a_compressed_pickle_is_not_unpacked(tmp_path: Path) -> None:
    data = pickled({"x": Raw(b"X" + (40_000_000).to_bytes(4, "little") + b" " * 40_000_000)})
    (tmp_path / "x.pth").write_bytes(zip_bytes(data, {}, compressed=("data.pkl",)))
    assert (tmp_path / "x.pth").stat().st_size < 100_000
    tracemalloc.start()
    try:
        refused(tmp_path / "x.pth", "Expected")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("members", [[], ["data.pkl", "b/data.pkl"]])
def test_an_archive_of_no_one_pickle_is_refused(tmp_path: Path, members: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("version", "3")
        for name in members:
            archive.writestr(name, pickled({}))
    refused(tmp_path / "x.pth", "no data.pkl")


def test_an_archive_without_a_storage_is_refused(tmp_path: Path) -> None:
    tensor = Call(
        Global("torch._utils", "_rebuild_tensor_v2"),
        (Stored(("storage", Global("torch", "FloatStorage"), "../0", "cpu", 4)), 0, (4,), (1,), False, {}),
    )
    (tmp_path / "x.pth").write_bytes(zip_bytes(pickled({"x": tensor}), {"0": FOUR.tobytes()}))
    refused(tmp_path / "x.pth", "Expected a whole checkpoint")


@pytest.mark.parametrize("method", [1, 8, 9, 12, 14, 93, 99])
@pytest.mark.parametrize("encrypted", [True, False])
def test_a_member_that_claims_another_packing_is_refused(tmp_path: Path, method: int, encrypted: bool) -> None:
    whole = bytearray(torch_bytes(TWO, zipped=True))
    for start in [i for i in range(len(whole) - 4) if whole[i : i + 4] == b"PK\x01\x02"]:
        changed = bytearray(whole)
        changed[start + 8] |= encrypted
        changed[start + 10] = method
        (tmp_path / "x.pth").write_bytes(changed)
        if b"version" not in changed[start + 46 : start + 66]:  # which nobody reads
            refused(tmp_path / "x.pth", "Expected a whole checkpoint")


@pytest.mark.parametrize("count", [5, 2**40, 2**61])
def test_a_storage_that_the_file_is_too_short_for_is_refused_before_it_is_read(tmp_path: Path, count: int) -> None:
    stored = Stored(("storage", Global("torch", "FloatStorage"), "0", "cpu", count, None))
    tensor = Call(Global("torch._utils", "_rebuild_tensor_v2"), (stored, 0, (4,), (1,), False, {}))
    (tmp_path / "x.th").write_bytes(legacy_bytes(pickled({"x": tensor}), {"0": (count, FOUR.tobytes())}))
    refused(tmp_path / "x.th", "Expected a whole checkpoint.*the file ends within storage 0")


@pytest.mark.parametrize("options", [{"magic": 1}, {"protocol": 1000}])
def test_the_older_format_of_another_kind_is_refused(tmp_path: Path, options: dict[str, int]) -> None:
    refused(write_torch(TWO, tmp_path / "x.pth", zipped=False, **options), "its format is not known")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" * 100, b"<html>404 Not Found</html>" * 100, b"\x00" * 1000, b"\x80\x02."],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    refused(tmp_path / "x.pth", "Expected a whole checkpoint of PyTorch")


def test_a_small_pickle_takes_little_memory(tmp_path: Path) -> None:
    # Python's unpickler in C makes room for as many objects as the highest number that a pickle gives one: 4 bytes can
    # ask for 32 GB.
    (tmp_path / "x.th").write_bytes(b"\x80\x02}r" + (3_000_000).to_bytes(4, "little") + b".")
    tracemalloc.start()
    try:
        refused(tmp_path / "x.th", "Expected")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_dictionaries_within_dictionaries_take_little_time(tmp_path: Path) -> None:
    inner: Any = {}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    (tmp_path / "x.pth").write_bytes(zip_bytes(pickle.dumps(inner, 2), {}))
    code = "import sys; from resnet_keras.weights.torch_checkpoint import read_torch; read_torch(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.pth")], capture_output=True, text=True, check=False, timeout=10
    )
    assert "ValueError: Expected" in done.stderr


@FORMATS
def test_dictionaries_without_end_are_refused(tmp_path: Path, zipped: bool) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"model": deep}
    looped = pickle.dumps(content, 2)
    nested = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 100_000 + b"}" + b"s" * 100_000 + b"."
    for data in (looped, nested):
        (tmp_path / "x.pth").write_bytes(zip_bytes(data, {}) if zipped else legacy_bytes(data, {}))
        refused(tmp_path / "x.pth", "Expected")


@FORMATS
def test_flipped_bytes_are_a_value_error_or_other_numbers(tmp_path: Path, zipped: bool) -> None:
    whole = torch_bytes({"state_dict": foreign(network(1), "cifar"), "epoch": 1}, zipped=zipped)
    rng = np.random.default_rng(7)
    outcomes = []
    for _ in range(300):
        damaged = bytearray(whole)
        # Half of the flips among the first bytes, where an old file has its pickles; a zip file has them throughout.
        where = rng.integers(len(whole)) if rng.integers(2) else rng.integers(min(5000, len(whole)))
        damaged[where] ^= rng.integers(1, 256)
        (tmp_path / "x.th").write_bytes(damaged)
        try:
            read_torch(tmp_path / "x.th")
            outcomes.append("read")
        except ValueError as error:
            assert str(error).startswith("Expected ")
            outcomes.append("refused")
    assert outcomes.count("refused") > 100
