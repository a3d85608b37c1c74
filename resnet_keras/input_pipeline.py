"""Batches for training and evaluation, by `tf.data`.

Which image stands at a position of the run, and how it is augmented, are functions of the seed and the position
alone. So two runs with one seed see the same images, and a run that is continued sees those that are left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from resnet_keras.augmentation import augment, random_crop, random_crop_of
from resnet_keras.images import crop, decode, normalize, with_channels
from resnet_keras.mixing import mix
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.recipes import Recipe
from resnet_keras.splits import ArraySplit, FileSplit, RecordSplit, Split

SHUFFLE_IMAGES = 10_000
"""Encoded images among which a stream of records is shuffled: about 1 GB of ImageNet."""

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
        return replace(resized, shorter_side=recipe.test_shorter_side) if recipe.test_shorter_side else resized
    side = recipe.image_size or info.image_size or recipe.architecture.image_size
    return Preprocessing(
        image_size=(side, side),
        channels=info.channels,
        mean=info.mean,
        std=info.std,
        shorter_side=recipe.test_shorter_side,
    )


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Returns how many full batches the split fills; the images left over differ from epoch to epoch.

    Raises:
        ValueError: It does not fill one.
    """
    if len(split) < batch_size:
        raise ValueError(
            f"Expected `batch_size` to be at most {len(split)}, all training images. Received: {batch_size}"
        )
    return len(split) // batch_size


def training_batches(
    split: Split,
    recipe: Recipe,
    preprocessing: Preprocessing,
    *,
    first_step: int = 0,
    deterministic: bool = True,
    rows: range | None = None,
) -> tf.data.Dataset:
    """Returns the batches of a run from step `first_step` to its end, shuffled and augmented as the recipe says.

    Args:
        split: Images to train on.
        recipe: Its batch size, epochs, augmentation and seed apply.
        preprocessing: Size and normalisation of the network's input.
        first_step: Steps of the run that are done already.
        deterministic: Whether batches must come in the order that the seed determines, at the price of waiting for
            a slow one.
        rows: Of each batch, those that will be looked at, all if `None`: the others are not decoded, unless images are
            mixed, and may hold anything.

    Returns:
        A data set of float32 (batch, *image_size, C) and int64 (batch,), or float32 (batch, classes) of soft labels.
    """
    steps = steps_per_epoch(split, recipe.batch_size)
    if isinstance(split, ArraySplit):
        batches = _array_batches(split, recipe, preprocessing, first_step, steps)
    else:
        decoded = range(recipe.batch_size) if rows is None or recipe.soft_labels else rows
        batches = _encoded_batches(split, recipe, preprocessing, first_step, steps, decoded)

    def augmented(step: tf.Tensor, pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), step])
        images = augment(pixels, recipe, preprocessing, seed)
        if not recipe.soft_labels:
            return images, labels
        return mix(images, labels, len(split.class_names), recipe, tf.random.fold_in(seed, 2))

    batches = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first_step, tf.int64)), batches).map(
        lambda step, batch: augmented(step, *batch), tf.data.AUTOTUNE
    )
    return batches.with_options(_options(deterministic)).prefetch(tf.data.AUTOTUNE)


def evaluation_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of a split once, in order: float32 (≤ batch_size, *image_size, C) and int64 labels."""
    batches = pixel_batches(split, preprocessing, batch_size)
    batches = batches.map(lambda pixels, labels: (normalize(pixels, preprocessing), labels), tf.data.AUTOTUNE)
    if len(split) * int(np.prod(preprocessing.image_size)) * preprocessing.channels * 4 <= CACHE_BYTES:
        batches = batches.cache()
    return batches.with_options(_options(deterministic=True)).prefetch(tf.data.AUTOTUNE)


def validation_batches(split: Split, recipe: Recipe, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns what `evaluation_batches` does, with labels of the kind that the recipe trains on."""
    batches = evaluation_batches(split, preprocessing, batch_size)
    if not recipe.soft_labels:
        return batches
    return batches.map(lambda images, labels: (images, tf.one_hot(labels, len(split.class_names))), tf.data.AUTOTUNE)


