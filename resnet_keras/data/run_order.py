"""Order of the images in a run, and files and records read in it, one by one.

What is before the first step of a run that resumes, or in rows of the batches that others use, is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from resnet_keras.data.evaluation_input import checked_record
from resnet_keras.data.mapping import mapped
from resnet_keras.data.splits import FileSplit, RecordSplit


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """Order of the images in a run: in each epoch another permutation of all, by the seed.

    Attributes:
        images: Number of images.
        epoch_images: Number of them from one permutation.
        batch_size: Images of a batch.
        rows: Rows of each batch that are used.
        repeats: Times that an image comes in a row.
        seed: Seed of the order, at least 0.
        first_step: First step.
        last_step: Step to stop before.
    """

    images: int
    epoch_images: int
    batch_size: int
    rows: Sequence[int]
    repeats: int = 1
    seed: int = 0
    first_step: int = 0
    last_step: int

    def positions(self) -> tf.data.Dataset:
        """Returns the positions in the run of the images that are used, int64 ()."""
        return row_positions(self.batch_size, self.rows, self.first_step, self.last_step)

    def seed_at(self, position: tf.Tensor) -> tf.Tensor:
        """Returns the seed of the image at a position, or of the batch of a step, int64 (2,)."""
        return tf.stack([tf.cast(self.seed, tf.int64), position])

    def index_at(self, position: tf.Tensor) -> tf.Tensor:
        """Returns the index of the image at a position, or at each position of a batch."""
        epoch = position // self.epoch_images
        place = position % self.epoch_images // self.repeats
        last = tf.constant(self.images - 1, tf.int64)

        def permuted(place: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.index_shuffle(place, seed=self.seed_at(epoch), max_index=last)

        if position.shape.rank and self.epoch_images % self.batch_size:
            return tf.map_fn(lambda one: permuted(*one), (place, epoch), fn_output_signature=tf.int64)
        return permuted(place, tf.reshape(epoch, (-1,))[0])  # a batch lies in one epoch


def row_positions(batch_size: int, rows: Sequence[int], first_step: int, last_step: int) -> tf.data.Dataset:
    """Returns the positions in a run, int64 (), of some rows of each batch from `first_step` up to `last_step`."""
    count, of_batch = len(rows), tf.constant(rows, tf.int64)
    numbers = tf.data.Dataset.range(first_step * count, last_step * count)
    if count == batch_size:
        return numbers
    return mapped(numbers, lambda number: number // count * batch_size + of_batch[number % count])


def read_images(split: FileSplit | RecordSplit, order: RunOrder) -> tf.data.Dataset:
    """Returns the images of a run, encoded.

    Args:
        split: Their files or records.
        order: Their order, and which are used.

    Returns:
        A data set of position in the run, bytes, label and index in the split, each ().
    """
    if isinstance(split, FileSplit):
        with tf.device("CPU"):
            paths, labels = tf.constant(split.paths), tf.constant(split.labels)

    def read(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chosen = order.index_at(position)
        if isinstance(split, FileSplit):
            return position, tf.io.read_file(paths[chosen]), labels[chosen], chosen
        return position, *checked_record(split, *split.record(chosen)), chosen

    return mapped(order.positions(), read)
