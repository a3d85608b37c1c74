"""Encoded images of a split with boxes, from files or from the records of a set of TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from resnet_keras.data.image_checks import naming_broken_images
from resnet_keras.data.image_files import KINDS
from resnet_keras.data.image_ops import decode
from resnet_keras.data.mapping import mapped
from resnet_keras.data.record_files import record_reader
from resnet_keras.detection.box_split import BoxSplit, Faults, WrongImage

IMAGE = "image"
"""Feature of TFDS that holds the image."""
AS_BYTES = {IMAGE: tfds.decode.SkipDecoding()}
"""Decoders of TFDS that leave images as they are encoded."""


def image_reader(split: BoxSplit) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of the place of an image in a split, int64 (), to its bytes, in a graph or eagerly."""
    if split.records is None:
        with tf.init_scope(), tf.device("CPU"):
            paths = tf.constant([str(example.image) for example in split.examples])
        return lambda place: tf.io.read_file(paths[place])
    builder = split.records.builder
    numbers = np.array([example.record for example in split.examples], np.int64)
    read = record_reader(builder, split.records.split, numbers)
    return lambda place: builder.info.features.deserialize_example(read(place), decoders=AS_BYTES)[IMAGE]


def image_files(split: BoxSplit) -> Iterator[Path | bytes]:
    """Yields each image of a split, in order: its file, or its bytes in a record."""
    if split.records is None:
        yield from (example.image for example in split.examples)
        return
    read = image_reader(split)
    for place in range(len(split)):
        yield read(tf.constant(place, tf.int64)).numpy()


def undecodable(split: BoxSplit) -> list[int]:
    """Returns the places of the images of a split that do not decode, after trying them all."""
    read = image_reader(split)

    def tried(place: tf.Tensor) -> tf.Tensor:
        # tf.data does not compute what the result does not need.
        return tf.where(tf.size(decode(read(place), 3)) > 0, place, -1)

    whole = mapped(tf.data.Dataset.range(len(split)), tried).ignore_errors()
    return sorted(set(range(len(split))) - {int(place) for place in whole.as_numpy_iterator()})


def checked(split: BoxSplit, faults: Faults, what: str) -> BoxSplit:
    """Returns a split that has been opened, with its faults counted and reported.

    If faults are left out, so are the images that do not decode, after trying them all.

    Args:
        split: The images that are left.
        faults: What was wrong with others and with boxes.
        what: Name of the images in messages.

    Raises:
        ValueError: No image is left.
    """
    broken = set(undecodable(split)) if faults.on_corrupt == "skip" and len(split) else set()
    for place in sorted(broken):
        with faults.tolerated():
            raise WrongImage(f"Expected whole images ({KINDS}). Received: {split.examples[place].image}")
    kept = [example for place, example in enumerate(split.examples) if place not in broken]
    found = replace(split, examples=tuple(kept), skipped_images=faults.images, skipped_boxes=faults.boxes)
    faults.report(what)
    faults.expect_images(found, what)
    return found


def explain_undecodable(*splits: BoxSplit) -> AbstractContextManager[None]:
    """Turns TensorFlow's error of an image that does not decode into one that names the images.

    Raises:
        ValueError: An image of `splits` is broken; the message names all that are.
    """

    def names_of_broken(split: BoxSplit) -> list[str]:
        return [str(split.examples[place].image) for place in undecodable(split)]

    expected = f"Expected whole {KINDS} images; `on_corrupt='skip'` (--skip-broken) leaves broken ones out"
    return naming_broken_images(names_of_broken, splits, expected)
