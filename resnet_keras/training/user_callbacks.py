"""Callbacks that the caller of `train` brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import keras

from resnet_keras.training.callbacks import ProgressTracker
from resnet_keras.training.ema import WeightAverage


class UserCallbacks(keras.callbacks.Callback):
    """Runs the caller's callbacks, which see one training of all epochs, as `keras.Model.fit` has it.

    A run consists of several calls of `fit`: one for each image size, and one for the rest of an epoch that resumes in
    its middle. The caller's callbacks are called once at the start and once at the end of the training, and batches
    are numbered within the epoch. At the end of an epoch, `logs` has the losses and metrics of training and validation,
    as in Keras, and `learning_rate`, that of its last step. With a moving average of the weights, which is what
    validation measures and the run results in, the network has the averages then and at the end of validation and
    training; weights that a callback sets there keep what it sets.

    Args:
        callbacks: The caller's callbacks.
        tracker: Position of the run.
        average: Moving average of the weights, if the run has one.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        tracker: ProgressTracker,
        average: WeightAverage | None = None,
    ) -> None:
        super().__init__()
        self.callbacks, self.tracker, self.average = tuple(callbacks), tracker, average
        self._logs: dict[str, Any] = {}

    def start(self, model: keras.Model) -> None:
        """Starts the training of all epochs."""
        self.set_model(model)
        model.stop_training = False
        for callback in self.callbacks:
            callback.set_params(
                {"verbose": 0, "epochs": self.tracker.recipe.schedule.epochs, "steps": self.tracker.steps}
            )
            callback.set_model(model)
            callback.on_train_begin()

    def finish(self) -> None:
        """Ends the training of all epochs."""
        for callback in self.callbacks:
            callback.on_train_end(self._logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_epoch_begin(epoch, logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Calls the callbacks with the learning rate among the logs."""
        self._logs = {**(logs or {}), "learning_rate": self.tracker.learning_rate}
        self._call_with_averages(lambda callback: callback.on_epoch_end(epoch, self._logs))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_train_batch_begin(self.tracker.offset + batch, logs))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_train_batch_end(self.tracker.offset + batch, logs))

    def on_test_begin(self, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_test_begin(logs))

    def on_test_end(self, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call_with_averages(lambda callback: callback.on_test_end(logs))

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_test_batch_begin(batch, logs))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Calls the callbacks."""
        self._call(lambda callback: callback.on_test_batch_end(batch, logs))

    def _call_with_averages(self, hook: Callable[[keras.callbacks.Callback], None]) -> None:
        with self.average.in_model() if self.average and self.callbacks else nullcontext():
            self._call(hook)

    def _call(self, hook: Callable[[keras.callbacks.Callback], None]) -> None:
        for callback in self.callbacks:
            hook(callback)
