"""Splits of data sets: images in memory, image files, or records of TensorFlow Datasets."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.mapping import as_written, mapped
from resnet_keras.data.record_files import ReadRecord, file_format, record_reader

_AS_BYTES = {"image": tfds.decode.SkipDecoding()}


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """Images of one size, in memory: uint8 (N, H, W, C), with labels (N,)."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    info: Dataset

    def __post_init__(self) -> None:
        check_class_names(self.class_names)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class FileSplit:
    """Image files of any size, with labels (N,)."""

    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    info: Dataset

    def __post_init__(self) -> None:
        check_class_names(self.class_names)

    def __len__(self) -> int:
        return len(self.paths)

    def name_of(self, index: int) -> str:
        """Returns the name of image `index` for messages."""
        return self.paths[index]


@dataclass(frozen=True, eq=False)
class RecordSplit:
    """Encoded images of any size in the records of a TFDS set, too many to hold."""

    builder: tfds.core.DatasetBuilder
    split: str
    class_names: tuple[str, ...]
    info: Dataset
    left_out: tuple[int, ...] = ()
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        check_class_names(self.class_names)

    def __len__(self) -> int:
        whole = self.builder.info.splits[self.split].num_examples - len(self.left_out)
        whole = whole if self.limit is None else min(whole, self.limit)
        return len(range(self.shard[0], whole, self.shard[1]))

    def records(self) -> tf.data.Dataset:
        """Returns (bytes, label) in the order of the files, which the set's preparation has shuffled."""
        if self.shard != (0, 1) or file_format(self.builder) == "array_record":  # reads these alone
            return mapped(tf.data.Dataset.range(len(self)), self.record)
        examples = self.builder.as_dataset(
            split=self.split,
            decoders=_AS_BYTES,
            shuffle_files=False,
            read_config=tfds.ReadConfig(interleave_cycle_length=1),  # the files one after the other
        )
        records = mapped(examples, lambda example: (example["image"], example["label"]))
        if self.left_out:
            left_out = tf.constant(self.left_out, tf.int64)
            kept = records.enumerate().filter(as_written(lambda index, _: tf.reduce_all(index != left_out)))
            records = mapped(kept, lambda _, record: record)
        return records if self.limit is None else records.take(self.limit)

    def record(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads one record, without those before it: index in `records`, int64 () -> (bytes, label)."""
        example = self.builder.info.features.deserialize_example(self._read(index), decoders=_AS_BYTES)
        return example["image"], example["label"]

    @functools.cached_property
    def _read(self) -> ReadRecord:
        kept = np.delete(np.arange(self.builder.info.splits[self.split].num_examples), list(self.left_out))
        first, step = self.shard
        return record_reader(self.builder, self.split, kept[: self.limit][first::step])

    def name_of(self, index: int) -> str:
        """Returns the name of image `index` for messages."""
        return f"image {index} of {self.builder.info.name}/{self.split}"


Split = ArraySplit | FileSplit | RecordSplit
