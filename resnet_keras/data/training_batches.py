"""Batches for training, by `tf.data`.

Which image stands at a position of the run, and how it is augmented, are functions of the seed and the position
alone. So two runs with one seed see the same images, and a run that is continued sees those that are left.
"""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.augmentation import augment, random_crop, random_crop_of
from resnet_keras.data.evaluation_batches import encoded, fitted, options
from resnet_keras.data.image_ops import crop, decode, with_channels
from resnet_keras.data.mixup import mix_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.rand_augment import rand_augment, trivial_augment
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split
from resnet_keras.recipes.recipe import Recipe

SHUFFLE_IMAGES = 10_000
"""Encoded images among which a stream of records is shuffled: about 1 GB of ImageNet."""

_Triple = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # pixels or bytes, label, and place in the split


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
    last_step: int | None = None,
    deterministic: bool = True,
    rows: range | None = None,
) -> tf.data.Dataset:
    """Returns the batches of a run from step `first_step` up to `last_step`, shuffled and augmented as the recipe says.

    Args:
        split: Images to train on.
        recipe: Its batch size, epochs, augmentation and seed apply.
        preprocessing: Size and normalization of the network's input.
        first_step: Steps of the run that are done already.
        last_step: Step to stop before; the end of the run if `None`.
        deterministic: Whether batches must come in the order that the seed determines, at the price of waiting for
            a slow one.
        rows: Of each batch, those that will be looked at, all if `None`: the others are not decoded, unless images are
            mixed, and may hold anything.

    Returns:
        A data set of float32 (batch, *image_size, C) and int64 (batch,), or float32 (batch, classes) of soft labels.
    """
    steps = steps_per_epoch(split, recipe.batch_size)
    last_step = recipe.epochs * steps if last_step is None else last_step
    if isinstance(split, ArraySplit):
        batches = _array_batches(split, recipe, preprocessing, first_step, last_step, steps)
    else:
        decoded = range(recipe.batch_size) if rows is None or recipe.soft_labels else rows
        batches = _encoded_batches(split, recipe, preprocessing, first_step, last_step, steps, decoded)

    def augmented(step: tf.Tensor, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor) -> tuple:
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), step])
        mirrored = _in_turn(chosen, step // steps, len(split), recipe.seed) if recipe.alternate_flip else None
        images = augment(pixels, recipe, preprocessing, seed, mirrored)
        if not recipe.soft_labels:
            return images, labels
        return mix_images(images, labels, len(split.class_names), recipe, tf.random.fold_in(seed, 2))

    batches = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first_step, tf.int64)), batches).map(
        lambda step, batch: augmented(step, *batch), tf.data.AUTOTUNE
    )
    return batches.with_options(options(deterministic)).prefetch(tf.data.AUTOTUNE)


def _shuffled(position: tf.Tensor, epoch_images: int, images: int, recipe: Recipe) -> tf.Tensor:
    """Returns which of `images` stands at a position of the run: another permutation in each epoch."""
    epoch, place = position // epoch_images, position % epoch_images // recipe.repeats
    epoch = tf.reshape(epoch, (-1,))[0]  # a batch lies in one epoch
    return tf.random.experimental.index_shuffle(
        place, seed=tf.stack([tf.cast(recipe.seed, tf.int64), epoch]), max_index=tf.constant(images - 1, tf.int64)
    )


def _in_turn(chosen: tf.Tensor, epoch: tf.Tensor, images: int, seed: int) -> tf.Tensor:
    """Returns which images an epoch mirrors, bool (N,): half of all, drawn once, and in odd epochs the others."""
    drawn = tf.random.experimental.index_shuffle(chosen, (seed, 2**31 - 1), tf.constant(images - 1, tf.int64))
    return (drawn + epoch) % 2 == 1


