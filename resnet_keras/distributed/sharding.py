"""Sharding: each worker's part of the images when several machines train together."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from resnet_keras.data.sampling import shard
from resnet_keras.data.splits import Split
from resnet_keras.distributed.multi_worker import spans_workers, worker_rank


def training_part(
    strategy: tf.distribute.Strategy | None, batches: tf.data.Dataset, batch_size: int
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns this worker's rows of every batch as the strategy wants them.

    The workers' rows, in their order, are the batch of one process.

    Args:
        strategy: The strategy; without several workers, the batches stay as they are.
        batches: The `own_rows` of each batch, enough for the epochs.
        batch_size: Images in a step over all replicas of all workers.

    Raises:
        ValueError: The batches have other rows.
    """
    if strategy is None or not spans_workers(strategy):
        return batches
    rows = len(own_rows(strategy, batch_size))
    if (found := tf.nest.flatten(batches.element_spec)[0].shape[0]) not in (None, rows):
        raise ValueError(f"Expected the {rows} rows of this worker in each batch. Received: {found}")
    workers, replicas = worker_rank(strategy)[1], strategy.num_replicas_in_sync

    def own(_: tf.distribute.InputContext) -> tf.data.Dataset:
        parts = batches
        if replicas > workers:  # a batch for each GPU
            parts = parts.rebatch(batch_size // replicas, drop_remainder=True)
        # With an endless data set the workers need not agree before each step that there is another batch.
        return parts.repeat().prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(own)


def own_rows(strategy: tf.distribute.Strategy | None, batch_size: int) -> range:
    """Returns the rows of a batch that are this worker's."""
    worker, workers = worker_rank(strategy)
    return range(worker * batch_size // workers, (worker + 1) * batch_size // workers)


def validation_part(
    strategy: tf.distribute.Strategy | None,
    split: Split,
    batches_of: Callable[[Split, int], tf.data.Dataset],
    batch_size: int,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns this worker's part of a split; together the parts have every image once.

    Every replica gets as many batches as every other, none of them empty: a replica that ran out first would leave the
    others waiting.

    Args:
        strategy: The strategy; without several workers, the split's batches stay whole, for Keras to spread.
        split: Images of all workers.
        batches_of: Returns the batches of a split, given a batch size.
        batch_size: Largest number of images in a step over all replicas of all workers.

    Raises:
        ValueError: There are fewer images than replicas.
    """
    if strategy is None or not spans_workers(strategy):
        return batches_of(split, shared_batch(len(split), batch_size, strategy.num_replicas_in_sync if strategy else 1))
    worker, workers = worker_rank(strategy)
    replicas = strategy.num_replicas_in_sync
    local = replicas // workers
    size = replica_batch(len(split), batch_size, replicas)

    def own(_: tf.distribute.InputContext) -> tf.data.Dataset:
        parts = [batches_of(shard(split, worker * local + i, replicas), size) for i in range(local)]
        if local == 1:
            return parts[0]
        # The batches of a step, one for each GPU, after each other.
        return tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.range(local).repeat())

    return strategy.distribute_datasets_from_function(own)


def validation_everywhere(
    strategy: tf.distribute.Strategy | None,
    images: int,
    batches_of: Callable[[int], tf.data.Dataset],
    batch_size: int,
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns all images for every worker; for measures that are no mean of those of the workers, as mean IoU.

    Args:
        strategy: The strategy; without several workers, Keras spreads the batches.
        images: Number of images.
        batches_of: Returns their batches, given a batch size.
        batch_size: Largest number of images in a step over all replicas of all workers.

    Raises:
        ValueError: A worker has more replicas than there are images.
    """
    if strategy is None or not spans_workers(strategy):
        return batches_of(shared_batch(images, batch_size, strategy.num_replicas_in_sync if strategy else 1))
    local = strategy.num_replicas_in_sync // worker_rank(strategy)[1]
    if images < local:
        raise ValueError(f"Expected a test image for each of the {local} replicas. Received: {images}")
    most = max(batch_size // strategy.num_replicas_in_sync, 1)
    # Each replica of a worker takes a batch of its own, so their number has to be a multiple of that of the replicas.
    fitting = (size for size in range(most, 0, -1) if -(-images // size) % local == 0)
    size = next(fitting, -(-images // local))
    return strategy.distribute_datasets_from_function(lambda _: batches_of(size))


def replica_batch(images: int, batch_size: int, replicas: int) -> int:
    """Returns a batch size with which `replicas`, each with every `replicas`-th image, have equally many batches.

    It is the largest such size up to a replica's part of `batch_size`; if there is none, all of a replica's images.

    Raises:
        ValueError: There are fewer images than replicas.
    """
    fewest, more = divmod(images, replicas)
    if not fewest:
        raise ValueError(f"Expected a test image for each of the {replicas} replicas. Received: {images}")
    if not more:
        return max(batch_size // replicas, 1)
    # Some replicas have one image more, which must not start a batch that the others lack.
    return next((size for size in range(batch_size // replicas, 1, -1) if fewest % size), fewest + 1)


def shared_batch(images: int, batch_size: int, replicas: int) -> int:
    """Returns the largest batch, up to `batch_size`, whose last one leaves no replica without an image."""
    return next(b for b in range(batch_size, 0, -1) if images % b == 0 or images % b >= replicas)
