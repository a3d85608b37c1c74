"""Checkpoints as training programs write them: which weights are taken, and what is passed over."""

from __future__ import annotations

import argparse
import pickle
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.foreign_weights import Call, Global, Raw, opcodes, torch_bytes, write_torch

from resnet_keras.weights.torch_checkpoint import open_torch

TWO = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.array([7, 8, 9], "int64")}
OTHER = {name: array + 1 for name, array in TWO.items()}


def as_written(value: Any, protocol: int = 2) -> Raw:
    """Returns the opcodes that Python's own pickle has for an object."""
    data = pickle.dumps(value, protocol)
    return Raw(data[2:-1])


def names_and_sums(path: Path, **options: Any) -> dict[str, float]:
    return {name: float(array.sum()) for name, array in open_torch(path, **options).tensors.items()}


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_write_beside_weights_is_named_and_passed_over(tmp_path: Path, zipped: bool) -> None:
    args = as_written(argparse.Namespace(model="resnet18", lr=0.1, data=Path("photos")))
    scalar = Call(Global("numpy._core.multiarray", "scalar"), (Global("numpy", "dtype"), "8 bytes"))
    schedule = {"milestones": as_written(Counter([30, 60])), "gamma": 0.1}
    content = {"epoch": 90, "arch": "resnet18", "state_dict": TWO, "best_acc1": scalar, "args": args, "lr": schedule}
    found = open_torch(write_torch(content, tmp_path / "model_best.pth.tar", zipped=zipped))
    assert list(found.tensors) == list(TWO)
    (note,) = found.notes
    assert note == (
        "passed over, and not run: objects of numpy._core.multiarray.scalar, argparse.Namespace, collections.Counter"
    )


def test_what_is_added_to_an_unknown_object_is_not_kept(tmp_path: Path) -> None:
    # APPENDS, SETITEMS, ADDITEMS, and BUILD on something that is not known.
    made = opcodes(Call(Global("a.b", "Made"), ()))
    filled = made + b"(K\x01K\x02e" + b"(X\x01\x00\x00\x00kK\x01u" + b"(K\x03\x90" + b"}b"
    found = open_torch(write_torch({"state_dict": TWO, "x": Raw(filled)}, tmp_path / "x.pth"))
    assert found.notes == ("passed over, and not run: objects of a.b.Made",)


def test_a_whole_model_is_refused_with_the_line_that_saves_its_weights(tmp_path: Path) -> None:
    model = Call(Global("torchvision.models.resnet", "ResNet"), ())
    for content in (model, {"model": model, "optimizer": {"lr": 0.1}}):
        write_torch(content, tmp_path / "x.pth")
        with pytest.raises(
            ValueError,
            match=r"objects of torchvision\.models\.resnet\.ResNet, which are not run\. Save the weights alone in "
            r'PyTorch: torch\.save\(\{"state_dict": model\.state_dict\(\)\}, "weights\.pth"\)',
        ):
            open_torch(tmp_path / "x.pth")


def test_a_quantized_tensor_is_refused_by_its_kind(tmp_path: Path) -> None:
    write_torch({**TWO, "c": Call(Global("torch._utils", "_rebuild_qtensor"), (1, 2))}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"'c' \(torch\._utils\._rebuild_qtensor\)"):
        open_torch(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("plain", "average"), [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model_state_dict", "ema")]
)
def test_the_moving_average_is_taken_as_timm_takes_it(tmp_path: Path, plain: str, average: str) -> None:
    averaged = {f"module.{name}": array for name, array in OTHER.items()} | {"n_averaged": np.array(3)}
    path = write_torch({plain: TWO, average: averaged}, tmp_path / "x.pth")
    assert names_and_sums(path) == {"module.a": 21.0, "module.b": 27.0, "n_averaged": 3.0}
    assert open_torch(path).notes == (
        f"the moving average of the weights is taken ({average}), not the weights ({plain})",
    )
    assert names_and_sums(path, averaged=False) == {"a": 15.0, "b": 24.0}
    assert open_torch(path, averaged=False).notes == (
        f"the weights are taken ({plain}), not their moving average ({average})",
    )


def test_an_average_that_lacks_weights_is_told_and_not_taken(tmp_path: Path) -> None:
    path = write_torch({"state_dict": TWO, "state_dict_ema": {"a": OTHER["a"]}}, tmp_path / "x.pth")
    assert names_and_sums(path) == {"a": 15.0, "b": 24.0}
    assert open_torch(path).notes == (
        "the weights are taken (state_dict), not their moving average (state_dict_ema), without b",
    )


def test_several_networks_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    content = {"student": {"module.a": TWO["a"]}, "teacher": {"state_dict": OTHER}, "optimizer": {"state": TWO}}
    path = write_torch(content, tmp_path / "x.pth")
    assert names_and_sums(path) == {"student.module.a": 15.0, "teacher.a": 21.0, "teacher.b": 27.0}


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["cat", "dog", "ox"]},
        {"class_to_idx": {"dog": 1, "ox": 2, "cat": 0}},
        {"meta": {"CLASSES": ("cat", "dog", "ox")}},
        {"hyper_parameters": {"idx_to_class": {1: "dog", 0: "cat", 2: "ox"}}},
    ],
)
def test_class_names_in_a_checkpoint_are_read(tmp_path: Path, beside: dict[str, Any]) -> None:
    found = open_torch(write_torch({"state_dict": TWO, **beside}, tmp_path / "x.pth"))
    assert found.class_names == ("cat", "dog", "ox")


@pytest.mark.parametrize("classes", [3, [1, 2, 3], ["cat", 2], {"cat": 5, "dog": 7}, []])
def test_what_is_no_list_of_names_names_no_classes(tmp_path: Path, classes: Any) -> None:
    assert open_torch(write_torch({"state_dict": TWO, "classes": classes}, tmp_path / "x.pth")).class_names is None


def test_a_list_held_many_times_takes_little_time(tmp_path: Path) -> None:
    # 3,000 times a list that holds 3,000 times a list of 3,000 numbers: 27 billion to visit, from a small pickle.
    inner = b"]q\x00(" + b"K\x01" * 3000 + b"e"
    middle = b"]q\x01(" + inner + b"h\x00" * 2999 + b"e"
    outer = b"]q\x02(" + middle + b"h\x01" * 2999 + b"e"
    data = torch_bytes({"state_dict": TWO, "history": Raw(outer)}, zipped=True)
    start = time.process_time()
    assert list(open_torch(_written(tmp_path, data)).tensors) == list(TWO)
    assert time.process_time() - start < 5


def test_dictionaries_of_the_same_tensors_under_many_keys_take_little_room(tmp_path: Path) -> None:
    tensors = {f"w{i}": np.float32(i).reshape(1) for i in range(200)}
    data = torch_bytes({"n0": tensors}, zipped=True)
    assert len(open_torch(_written(tmp_path, data)).tensors) == 200
    keys = {f"n{i}": {"w": np.float32(i).reshape(1)} for i in range(50)}
    assert len(open_torch(write_torch(keys, tmp_path / "y.pth")).tensors) == 8


def _written(folder: Path, data: bytes) -> Path:
    (folder / "x.pth").write_bytes(data)
    return folder / "x.pth"


def test_an_archive_of_an_unknown_storage_beside_weights_is_read(tmp_path: Path) -> None:
    complex_ = Raw(opcodes(("storage", Global("torch", "ComplexFloatStorage"), "9", "cpu", 4)) + b"Q")
    data = torch_bytes({"state_dict": TWO, "spectrum": complex_}, zipped=True)
    assert list(open_torch(_written(tmp_path, data)).tensors) == list(TWO)
