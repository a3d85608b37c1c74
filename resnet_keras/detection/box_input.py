"""Batches of images and boxes for training and evaluation, by `tf.data`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet_keras.data.evaluation_input import options
from resnet_keras.data.image_ops import decode
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import row_positions
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.image_reading import explain_undecodable, image_reader

MOST_BOXES = 100
"""Boxes of an image in a batch, at most; an image of COCO has up to 93."""


@dataclass(frozen=True, kw_only=True)
class BoxAugmentation:
    """Random changes of an image and its boxes.

    Attributes:
        flip: Whether half of the images are mirrored.
        shorter_side: Range in pixels of the shorter side; the one of `fit` if `None`.
    """

    flip: bool = True
    shorter_side: tuple[int, int] | None = None


class CanvasBatch(NamedTuple):
    """Images on a canvas, for evaluation.

    Attributes:
        images: Normalized images, float32 (N, *image_size, C).
        sizes: Height and width of each on the canvas, int32 (N, 2).
        full_sizes: Height and width of each in its file, int32 (N, 2).
    """

    images: np.ndarray
    sizes: np.ndarray
    full_sizes: np.ndarray


def box_batches(
    split: BoxSplit,
    preprocessing: Preprocessing,
    augmentation: BoxAugmentation | None = None,
    *,
    batch_size: int,
    epochs: int = 1,
    seed: int = 0,
    first_step: int = 0,
    last_step: int | None = None,
    fit: tuple[int, int] | None = None,
    most_boxes: int | None = None,
    deterministic: bool = True,
    rows: range | None = None,
) -> tf.data.Dataset:
    """Returns the training batches of some epochs: shuffled, resized onto a canvas, and mirrored.

    Order and augmentation are functions of `seed` and the step alone: from `first_step` on, batches are those of a run
    that started at 0. Images that fill no batch are left out of an epoch. Images without objects are in the batches;
    difficult objects and crowds are not. Of more than `most_boxes` objects, that many are drawn at random.

    Args:
        split: Images with boxes.
        preprocessing: Its `image_size` is the canvas; channels, mean, and standard deviation apply.
        augmentation: Random changes; none if `None`.
        batch_size: Images in each batch.
        epochs: Passes over the images.
        seed: Seed of order and augmentation.
        first_step: Step to begin with.
        last_step: Step to stop before; the end of the epochs if `None`.
        fit: Shorter and longest side of each image on the canvas, where it is larger, as torchvision's (800, 1333);
            `None` fills the canvas.
        most_boxes: Number of boxes in each image, with padding; `None` is the largest of the split, at most 100.
        deterministic: Whether batches must come in their order.
        rows: Rows of each batch that are returned; all if `None`. Others are not read.

    Returns:
        A data set of images, float32 (batch, *image_size, C), and a dictionary: `boxes`, float32 (batch, most_boxes,
        4), edges in pixels of the canvas; `labels`, int32 (batch, most_boxes), 1 for the first class and 0 for padding;
        `sizes`, int32 (batch, 2), heights and widths of the images on the canvas.

    Raises:
        ValueError: The split fills no batch.
    """
    steps = len(split) // batch_size
    if not steps:
        raise ValueError(f"Expected `batch_size` of at most {len(split)}, the images. Received: {batch_size}")
    augmentation = augmentation or BoxAugmentation(flip=False)
    boxes, read = _FlatBoxes.of(split, most_boxes), image_reader(split)
    last = tf.constant(len(split) - 1, tf.int64)

    def augmented(position: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        epoch, place = position // (steps * batch_size), position % (steps * batch_size)
        order = tf.stack([tf.cast(seed, tf.int64), epoch])
        chosen = tf.random.experimental.index_shuffle(place, seed=order, max_index=last)
        image = decode(read(chosen), preprocessing.channels)
        image_seed = tf.stack([order[0], position])
        return _augmented(image, boxes, chosen, preprocessing, augmentation, fit, image_seed)

    stop = epochs * steps if last_step is None else last_step
    own = range(batch_size) if rows is None else rows
    positions = row_positions(batch_size, own, first_step, stop)
    batches = mapped(positions, augmented).batch(len(own), drop_remainder=True)
    return batches.with_options(options(deterministic)).prefetch(tf.data.AUTOTUNE)


def canvas_batches(
    split: BoxSplit, preprocessing: Preprocessing, batch_size: int, *, fit: tuple[int, int] | None = None
) -> Iterator[CanvasBatch]:
    """Yields every image of a split once, in order, on a canvas.

    Args:
        split: Images with boxes.
        preprocessing: Its `image_size` is the canvas; channels, mean, and standard deviation apply.
        batch_size: Images in each batch; the last may have fewer.
        fit: See `box_batches`.

    Raises:
        ValueError: An image does not decode; the message names it.
    """
    read = image_reader(split)

    def placed(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = decode(read(place), preprocessing.channels)
        full = tf.shape(image)[:2]
        size = resized_size(full, preprocessing.image_size, fit)
        return on_canvas(image, preprocessing, size), size, full

    batches = (
        mapped(tf.data.Dataset.range(len(split)), placed)
        .batch(batch_size)
        .with_options(options(deterministic=True))
        .prefetch(2)
    )
    with explain_undecodable(split):
        for batch in batches.as_numpy_iterator():
            yield CanvasBatch(*batch)


def most_boxes_of(split: BoxSplit) -> int:
    """Returns the number of boxes of each image in a batch: the largest of the split, at most 100."""
    return min(max([1, *(int(example.trained.sum()) for example in split.examples)]), MOST_BOXES)


@dataclass(frozen=True, eq=False)
class _FlatBoxes:
    """The trained boxes of all images in one tensor, those of image i in rows starts[i] to starts[i + 1]."""

    boxes: tf.Tensor
    labels: tf.Tensor
    starts: tf.Tensor
    most: int

    @classmethod
    def of(cls, split: BoxSplit, most_boxes: int | None) -> _FlatBoxes:
        kept = [example.trained for example in split.examples]
        counts = [int(each.sum()) for each in kept]
        boxes = [example.boxes[each] for example, each in zip(split.examples, kept, strict=True)]
        labels = [example.labels[each] + 1 for example, each in zip(split.examples, kept, strict=True)]
        with tf.device("CPU"):
            return cls(
                tf.constant(np.concatenate(boxes), tf.float32),
                tf.constant(np.concatenate(labels), tf.int32),
                tf.constant(np.concatenate([[0], np.cumsum(counts)]), tf.int64),
                most_boxes or most_boxes_of(split),
            )

    def of_image(self, chosen: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the boxes and labels of an image, at most `most` of them."""
        rows = tf.range(self.starts[chosen], self.starts[chosen + 1])
        rows = tf.cond(tf.size(rows) > self.most, lambda: _drawn(rows, self.most, seed), lambda: rows)
        return tf.gather(self.boxes, rows), tf.gather(self.labels, rows)


