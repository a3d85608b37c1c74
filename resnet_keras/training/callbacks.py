"""Callbacks of a run: position and time, checkpoints and preemption, history and curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints, Progress, metric_variables
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.preemption import Preempted, PreemptionHandler
from resnet_keras.training.schedules import learning_rate_schedule

_CURVES_SECONDS = 60.0
_BEFORE_VALIDATION_SECONDS = 60.0
_PREEMPTION_STEPS = 20  # between two exchanges of workers about preemption


class ProgressTracker(keras.callbacks.Callback):
    """Keeps the position, the time and the history of a run up to date.

    It stands before the callbacks that read it.

    Args:
        progress: Position to resume from. It is updated at the end of each epoch.
        recipe: Recipe of the run.
        steps: Steps in an epoch.
        counters: Variables whose values become columns of the history, by name.
        checkpoints: Checkpoints of the run, which error messages mention.

    Attributes:
        offset: Steps of the epoch that were done before this process began it.
        done: Steps of the epoch that are done.
        complete: Whether all steps of the epoch are done.
        row: Row of the history of the epoch that has just ended; `None` if a callback stopped training within it.
        learning_rate: That of the last step of the epoch that has just ended.
    """

    def __init__(
        self,
        progress: Progress,
        recipe: Recipe,
        steps: int,
        counters: Mapping[str, keras.Variable],
        checkpoints: Checkpoints,
    ) -> None:
        super().__init__()
        self.progress, self.recipe, self.steps = progress, recipe, steps
        self.counters, self.checkpoints = counters, checkpoints
        self.offset = self.done = 0
        self.complete = bool(progress.logs)
        self.row: dict[str, float] | None = None
        self.learning_rate = math.nan
        self._started = time.monotonic()

    @property
    def epoch_seconds(self) -> float:
        """Seconds of this process since the epoch, or its validation, started."""
        return time.monotonic() - self._started

    def position(self) -> Progress:
        """Returns the progress after the current step, in the middle of an epoch."""
        step = len(self.progress.history) * self.steps + self.done
        return replace(self.progress, step=step, seconds=self.progress.seconds + self.epoch_seconds)

    def expect_finite(self, logs: Mapping[str, Any]) -> None:
        """Checks the loss.

        Raises:
            FloatingPointError: The loss is infinite or not a number.
        """
        if not math.isfinite(loss := float(logs["loss"])):
            raise FloatingPointError(
                f"Expected a finite loss. Received: {loss} in epoch {len(self.progress.history) + 1}; "
                f"{self.checkpoints.summary()}"
            )

    def _expect_taken_steps(self, counted: Mapping[str, int]) -> None:
        before = self.progress.history[-1] if self.progress.history else {}
        skipped = counted.get("skipped", 0) - before.get("skipped", 0)
        if skipped >= self.steps:
            raise FloatingPointError(
                "Expected steps with a finite loss and result. Received: none in epoch "
                f"{len(self.progress.history) + 1}: all {self.steps} steps were skipped. Lower the learning rate; "
                f"{self.checkpoints.summary()}"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock of the epoch, or of the rest of it after a checkpoint mid-epoch."""
        self.offset = self.done = self.progress.step - epoch * self.steps
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the step; stops the clock of training after the last one, before validation."""
        self.done = self.offset + batch + 1
        if self.done == self.steps:
            self.progress.seconds, self.complete = self.progress.seconds + self.epoch_seconds, True
            self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the epoch to the history."""
        self.row = None
        # The optimizer's own is already that of the next step.
        last = epoch * self.steps + (self.steps if self.complete else self.done) - 1
        rate = learning_rate_schedule(self.recipe, self.steps)(last)
        self.learning_rate = float(keras.ops.convert_to_numpy(rate))
        if not self.complete:
            if self.model.stop_training:
                return
            raise ValueError(
                f"Expected images for {self.recipe.schedule.epochs * self.steps} steps. Received: no more after step "
                f"{epoch * self.steps + self.done}; the data set has fewer images than its size says"
            )
        self.complete = False
        values = {key: float(value) for key, value in (logs or {}).items()}
        counted = {name: int(keras.ops.convert_to_numpy(counter)) for name, counter in self.counters.items()}
        self._expect_taken_steps(counted)
        self.expect_finite(values)
        progress, images = self.progress, self.steps * self.recipe.data.batch_size
        self.row = {"epoch": epoch + 1, "learning_rate": self.learning_rate, **values}
        self.row |= counted
        self.row |= {
            "images_per_second": round(images / progress.seconds, 1),
            "seconds": round(progress.seconds + self.epoch_seconds, 2),
        }
        progress.history.append(self.row)
        progress.step, progress.seconds, progress.logs = (epoch + 1) * self.steps, 0.0, {}


