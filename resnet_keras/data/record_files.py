"""Records of a TFDS set read one by one, in any order, from its TFRecord or ArrayRecord files.

A worker of several, and a run that resumes, so read the records that they use and no others.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

RANDOM_ACCESS = ("tfrecord", "array_record")
"""Formats of TFDS's files that are read record by record."""

ReadRecord = Callable[[tf.Tensor], tf.Tensor]
"""Function of the index of a record, int64 (), to its bytes, in a graph or eagerly."""

_HEAD, _FOOT = 12, 4  # bytes of a record: its length in 8 and their checksum, then the data, then their checksum
_FILES_AT_ONCE = 16
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reversed


def record_reader(builder: tfds.core.DatasetBuilder, split: str, indices: np.ndarray) -> ReadRecord:
    """Returns a function that reads one of some records of a split.

    Records are numbered in the order of the files and in each. Of TFRecord files, which have no index, the length of
    each record is read here, 12 bytes of it, once in a process.

    Args:
        builder: The prepared set.
        split: A split of it, or a part of one.
        indices: Numbers of the records that are used, int64 (N,). The function takes places in this list.

    Raises:
        ValueError: The set is in another format, or a file is not as long as the set's description says.
    """
    name = file_format(builder)
    if name == "array_record":
        return _array_reader(builder, split, indices)
    if name != "tfrecord":
        raise ValueError(
            f"Expected a TFDS set whose files are {' or '.join(RANDOM_ACCESS)}; prepare it again with such a "
            f"`file_format`. Received: {builder.info.name}, in {name}"
        )
    parts = list(builder.info.splits[split].file_instructions)
    paths = [os.fspath(part.filename) for part in parts]
    bounds = _all_bounds(paths, parts)
    kept = [each[part.skip : part.skip + part.take + 1] for each, part in zip(bounds, parts, strict=True)]
    counts = [len(each) - 1 for each in kept]
    with tf.init_scope(), tf.device("CPU"):  # not in the graph of the pipeline that asks first
        files = tf.constant(np.repeat(np.arange(len(parts)), counts)[indices])
        begins = tf.constant(np.concatenate([each[:-1] for each in kept])[indices])
        sizes = tf.constant(np.concatenate([np.diff(each) for each in kept])[indices])
        names = tf.constant(paths)

    def read(index: tf.Tensor) -> tf.Tensor:
        # With a buffer of its size, TensorFlow reads this record and nothing else. It checks the checksums.
        records = tf.raw_ops.TFRecordDatasetV2(
            filenames=names[files[index]][None],
            compression_type="",
            buffer_size=sizes[index],
            byte_offsets=begins[index][None],
        )
        only = tf.data.experimental.from_variant(records, tf.TensorSpec((), tf.string)).take(1)
        return only.get_single_element()

    return read


def check_record_files(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Checks that TFRecord files on this machine have the records of a split's description, none beyond their end.

    TensorFlow takes as much memory as the length of a record says.

    Raises:
        ValueError: A file has not.
    """
    parts = list(builder.info.splits[split].file_instructions)
    paths = [os.fspath(part.filename) for part in parts]
    if file_format(builder) == "tfrecord" and not any(map(_is_remote, paths)):  # which would be read whole
        _all_bounds(paths, parts)


def file_format(builder: tfds.core.DatasetBuilder) -> str:
    """Returns the format of a prepared set's files, such as "tfrecord"."""
    return str(builder.info.file_format.value)


def _array_reader(builder: tfds.core.DatasetBuilder, split: str, indices: np.ndarray) -> ReadRecord:
    source: Any = builder.as_data_source(split=split)
    records = source.data_source  # as bytes; `source` itself decodes them
    with tf.init_scope(), tf.device("CPU"):
        places = tf.constant(indices)

    def read(index: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(lambda place: records[int(place)], [places[index]], tf.string, stateful=False)
        return tf.ensure_shape(found, ())

    return read


def _all_bounds(paths: Sequence[str], parts: Sequence[Any]) -> list[np.ndarray]:
    """Returns the bounds of the records in each file."""
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(_bounds_of, paths, [part.examples_in_shard for part in parts]))


def _bounds_of(path: str, count: int) -> np.ndarray:
    """Returns where each record of a TFRecord file begins and the last one ends, int64 (count + 1,)."""
    return _bounds(path, count, tf.io.gfile.stat(path).mtime_nsec)


@functools.lru_cache(maxsize=1 << 14)
def _bounds(path: str, count: int, changed: int) -> np.ndarray:
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END) or file.tell()
        bounds, heads = [0], []
        while bounds[-1] + _HEAD + _FOOT <= size and len(bounds) <= count:
            file.seek(bounds[-1])
            heads.append(file.read(_HEAD))
            length = int.from_bytes(heads[-1][:8], "little")
            bounds.append(bounds[-1] + _HEAD + length + _FOOT)
            if bounds[-1] > size:
                break
    found = np.frombuffer(b"".join(heads), np.uint8).reshape(-1, _HEAD)
    right = _masked_checksums(found[:, :8]) == found[:, 8:].copy().view("<u4")[:, 0]
    if len(heads) != count or bounds[-1] != size or not right.all():
        where = int(np.argmin(right)) if not right.all() else len(heads)
        raise ValueError(
            f"Expected a TFRecord file of {count:,} records, as the set's dataset_info.json says; prepare the set "
            f"again. Received: {path}, of {size:,} bytes, broken after record {where:,}"
        )
    return np.array(bounds, np.int64)


def _opened(path: str) -> BinaryIO:
    """Opens a file of this machine without a buffer, or one of another file system by TensorFlow."""
    return tf.io.gfile.GFile(path, "rb") if _is_remote(path) else open(path, "rb", buffering=0)


def _is_remote(path: str) -> bool:
    return "://" in path  # such as gs://


@functools.cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


def _masked_checksums(rows: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    """Returns the checksum of each row of bytes as TFRecord files have it: CRC-32C, rotated, plus a constant."""
    state = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in np.asarray(rows, np.uint8).T:
        state = _table()[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
    state = ~state
    return (((state >> np.uint32(15)) | (state << np.uint32(17))) + np.uint32(0xA282EAD8)).astype(np.uint32)