def _drawn(rows: tf.Tensor, count: int, seed: tf.Tensor) -> tf.Tensor:
    keys = tf.random.stateless_uniform(tf.shape(rows), seed)
    return tf.gather(rows, tf.sort(tf.math.top_k(keys, count).indices))


def _augmented(
    image: tf.Tensor,
    flat: _FlatBoxes,
    chosen: tf.Tensor,
    preprocessing: Preprocessing,
    augmentation: BoxAugmentation,
    fit: tuple[int, int] | None,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    flip_seed, side_seed, box_seed = tf.unstack(tf.random.split(seed, 3))
    drawn: tuple[int | tf.Tensor, int] | None = fit
    if augmentation.shorter_side:
        low, high = augmentation.shorter_side
        side = tf.random.stateless_uniform((), side_seed, low, high + 1, tf.int32)
        drawn = (side, fit[1] if fit else max(preprocessing.image_size))
    full = tf.shape(image)[:2]
    size = resized_size(full, preprocessing.image_size, drawn)
    boxes, labels = flat.of_image(chosen, box_seed)
    ratio = tf.cast(size, tf.float32) / tf.cast(full, tf.float32)
    boxes = boxes * tf.stack([ratio[1], ratio[0], ratio[1], ratio[0]])
    if augmentation.flip:
        mirrored = tf.random.stateless_uniform((), flip_seed) < 0.5
        image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
        width = tf.cast(size[1], tf.float32)
        swapped = tf.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        boxes = tf.where(mirrored, swapped, boxes)
    missing = flat.most - tf.size(labels)
    boxes = tf.ensure_shape(tf.pad(boxes, [[0, missing], [0, 0]]), (flat.most, 4))
    labels = tf.ensure_shape(tf.pad(labels, [[0, missing]]), (flat.most,))
    return on_canvas(image, preprocessing, size), {"boxes": boxes, "labels": labels, "sizes": size}