@dataclass(frozen=True)
class WorkerSync:
    """Collective operations of several workers around a checkpoint, which one of them writes. All must take part.

    Attributes:
        average: Averages the statistics of batch normalization across replicas.
        any_worker: Returns whether a condition holds on any worker.
    """

    average: Callable[[], None]
    any_worker: Callable[[bool], bool]


class CheckpointWriter(keras.callbacks.Callback):
    """Writes checkpoints, and ends the run after a signal.

    A checkpoint is written at the end of each epoch, every `every` steps, before a validation if a minute has passed
    since the last one, and when a signal to end has arrived.

    Args:
        tracker: Position of the run.
        checkpoints: Where to write.
        variables: Variables to write.
        every: Steps between two checkpoints mid-epoch, counted from the start of an epoch; `None` writes none there.
        preemption: Tells whether a signal to end has arrived.
        sync: Collective operations of several workers; `None` for one.
        restored: Tensors of the checkpoint that the run resumes from, whose metrics continue a started epoch.
    """

    def __init__(
        self,
        tracker: ProgressTracker,
        checkpoints: Checkpoints,
        variables: Mapping[str, keras.Variable],
        *,
        every: int | None,
        preemption: PreemptionHandler,
        sync: WorkerSync | None,
        restored: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self.tracker, self.checkpoints, self.variables = tracker, checkpoints, dict(variables)
        self.every, self.preemption, self.sync = every, preemption, sync
        self._restored = dict(restored)
        self._saved = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Ends the run after a signal; restores the metrics of an epoch that resumes in its middle."""
        if self._preempted():
            raise Preempted(self._message())
        if self._restored and self.tracker.offset:
            self.checkpoints.restore(self._restored, metric_variables(self.model))
        self._restored = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes a checkpoint if one is due, or if a signal has arrived, and then ends the run."""
        if self.tracker.complete:
            self.checkpoints.check_place()  # before a validation, at which TensorBoard makes its folder
            late = time.monotonic() - self._saved > _BEFORE_VALIDATION_SECONDS
            if self.sync is None and (self.preemption.received or late):
                values = {key: float(value) for key, value in logs.items()}
                self._save(replace(self.tracker.progress, step=self.tracker.position().step, logs=values), logs)
            return
        done = self.tracker.done
        preempted = (self.sync is None or done % _PREEMPTION_STEPS == 0) and self._preempted()
        if preempted or (self.every and done % self.every == 0):
            self._save(self.tracker.position(), logs)
        if preempted:
            raise Preempted(self._message())

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends the run in a validation after a signal; it resumes from its last checkpoint."""
        if self.sync is None and self.preemption.received:
            raise Preempted(self._message())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the checkpoint of the epoch."""
        if self.tracker.row is not None:
            self._write(self.tracker.progress, self.variables)

    def _preempted(self) -> bool:
        return self.preemption.received if self.sync is None else self.sync.any_worker(self.preemption.received)

    def _message(self) -> str:
        cause = self.preemption.cause or "a signal to another worker"
        return f"{cause} received; {self.checkpoints.summary()}, and the same command resumes the run"

    def _save(self, progress: Progress, logs: Any) -> None:
        self.tracker.expect_finite(logs)
        if self.sync is not None:
            self.sync.average()
        self._write(progress, self.variables | metric_variables(self.model))

    def _write(self, progress: Progress, variables: dict[str, keras.Variable]) -> None:
        self.checkpoints.save(progress, variables)
        self._saved = time.monotonic()


class HistoryWriter(keras.callbacks.Callback):
    """Writes `history.csv` after each epoch, and the curves at most once a minute.

    Args:
        folder: Folder of the run.
        tracker: History of the run.
    """

    def __init__(self, folder: RunFolder, tracker: ProgressTracker) -> None:
        super().__init__()
        self.folder, self.tracker = folder, tracker
        self._drawn = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the history."""
        if self.tracker.row is None:
            return
        self.folder.write_history(self.tracker.progress.history)
        if time.monotonic() - self._drawn > _CURVES_SECONDS:
            self.folder.write_curves(self.tracker.progress.history)
            self._drawn = time.monotonic()
