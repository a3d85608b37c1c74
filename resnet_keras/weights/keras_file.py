"""Reads arrays from models and from files of Keras 2 and 3; nothing in a file is executed."""

from __future__ import annotations

import itertools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.weights.archive_member import open_member
from resnet_keras.weights.keras_archive import check_arrays, json_member, opened_archive, weights_member

SUFFIXES = (".keras", ".h5", ".hdf5")

_DAMAGE = (
    OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, IndexError, EOFError, OverflowError, struct.error,
)  # fmt: skip
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_KERNEL = ("kernel", "bias")


def arrays_of_model(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model under `layer/weight`, those of nested models under their own layers."""
    return {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight)
        for layer in flat_layers(model)
        for weight in layer.weights
    }


def read_keras(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays in a file under `layer/weight`, e.g. `conv1_bn/moving_mean`.

    Args:
        path: A `.keras` archive, Keras 3's `.weights.h5`, or the `.h5` of Keras 2 and before: weights or whole model.

    Raises:
        ValueError: The file is damaged, contains no weights, or stores its numbers outside itself.
    """
    path = Path(path)
    try:
        with _open_h5(path) as file:
            root = _inside(file, "model_weights") if "model_weights" in file else file
            found = _legacy_layers(root) if _names(root, "layer_names") else _layers(root)
    except _DAMAGE as error:
        raise ValueError(f"Expected a whole weights file. Received: {path}, which can't be read: {error}") from error
    return found


def read_member(path: str | Path, name: str) -> Any:
    """Returns the JSON in a member of a `.keras` archive; `None` if the archive has no such member.

    Raises:
        ValueError: The file is damaged or not an archive.
    """
    try:
        with opened_archive(Path(path)) as archive:
            return json_member(archive, name) if name in archive.namelist() else None
    except _DAMAGE as error:
        raise ValueError(f"Expected a whole .keras file. Received: {path}, which can't be read: {error}") from error


@contextmanager
def _open_h5(path: Path) -> Iterator[h5py.File]:
    if path.suffix == ".keras":
        with opened_archive(path) as archive:
            member = weights_member(archive, path)
            with open_member(archive, member, path) as content, h5py.File(content) as file:
                check_arrays(file, member.file_size)
                yield file
    else:
        with h5py.File(path) as file:
            check_arrays(file, path.stat().st_size)
            yield file


def _layers(file: h5py.Group) -> dict[str, np.ndarray]:
    """Reads a file of Keras 3: groups with the names of layers' classes, each with `vars` of numbered arrays."""
    found: dict[str, np.ndarray] = {}

    def visit(where: str, node: h5py.Group | h5py.Dataset) -> None:
        # The name of a layer is an attribute of `vars`, which holds its arrays "0", "1", ...
        if where.startswith("optimizer") or not isinstance(node, h5py.Group) or "name" not in node.attrs:
            return
        numbers = [str(i) for i in range(len(node))]
        if own := sorted(set(node) - set(numbers)):
            raise ValueError(
                f"the layer {node.attrs['name']} has an array of its own, {own[0]}, as after quantization-aware "
                "training; name the network in floating point that it began with"
            )
        arrays = [_array(node, number) for number in numbers]
        for weight, array in zip(_weight_names(arrays), arrays, strict=True):
            found[f"{node.attrs['name']}/{weight}"] = array

    file.visititems(visit)
    if not found:
        raise KeyError("it has no named layers")
    return found


def _weight_names(arrays: list[np.ndarray]) -> tuple[str, ...]:
    """Returns the names of a layer's arrays, which Keras 3 only numbers."""
    if [array.ndim for array in arrays] == [1, 1, 1, 1]:
        return _BATCH_NORM
    if len(arrays) <= 2 and all(array.ndim > 1 for array in arrays[:1]):
        return _KERNEL[: len(arrays)]
    return tuple(map(str, range(len(arrays))))


def _legacy_layers(root: h5py.Group) -> dict[str, np.ndarray]:
    """Reads a file of Keras 2: a group for each layer, which lists the names of its arrays."""
    found: dict[str, np.ndarray] = {}
    for layer in _names(root, "layer_names"):
        group = _inside(root, layer)
        for name in _names(group, "weight_names"):
            # e.g. "conv1_bn/gamma:0"; in a nested model, with the model's name before it.
            owner, _, weight = name.rpartition("/")
            found[f"{owner.rpartition('/')[2]}/{weight.partition(':')[0]}"] = _array(group, name)
    if not found:
        raise KeyError("its layers have no weights")
    return found


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Returns a list of names; a long one is split into `layer_names0`, `layer_names1`, ..."""
    numbered = (f"{attribute}{i}" for i in itertools.count())
    parts = [attribute] if attribute in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    names = [name for part in parts for name in np.asarray(group.attrs[part]).ravel().tolist()]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _array(group: h5py.Group, key: str) -> np.ndarray:
    """Reads one array of real numbers."""
    node = _inside(group, key)
    if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
        raise KeyError(f"{group.name}/{key} is not an array in the file, or is outside the file")
    if node.attrs.get("dtype") == "bfloat16" and node.dtype.kind in "iuV" and node.dtype.itemsize == 2:
        return np.asarray(node).view(ml_dtypes.bfloat16)  # a type that HDF5 does not know
    if node.shape is None or node.dtype.kind not in "fiu":
        raise KeyError(f"{group.name}/{key} does not hold real numbers")
    if node.id.get_storage_size() < node.nbytes:  # HDF5 would fill up missing data, to any size
        raise KeyError(f"{group.name}/{key} is smaller in the file than its shape")
    return np.asarray(node)


def _inside(group: h5py.Group, path: str) -> Any:
    """Returns the object at a path inside the file; no links, which could name any file of the machine."""
    node: Any = group
    for part in path.split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{group.name}/{path} is not an array in the file, or is outside the file")
        node = node[part]
    return node
