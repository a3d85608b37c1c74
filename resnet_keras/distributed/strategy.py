"""Strategies: one device, or several replicas with equal weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from resnet_keras.distributed.cluster import cluster
from resnet_keras.distributed.multi_worker import mean_over_workers, spans_workers
from resnet_keras.layers.traversal import flat_layers

Strategy: TypeAlias = "tf.distribute.Strategy | None"
"""A strategy of TensorFlow; `None` for a single device."""


def create_strategy(cpu_replicas: int | None = None) -> Strategy:
    """Returns a `MirroredStrategy` over all visible GPUs, or over logical CPUs; `None` for a single device.

    On Keras's JAX backend, several of its devices share each batch by `keras.distribution.DataParallel`, which is set
    for the process, and the strategy is `None`; `on_one_device` undoes it.

    Where the environment describes several machines (see `cluster`), it is a `MultiWorkerMirroredStrategy` over the
    GPUs of all of them, or their CPUs; it waits until all have started. Nothing of TensorFlow may have run before.

    Args:
        cpu_replicas: Number of logical devices to divide the CPU into, which are used instead of GPUs. They are no
            faster than one; they show on any machine what several devices will compute.

    Raises:
        ValueError: `cpu_replicas` is below 1, or given with several machines.
        RuntimeError: TensorFlow has started with another number of logical CPUs.
    """
    if keras.backend.backend() == "jax":
        if len(keras.distribution.list_devices()) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        return None
    machines = cluster()
    if machines is not None:
        if cpu_replicas is not None:
            raise ValueError(f"Expected no CPU replicas with several machines. Received: {cpu_replicas}")
        return tf.distribute.MultiWorkerMirroredStrategy(machines.resolver)
    if cpu_replicas is None:
        gpus = tf.config.list_physical_devices("GPU")
        return _mirrored() if len(gpus) > 1 else None
    if cpu_replicas < 1:
        raise ValueError(f"Expected at least 1 CPU replica. Received: {cpu_replicas}")
    if cpu_replicas == 1:
        return None
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured is None or len(configured) != cpu_replicas:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * cpu_replicas)
        except RuntimeError as error:
            raise RuntimeError(
                f"Expected TensorFlow not to have started before its CPU is divided into {cpu_replicas}. "
                f"Received: {len(tf.config.list_logical_devices('CPU'))} logical CPUs, in use"
            ) from error
    return _mirrored(*(f"CPU:{i}" for i in range(cpu_replicas)))


@cache
def _mirrored(*devices: str) -> tf.distribute.MirroredStrategy:
    """Returns the strategy over these devices, or over all GPUs: the same for all trainings of a process.

    A second strategy over the same devices numbers its collective operations from the beginning, and TensorFlow then
    expects of each the shape that it had under the first.
    """
    return tf.distribute.MirroredStrategy(list(devices) or None)


def on_one_device() -> None:
    """Stops sharing batches among JAX's devices, so that they can have any size."""
    if keras.distribution.distribution() is not None:
        keras.distribution.set_distribution(None)


def scope(strategy: Strategy) -> AbstractContextManager:
    """Returns the context in which to create variables."""
    return nullcontext() if strategy is None else strategy.scope()


def replicas(strategy: Strategy) -> int:
    """Returns the number of replicas that share a batch."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def gpus() -> list[str]:
    """Returns the names of the GPUs that TensorFlow sees; one whose name it does not know is "GPU"."""
    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return [each.get("device_name", "GPU") for each in details]


def can_share(images: int) -> bool:
    """Returns whether the devices can share this many images: JAX's need equal parts, TensorFlow's do not."""
    spread = keras.distribution.distribution()
    return spread is None or images % spread.device_mesh.devices.size == 0


def replica_values(strategy: Strategy) -> Callable[[keras.Variable], Sequence]:
    """Returns a function from a variable to its copies, one for each replica of this process."""
    if strategy is None:
        return lambda variable: [variable]
    return lambda variable: strategy.experimental_local_results(variable.value)


class AverageStatistics(keras.callbacks.Callback):
    """Averages the moving statistics across replicas, before validation and after each epoch.

    Each replica updates its own copy. Without averaging, validation would mix the replicas' results, and a file would
    hold the statistics of the first.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self.strategy = strategy

    def on_test_begin(self, logs: Any = None) -> None:
        """Averages before validation."""
        self.average()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Averages before a checkpoint."""
        self.average()

    def average(self) -> None:
        """Averages now. With several workers, all must call it."""
        if self.strategy is None:
            return
        variables = [v for layer in flat_layers(self.model) for v in layer.non_trainable_variables]
        statistics = [v for v in variables if "float" in v.dtype]  # others are states of random generators, all equal
        replica_values = [self.strategy.experimental_local_results(variable.value) for variable in statistics]
        means = [tf.reduce_mean(tf.stack([copy.read_value() for copy in group]), axis=0) for group in replica_values]
        if means and spans_workers(self.strategy):
            flat = mean_over_workers(self.strategy, tf.concat([tf.reshape(mean, (-1,)) for mean in means], 0))
            parts = tf.split(flat, [tf.size(mean) for mean in means])
            means = [tf.reshape(part, mean.shape) for part, mean in zip(parts, means, strict=True)]
        for group, mean in zip(replica_values, means, strict=True):
            for copy in group:
                copy.assign(mean)
