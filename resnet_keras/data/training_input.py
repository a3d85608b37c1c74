"""Batches for training, by `tf.data`.

The image at a position of the run and its augmentation are functions of the seed and the position alone. So two runs
with one seed see the same images, and a resumed run sees the images that are left. Files and records are read one by
one, in an order drawn from all of them: what is before the first step, or of other rows of the batches, is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from resnet_keras.data.augmentation import (
    BatchRows,
    augment,
    draw_mirrored,
    normalize_and_mirror,
    random_crop,
    random_crop_of,
)
from resnet_keras.data.auto_augment import rand_augment, trivial_augment
from resnet_keras.data.evaluation_input import fitted, options
from resnet_keras.data.image_ops import crop, decode, with_channels
from resnet_keras.data.mapping import mapped
from resnet_keras.data.mixup import mix_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import RunOrder, read_images
from resnet_keras.data.settings import Augmentation
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

_Triple = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # pixels or bytes, label, and index in the split


def steps_per_epoch(split: Split, batch_size: int, *, carry_over: bool = False) -> int:
    """Returns the number of full batches in the split; the images left over differ from epoch to epoch.

    Args:
        split: Images to train on.
        batch_size: Images per step.
        carry_over: Whether the next epoch fills the last batch, so that no images are left over.

    Raises:
        ValueError: The split does not fill a batch.
    """
    if carry_over:
        return -(-len(split) // batch_size)
    if len(split) < batch_size:
        raise ValueError(
            f"Expected `batch_size` to be at most {len(split)}, all training images. Received: {batch_size}"
        )
    return len(split) // batch_size


def training_batches(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation | None = None,
    *,
    batch_size: int,
    epochs: int,
    seed: int = 0,
    one_hot: bool = False,
    first_step: int = 0,
    last_step: int | None = None,
    deterministic: bool = True,
    rows: range | None = None,
    carry_over: bool = False,
) -> tf.data.Dataset:
    """Returns the shuffled and augmented batches of a run, from step `first_step` up to `last_step`.

    Args:
        split: Images to train on.
        preprocessing: Size and normalization of the network's input.
        augmentation: Random changes of images and labels; none if `None`.
        batch_size: Images per step.
        epochs: Passes over the images.
        seed: Seed of the order of the images and of their augmentation, at least 0.
        one_hot: Whether labels are one-hot; always so if the augmentation makes them soft.
        first_step: Number of steps that are done already.
        last_step: Step to stop before; the end of the run if `None`.
        deterministic: Whether batches must come in the order that the seed determines, at the cost of waiting for
            a slow one.
        rows: Rows of each batch that are returned; all if `None`. Others are not read, except for those that these
            are mixed with.
        carry_over: Whether images that do not fill the last batch of an epoch are trained with the first images of
            the next, instead of being left out.

    Returns:
        A data set of float32 (batch, *image_size, C), and int64 (batch,) or, for one-hot or soft labels, float32
        (batch, classes); `batch` is the number of `rows`.

    Raises:
        ValueError: The split does not fill a batch.
    """
    steps = steps_per_epoch(split, batch_size, carry_over=carry_over)
    augmentation = augmentation or Augmentation()
    rows = range(batch_size) if rows is None else rows
    read = _rows_to_read(rows, batch_size, augmentation)
    part = None if len(read) == batch_size else BatchRows(batch_size, read)
    order = RunOrder(
        images=len(split),
        epoch_images=len(split) if carry_over else steps * batch_size,
        batch_size=batch_size,
        rows=read,
        repeats=augmentation.repeated_augmentation,
        seed=seed,
        first_step=first_step,
        last_step=epochs * steps if last_step is None else last_step,
    )
    stream = _Stream(preprocessing, augmentation, order)
    one_hot = one_hot or augmentation.soft_labels
    if isinstance(split, ArraySplit):
        batches, finished = _array_batches(split, stream), False
    else:
        batches, finished = _encoded_batches(split, stream), stream.finishes_each_image

    def augmented(step: tf.Tensor, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor) -> tuple:
        step_seed = order.seed_at(step)
        alternate = augmentation.alternate_flip
        mirrored = _alternately_mirrored(chosen, step // steps, len(split), seed) if alternate else None
        images = augment(pixels, augmentation, preprocessing, step_seed, mirrored, finished=finished, part=part)
        if one_hot:
            mixing_seed = tf.random.fold_in(step_seed, 2)
            images, labels = mix_images(images, labels, len(split.class_names), augmentation, mixing_seed, part)
        if len(read) == len(rows):
            return images, labels
        first = read.index(rows.start)
        return images[first : first + len(rows)], labels[first : first + len(rows)]

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first_step, tf.int64)), batches)
    batches = mapped(numbered, lambda step, batch: augmented(step, *batch))
    return batches.with_options(options(deterministic)).prefetch(tf.data.AUTOTUNE)


def _rows_to_read(rows: range, batch_size: int, augmentation: Augmentation) -> tuple[int, ...]:
    """Returns the rows of a batch that some of its rows are made of, ascending."""
    partners = {batch_size - 1 - row for row in rows} if augmentation.mixup or augmentation.cutmix else set()
    return tuple(sorted({*rows} | partners))


@dataclass(frozen=True)
class _Stream:
    """The images of a run in their order, each augmented by itself."""

    preprocessing: Preprocessing
    augmentation: Augmentation
    order: RunOrder

    @property
    def finishes_each_image(self) -> bool:
        """Whether each image file is normalized and mirrored by itself: the batch is neither padded nor alternates."""
        return not (self.augmentation.pad_pixels or self.augmentation.alternate_flip)

    def finished(self, position: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """Returns the image at a position normalized and mirrored, if that is not done to the batch."""
        if not self.finishes_each_image:
            return pixels
        mirrored = None
        if self.augmentation.flip:
            size = self.order.batch_size
            mirrored = draw_mirrored(size, self.order.seed_at(position // size))[position % size]
        return normalize_and_mirror(pixels, self.preprocessing, mirrored)

    def auto_augmented(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Applies RandAugment or TrivialAugment to one image of pixels 0–255 (H, W, C), as the augmentation says."""
        mean = self.preprocessing.mean
        fill = mean if self.preprocessing.channel_order == "rgb" else mean[::-1]
        if self.augmentation.auto_augment == "trivial":
            return trivial_augment(image, tf.random.fold_in(seed, 3), fill=fill)
        if self.augmentation.auto_augment == "rand":
            return rand_augment(
                image,
                tf.random.fold_in(seed, 3),
                layers=self.augmentation.auto_augment_layers,
                magnitude=self.augmentation.auto_augment_magnitude,
                magnitude_std=self.augmentation.auto_augment_magnitude_std,
                fill=fill,
            )
        return image


