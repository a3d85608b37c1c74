"""Images for evaluation, by `tf.data`: every one once, in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from resnet_keras.data.image_ops import crop, decode, normalize, with_channels
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split
from resnet_keras.recipes.recipe import Recipe

CACHE_BYTES = 2**30
"""Evaluation images, once decoded, are kept in memory up to this."""


def preprocessing_of(recipe: Recipe, split: Split, trained: Preprocessing | None = None) -> Preprocessing:
    """Returns what a recipe's network will expect of an image.

    Of weights that were trained on something, that is what they expected then (`trained`); of fresh ones, the
    network's own size and the data set's mean and std.
    """
    info = split.info
    if trained is not None:
        size = (recipe.image_size, recipe.image_size) if recipe.image_size else trained.image_size
        resized = trained.at(size)
        return replace(
            resized,
            shorter_side=recipe.test_shorter_side or resized.shorter_side,
            interpolation=recipe.interpolation or resized.interpolation,
        )
    side = recipe.image_size or info.image_size or recipe.architecture.image_size
    return Preprocessing(
        image_size=(side, side),
        channels=info.channels,
        mean=info.mean,
        std=info.std,
        shorter_side=recipe.test_shorter_side,
        interpolation=recipe.interpolation or "bilinear",
    )


def evaluation_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of a split once, in order: float32 (≤ batch_size, *image_size, C) and int64 labels."""
    batches = pixel_batches(split, preprocessing, batch_size)
    batches = batches.map(lambda pixels, labels: (normalize(pixels, preprocessing), labels), tf.data.AUTOTUNE)
    if len(split) * int(np.prod(preprocessing.image_size)) * preprocessing.channels * 4 <= CACHE_BYTES:
        batches = batches.cache()
    return batches.with_options(options(deterministic=True)).prefetch(tf.data.AUTOTUNE)


def validation_batches(split: Split, recipe: Recipe, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns what `evaluation_batches` does, with labels of the kind that the recipe trains on."""
    batches = evaluation_batches(split, preprocessing, batch_size)
    if not recipe.soft_labels:
        return batches
    return batches.map(lambda images, labels: (images, tf.one_hot(labels, len(split.class_names))), tf.data.AUTOTUNE)


def pixel_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of a split once, cropped but not normalized: pixels 0–255 (≤ batch_size, *image_size, C)."""
    if isinstance(split, ArraySplit):
        batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).batch(batch_size)
        return batches.map(lambda images, labels: (fitted(images, preprocessing), labels), tf.data.AUTOTUNE)

    def cropped(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return crop(decode(encoded, preprocessing.channels), preprocessing), label

    return encoded(split).map(cropped, tf.data.AUTOTUNE).batch(batch_size)


def whole_images(split: Split, channels: int) -> tf.data.Dataset:
    """Returns every image of a split once, in order and as it is: uint8 (H, W, channels), and its label."""
    if isinstance(split, ArraySplit):
        pairs = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        return pairs.map(lambda image, label: (with_channels(image, channels), label), tf.data.AUTOTUNE)
    return encoded(split).map(lambda image, label: (decode(image, channels), label), tf.data.AUTOTUNE)


def pixel_array(split: Split, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images of a split, cropped, as whole pixels: uint8 (N, *image_size, C), and labels (N,)."""
    batches = list(pixel_batches(split, preprocessing, 128).as_numpy_iterator())
    pixels = np.concatenate([images for images, _ in batches])
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), np.concatenate([labels for _, labels in batches])


def options(deterministic: bool) -> tf.data.Options:
    """Returns how a pipeline is run: in order or not, and shared among workers by elements."""
    options = tf.data.Options()
    options.deterministic = deterministic
    # Between several workers: each reads all and keeps its share. Sharding by files would need a file per worker.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def fitted(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Resizes a batch of images of one size and gives it the network's channels, where it has not both already."""
    return crop(with_channels(images, preprocessing.channels), preprocessing)


def encoded(split: FileSplit | RecordSplit) -> tf.data.Dataset:
    """Returns (bytes, label) of every image in order."""
    if isinstance(split, FileSplit):
        files = tf.data.Dataset.from_tensor_slices((list(split.paths), split.labels))
        return files.map(lambda path, label: (tf.io.read_file(path), label), tf.data.AUTOTUNE)
    classes = len(split.class_names)

    def checked(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inside = tf.debugging.Assert(
            (label >= 0) & (label < classes),
            [f"Expected labels from 0 to {classes - 1} in {split.builder.info.name}/{split.split}. Received:", label],
        )
        with tf.control_dependencies([inside]):
            return tf.identity(encoded), label

    return split.records().map(checked, tf.data.AUTOTUNE)
