"""Opening a split of a data set: of this package, a folder of images, or TensorFlow Datasets."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from resnet_keras.checks.fields import check_fields
from resnet_keras.data.datasets import DATASETS, Dataset, dataset
from resnet_keras.data.image_checks import report_turned_images, skip_broken_images
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.image_folders import SPLIT_ALIASES, class_files, has_validation
from resnet_keras.data.record_files import check_record_files, file_format
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

_log = logging.getLogger(__name__)

_PARTS_OF_TRAIN = {"train": "train[:80%]", "test": "train[80%:]"}  # of a set without a test split

IN_MEMORY_BYTES = 2**31
"""Decoded images of one known size are held in memory up to this; larger sets are read as they are needed."""


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Place of the data, and what to do about missing and broken ones; see `open_split`.

    Attributes:
        data_dir: Folder of the data.
        download: Whether TFDS may download and prepare a missing set.
        on_corrupt: What to do about broken images, labels outside the classes and empty classes.

    Raises:
        ValueError: `on_corrupt` is neither "raise" nor "skip".
    """

    data_dir: str | Path | None = None
    download: bool = False
    on_corrupt: OnCorrupt = "raise"

    def __post_init__(self) -> None:
        check_fields(self)

    def open(self, name: str, split: str) -> Split:
        """Opens a split of a data set at this place; see `open_split` for arguments and errors."""
        return open_split(name, split, data_dir=self.data_dir, download=self.download, on_corrupt=self.on_corrupt)

    def open_validation(self, name: str) -> Split | None:
        """Opens the part that is neither for training nor for the test; `None` if there is none."""
        info = dataset(name)
        if info.source == "folder":
            return self.open(name, "validation") if has_validation(self.data_dir) else None
        if info.source != "tfds" or name in DATASETS:
            return None
        splits = prepared_set(name, self.data_dir, self.download).info.splits
        return self.open(name, "validation") if {"validation", info.test_split} <= splits.keys() else None


def open_split(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    on_corrupt: OnCorrupt = "raise",
) -> Split:
    """Opens the "train" or the "test" part of a data set.

    Args:
        name: A key of `DATASETS`, or a TFDS set with the features `image` and `label`: NAME, or NAME/CONFIGURATION.
        split: "train" or "test", which means the set's own `train_split` or `test_split`; of a folder also "all", and
            "validation" if it has `val/CLASS/*.jpg`; of a TFDS set, any of its splits, also in part: "train[:80%]".
            Without a test split, the last fifth of `train` is the test part.
        data_dir: For TFDS, the folder that holds the prepared sets, `~/tensorflow_datasets` if `None`. For "folder",
            the folder that holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`, or class folders alone, of which about a
            fifth, by the names of the images, becomes the test part.
        download: Whether TFDS may download and prepare a missing set.
        on_corrupt: "raise" stops at class folders without images and at labels outside the classes; an image that does
            not decode is an error when it is read. "skip" decodes every image now, and skips all these with a warning.

    Returns:
        Images in memory, image files, or records of TFDS, with labels and class names.

    Raises:
        FileNotFoundError: The data are not there; the message says where to put them.
        ValueError: The set or the split is unknown, a class folder has no images, or a label is outside the classes.
    """
    info = dataset(name)
    if info.source == "package":
        return _digits(info, split)
    if info.source == "folder":
        opened: Split = _folder(info, split, data_dir, on_corrupt)
    else:
        opened = _tfds(name, info, split, data_dir, download, on_corrupt)
    if not isinstance(opened, ArraySplit):
        report_turned_images(opened)
    return skip_broken_images(opened) if on_corrupt == "skip" else opened


def with_classes(split: ArraySplit, what: str, on_corrupt: OnCorrupt = "raise") -> ArraySplit:
    """Returns the images of a split whose labels are classes; others are an error, or skipped with a warning.

    Raises:
        ValueError: There are others, and `on_corrupt` is "raise"; the message names the first.
    """
    classes = len(split.class_names)
    outside = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
    if not outside.size:
        return split
    found = f"{split.labels[outside[0]]} for image {outside[0]} ({outside.size} images in all)"
    if on_corrupt == "raise":
        raise ValueError(f"Expected labels from 0 to {classes - 1} in {what}. Received: {found}")
    _log.warning(f"labels outside the classes of {what} are skipped: {found}")
    return replace(split, images=np.delete(split.images, outside, axis=0), labels=np.delete(split.labels, outside))


def _expect_split(split: str, known: Sequence[str], what: str) -> None:
    if split not in known:
        raise ValueError(f"Expected a split of {what}, one of {', '.join(known)}. Received: {split!r}")


