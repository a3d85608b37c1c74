"""Where a run computes: one device, or several that mirror each other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.normalization import flat_layers


def strategy(cpu_replicas: int | None = None) -> tf.distribute.Strategy | None:
    """Returns a `MirroredStrategy` over all visible GPUs, or over logical CPUs; `None` for a single device.

    Args:
        cpu_replicas: Divide the CPU into this many devices and use those, not the GPUs. It is no faster than one;
            it shows, on any machine, what several devices will compute.

    Raises:
        ValueError: `cpu_replicas` is below 1.
        RuntimeError: TensorFlow has started with another number of logical CPUs.
    """
    if cpu_replicas is None:
        gpus = tf.config.list_physical_devices("GPU")
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else None
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
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(cpu_replicas)])


def scope(chosen: tf.distribute.Strategy | None) -> AbstractContextManager:
    """Returns the context in which to create variables."""
    return nullcontext() if chosen is None else chosen.scope()


def replicas(chosen: tf.distribute.Strategy | None) -> int:
    """Returns over how many devices a batch is spread."""
    return 1 if chosen is None else chosen.num_replicas_in_sync


class AverageStatistics(keras.callbacks.Callback):
    """Gives all replicas the mean of their moving statistics, before validation and after each epoch.

    Each replica moves its own copy. Left apart, a validation would mix their results, and a file hold the first's.
    """

    def __init__(self, chosen: tf.distribute.Strategy | None) -> None:
        super().__init__()
        self.chosen = chosen

    def on_test_begin(self, logs: Any = None) -> None:
        """Averages before validation."""
        self._average()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Averages before a checkpoint."""
        self._average()

    def _average(self) -> None:
        if self.chosen is None:
            return
        for layer in flat_layers(self.model):
            for variable in layer.non_trainable_variables:
                copies = self.chosen.experimental_local_results(variable.value)
                mean = tf.reduce_mean(tf.stack([copy.read_value() for copy in copies]), axis=0)
                for copy in copies:
                    copy.assign(mean)
