"""Reads the content of PyTorch's checkpoints without PyTorch and without running it.

A checkpoint is a pickle, a program that may call any function of the machine that reads it. The unpickler here knows
the few names that tensors need. Whatever else a pickle names is an `Inert`, which nothing is done with.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from resnet_keras.weights.archive_member import check_directory
from resnet_keras.weights.bounded_pickle import MOST_BYTES, BoundedUnpickler, Inert, check_key, shown

SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".pth.tar", ".pt.tar")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # of files that PyTorch wrote before 1.6
_LEGACY_PROTOCOL = 1001
_ZIP_MAGIC = b"PK\x03\x04"
_NUMBER_TYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_MOST_DIMENSIONS = 32
_MOST_DIRECTORY = 2**24  # of a zip archive; that of ResNet-1202 with its average and Adam's states has 2 MB


def read_content(path: Path) -> Any:
    """Returns what a checkpoint holds: dictionaries, lists, numbers, texts, `StoredTensor`s, and `Inert`s.

    Raises:
        ValueError: The file is damaged, truncated or not a checkpoint.
    """
    with whole_file(path), path.open("rb") as file:
        return _from_zip(file) if file.read(4) == _ZIP_MAGIC else _from_legacy(file)


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Turns the errors of reading a damaged checkpoint into one.

    Raises:
        ValueError: Instead of them; the message names the file.
    """
    try:
        yield
    except (
        OSError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, MemoryError,
        RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(
            f"Expected a whole checkpoint of PyTorch. Received: {path}, which can't be read: {error or type(error)}"
        ) from error


class _Storage:
    """The flat array of one or more tensors; a legacy file has the numbers at its end."""

    def __init__(self, dtype: np.dtype, count: int, array: np.ndarray | None = None) -> None:
        self.dtype, self.count, self.array = dtype, count, array


class _NumberType:
    """Stands for a class of storages, e.g. `torch.FloatStorage`."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)


class StoredTensor:
    """A view of a storage, resolved once the numbers have been read."""

    def __init__(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, _numbers(size), _numbers(stride)

    def array(self) -> np.ndarray:
        """Returns the numbers, after checking that all are inside the storage."""
        flat = self.storage.array
        if flat is None:
            raise ValueError("a storage has no numbers")
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or any(not isinstance(n, int) or n < 0 for n in numbers):
            raise ValueError(f"a tensor of size {self.size} and stride {self.stride} at {self.offset} is impossible")
        count = math.prod(self.size)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if count and (last >= flat.size or count > flat.size):
            raise ValueError(f"a tensor of {self.size} does not fit in its storage of {flat.size} numbers")
        if not count:
            return np.empty(self.size, flat.dtype)
        strides = tuple(step * flat.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides, writeable=False)


def _numbers(values: Any) -> tuple[int, ...]:
    """Returns sizes or steps, after checking that they are numbers: a message could show nested ones at any length."""
    if type(values) not in (tuple, list) or len(values) > _MOST_DIMENSIONS or any(type(n) is not int for n in values):
        raise ValueError(f"a tensor has {shown(values)} for its size or its stride")
    return tuple(values)


class _RebuildTensor:
    """Stands for `torch._utils._rebuild_tensor_v2`."""

    def __call__(
        self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> StoredTensor | Inert:
        if isinstance(storage, Inert):
            return storage
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor has no storage")
        return StoredTensor(storage, offset, size, stride)


class _RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`."""

    def __call__(self, data: StoredTensor, *_: Any) -> StoredTensor:
        return data


class _RebuildWithAttributes:
    """Stands for `torch._tensor._rebuild_from_type_v2`, of tensors with attributes of their own."""

    def __call__(self, function: Any, kind: Any, arguments: tuple[Any, ...], *_: Any) -> Any:
        if not isinstance(function, (_RebuildTensor, _RebuildParameter)) or type(arguments) is not tuple:
            return Inert("torch._tensor._rebuild_from_type_v2")
        return function(*arguments)


def _ordered_dict(*pairs: Any) -> OrderedDict[Any, Any]:
    """Stands for `collections.OrderedDict`, which Python 2 gives a list of lists and Python 3 nothing."""
    content: OrderedDict[Any, Any] = OrderedDict()
    for key, value in pairs[0] if len(pairs) == 1 and type(pairs[0]) is list else pairs:
        check_key(key)
        content[key] = value
    return content


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("torch._utils", "_rebuild_parameter_with_state"): _RebuildParameter(),
    ("torch._tensor", "_rebuild_from_type_v2"): _RebuildWithAttributes(),
    **{("torch", name): _NumberType(dtype) for name, dtype in _NUMBER_TYPES.items()},
}


