"""The parts of a data set of images and masks: for training, test, and validation, of folders and of TFDS."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tensorflow_datasets as tfds

from resnet_keras.data.datasets import dataset
from resnet_keras.data.opening import IN_MEMORY_BYTES, DataSource, examples_of, prepared_set, split_of_set
from resnet_keras.segmentation.mask_files import MaskSplit, checked_masks, open_masks, parts_of

_log = logging.getLogger(__name__)

_VALIDATION = ("val", "valid", "validation")
_FEATURES = ("image", "segmentation_mask")


@dataclass(frozen=True, eq=False)
class MaskParts:
    """The parts of a data set of images and masks, with the same classes.

    Attributes:
        train: Images to train on.
        test: Images to evaluate on at the end.
        validation: Images to validate epochs on; the test images if `None`.
    """

    train: MaskSplit
    test: MaskSplit
    validation: MaskSplit | None = None

    @property
    def named(self) -> dict[str, MaskSplit]:
        """The parts that there are, by their names."""
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: split for name, split in parts.items() if split is not None}


def open_parts(name: str, source: DataSource, *, ignored: int) -> MaskParts:
    """Opens all parts of a data set of images and masks.

    Args:
        name: "folder", whose layouts `open_masks` describes, or a TFDS set with the features `image` and
            `segmentation_mask`. A folder has "train", and "test" or "val"; with both, epochs are validated on "val". A
            set of TFDS is held in memory as it is encoded.
        source: Place of the data.
        ignored: Label of pixels that do not count.

    Raises:
        FileNotFoundError: The data are not there.
        ValueError: A part is missing or empty, the set has no masks or is larger than memory may hold, or a mask does
            not fit its image; the message names the first.
    """
    wanted = _folder_parts(source) if dataset(name).source == "folder" else _set_parts(name, source)
    opened = {part: open_part(name, called, source, ignored=ignored) for part, called in wanted.items()}
    names = max((split.class_names for split in opened.values()), key=len)
    return MaskParts(**{part: replace(split, class_names=names) for part, split in opened.items()})


def open_part(
    name: str, part: str, source: DataSource, *, ignored: int, class_names: Sequence[str] | None = None
) -> MaskSplit:
    """Opens one part of a data set of images and masks; see `open_parts`.

    Args:
        name: "folder", or a TFDS set.
        part: "train", "test" (or, in a folder without it, what stands for it), "validation", or another that is there.
        source: Place of the data.
        ignored: Label of pixels that do not count.
        class_names: Names of the classes, in the order of the labels; those of the data if `None`.
    """
    if source.on_corrupt == "skip":
        raise ValueError("Expected `skip_broken` to be False with masks, which are all checked. Received: True")
    if dataset(name).source == "folder":
        called = _folder_parts(source).get(part, part)
        assert source.data_dir is not None
        return open_masks(source.data_dir, called, class_names=class_names, ignored=ignored)
    return _records(prepared_set(name, source.data_dir, source.download), name, part, class_names or (), ignored)


def _folder_parts(source: DataSource) -> dict[str, str]:
    """Returns what the parts of a folder are called in it."""
    if source.data_dir is None:
        raise FileNotFoundError("Expected `data_dir`, a folder of images and masks. Received: None")
    known = parts_of(source.data_dir)
    validation = next((part for part in _VALIDATION if part in known), None)
    if "test" in known:
        return {"train": "train", "test": "test", **({"validation": validation} if validation else {})}
    return {"train": "train", "test": validation or "test"}


def _set_parts(name: str, source: DataSource) -> dict[str, str]:
    known = prepared_set(name, source.data_dir, source.download).info.splits
    parts = ("train", "test", "validation") if {"test", "validation"} <= known.keys() else ("train", "test")
    return {part: part for part in parts}


def _records(
    builder: tfds.core.DatasetBuilder, name: str, part: str, class_names: Sequence[str], ignored: int
) -> MaskSplit:
    features = builder.info.features or {}
    if not all(each in features and isinstance(features[each], tfds.features.Image) for each in _FEATURES):
        raise ValueError(
            f"Expected a TFDS set with the features {' and '.join(_FEATURES)}. Received: {name}, with {features}"
        )
    _, split = split_of_set(builder, name, dataset(name), part)
    count = examples_of(builder, split, name)
    size = builder.info.splits[split].num_bytes
    if size > IN_MEMORY_BYTES:
        raise ValueError(
            f"Expected a set of TFDS of at most {IN_MEMORY_BYTES / 2**30:.0f} GiB, which is held in memory; write "
            f"larger ones to a folder of images and masks. Received: {name}/{split}, of {size / 2**30:.1f} GiB"
        )
    _log.info(f"{name}/{split}: {count:,} images with masks are read")
    examples = builder.as_dataset(
        split=split, decoders={each: tfds.decode.SkipDecoding() for each in _FEATURES}, shuffle_files=False
    )
    pairs = [tuple(example[each] for each in _FEATURES) for example in examples.as_numpy_iterator()]
    images, masks = zip(*pairs, strict=True)
    called = [f"mask {i} of {name}/{split}" for i in range(len(masks))]
    return checked_masks(MaskSplit(tuple(images), tuple(masks), tuple(class_names), ignored), called)
