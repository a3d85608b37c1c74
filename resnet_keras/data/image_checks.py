"""Broken images, which do not decode or have a label outside the classes: finding, skipping and naming them."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_keras.data.image_files import FORMATS, KINDS, MOST_PIXELS, log_once
from resnet_keras.data.image_ops import decode
from resnet_keras.data.mapping import mapped
from resnet_keras.data.pillow_files import FAILURES, turn_of
from resnet_keras.data.sampling import subset
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

_log = logging.getLogger(__name__)

_NAMED = 5  # in a message
_LOOKED_AT = 1000

AnySplit = TypeVar("AnySplit")


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
        pixels = decode(encoded, 3)
        # tf.data does not compute what the result does not need.
        return tf.where((tf.size(pixels) > 0) & (label >= 0) & (label < classes), index, -1)

    whole = mapped(images.enumerate(), tried).ignore_errors()
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


def skip_broken_images(split: Split) -> Split:
    """Returns the split without its broken images, after decoding every image, and names some in a warning."""
    if isinstance(split, ArraySplit) or not (broken := broken_images(split)):
        return split
    names = ", ".join(split.name_of(index) for index in broken[:_NAMED])
    more = ", ..." if len(broken) > _NAMED else ""
    _log.warning(f"{len(broken)} of {len(split)} images are broken and skipped: {names}{more}")
    return without(split, broken)


def report_turned_images(split: FileSplit | RecordSplit) -> None:
    """Logs, once, how many images of a split are turned upright by their Exif data; nothing if none is.

    It looks at a thousand: at files that are evenly spaced, or at the first records.
    """
    count = len(split)
    if isinstance(split, FileSplit):
        turned = [_is_turned(path) for path in split.paths[:: -(-count // _LOOKED_AT) or 1]]
    else:
        records = split.records().take(_LOOKED_AT).as_numpy_iterator()
        turned = [_is_turned(io.BytesIO(encoded)) for encoded, _ in records]
    if any(turned):
        which = "" if len(turned) == count else f" that were looked at, of {count:,},"
        log_once(f"{sum(turned):,} of {len(turned):,} images{which} are turned upright by their Exif data")


def _is_turned(image: str | io.BytesIO) -> bool:
    try:
        with Image.open(image, formats=[name.upper() for name in FORMATS]) as opened:  # reads the header alone
            return turn_of(opened) is not None
    except FAILURES:  # whoever decodes the image names it
        return False


def explain_broken_images(*splits: Split) -> AbstractContextManager[None]:
    """Turns TensorFlow's error of an image that does not decode into one that names the image.

    Raises:
        ValueError: An image of `splits` is broken; the message names all that are.
    """

    def names_of_broken(split: Split) -> list[str]:
        return [] if isinstance(split, ArraySplit) else [split.name_of(index) for index in broken_images(split)]

    expected = (
        f"Expected whole images ({KINDS}) of at most {MOST_PIXELS:,} pixels and of known classes "
        "(others can be skipped)"
    )
    return naming_broken_images(names_of_broken, splits, expected)


@contextmanager
def naming_broken_images(
    names_of_broken: Callable[[AnySplit], Sequence[str]], splits: Sequence[AnySplit], expected: str
) -> Iterator[None]:
    """Turns TensorFlow's error of an image that does not decode into one that names broken images.

    Args:
        names_of_broken: Tries all images of a split and returns the names of those that are broken.
        splits: Splits that are tried after an error, one after the other.
        expected: Beginning of the message: "Expected ...".

    Raises:
        ValueError: An image of `splits` is broken.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        for split in splits:
            if broken := names_of_broken(split):
                more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
                raise ValueError(f"{expected}. Received: {', '.join(broken[:_NAMED])}{more}") from error
        raise