def pixel_batches(split: Split, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of a split once, cropped but not normalised: pixels 0–255 (≤ batch_size, *image_size, C)."""
    if isinstance(split, ArraySplit):
        batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).batch(batch_size)
        return batches.map(lambda images, labels: (_fitted(images, preprocessing), labels), tf.data.AUTOTUNE)

    def cropped(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return crop(decode(encoded, preprocessing.channels), preprocessing), label

    return _encoded(split).map(cropped, tf.data.AUTOTUNE).batch(batch_size)


def whole_images(split: Split, channels: int) -> tf.data.Dataset:
    """Returns every image of a split once, in order and as it is: uint8 (H, W, channels), and its label."""
    if isinstance(split, ArraySplit):
        pairs = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        return pairs.map(lambda image, label: (with_channels(image, channels), label), tf.data.AUTOTUNE)
    return _encoded(split).map(lambda encoded, label: (decode(encoded, channels), label), tf.data.AUTOTUNE)


def pixel_array(split: Split, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images of a split, cropped, as whole pixels: uint8 (N, *image_size, C), and labels (N,)."""
    batches = list(pixel_batches(split, preprocessing, 128).as_numpy_iterator())
    pixels = np.concatenate([images for images, _ in batches])
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), np.concatenate([labels for _, labels in batches])


def _options(deterministic: bool) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = deterministic
    # Between several workers: each reads all and keeps its share. Sharding by files would need a file per worker.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options


def _fitted(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Resizes a batch of images of one size and gives it the network's channels, where it has not both already."""
    return crop(with_channels(images, preprocessing.channels), preprocessing)


def _shuffled(position: tf.Tensor, epoch_images: int, images: int, seed: int) -> tf.Tensor:
    """Returns which of `images` stands at a position of the run: another permutation in each epoch."""
    epoch, place = position // epoch_images, position % epoch_images
    epoch = tf.reshape(epoch, (-1,))[0]  # a batch lies in one epoch
    return tf.random.experimental.index_shuffle(
        place, seed=tf.stack([tf.cast(seed, tf.int64), epoch]), max_index=tf.constant(images - 1, tf.int64)
    )


def _array_batches(
    split: ArraySplit, recipe: Recipe, preprocessing: Preprocessing, first_step: int, steps: int
) -> tf.data.Dataset:
    with tf.device("CPU"):
        images, labels = tf.constant(split.images), tf.constant(split.labels)
    epoch_images = steps * recipe.batch_size

    def gathered(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = _shuffled(positions, epoch_images, len(split), recipe.seed)
        return _fitted(tf.gather(images, chosen), preprocessing), tf.gather(labels, chosen)

    def cropped(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = _shuffled(position, epoch_images, len(split), recipe.seed)
        image = with_channels(images[chosen], preprocessing.channels)
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), position])
        return random_crop_of(image, recipe, preprocessing, seed), labels[chosen]

    positions = tf.data.Dataset.range(first_step * recipe.batch_size, recipe.epochs * epoch_images)
    if recipe.shorter_side or recipe.crop_area:
        return positions.map(cropped, tf.data.AUTOTUNE).batch(recipe.batch_size, drop_remainder=True)
    return positions.batch(recipe.batch_size, drop_remainder=True).map(gathered, tf.data.AUTOTUNE)


def _encoded_batches(
    split: FileSplit | RecordSplit,
    recipe: Recipe,
    preprocessing: Preprocessing,
    first_step: int,
    steps: int,
    rows: range,
) -> tf.data.Dataset:
    epoch_images = steps * recipe.batch_size
    first = first_step * recipe.batch_size
    if isinstance(split, FileSplit):
        paths, labels = tf.constant(split.paths), tf.constant(split.labels)

        def picked(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = _shuffled(position, epoch_images, len(split), recipe.seed)
            return tf.io.read_file(paths[chosen]), labels[chosen]

        encoded = tf.data.Dataset.range(first, recipe.epochs * epoch_images).map(picked, tf.data.AUTOTUNE)
    else:
        records = _encoded(split)

        def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
            tf.random.set_seed(recipe.seed + 1)  # of this function's graph alone: `shuffle` mixes it with its own
            shuffled = records.shuffle(SHUFFLE_IMAGES, seed=epoch, reshuffle_each_iteration=False)
            return shuffled.take(epoch_images)

        done_epochs, done_images = divmod(first, epoch_images)
        encoded = tf.data.Dataset.range(done_epochs, recipe.epochs).flat_map(epoch_of).skip(done_images)

    def cropped(position: tf.Tensor, record: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = record
        if recipe.shorter_side is None and recipe.crop_area is None:
            return crop(decode(image, preprocessing.channels), preprocessing), label
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), position])
        return random_crop(image, recipe, preprocessing, seed), label

    def looked_at(position: tf.Tensor, record: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        row = position % recipe.batch_size
        blank = tf.zeros((*preprocessing.image_size, preprocessing.channels))
        own = (row >= rows.start) & (row < rows.stop)
        return tf.cond(own, lambda: cropped(position, record)[0], lambda: blank), record[1]

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first, tf.int64)), encoded)
    shown = cropped if len(rows) == recipe.batch_size else looked_at
    return numbered.map(shown, tf.data.AUTOTUNE).batch(recipe.batch_size, drop_remainder=True)


def _encoded(split: FileSplit | RecordSplit) -> tf.data.Dataset:
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
