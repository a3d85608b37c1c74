"""Failures of a run in one sentence each: memory, disk, missing images, and a watchdog for stalls."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.checks.tensorflow_errors import reason_of
from resnet_keras.recipes.recipe import Recipe

_log = logging.getLogger(__name__)

STALL_SECONDS = 300.0
"""The watchdog warns of a step that takes longer."""


@contextmanager
def explain_failures(recipe: Recipe, replicas: int = 1) -> Iterator[None]:
    """Turns TensorFlow's long errors into one sentence with the next step.

    Args:
        recipe: Recipe of the run.
        replicas: Number of replicas that share a batch.

    Raises:
        MemoryError: The device's memory is too small for the batch.
        OSError: The disk is full, or images cannot be read any more.
    """
    again = "the same command resumes from the last checkpoint"
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        reason = reason_of(error.message)
        if "No space left" in error.message:
            raise OSError(errno.ENOSPC, f"Expected space on the disk. Received: {reason}; {again}") from None
        raise MemoryError(
            f"Expected memory for {recipe.data.batch_size} images in a step. Received: {reason}"
            f"{_less_memory(recipe, replicas)}"
        ) from None
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError) as error:
        reason = reason_of(error.message)
        raise OSError(errno.EIO, f"Expected the images to stay where they are. Received: {reason}; {again}") from None


def _less_memory(recipe: Recipe, replicas: int) -> str:
    """Returns the settings that take less memory, as far as the recipe can have them."""
    batch, parts = recipe.data.batch_size, recipe.optimization.accumulate
    found = []
    more = next((n for n in range(2 * parts, batch // replicas + 1) if batch % (n * replicas) == 0), None)
    if more and _accepts(recipe, accumulate=more):
        found.append(f"--accumulate {more}")
    if batch > replicas * parts:
        found.append("a smaller --batch-size")
    if recipe.optimization.precision == "float32" and _accepts(recipe, precision="mixed_bfloat16"):
        found.append("--precision mixed_bfloat16")
    *first, last = found or [""]
    return f"; try {', '.join(first)}{' or ' if first else ''}{last}" if found else ""


def _accepts(recipe: Recipe, **changes: Any) -> bool:
    try:
        recipe.replace(**changes)
    except ValueError:
        return False
    return True


class StallWatchdog(keras.callbacks.Callback):
    """Warns when no step ends for a long time, as with a file system that has stopped responding."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()
        self.over = threading.Event()

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the watching thread."""
        self.last = time.monotonic()
        self.over = threading.Event()
        threading.Thread(target=self._watch, args=(self.over,), daemon=True).start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the end of a step."""
        self.last = time.monotonic()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the end of a step of validation."""
        self.last = time.monotonic()

    def on_train_end(self, logs: Any = None) -> None:
        """Stops the watching thread."""
        self.over.set()

    def close(self) -> None:
        """Stops the watching thread, however the training has ended."""
        self.over.set()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(STALL_SECONDS / 10):
            seconds = time.monotonic() - self.last
            if seconds > STALL_SECONDS:
                _log.warning(f"no step has ended for {seconds:,.0f} s: is the storage of the images still responding?")
                self.last = time.monotonic()
