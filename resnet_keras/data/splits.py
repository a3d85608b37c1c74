"""Opening data: one split of a data set, as arrays in memory or as encoded images."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from resnet_keras.data.datasets import DATASETS, Dataset, dataset
from resnet_keras.data.image_files import class_files

IN_MEMORY_BYTES = 2**31
"""Decoded images of one known size are held in memory up to this; larger sets are read as they are needed."""


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """Images of one size, in memory: uint8 (N, H, W, C), with labels (N,)."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    info: Dataset

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class FileSplit:
    """Image files of any size, with labels (N,)."""

    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    info: Dataset

    def __len__(self) -> int:
        return len(self.paths)

    def name_of(self, index: int) -> str:
        """Returns what to call image `index` in a message."""
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

    def __len__(self) -> int:
        whole = self.builder.info.splits[self.split].num_examples - len(self.left_out)
        whole = whole if self.limit is None else min(whole, self.limit)
        return len(range(self.shard[0], whole, self.shard[1]))

    def records(self) -> tf.data.Dataset:
        """Returns (bytes, label) in the order of the files, which is that of the set's preparation: shuffled."""
        examples = self.builder.as_dataset(
            split=self.split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
        )
        records = examples.map(lambda example: (example["image"], example["label"]), tf.data.AUTOTUNE)
        if self.left_out:
            left_out = tf.constant(self.left_out, tf.int64)
            records = (
                records.enumerate().filter(lambda i, _: tf.reduce_all(i != left_out)).map(lambda _, record: record)
            )
        records = records if self.limit is None else records.take(self.limit)
        return records if self.shard == (0, 1) else records.shard(self.shard[1], self.shard[0])

    def name_of(self, index: int) -> str:
        """Returns what to call image `index` in a message."""
        return f"image {index} of {self.builder.info.name}/{self.split}"


Split = ArraySplit | FileSplit | RecordSplit


def open_split(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    skip: Callable[[str], None] | None = None,
) -> Split:
    """Opens the "train" or the "test" part of a data set.

    Args:
        name: A key of `DATASETS`, or a TFDS set with the features `image` and `label`.
        split: "train" or "test", which means the set's own `train_split` or `test_split`; of a folder also "all"; for a
            TFDS set, any split that it has.
        data_dir: For TFDS, the folder that holds the prepared sets, `~/tensorflow_datasets` if `None`. For "folder",
            the folder that holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or class folders alone, of which every
            fifth image, by a fixed seed, becomes the test part.
        download: Whether TFDS may fetch and prepare a set that is missing.
        skip: Is told of class folders without images and labels outside the classes, which are then left out;
            without it, they are errors. See `open_whole` for images that do not decode.

    Raises:
        FileNotFoundError: The data are not where they should be; the message says where to put them.
        ValueError: An unknown set or split, a class folder without images, or a label outside the classes.
    """
    info = dataset(name)
    if info.source == "package":
        return _digits(info, split)
    if info.source == "folder":
        return _folder(info, split, data_dir, skip)
    return _tfds(name, info, split, data_dir, download, skip)


def with_classes(split: ArraySplit, what: str, skip: Callable[[str], None] | None = None) -> ArraySplit:
    """Returns the images of a split whose labels name a class; tells `skip` of the others.

    Raises:
        ValueError: There are others, and no `skip`; the message names the first.
    """
    classes = len(split.class_names)
    outside = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if not outside.size:
        return split
    found = f"{split.labels[outside[0]]} for image {outside[0]} ({outside.size} images in all)"
    if skip is None:
        raise ValueError(f"Expected labels from 0 to {classes - 1} in {what}. Received: {found}")
    skip(f"labels outside the classes of {what} are left out: {found}")
    return replace(split, images=np.delete(split.images, outside, axis=0), labels=np.delete(split.labels, outside))


def _expect_split(split: str, known: Sequence[str], what: str) -> None:
    if split not in known:
        raise ValueError(f"Expected a split of {what}, one of {', '.join(known)}. Received: {split!r}")


def _digits(info: Dataset, split: str) -> ArraySplit:
    _expect_split(split, ("train", "test"), "digits")
    # 1,797 digits of 13 writers (Alpaydin and Kaynak 1998, UCI "optdigits", CC BY 4.0) as scikit-learn has them,
    # their 17 levels of gray spread over 0–255; `test` marks a fifth of each class, drawn once.
    content = (resources.files("resnet_keras") / "data" / "digits.npz").read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        chosen = file["test"] == (split == "test")
        images, labels = file["images"][chosen, :, :, None], file["labels"][chosen].astype(np.int64)
    return ArraySplit(images, labels, tuple("0123456789"), info)


def _folder(info: Dataset, split: str, data_dir: str | Path | None, skip: Callable[[str], None] | None) -> FileSplit:
    _expect_split(split, ("train", "test", "all"), "a folder")
    found = class_files(data_dir, split, skip)
    labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
    return FileSplit(tuple(str(path) for files in found.values() for path in files), labels, tuple(found), info)


def _tfds(
    name: str,
    info: Dataset,
    split: str,
    data_dir: str | Path | None,
    download: bool,
    skip: Callable[[str], None] | None,
) -> ArraySplit | RecordSplit:
    builder = _prepared(name, data_dir, download)
    features = builder.info.features
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(feature in (features or {}) and isinstance(features[feature], kind) for feature, kind in kinds.items()):
        raise ValueError(f"Expected a TFDS set with the features image and label. Received: {name}, with {features}")
    known = list(builder.info.splits)
    if info.test_split not in known and name not in DATASETS and "validation" in known:
        info = replace(info, test_split="validation")
    split = {"train": info.train_split, "test": info.test_split}.get(split, split)
    _expect_split(split, known, name)
    shape, names = features["image"].shape, tuple(features["label"].names)
    channels = info.channels or shape[-1] or 3
    if channels != len(info.mean):
        info = replace(info, mean=(127.5,) * channels, std=(63.75,) * channels)
    info = replace(info, channels=channels, classes=len(names))
    count = builder.info.splits[split].num_examples
    if None in shape or count * int(np.prod(shape)) > IN_MEMORY_BYTES:
        return RecordSplit(builder, split, names, info)
    whole = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
    images, labels = whole["image"].numpy(), whole["label"].numpy().astype(np.int64)
    info = replace(info, image_size=shape[0] if shape[0] == shape[1] else None)
    return with_classes(ArraySplit(images, labels, names, info), f"{name}/{split}", skip)


def _prepared(name: str, data_dir: str | Path | None, download: bool) -> tfds.core.DatasetBuilder:
    """Returns the newest prepared version of a TFDS set, read from its own files: no code of it runs, no network."""
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    found = sorted(root.glob(f"{name}/**/dataset_info.json"), key=lambda path: _version(path.parent.name))
    if found:
        return tfds.builder_from_directory(found[-1].parent)
    if not download:
        raise FileNotFoundError(
            f"Expected the data set {name!r} under {root / name}, as TensorFlow Datasets prepares it. Put it there, "
            f"name another folder as data_dir, or let it be downloaded. Received: no such data, and of the names "
            f"known here: {', '.join(DATASETS)}"
        )
    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"Expected one of {', '.join(DATASETS)}, or a set of TFDS. Received: {name!r}") from error
    builder.download_and_prepare()
    return builder


def _version(name: str) -> tuple[int, ...]:
    parts = name.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
