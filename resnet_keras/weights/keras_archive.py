"""A look at a `.keras` archive before Keras opens it: members, layers, and numbers are a classifier's, and no more.

Keras believes the sizes in a file: a network of any width is built before its weights are looked at.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from resnet_keras import files
from resnet_keras.layers.batch_norm import FUSED_LAYERS, fuse
from resnet_keras.layers.fake_quant import LAYERS
from resnet_keras.layers.keras_internals import zero_initial_weights
from resnet_keras.weights.archive_member import check_directory, open_member
from resnet_keras.weights.network_size import MODELS, NetworkSize

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MOST_JSON_BYTES = 2**24  # ResNet-1202's has 4 MB
_MOST_UNPACKED = 16  # Keras does not pack
_MOST_DIRECTORY = 2**16  # Keras writes three members
_MOST_INTEGER = 2**20
_SPARE_NUMBERS = 2**16
_LAYERS = (
    *("Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Cropping2D"),
    *("Dense", "DepthwiseConv2D", "Dropout", "ELU", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    *("GroupNormalization", "Identity", "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Maximum"),
    *(
        "Multiply",
        "ReLU",
        "Rescaling",
        "Reshape",
        "Resizing",
        "Softmax",
        "SpatialDropout2D",
        "Subtract",
        "UpSampling2D",
        "ZeroPadding2D",
    ),
)
_OPERATIONS = ("Add", "Concatenate", "GetItem", "Mean", "Multiply", "Pad", "Relu", "Softmax", "Subtract")
_PARTS = (
    *("DTypePolicy", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "L1", "L1L2", "L2"),
    *("LecunNormal", "Ones", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros"),
)
_MARKS = ("__keras_tensor__", "__slice__", "__tuple__")


def json_member(archive: zipfile.ZipFile, name: str) -> Any:
    """Returns the JSON in a member of an archive.

    Raises:
        ValueError: It is too large or malformed.
    """
    size = archive.getinfo(name).file_size
    if size > _MOST_JSON_BYTES:
        raise ValueError(f"{name} has {size:,} bytes, more than {_MOST_JSON_BYTES:,}")
    return files.parse_json(archive.read(name))


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a `.keras` archive, after checking what it unpacks to.

    Keras unpacks all members where there are more than three. Members may lie over the same bytes, and not every
    version of Python's `zipfile` refuses that.

    Raises:
        ValueError: Its directory is too large, a member's name leads elsewhere, or all members unpack to many times the
            bytes of the archive.
        OSError, zipfile.BadZipFile: The file is damaged.
    """
    with path.open("rb") as file:
        check_directory(file, _MOST_DIRECTORY)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            for member in members:
                if not files.is_plain_name(member.filename):
                    raise ValueError(f"it has a member of the name {member.filename[:100]!r}")
            unpacked, most = sum(member.file_size for member in members), _MOST_UNPACKED * path.stat().st_size
            if unpacked > most + _MOST_JSON_BYTES:
                raise ValueError(f"its members have {unpacked:,} bytes, {_MOST_UNPACKED} times the archive's")
            yield archive


