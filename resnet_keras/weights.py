"""Weights from files that Keras wrote, into a network that exists, by layer name."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np

from resnet_keras.normalization import flat_layers

SUFFIXES = (".keras", ".weights.h5")
_SHOWN = 5


def load(model: keras.Model, path: str | Path) -> None:
    """Loads the weights in `path` into the layers of `model` that bear the same names.

    Nothing in the file is executed: of a `.keras` archive, too, only the arrays are read. Nothing is assigned unless
    everything fits.

    Args:
        model: A built network.
        path: A `.keras` file or a `.weights.h5` file, written by `model.save` or `model.save_weights`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or damaged, or its layers differ from the model's in name, number or
            shape; the message names the layers and gives both shapes.
    """
    stored = read(path)
    layers = {layer.name: layer for layer in flat_layers(model) if layer.weights}
    problems = [f"{name}: not in the file" for name in layers if name not in stored]
    problems += [f"{name}: in the file only" for name in stored if name not in layers]
    for name in layers:
        if name not in stored:
            continue
        expected = [tuple(w.shape) for w in layers[name].weights]
        received = [array.shape for array in stored[name]]
        if expected != received:
            problems.append(f"{name}: expected shapes {expected}, the file has {received}")
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "\n  ".join(sorted(problems, key=_shapes_first)[:_SHOWN])
        raise ValueError(
            f"Expected weights that fit {model.name!r} ({len(layers)} layers with weights). "
            f"Received: {path} ({len(stored)} layers), which differs in\n  {shown}{more}"
        )
    for name, layer in layers.items():
        layer.set_weights(stored[name])


def read(path: str | Path) -> dict[str, list[np.ndarray]]:
    """Returns the arrays in a `.keras` or `.weights.h5` file, under the name of their layer, in Keras's order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or damaged, or keeps its numbers outside itself.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"Expected a weights file ending in {' or '.join(SUFFIXES)}. Received: {path}")
    if not path.is_file():
        raise FileNotFoundError(f"Expected a weights file. Received: {path}, which does not exist")
    try:
        with _open_h5(path) as file:
            return _layers(file)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"Expected a whole weights file. Received: {path}, which can't be read: {error}") from error


@contextmanager
def _open_h5(path: Path) -> Iterator[h5py.File]:
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
            yield file
    else:
        with h5py.File(path) as file:
            yield file


def _layers(file: h5py.File) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}

    def visit(where: str, node: h5py.Group | h5py.Dataset) -> None:
        # Keras writes the name of a layer on the group `vars`, beside its arrays "0", "1", ...
        if where.startswith("optimizer") or not isinstance(node, h5py.Group) or "name" not in node.attrs:
            return
        arrays = [_array(node, str(i)) for i in range(len(node))]
        if arrays:
            found[str(node.attrs["name"])] = arrays

    file.visititems(visit)
    if not found:
        raise KeyError("it holds no named layers")
    return found


def _array(group: h5py.Group, key: str) -> np.ndarray:
    """Reads one array, which must lie in the file itself: a link could name any file of the machine."""
    dataset = group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise KeyError(f"{group.name}/{key} is no array in the file, or lies outside the file")
    if dataset.attrs.get("dtype") == "bfloat16":  # a type that HDF5 does not know
        return np.asarray(dataset).view(ml_dtypes.bfloat16)
    if dataset.shape is None or dataset.dtype.kind not in "fiu":
        raise KeyError(f"{group.name}/{key} holds no real numbers")
    return np.asarray(dataset)


def _shapes_first(problem: str) -> bool:
    return "shapes" not in problem
