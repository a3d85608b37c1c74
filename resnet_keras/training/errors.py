"""What can go wrong while a run goes on, in a sentence: memory, disks, images that vanish, and silence."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.data.tensorflow_errors import reason_of
from resnet_keras.recipes.recipe import Recipe

SILENCE_SECONDS = 300.0
"""A step that takes longer is told of."""


@contextmanager
def explain_failures(recipe: Recipe) -> Iterator[None]:
    """Turns what TensorFlow says at length into a sentence that tells what to do.

    Raises:
        MemoryError: The device's memory is too small for the batch.
        OSError: The disk is full, or images cannot be read any more.
    """
    again = "the same command goes on from the last checkpoint"
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        first = reason_of(error.message)
        if "No space left" in error.message:
            raise OSError(errno.ENOSPC, f"Expected space on the disk. Received: {first}; {again}") from None
        raise MemoryError(
            f"Expected memory for {recipe.batch_size} images in a step. Received: {first}; try --accumulate "
            f"{2 * recipe.accumulate}, a smaller --batch-size or --precision mixed_bfloat16"
        ) from None
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError) as error:
        first = reason_of(error.message)
        raise OSError(errno.EIO, f"Expected the images to stay where they are. Received: {first}; {again}") from None


class StallWatchdog(keras.callbacks.Callback):
    """Tells when no step ends for long, as with a file system that no longer answers."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self.log = log
        self.last = time.monotonic()
        self.over = threading.Event()

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins to watch."""
        self.last = time.monotonic()
        self.over = threading.Event()
        threading.Thread(target=self._watch, args=(self.over,), daemon=True).start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes that a step has ended."""
        self.last = time.monotonic()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes that a step of a validation has ended."""
        self.last = time.monotonic()

    def on_train_end(self, logs: Any = None) -> None:
        """Stops watching."""
        self.over.set()

    def close(self) -> None:
        """Stops watching, however the training has ended."""
        self.over.set()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(SILENCE_SECONDS / 10):
            silent = time.monotonic() - self.last
            if silent > SILENCE_SECONDS:
                self.log(f"  no step has ended for {silent:,.0f} s: do the images still come?")
                self.last = time.monotonic()
