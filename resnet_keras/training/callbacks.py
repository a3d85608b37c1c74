"""How a run goes on: told in lines, and written down after each epoch and between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints, Progress, metric_variables
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.preemption import Preempted, PreemptionHandler

_REPORT_SECONDS = 10.0
_DRAW_SECONDS = 60.0
_BEFORE_VALIDATION_SECONDS = 60.0
_ASK_STEPS = 20  # between two times that workers ask each other whether to end


@dataclass(frozen=True)
class Together:
    """What several workers do together for a checkpoint, which one of them alone writes. All must take part.

    Attributes:
        average: Gives all the same statistics of batch normalization.
        anyone: Tells whether it is true of any of them.
    """

    average: Callable[[], None]
    anyone: Callable[[bool], bool]


class Record(keras.callbacks.Callback):
    """Tells how a run goes on, and writes down each epoch: checkpoint, history, curves.

    Args:
        folder: Of the run.
        checkpoints: Where to save, and from where the run goes on.
        variables: What to save.
        progress: How far the run has come; it is kept up to date.
        recipe: Of the run.
        steps: In an epoch.
        every: Steps between two checkpoints, counted from the beginning of an epoch; at its end there always is one.
        notice: Whether the process is to end.
        together: With several workers, what they have to do together; `None` for one.
        log: Takes the lines.
    """

    def __init__(
        self,
        folder: RunFolder,
        checkpoints: Checkpoints,
        variables: dict[str, keras.Variable],
        progress: Progress,
        recipe: Recipe,
        steps: int,
        *,
        every: int | None,
        notice: PreemptionHandler,
        together: Together | None,
        log: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.folder, self.checkpoints, self.variables, self.progress = folder, checkpoints, variables, progress
        self.recipe, self.steps, self.every, self.notice, self.together, self.log = (
            recipe, steps, every, notice, together, log,
        )  # fmt: skip
        self.restored: dict[str, Any] = {}
        self.offset = self.done = 0
        self.complete = bool(progress.logs)  # of the epoch that goes on
        self.drawn = self.begun = self.told = self.saved = time.monotonic()
        self.counters: dict[str, keras.Variable] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock of the epoch, or of what is left of it after a checkpoint amid it."""
        self.offset = self.progress.step - epoch * self.steps
        self.begun = self.told = time.monotonic()
        if self.restored and self.offset:
            self.checkpoints.restore(self.restored, metric_variables(self.model))
        self.restored = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tells of a long epoch every few seconds; saves when it is time, or when the process is to end."""
        now = time.monotonic()
        done = self.done = self.offset + batch + 1
        seconds = self.progress.seconds + now - self.begun
        here = replace(self.progress, step=len(self.progress.history) * self.steps + done, seconds=seconds)
        if done == self.steps:
            self._end_of_steps(here, logs, now)
            return
        asked = (self.together is None or done % _ASK_STEPS == 0) and self._asked_to_end()
        if asked or (self.every and done % self.every == 0):
            self._save(here, logs)
        if asked:
            raise Preempted(self._ended())
        if now - self.told >= _REPORT_SECONDS:
            self.told = now
            rate = (batch + 1) * self.recipe.batch_size / (now - self.begun)
            left = (self.recipe.epochs * self.steps - here.step) * self.recipe.batch_size
            self.log(
                f"  step {done}/{self.steps}: loss {float(logs['loss']):.4f}, accuracy {float(logs['accuracy']):.2%}, "
                f"{rate:,.0f} images/s, {_clock(left / rate)} left"
            )

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Ends during a validation, if the process is to end: the run goes on from its last checkpoint."""
        if self.together is None and self.notice.received:
            raise Preempted(self._ended())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch down and tells its result."""
        if not self.complete:
            raise ValueError(
                f"Expected images for {self.recipe.epochs * self.steps} steps. Received: no more after step "
                f"{epoch * self.steps + self.done}; the data set has fewer images than it says"
            )
        self.complete = False
        logs = {key: float(value) for key, value in (logs or {}).items()}
        self._check(logs)
        images = self.steps * self.recipe.batch_size
        trained = self.progress.seconds
        row = {"epoch": epoch + 1, "learning_rate": float(self.model.optimizer.learning_rate), **logs}
        row |= {name: int(keras.ops.convert_to_numpy(counter)) for name, counter in self.counters.items()}
        row |= {
            "images_per_second": round(images / trained, 1),
            "seconds": round(trained + time.monotonic() - self.begun, 2),
        }
        self.progress.history.append(row)
        self.progress.step, self.progress.seconds, self.progress.logs = (epoch + 1) * self.steps, 0.0, {}
        self._write(self.progress)
        self.folder.write_history(self.progress.history)
        if time.monotonic() - self.drawn > _DRAW_SECONDS:
            self._draw()
        tested = f", test accuracy {logs['val_accuracy']:.2%}" if "val_accuracy" in logs else ""
        counted = "".join(f", {row[name]} steps {name}" for name in self.counters if row[name])
        left = (self.recipe.epochs - epoch - 1) * row["seconds"]
        self.log(
            f"epoch {epoch + 1}/{self.recipe.epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}"
            f"{tested}, rate {row['learning_rate']:.2g}, {images / trained:,.0f} images/s{counted}, {_clock(left)} left"
        )
        if epoch + 1 < self.recipe.epochs and self._asked_to_end():
            raise Preempted(self._ended())

    def on_train_end(self, logs: Any = None) -> None:
        """Draws the curves."""
        self._draw()

    def _end_of_steps(self, here: Progress, logs: Any, now: float) -> None:
        """Stops the clock before validation; saves first, if that would be much work lost."""
        self.progress.seconds, self.complete = here.seconds, True
        self.begun = now  # of the validation
        if self.together is None and (self.notice.received or now - self.saved > _BEFORE_VALIDATION_SECONDS):
            self._save(replace(here, logs={key: float(value) for key, value in logs.items()}), logs)

    def _asked_to_end(self) -> bool:
        if self.together is None:
            return self.notice.received
        return self.together.anyone(self.notice.received)

    def _ended(self) -> str:
        return f"asked to end by SIGTERM; {self.checkpoints.kept()}, and the same command goes on"

    def _check(self, logs: Any) -> None:
        if not math.isfinite(loss := float(logs["loss"])):
            raise FloatingPointError(
                f"Expected a finite loss. Received: {loss} in epoch {len(self.progress.history) + 1}; "
                f"{self.checkpoints.kept()}"
            )

    def _save(self, progress: Progress, logs: Any) -> None:
        self._check(logs)
        if self.together is not None:
            self.together.average()
        self._write(progress, **metric_variables(self.model))

    def _write(self, progress: Progress, **more: keras.Variable) -> None:
        self.checkpoints.save(progress, self.variables | more)
        self.saved = time.monotonic()

    def _draw(self) -> None:
        self.folder.write_curves(self.progress.history)
        self.drawn = time.monotonic()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