def _alternately_mirrored(chosen: tf.Tensor, epoch: tf.Tensor, images: int, seed: int) -> tf.Tensor:
    """Returns which images an epoch mirrors, bool (N,): a random half of all, and in odd epochs the other half."""
    drawn = tf.random.experimental.index_shuffle(chosen, (seed, 2**31 - 1), tf.constant(images - 1, tf.int64))
    return (drawn + epoch) % 2 == 1


def _array_batches(split: ArraySplit, stream: _Stream) -> tf.data.Dataset:
    with tf.device("CPU"):
        images, labels = tf.constant(split.images), tf.constant(split.labels)
    preprocessing, augmentation = stream.preprocessing, stream.augmentation

    def gathered(positions: tf.Tensor) -> _Triple:
        chosen = stream.order.index_at(positions)
        return fitted(tf.gather(images, chosen), preprocessing), tf.gather(labels, chosen), chosen

    def augmented(position: tf.Tensor) -> _Triple:
        chosen = stream.order.index_at(position)
        image = with_channels(images[chosen], preprocessing.channels)
        seed = stream.order.seed_at(position)
        if augmentation.crops_each_image:
            image = random_crop_of(image, augmentation, preprocessing, seed)
        return stream.auto_augmented(fitted(image, preprocessing), seed), labels[chosen], chosen

    positions, size = stream.order.positions(), len(stream.order.rows)
    if augmentation.crops_each_image or augmentation.auto_augment:
        return mapped(positions, augmented).batch(size, drop_remainder=True)
    return mapped(positions.batch(size, drop_remainder=True), gathered)


def _encoded_batches(split: FileSplit | RecordSplit, stream: _Stream) -> tf.data.Dataset:
    preprocessing, augmentation = stream.preprocessing, stream.augmentation

    def augmented(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor, chosen: tf.Tensor) -> _Triple:
        seed = stream.order.seed_at(position)
        if augmentation.crops_each_image:
            pixels = random_crop(image, augmentation, preprocessing, seed)
        else:
            pixels = crop(decode(image, preprocessing.channels), preprocessing)
        return stream.finished(position, stream.auto_augmented(pixels, seed)), label, chosen

    images = mapped(read_images(split, stream.order), augmented)
    return images.batch(len(stream.order.rows), drop_remainder=True)