def _digits(info: Dataset, split: str) -> ArraySplit:
    _expect_split(split, ("train", "test"), "digits")
    # 1,797 digits of 13 writers (Alpaydin and Kaynak 1998, UCI "optdigits", CC BY 4.0) as in scikit-learn, their 17
    # gray levels scaled to 0–255; `test` marks a fifth of each class, drawn once.
    content = (resources.files("resnet_keras") / "data" / "digits.npz").read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        chosen = file["test"] == (split == "test")
        images, labels = file["images"][chosen, :, :, None], file["labels"][chosen].astype(np.int64)
    return ArraySplit(images, labels, tuple("0123456789"), info)


def _folder(info: Dataset, split: str, data_dir: str | Path | None, on_corrupt: OnCorrupt) -> FileSplit:
    found = class_files(data_dir, split, on_corrupt)
    labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
    paths = tuple(str(path) for files in found.values() for path in files)
    return FileSplit(paths, labels, tuple(found), info)


def _tfds(
    name: str,
    info: Dataset,
    split: str,
    data_dir: str | Path | None,
    download: bool,
    on_corrupt: OnCorrupt,
) -> ArraySplit | RecordSplit:
    builder = prepared_set(name, data_dir, download)
    features = builder.info.features
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(feature in (features or {}) and isinstance(features[feature], kind) for feature, kind in kinds.items()):
        raise ValueError(f"Expected a TFDS set with the features image and label. Received: {name}, with {features}")
    info, split = split_of_set(builder, name, info, split)
    shape, names = features["image"].shape, tuple(features["label"].names)
    channels = info.channels or shape[-1] or 3
    if channels != len(info.mean):
        info = replace(info, mean=(127.5,) * channels, std=(63.75,) * channels)
    info = replace(info, channels=channels, classes=len(names), version=str(builder.info.version))
    count = examples_of(builder, split, name)
    check_record_files(builder, split)
    if None not in shape and shape[0] == shape[1]:
        info = replace(info, image_size=shape[0])
    # Of ArrayRecord files TFDS reads no batches.
    if None in shape or count * int(np.prod(shape)) > IN_MEMORY_BYTES or file_format(builder) == "array_record":
        return RecordSplit(builder, split, names, info)
    whole = builder.as_dataset(split=split, batch_size=-1, shuffle_files=False)
    images, labels = whole["image"].numpy(), whole["label"].numpy().astype(np.int64)
    if shape[0] != shape[1]:
        info = replace(info, image_size=None)
    return with_classes(ArraySplit(images, labels, names, info), f"{name}/{split}", on_corrupt)


def split_of_set(builder: tfds.core.DatasetBuilder, name: str, info: Dataset, split: str) -> tuple[Dataset, str]:
    """Returns the facts of a TFDS set with its test split, and the split of the set that "train" or "test" means.

    Raises:
        ValueError: The set has no such split.
    """
    known = list(builder.info.splits)
    if info.test_split not in known and name not in DATASETS and "validation" in known:
        info = replace(info, test_split="validation")
    if {info.test_split, "validation"}.isdisjoint(known) and name not in DATASETS and "train" in known:
        split = _PARTS_OF_TRAIN.get(split, split)
    split = {"train": info.train_split, "test": info.test_split}.get(split, SPLIT_ALIASES.get(split, split))
    _expect_split(re.split(r"[\[+]", split)[0], known, name)
    return info, split


def examples_of(builder: tfds.core.DatasetBuilder, split: str, name: str) -> int:
    """Returns the number of examples in a split of a TFDS set, or in a part of one.

    Raises:
        ValueError: There is no such part, or it is empty.
    """
    try:
        count = builder.info.splits[split].num_examples
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected a split of {name} or a part of one, such as train[:80%]. Received: {split!r}"
        ) from error
    if not count:
        raise ValueError(f"Expected a split of {name} with images. Received: {split!r}, which has none")
    return int(count)


def prepared_set(name: str, data_dir: str | Path | None, download: bool) -> tfds.core.DatasetBuilder:
    """Returns the newest prepared version of a TFDS set, from its files alone: without its code or the network.

    Raises:
        FileNotFoundError: The set is not there, and may not be downloaded.
        ValueError: The set is unknown, or has several configurations.
    """
    root = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    found = sorted(root.glob(f"{name}/**/dataset_info.json"), key=lambda path: _version(path.parent.name))
    if found:
        places = {path.parent.parent if _version(path.parent.name) else path.parent for path in found}
        configurations = sorted(str(place.relative_to(root)) for place in places)
        if len(configurations) > 1:
            raise ValueError(
                f"Expected one of the prepared configurations of {name}: {', '.join(configurations)}. Received: {name}"
            )
        return tfds.builder_from_directory(found[-1].parent)
    if not download:
        raise FileNotFoundError(
            f"Expected the data set {name!r} under {root / name}, as TensorFlow Datasets prepares it. Put it there, "
            f"name another folder as `data_dir`, or let it be downloaded (`download`). Received: no such data, "
            f"and of the names known here: {', '.join(DATASETS)}"
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
