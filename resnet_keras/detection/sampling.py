"""Random samples of anchors and proposals to train on, of fixed size."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops


class Sample(NamedTuple):
    """Anchors or proposals of each image that are trained on.

    Attributes:
        indices: Their indices, int32 (N, count): first those with an object, then background.
        positive: 1 for those with an object, 0 for others, float32 (N, count).
        valid: 1 for those that count, 0 for padding where there were too few, float32 (N, count).
    """

    indices: Any
    positive: Any
    valid: Any


def balanced_sample(labels: Any, count: int, positive_fraction: float, keys: Any) -> Sample:
    """Returns a random sample of each image, as torchvision's `BalancedPositiveNegativeSampler` draws it.

    At most a fraction of it has objects; background fills the rest.

    Args:
        labels: At least 1 for an object, 0 for background, and -1 for what is not sampled: (N, candidates).
        count: Size of the sample, with padding.
        positive_fraction: Largest fraction of `count` with objects.
        keys: Random numbers of [0, 1), by which candidates are drawn: float32 (N, candidates). See `random_keys`.
    """
    candidates = labels.shape[1]
    most = min(int(count * positive_fraction), candidates)
    slots = min(count, candidates)
    positive_keys, positives = ops.top_k(ops.where(labels >= 1, keys, -1.0), max(most, 1))
    negative_keys, negatives = ops.top_k(ops.where(labels == 0, keys, -1.0), slots)
    found = ops.minimum(ops.sum(ops.cast(positive_keys >= 0, "int32"), 1, keepdims=True), most)
    background = ops.minimum(ops.sum(ops.cast(negative_keys >= 0, "int32"), 1, keepdims=True), count - found)
    place = ops.broadcast_to(ops.arange(count)[None], (ops.shape(labels)[0], count))
    positive = place < found
    source = ops.where(positive, place, max(most, 1) + ops.minimum(place - found, slots - 1))
    indices = ops.take_along_axis(ops.concatenate([positives, negatives], 1), source, axis=1)
    valid = place < found + background
    return Sample(ops.cast(indices, "int32"), ops.cast(positive, "float32"), ops.cast(valid, "float32"))


def random_keys(shape: tuple[Any, int], seed: keras.random.SeedGenerator) -> Any:
    """Returns random numbers of [0, 1) for the images of this replica: float32 of `shape`.

    They are drawn for the images of all replicas, of which each takes its own: several replicas draw what one device
    draws for the whole batch.

    Args:
        shape: Number of images of the replica, and of numbers for each.
        seed: Generator that was made in the constructor of a layer.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return keras.random.uniform(shape, seed=seed)
    context = tf.distribute.get_replica_context()
    own = context.replica_id_in_sync_group if context is not None else 0
    keys = keras.random.uniform((replicas * shape[0], shape[1]), seed=seed)
    start = ops.cast(own, "int32") * ops.cast(shape[0], "int32")
    return tf.reshape(tf.gather(keys, start + tf.range(shape[0])), (-1, shape[1]))