class _Unpickler(BoundedUnpickler):
    def __init__(self, file: BinaryIO, size: int, storage: Callable[[tuple[Any, ...]], _Storage]) -> None:
        super().__init__(file, size)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or Inert(f"{module}.{name}")

    def persistent_load(self, identity: Any) -> _Storage | Inert:
        kind, number_type, key, device, count, *view = identity
        if isinstance(number_type, Inert):  # numbers of a kind that no weights have
            return number_type
        if type(kind) is not str or kind != "storage" or not isinstance(number_type, _NumberType):
            raise ValueError(f"it refers to {shown(kind)}, which is not a storage")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError(f"it refers to the storage {shown(key)} of {shown(count)} numbers")
        return self._storage((number_type.dtype, key, device, count, *view))


def _from_zip(file: BinaryIO) -> Any:
    """Reads the format since PyTorch 1.6: an archive of one pickle and a file of numbers for each storage."""
    length = file.seek(0, io.SEEK_END)
    check_directory(file, _MOST_DIRECTORY)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(names) != 1:
            raise ValueError("the archive holds no data.pkl")
        folder = names[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(_stored(archive, order)) != b"little":
            raise ValueError("its numbers are big-endian")
        data = _stored(archive, names[0])
        if data.file_size > MOST_BYTES:
            raise ValueError(f"its pickle has more than {MOST_BYTES:,} bytes")
        storages: dict[str, _Storage] = {}
        left = length

        def storage(fields: tuple[Any, ...]) -> _Storage:
            nonlocal left
            dtype, key, _, count, *_ = fields
            if key not in storages:
                member = _stored(archive, f"{folder}data/{key}")
                if member.file_size != count * dtype.itemsize:
                    raise ValueError(f"storage {key} has {member.file_size} bytes for {count} numbers of {dtype}")
                # Members may lie over the same bytes, and not every version of Python's `zipfile` refuses them.
                left -= member.file_size
                if left < 0:
                    raise ValueError("its storages have more bytes than the file")
                content = archive.read(member)
                storages[key] = _Storage(dtype, count, np.frombuffer(content, dtype))
            if storages[key].dtype != dtype:
                raise ValueError(f"storage {key} has two types")
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(data)), data.file_size, storage).load()


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Returns a member, which must not be compressed, as in PyTorch: a small one could unpack to any size."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{name} is compressed")
    return member


def _from_legacy(file: BinaryIO) -> Any:
    """Reads the format before PyTorch 1.6: pickles, the last of which lists the storages, then the numbers."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    storages: dict[str, _Storage] = {}

    def no_storage(fields: tuple[Any, ...]) -> _Storage:
        raise ValueError("there is a storage where none is allowed")

    def storage(fields: tuple[Any, ...]) -> _Storage:
        dtype, key, _, count, *view = fields
        if view and view[0] is not None:
            raise ValueError(f"storage {key} is a view of another, as in files older than PyTorch 0.4")
        return storages.setdefault(key, _Storage(dtype, count))

    def load(storage: Callable[[tuple[Any, ...]], _Storage] = no_storage) -> Any:
        return _Unpickler(file, length - file.tell(), storage).load()

    if load() != _LEGACY_MAGIC or load() != _LEGACY_PROTOCOL:
        raise ValueError("its format is not known")
    system = load()
    if not isinstance(system, Mapping) or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    content = load(storage)
    for key in load():
        if type(key) is not str:
            raise ValueError("it lists a storage without a name")
        if key not in storages:
            raise ValueError(f"storage {shown(key)} is of numbers of an unknown kind")
        pending = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != pending.count:
            raise ValueError(f"storage {key} has {count} numbers instead of {pending.count}")
        size = count * pending.dtype.itemsize
        if size > length - file.tell():
            raise EOFError(f"the file ends within storage {key}")
        pending.array = np.frombuffer(file.read(size), pending.dtype)
    return content
