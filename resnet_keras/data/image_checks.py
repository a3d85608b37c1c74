"""Images that do not decode, or whose label names no class: finding them, leaving them out, naming them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_keras.data.sampling import subset
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split, open_split

_NAMED = 5


def broken_images(split: Split) -> list[int]:
    """Returns the indices of the images of a split that do not decode or have no class, after trying them all."""
    if isinstance(split, ArraySplit):
        return []
    classes = len(split.class_names)

    if isinstance(split, FileSplit):
        images = tf.data.Dataset.from_tensor_slices((list(split.paths), split.labels))
    else:
        images = split.records()

    def tried(index: tf.Tensor, record: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, label = record
        encoded = tf.io.read_file(image) if isinstance(split, FileSplit) else image
        pixels = tf.io.decode_image(encoded, expand_animations=False)
        # What the result does not need, tf.data would not compute.
        return tf.where((tf.size(pixels) > 0) & (label >= 0) & (label < classes), index, -1)

    whole = images.enumerate().map(tried, tf.data.AUTOTUNE).ignore_errors()
    return sorted(set(range(len(split))) - {int(index) for index in whole.as_numpy_iterator()})


def without(split: Split, indices: list[int]) -> Split:
    """Returns the split without the images at `indices`."""
    if not indices or isinstance(split, ArraySplit):
        return split
    if isinstance(split, RecordSplit):
        there = np.setdiff1d(np.arange(split.builder.info.splits[split.split].num_examples), split.left_out)
        left_out = (*split.left_out, *there[list(indices)].tolist())
        return replace(split, left_out=left_out, limit=None if split.limit is None else split.limit - len(indices))
    return subset(split, np.setdiff1d(np.arange(len(split)), indices))


def open_whole(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    skip: Callable[[str], None] | None = None,
) -> Split:
    """Opens a split as `open_split` does; with `skip`, tries every image first, leaves broken ones out and tells."""
    opened = open_split(name, split, data_dir=data_dir, download=download, skip=skip)
    if skip is not None and not isinstance(opened, ArraySplit) and (broken := broken_images(opened)):
        names = ", ".join(opened.name_of(index) for index in broken[:_NAMED])
        more = ", ..." if len(broken) > _NAMED else ""
        skip(f"{len(broken)} of {len(opened)} images are broken and left out: {names}{more}")
        return without(opened, broken)
    return opened


@contextmanager
def explain_broken_images(*splits: Split) -> Iterator[None]:
    """Turns TensorFlow's error of an image that does not decode into one that names the image.

    Raises:
        ValueError: An image of `splits` is broken; the message names all that are.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        for split in splits:
            if not isinstance(split, ArraySplit) and (broken := broken_images(split)):
                names = ", ".join(split.name_of(index) for index in broken[:_NAMED])
                more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
                raise ValueError(
                    "Expected whole JPEG or PNG images of known classes (others can be skipped). "
                    f"Received: {names}{more}"
                ) from error
        raise
