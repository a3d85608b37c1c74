"""Where a run computes: one device, or several that mirror each other."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import tensorflow as tf


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