def weights_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Returns the member of the weights.

    Raises:
        ValueError: It unpacks to many times the bytes of the archive.
    """
    member = archive.getinfo(WEIGHTS)
    if member.file_size > _MOST_UNPACKED * path.stat().st_size:
        raise ValueError(f"{WEIGHTS} has {member.file_size:,} bytes, {_MOST_UNPACKED} times the archive's")
    return member


def check_arrays(file: h5py.File, size: int) -> int:
    """Returns how many numbers the arrays of an HDF5 file hold, after checking that all are in the file, each once.

    Args:
        file: The file.
        size: Its bytes.

    Raises:
        KeyError: It has a link to another place, an array that is outside it or has no real numbers, or arrays of more
            bytes than it.
    """
    seen: set[int] = set()
    total = numbers = 0
    groups = [file["/"]]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise KeyError(f"{group.name}/{name} is not an array in the file, or is outside the file")
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                raise KeyError(f"{node.name} is in the file twice")
            seen.add(address)
            if isinstance(node, h5py.Group):
                groups.append(node)
            elif isinstance(node, h5py.Dataset):
                total += _bytes(node)
                numbers += node.size or 0
    if total > size:
        raise KeyError(f"its arrays have {total:,} bytes, and the file {size:,}")
    return numbers


def _bytes(node: h5py.Dataset) -> int:
    if node.external or node.is_virtual:
        raise KeyError(f"{node.name} is outside the file")
    # HDF5 would fill up missing data, or unpack it, to any size.
    if node.shape is not None and node.id.get_storage_size() < node.nbytes:
        raise KeyError(f"{node.name} is smaller in the file than its shape")
    return node.nbytes if node.shape is not None else 0


def save_archive(model: keras.Model, path: str | Path, member: str, metadata: dict[str, Any]) -> None:
    """Writes a model as a `.keras` file with a member of ours; an existing file is replaced by a complete one.

    The file has neither the optimizer, whose momentum is as large as the weights, nor the loss: Keras could not open
    those of this package by itself.
    """
    with files.new_file(path) as aside:
        with _not_compiled(model):
            model.save(aside)
        with zipfile.ZipFile(aside, "a") as archive:
            archive.writestr(member, json.dumps(metadata))


@contextmanager
def _not_compiled(model: keras.Model) -> Iterator[None]:
    """Shows Keras a model as if it were not compiled, in a context."""
    compiled, optimizer = model.compiled, getattr(model, "optimizer", None)
    model.compiled, model.optimizer = False, None
    try:
        yield
    finally:
        model.compiled, model.optimizer = compiled, optimizer


def open_archive(path: Path) -> keras.Model:
    """Returns the model in a `.keras` file, not compiled, after `check_archive`.

    Raises:
        Exception: Of any kind, from Keras or `check_archive`: the file is damaged or malicious.
    """
    check_archive(path)
    with zero_initial_weights():  # which the file replaces
        return fuse(keras.saving.load_model(path, custom_objects={**LAYERS, **FUSED_LAYERS}, compile=False))


def check_archive(path: Path) -> None:
    """Checks a `.keras` archive before Keras opens it; nothing in it is built or executed.

    Raises:
        ValueError: A member is missing, too large, or compressed; the network has a layer that is neither one of
            Keras's usual ones nor registered, an integer above 2^20, more numbers than the arrays,
            or feature maps of many times the numbers of its images.
        KeyError: See `check_arrays`.
        OSError, zipfile.BadZipFile, RuntimeError, TypeError, AttributeError: The file is damaged.
    """
    with opened_archive(path) as archive:
        config = json_member(archive, CONFIG)
        member = weights_member(archive, path)
        with open_member(archive, member, path) as content, h5py.File(content) as file:
            held = check_arrays(file, member.file_size)
    for value in _objects(config["config"]):
        _check_class(value)
    _check_class({key: config.get(key) for key in ("module", "class_name", "registered_name")})
    size = NetworkSize(config["config"])
    if size.weights > 2 * held + _SPARE_NUMBERS:
        raise ValueError(f"its network needs {size.weights:,} numbers, and its arrays hold {held:,}")
    size.check()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yields each serialized object in a configuration, and checks its integers."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for key, each in value.items():
            if key not in ("seed", "shared_object_id"):
                yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)
    elif isinstance(value, int) and abs(value) > _MOST_INTEGER:
        raise ValueError(f"its network has the number {str(value)[:30]}")


def _check_class(value: dict[str, Any]) -> None:
    name, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    if not isinstance(name, str):
        raise ValueError("its network has an object without a class")
    if module is None and registered is None and name in _MARKS:
        return
    if isinstance(module, str) and (module == "keras" or module.startswith("keras.")):
        known = _OPERATIONS if module.startswith("keras.src.ops") else (*_LAYERS, *_PARTS, *MODELS)
        if name in known:
            return
    elif isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None:
        return  # a class of this package, or of the caller, who has registered it
    raise ValueError(f"its network has an object of the class {str(module)[:100]}.{name[:100]}, which is not known")
