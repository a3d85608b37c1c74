"""Progress messages of a run.

They are records of this module's logger. Those of steps carry a `StepProgress` as the attribute `step_progress`, so
that a handler can draw them as one updating line: one record at level INFO every ten seconds, and, where the logger is
enabled for DEBUG, up to ten more a second.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from resnet_keras.training.callbacks import ProgressTracker

_log = logging.getLogger(__name__)

_MESSAGE_SECONDS = 10.0
_NO_METRICS = ("epoch", "learning_rate", "loss", "images_per_second", "seconds")
_UPDATE_SECONDS = 0.1


@dataclass(frozen=True)
class StepProgress:
    """Position within an epoch; as text, a line.

    Attributes:
        epoch: Epoch, counted from 1.
        epochs: Epochs of the run.
        step: Steps of the epoch that are done.
        steps: Steps in an epoch.
        loss: Mean over the epoch so far.
        metrics: Means over the epoch so far by name, such as the accuracy: fractions, or losses.
        images_per_second: Mean over the epoch so far, in this process.
        seconds_left: Estimated time to the end of the run, without validation; `None` before it can be told.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    metrics: Mapping[str, float]
    images_per_second: float
    seconds_left: float | None

    def __str__(self) -> str:
        return f"  step {self.step}/{self.steps}: {self.measures}"

    @property
    def measures(self) -> str:
        """Loss, metrics, rate and time left."""
        left = "" if self.seconds_left is None else f", {clock(self.seconds_left)} left"
        metrics = "".join(f", {each}" for each in _in_words(self.metrics))
        return f"loss {self.loss:.4f}{metrics}, {self.images_per_second:,.0f} images/s{left}"


@dataclass(frozen=True)
class _FirstCall:
    """The first call of the training function in a process: its epoch, steps and seconds."""

    epoch: int
    steps: int
    seconds: float


class ProgressMessages(keras.callbacks.Callback):
    """Logs the progress of a run: a line for each epoch, and within a long one every few seconds.

    Args:
        tracker: Position and history of the run.
        validated_on: Images of validation, "test" or "validation".
    """

    def __init__(self, tracker: ProgressTracker, validated_on: str = "test") -> None:
        super().__init__()
        self.tracker, self.validated_on = tracker, validated_on
        self._logged = self._updated = time.monotonic()
        # The first call of a process traces the graph, which can take longer than the rest of the run.
        self._first: _FirstCall | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Waits for the first message of the epoch."""
        self._logged = self._updated = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Logs the progress within the epoch, if it is time."""
        now = time.monotonic()
        if self._first is None:
            self._first = _FirstCall(len(self.tracker.progress.history), batch + 1, self.tracker.epoch_seconds)
        if self.tracker.complete:
            return
        if now - self._logged >= _MESSAGE_SECONDS:
            self._logged = self._updated = now
            self._log_step(logging.INFO, batch, logs)
        elif now - self._updated >= _UPDATE_SECONDS and _log.isEnabledFor(logging.DEBUG):
            self._updated = now
            self._log_step(logging.DEBUG, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs the result of the epoch."""
        tracker, row = self.tracker, self.tracker.row
        if row is None:
            return
        epochs = tracker.recipe.schedule.epochs
        metrics = "".join(f", {each}" for each in _in_words(_metrics(row, tracker.counters)))
        tested = {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}
        validated = "".join(f", {self.validated_on} {each}" for each in _in_words(_metrics(tested)))
        counted = "".join(f", {row[name]} steps {name}" for name in tracker.counters if row[name])
        seconds = self._later_epoch_seconds(epoch, row["seconds"])
        left = "" if seconds is None else f", {clock((epochs - epoch - 1) * seconds)} left"
        _log.info(
            f"epoch {epoch + 1}/{epochs}: loss {row['loss']:.4f}{metrics}{validated}, "
            f"rate {row['learning_rate']:.2g}, {row['images_per_second']:,.0f} images/s{counted}{left}"
        )

    def _later_epoch_seconds(self, epoch: int, seconds: float) -> float | None:
        """Returns the time of an epoch without the start of the process; `None` if the epoch was nothing else."""
        first, steps = self._first, self.tracker.steps
        if first is None or first.epoch != epoch or epoch + 1 == self.tracker.recipe.schedule.epochs:
            return seconds
        if first.steps >= steps:
            return None
        return max(seconds - first.seconds, 0.0) * steps / (steps - first.steps)

    def _log_step(self, level: int, batch: int, logs: Any) -> None:
        tracker = self.tracker
        images = tracker.recipe.data.batch_size
        seconds, done = tracker.epoch_seconds, batch + 1
        rate = done * images / seconds
        steps_left = tracker.recipe.schedule.epochs * tracker.steps - tracker.position().step
        if self._first is not None and self._first.epoch == len(tracker.progress.history):
            seconds, done = seconds - self._first.seconds, done - self._first.steps
        progress = StepProgress(
            epoch=len(tracker.progress.history) + 1,
            epochs=tracker.recipe.schedule.epochs,
            step=tracker.done,
            steps=tracker.steps,
            loss=float(logs["loss"]),
            metrics=_metrics(logs),
            images_per_second=rate,
            seconds_left=steps_left * seconds / done if done else None,
        )
        _log.log(level, str(progress), extra={"step_progress": progress})


def _metrics(row: Mapping[str, Any], others: Iterable[str] = ()) -> dict[str, float]:
    """Returns the metrics of training in a row of the history, or in the logs of a step."""
    left_out = {*_NO_METRICS, *others}
    return {name: float(value) for name, value in row.items() if name not in left_out and not name.startswith("val_")}


def _in_words(metrics: Mapping[str, float]) -> list[str]:
    titles = {name: _title(name) for name in metrics}
    return [
        f"{titles[name]} {value:.4f}" if name.endswith("loss") else f"{titles[name]} {value:.2%}"
        for name, value in metrics.items()
    ]


def _title(name: str) -> str:
    words = name.replace("_", " ").replace("iou", "IoU")
    return words.upper() if words in ("ap", "ap50") else words


def clock(seconds: float) -> str:
    """Returns a duration as H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
