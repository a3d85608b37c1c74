"""How a run goes on: told in lines, and written down after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from resnet_keras.recipes import Recipe
from resnet_keras.run_folder import History, RunFolder

_REPORT_SECONDS = 10.0
_DRAW_SECONDS = 60.0


class Record(keras.callbacks.Callback):
    """Tells how a run goes on, and writes down each epoch: checkpoint, history, curves."""

    def __init__(
        self, folder: RunFolder, history: History, log: Callable[[str], None], recipe: Recipe, steps: int
    ) -> None:
        super().__init__()
        self.folder, self.epochs, self.log, self.recipe, self.steps = folder, history, log, recipe, steps
        self.drawn = self.begun = self.told = time.monotonic()
        self.trained = 0.0  # seconds, without validation

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock of the epoch."""
        self.begun = self.told = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Tells of a long epoch every few seconds; at the last batch stops the clock, before validation."""
        now = time.monotonic()
        if batch + 1 == self.steps:
            self.trained = now - self.begun
        elif now - self.told >= _REPORT_SECONDS:
            self.told = now
            rate = (batch + 1) * self.recipe.batch_size / (now - self.begun)
            steps_left = (self.recipe.epochs - len(self.epochs)) * self.steps - batch - 1
            left = steps_left * self.recipe.batch_size
            self.log(
                f"  step {batch + 1}/{self.steps}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}, "
                f"{rate:,.0f} images/s, {_clock(left / rate)} left"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch down and tells its result."""
        logs = {key: float(value) for key, value in (logs or {}).items()}
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(
                f"Expected a finite loss. Received: {logs['loss']} in epoch {epoch + 1}; the last checkpoint is of "
                f"epoch {len(self.epochs)}"
            )
        images = self.steps * self.recipe.batch_size
        rate = images / self.trained
        row = {"epoch": epoch + 1, "learning_rate": float(self.model.optimizer.learning_rate), **logs}
        self.epochs.append(
            {**row, "images_per_second": round(rate, 1), "seconds": round(time.monotonic() - self.begun, 2)}
        )
        self.folder.save_checkpoint(self.model, self.epochs)
        self.folder.write_history(self.epochs)
        if time.monotonic() - self.drawn > _DRAW_SECONDS:
            self._draw()
        tested = f", test accuracy {logs['val_accuracy']:.2%}" if "val_accuracy" in logs else ""
        left = (self.recipe.epochs - epoch - 1) * self.epochs[-1]["seconds"]
        self.log(
            f"epoch {epoch + 1}/{self.recipe.epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}"
            f"{tested}, rate {row['learning_rate']:.2g}, {rate:,.0f} images/s, {_clock(left)} left"
        )

    def on_train_end(self, logs: Any = None) -> None:
        """Draws the final curves."""
        self._draw()

    def _draw(self) -> None:
        self.folder.write_curves(self.epochs)
        self.drawn = time.monotonic()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
