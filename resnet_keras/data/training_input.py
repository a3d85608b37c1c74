"""Batches for training, by `tf.data`.

The image at a position of the run and its augmentation are functions of the seed and the position alone. So two runs
with one seed see the same images, and a resumed run sees the images that are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from resnet_keras.data.augmentation import augment, draw_mirrored, normalize_and_mirror, random_crop, random_crop_of
from resnet_keras.data.auto_augment import rand_augment, trivial_augment
from resnet_keras.data.evaluation_input import encoded, fitted, options
from resnet_keras.data.image_ops import crop, decode, with_channels
from resnet_keras.data.mapping import mapped
from resnet_keras.data.mixup import mix_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.settings import Augmentation
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split

SHUFFLE_IMAGES = 10_000
"""Encoded images among which a stream of records is shuffled: about 1 GB of ImageNet."""

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
        rows: Rows of each batch that are used; all if `None`. Other rows are not decoded, unless images are mixed,
            and may hold anything.
        carry_over: Whether images that do not fill the last batch of an epoch are trained with the first images of
            the next, instead of being left out.

    Returns:
        A data set of float32 (batch, *image_size, C), and int64 (batch,) or, for one-hot or soft labels, float32
        (batch, classes).

    Raises:
        ValueError: The split does not fill a batch.
    """
    steps = steps_per_epoch(split, batch_size, carry_over=carry_over)
    stream = _Stream(
        preprocessing=preprocessing,
        augmentation=augmentation or Augmentation(),
        batch_size=batch_size,
        epoch_images=len(split) if carry_over else steps * batch_size,
        seed=seed,
        first_step=first_step,
        last_step=epochs * steps if last_step is None else last_step,
    )
    one_hot = one_hot or stream.augmentation.soft_labels
    if isinstance(split, ArraySplit):
        batches = _array_batches(split, stream)
    else:
        batches = _encoded_batches(split, stream, range(batch_size) if rows is None or one_hot else rows)

    def augmented(step: tf.Tensor, pixels: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor) -> tuple:
        step_seed = stream.seed_at(step)
        alternate = stream.augmentation.alternate_flip
        mirrored = _alternately_mirrored(chosen, step // steps, len(split), seed) if alternate else None
        finished = stream.finishes_each_image and not isinstance(split, ArraySplit)
        images = augment(pixels, stream.augmentation, preprocessing, step_seed, mirrored, finished=finished)
        if not one_hot:
            return images, labels
        return mix_images(images, labels, len(split.class_names), stream.augmentation, tf.random.fold_in(step_seed, 2))

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(first_step, tf.int64)), batches)
    batches = mapped(numbered, lambda step, batch: augmented(step, *batch))
    return batches.with_options(options(deterministic)).prefetch(tf.data.AUTOTUNE)


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """The images of a run in their order, from `first_step` up to `last_step`."""

    preprocessing: Preprocessing
    augmentation: Augmentation
    batch_size: int
    epoch_images: int  # from one permutation of the images
    seed: int
    first_step: int
    last_step: int

    @property
    def positions(self) -> range:
        """Positions of the images in the run."""
        return range(self.first_step * self.batch_size, self.last_step * self.batch_size)

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
            of_batch = draw_mirrored(self.batch_size, self.seed_at(position // self.batch_size))
            mirrored = of_batch[position % self.batch_size]
        return normalize_and_mirror(pixels, self.preprocessing, mirrored)

    def seed_at(self, position: tf.Tensor) -> tf.Tensor:
        """Returns the seed of the image at a position, or of the batch of a step, int64 (2,)."""
        return tf.stack([tf.cast(self.seed, tf.int64), position])

    def shuffled(self, position: tf.Tensor, images: int) -> tf.Tensor:
        """Returns the index of the image at a position, of `images`: another permutation in each epoch."""
        epoch = position // self.epoch_images
        place = position % self.epoch_images // self.augmentation.repeated_augmentation
        last = tf.constant(images - 1, tf.int64)

        def permuted(place: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
            seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
            return tf.random.experimental.index_shuffle(place, seed=seed, max_index=last)

        if position.shape.rank and self.epoch_images % self.batch_size:
            return tf.map_fn(lambda one: permuted(*one), (place, epoch), fn_output_signature=tf.int64)
        return permuted(place, tf.reshape(epoch, (-1,))[0])  # a batch lies in one epoch

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
        chosen = stream.shuffled(positions, len(split))
        return fitted(tf.gather(images, chosen), preprocessing), tf.gather(labels, chosen), chosen

    def augmented(position: tf.Tensor) -> _Triple:
        chosen = stream.shuffled(position, len(split))
        image = with_channels(images[chosen], preprocessing.channels)
        seed = stream.seed_at(position)
        if augmentation.crops_each_image:
            image = random_crop_of(image, augmentation, preprocessing, seed)
        return stream.auto_augmented(fitted(image, preprocessing), seed), labels[chosen], chosen

    positions = tf.data.Dataset.range(stream.positions.start, stream.positions.stop)
    if augmentation.crops_each_image or augmentation.auto_augment:
        return mapped(positions, augmented).batch(stream.batch_size, drop_remainder=True)
    return mapped(positions.batch(stream.batch_size, drop_remainder=True), gathered)


def _encoded_batches(split: FileSplit | RecordSplit, stream: _Stream, rows: range) -> tf.data.Dataset:
    preprocessing, augmentation = stream.preprocessing, stream.augmentation
    images = _file_images(split, stream) if isinstance(split, FileSplit) else _record_images(split, stream)

    def augmented(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor, chosen: tf.Tensor) -> _Triple:
        seed = stream.seed_at(position)
        if augmentation.crops_each_image:
            pixels = random_crop(image, augmentation, preprocessing, seed)
        else:
            pixels = crop(decode(image, preprocessing.channels), preprocessing)
        return stream.finished(position, stream.auto_augmented(pixels, seed)), label, chosen

    def used_alone(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor, chosen: tf.Tensor) -> _Triple:
        row = position % stream.batch_size
        blank = tf.zeros((*preprocessing.image_size, preprocessing.channels))
        used = (row >= rows.start) & (row < rows.stop)
        pixels = tf.cond(used, lambda: tf.cast(augmented(position, image, label, chosen)[0], tf.float32), lambda: blank)
        return pixels, label, chosen

    numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(tf.constant(stream.positions.start, tf.int64)), images)
    view = augmented if len(rows) == stream.batch_size else used_alone
    views = mapped(numbered, lambda position, image: view(position, *image))
    return views.batch(stream.batch_size, drop_remainder=True)


def _file_images(split: FileSplit, stream: _Stream) -> tf.data.Dataset:
    """Returns bytes, label and index of each image of the run."""
    paths, labels = tf.constant(split.paths), tf.constant(split.labels)

    def picked(position: tf.Tensor) -> _Triple:
        chosen = stream.shuffled(position, len(split))
        return tf.io.read_file(paths[chosen]), labels[chosen], chosen

    return mapped(tf.data.Dataset.range(stream.positions.start, stream.positions.stop), picked)


def _record_images(split: RecordSplit, stream: _Stream) -> tf.data.Dataset:
    """Returns bytes, label and index of each image of the run."""
    records = mapped(encoded(split).enumerate(), lambda index, record: (*record, index))
    copies = stream.augmentation.repeated_augmentation

    def epoch_of(epoch: tf.Tensor) -> tf.data.Dataset:
        tf.random.set_seed(stream.seed + 1)  # of this function's graph alone: `shuffle` mixes it with its own
        shuffled = records.shuffle(SHUFFLE_IMAGES, seed=epoch, reshuffle_each_iteration=False)
        if copies > 1:
            shuffled = shuffled.flat_map(lambda *one: tf.data.Dataset.from_tensors(one).repeat(copies))
        return shuffled.take(stream.epoch_images)

    done_epochs, done_images = divmod(stream.positions.start, stream.epoch_images)
    epochs = -(-stream.positions.stop // stream.epoch_images)
    images = tf.data.Dataset.range(done_epochs, epochs).flat_map(epoch_of).skip(done_images)
    return images.take(len(stream.positions))