def _changed(image: tf.Tensor, recipe: Recipe, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
    """Applies the recipe's policy to one image of pixels 0–255 (H, W, C)."""
    fill = preprocessing.mean if preprocessing.channel_order == "rgb" else preprocessing.mean[::-1]
    if recipe.policy == "trivial":
        return trivial_augment(image, tf.random.fold_in(seed, 3), fill=fill)
    if recipe.policy == "rand":
        return rand_augment(
            image,
            tf.random.fold_in(seed, 3),
            layers=recipe.policy_layers,
            magnitude=recipe.policy_magnitude,
            magnitude_std=recipe.policy_spread,
            fill=fill,
        )
    return image


def _array_batches(
    split: ArraySplit, recipe: Recipe, preprocessing: Preprocessing, first_step: int, last_step: int, steps: int
) -> tf.data.Dataset:
    with tf.device("CPU"):
        images, labels = tf.constant(split.images), tf.constant(split.labels)
    epoch_images = steps * recipe.batch_size

    def gathered(positions: tf.Tensor) -> _Triple:
        chosen = _shuffled(positions, epoch_images, len(split), recipe)
        return fitted(tf.gather(images, chosen), preprocessing), tf.gather(labels, chosen), chosen

    def shown(position: tf.Tensor) -> _Triple:
        chosen = _shuffled(position, epoch_images, len(split), recipe)
        image = with_channels(images[chosen], preprocessing.channels)
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), position])
        if recipe.crops_each_image:
            image = random_crop_of(image, recipe, preprocessing, seed)
        return _changed(fitted(image, preprocessing), recipe, preprocessing, seed), labels[chosen], chosen

    positions = tf.data.Dataset.range(first_step * recipe.batch_size, last_step * recipe.batch_size)
    if recipe.crops_each_image or recipe.policy:
        return positions.map(shown, tf.data.AUTOTUNE).batch(recipe.batch_size, drop_remainder=True)
    return positions.batch(recipe.batch_size, drop_remainder=True).map(gathered, tf.data.AUTOTUNE)


def _encoded_batches(
    split: FileSplit | RecordSplit,
    recipe: Recipe,
    preprocessing: Preprocessing,
    first_step: int,
    last_step: int,
    steps: int,
    rows: range,
) -> tf.data.Dataset:
    epoch_images = steps * recipe.batch_size
    first, last = first_step * recipe.batch_size, last_step * recipe.batch_size
    if isinstance(split, FileSplit):
        paths, labels = tf.constant(split.paths), tf.constant(split.labels)

        def picked(position: tf.Tensor) -> _Triple:
            chosen = _shuffled(position, epoch_images, len(split), recipe)
            return tf.io.read_file(paths[chosen]), labels[chosen], chosen

        images = tf.data.Dataset.range(first, last).map(picked, tf.data.AUTOTUNE)
    else:
        records = encoded(split).enumerate().map(lambda place, record: (*record, place), tf.data.AUTOTUNE)

        def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
            tf.random.set_seed(recipe.seed + 1)  # of this function's graph alone: `shuffle` mixes it with its own
            shuffled = records.shuffle(SHUFFLE_IMAGES, seed=epoch, reshuffle_each_iteration=False)
            if recipe.repeats > 1:
                shuffled = shuffled.flat_map(lambda *one: tf.data.Dataset.from_tensors(one).repeat(recipe.repeats))
            return shuffled.take(epoch_images)

        done_epochs, done_images = divmod(first, epoch_images)
        images = tf.data.Dataset.range(done_epochs, recipe.epochs).flat_map(epoch_of).skip(done_images)
        images = images.take(last - first)

    def shown(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor, chosen: tf.Tensor) -> _Triple:
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), position])
        if recipe.crops_each_image:
            pixels = random_crop(image, recipe, preprocessing, seed)
        else:
            pixels = crop(decode(image, preprocessing.channels), preprocessing)
        return _changed(pixels, recipe, preprocessing, seed), label, chosen

    def looked_at(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor, chosen: tf.Tensor) -> _Triple:
        row = position % recipe.batch_size
        blank = tf.zeros((*preprocessing.image_size, preprocessing.channels))
        own = (row >= rows.start) & (row < rows.stop)
        pixels = tf.cond(own, lambda: tf.cast(shown(position, image, label, chosen)[0], tf.float32), lambda: blank)
        return pixels, label, chosen

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first, tf.int64)), images)
    view = shown if len(rows) == recipe.batch_size else looked_at
    shown_images = numbered.map(lambda position, image: view(position, *image), tf.data.AUTOTUNE)
    return shown_images.batch(recipe.batch_size, drop_remainder=True)
