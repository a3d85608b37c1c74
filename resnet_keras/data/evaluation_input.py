"""Batches for evaluation, by `tf.data`: every image once, in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from resnet_keras.data.image_ops import crop, decode, normalize, with_channels
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.settings import DataSettings
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

CACHE_BYTES = 2**30
"""Decoded evaluation images are cached in memory up to this size."""


def preprocessing_of(
    data: DataSettings, split: Split, network_size: int, trained: Preprocessing | None = None
) -> Preprocessing:
    """Returns the preprocessing of a network that is trained on a split.

    Args:
        data: Its image size, shorter side of test images and interpolation take precedence.
        split: Images to train on; their size, mean and standard deviation apply to random initial weights.
        network_size: Height and width in pixels that the network is made for; applies if neither `data` nor the
            data set has one.
        trained: Preprocessing of the initial weights; `None` for random ones.
    """
    info = split.info
    if trained is not None:
        size = (data.image_size, data.image_size) if data.image_size else trained.image_size
        resized = trained.at(size)
        return replace(
            resized,
            shorter_side=data.test_shorter_side or resized.shorter_side,
            interpolation=data.interpolation or resized.interpolation,
        )
    side = data.image_size or info.image_size or network_size
    return Preprocessing(
        image_size=(side, side),
        channels=info.channels,
        mean=info.mean,
        std=info.std,
        shorter_side=data.test_shorter_side,
        interpolation=data.interpolation or "bilinear",
    )


def evaluation_batches(
    split: Split, preprocessing: Preprocessing, batch_size: int, *, one_hot: bool = False
) -> tf.data.Dataset:
    """Returns every image of a split once, in order.

    Args:
        split: Images.
        preprocessing: Size and normalization of the network's input.
        batch_size: Images in each batch; the last may have fewer.
        one_hot: Whether labels are one-hot.

    Returns:
        A data set of float32 (≤ batch_size, *image_size, C), and int64 (≤ batch_size,) or, if `one_hot`, float32
        (≤ batch_size, classes).
    """
    batches = pixel_batches(split, preprocessing, batch_size)
    batches = mapped(batches, lambda pixels, labels: (normalize(pixels, preprocessing), labels))
    if len(split) * int(np.prod(preprocessing.image_size)) * preprocessing.channels * 4 <= CACHE_BYTES:
        batches = batches.cache()
    batches = batches.with_options(options(deterministic=True)).prefetch(tf.data.AUTOTUNE)
    if not one_hot:
        return batches
    return mapped(batches, lambda images, labels: (images, tf.one_hot(labels, len(split.class_names))))


def pixel_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of a split once, cropped but not normalized: pixels 0–255 (≤ batch_size, *image_size, C)."""
    if isinstance(split, ArraySplit):
        batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).batch(batch_size)
        return mapped(batches, lambda images, labels: (fitted(images, preprocessing), labels))

    def cropped(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return crop(decode(encoded, preprocessing.channels), preprocessing), label

    return mapped(encoded(split), cropped).batch(batch_size)


def whole_images(split: Split, channels: int) -> tf.data.Dataset:
    """Returns every image of a split once, in order, uncropped: uint8 (H, W, channels), and its label."""
    if isinstance(split, ArraySplit):
        pairs = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        return mapped(pairs, lambda image, label: (with_channels(image, channels), label))
    return mapped(encoded(split), lambda image, label: (decode(image, channels), label))


def pixel_array(split: Split, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images of a split, cropped, as whole pixels: uint8 (N, *image_size, C), and labels (N,)."""
    batches = list(pixel_batches(split, preprocessing, 128).as_numpy_iterator())
    pixels = np.concatenate([images for images, _ in batches])
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), np.concatenate([labels for _, labels in batches])


def options(deterministic: bool) -> tf.data.Options:
    """Returns the options of a pipeline: in order or not, and sharded among workers by elements."""
    options = tf.data.Options()
    options.deterministic = deterministic
    # Each of several workers has its share already. Sharding by files would need a file per worker.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def fitted(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns a batch of images of one size with the network's size and channels."""
    return crop(with_channels(images, preprocessing.channels), preprocessing)


def encoded(split: FileSplit | RecordSplit) -> tf.data.Dataset:
    """Returns (bytes, label) of every image in order."""
    if isinstance(split, FileSplit):
        files = tf.data.Dataset.from_tensor_slices((list(split.paths), split.labels))
        return mapped(files, lambda path, label: (tf.io.read_file(path), label))
    return mapped(split.records(), lambda image, label: checked_record(split, image, label))


def checked_record(split: RecordSplit, image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a record whose label is a class; others are an error when it is computed."""
    classes = len(split.class_names)
    inside = tf.debugging.Assert(
        (label >= 0) & (label < classes),
        [f"Expected labels from 0 to {classes - 1} in {split.builder.info.name}/{split.split}. Received:", label],
    )
    with tf.control_dependencies([inside]):
        return tf.identity(image), label
