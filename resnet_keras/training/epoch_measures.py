"""Measures of epochs that Keras's validation does not have, such as the average precision of a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from resnet_keras.distributed import multi_worker
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.training.callbacks import ProgressTracker
from resnet_keras.training.ema import ValidateAverage
from resnet_keras.training.task import EpochMeasure


class EpochMeasures(keras.callbacks.Callback):
    """Adds measures of the network to the logs of epochs, as `val_NAME`.

    It stands before the callbacks that read them. Of several workers, one measures, and all have the result.

    Args:
        measure: Measures the network as it is.
        every: Epochs between two measurements.
        tracker: Position of the run.
        average: Moving average of the weights, which is measured instead of them.
        after_batch: Callbacks that a batch of validation is told.
        strategy: Strategy of the run.
    """

    def __init__(
        self,
        measure: EpochMeasure,
        every: int,
        tracker: ProgressTracker,
        average: ValidateAverage | None,
        after_batch: Sequence[keras.callbacks.Callback],
        strategy: Strategy,
    ) -> None:
        super().__init__()
        self.measure, self.every, self.tracker, self.average = measure, every, tracker, average
        self._after_batch, self._strategy = tuple(after_batch), strategy

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the measures, in an epoch whose steps are done."""
        if logs is None or not self.tracker.complete or (epoch + 1) % self.every:
            return
        if self.average:
            self.average.on_test_begin()
        try:
            found = {} if multi_worker.worker_rank(self._strategy)[0] else self.measure(self._counted())
        finally:
            if self.average:
                self.average.on_test_end()
        found = multi_worker.broadcast(self._strategy, found)
        logs.update({f"val_{name}": value for name, value in found.items()})

    def _counted(self) -> Callable[[], None]:
        batches = 0

        def after_batch() -> None:
            nonlocal batches
            batches += 1
            for callback in self._after_batch:
                callback.on_test_batch_end(batches - 1)

        return after_batch
