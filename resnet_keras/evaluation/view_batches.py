"""Batches of views for an evaluation: each image of a split once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from resnet_keras.data.evaluation_input import evaluation_batches, whole_images
from resnet_keras.data.image_ops import with_channels
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import Split
from resnet_keras.evaluation.views import Views

_HELD_BATCHES = 8


class ViewBatch(NamedTuple):
    """Views of some images of a split.

    Attributes:
        positions: Positions of the images in the split (N,).
        inputs: For each classifier and each scale, normalized views (N, views, H, W, C); can be iterated once.
        labels: Class indices (N,).
    """

    positions: np.ndarray
    inputs: Iterable[Iterable[np.ndarray]]
    labels: np.ndarray


def view_batches(
    split: Split, preprocessings: Sequence[Preprocessing], views: Views, batch_size: int
) -> Iterator[ViewBatch]:
    """Yields each image of a split once, with about `batch_size` views in a batch, for each of `preprocessings`.

    Full images are batched by shape, and so are not in the order of the split.
    """
    if views.crops == "full":
        return _whole(split, preprocessings, views, batch_size)
    if len(preprocessings) == 1 and views == Views(average=views.average):
        return _centers(split, preprocessings[0], batch_size)
    return _crops(split, preprocessings, views, batch_size)


def _centers(split: Split, preprocessing: Preprocessing, batch_size: int) -> Iterator[ViewBatch]:
    start = 0
    for images, labels in evaluation_batches(split, preprocessing, batch_size).as_numpy_iterator():
        yield ViewBatch(np.arange(start, start + len(labels)), [[images[:, None]]], labels)
        start += len(labels)


def _crops(split: Split, preprocessings: Sequence[Preprocessing], views: Views, batch_size: int) -> Iterator[ViewBatch]:
    """Yields batches of crops. They have one size, so images are decoded and cropped in parallel."""

    def cropped(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return tuple(tuple(_views(image, preprocessing, views)) for preprocessing in preprocessings), label

    images = whole_images(split, max(each.channels for each in preprocessings))
    batches = mapped(images, cropped).batch(max(1, batch_size // views.count)).prefetch(1)
    start = 0
    for inputs, labels in batches.as_numpy_iterator():
        yield ViewBatch(np.arange(start, start + len(labels)), inputs, labels)
        start += len(labels)


def _whole(split: Split, preprocessings: Sequence[Preprocessing], views: Views, batch_size: int) -> Iterator[ViewBatch]:
    held: dict[tuple[int, ...], list[tuple[int, np.ndarray, np.ndarray]]] = {}
    most = max(1, batch_size // views.count)

    def batch(shape: tuple[int, ...]) -> ViewBatch:
        positions, images, labels = zip(*held.pop(shape), strict=True)
        stacked = tf.constant(np.stack(images))
        # One scale at a time: all scales of a batch of large images would not fit in memory together.
        inputs = ((view.numpy() for view in _views(stacked, each, views)) for each in preprocessings)
        return ViewBatch(np.array(positions), inputs, np.array(labels))

    pairs = whole_images(split, max(each.channels for each in preprocessings)).prefetch(most)
    for position, (image, label) in enumerate(pairs.as_numpy_iterator()):
        held.setdefault(image.shape, []).append((position, image, label))
        if len(held[image.shape]) == most:
            yield batch(image.shape)
        elif sum(map(len, held.values())) >= _HELD_BATCHES * most:
            yield batch(max(held, key=lambda shape: len(held[shape])))
    for shape in list(held):
        yield batch(shape)


def _views(image: tf.Tensor, preprocessing: Preprocessing, views: Views) -> Iterator[tf.Tensor]:
    """Yields the views of images for one classifier, scale by scale."""
    image = with_channels(image, preprocessing.channels)
    return (views.of(image, preprocessing, side) for side in views.sides(preprocessing))
