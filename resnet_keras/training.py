"""Training by a recipe: compile, fit, checkpoint, resume, evaluate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import atomic, distribution
from resnet_keras.classifier import Classifier
from resnet_keras.evaluation import Evaluation, evaluate
from resnet_keras.input_pipeline import (
    broken_images,
    evaluation_batches,
    naming_broken_images,
    pixel_array,
    preprocessing_of,
    steps_per_epoch,
    training_batches,
    without,
)
from resnet_keras.models import build
from resnet_keras.optimizers import optimizer
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.recipes import Recipe
from resnet_keras.run_folder import History, RunFolder
from resnet_keras.schedules import learning_rate
from resnet_keras.splits import ArraySplit, Split, open_split, sample

_REPORT_SECONDS = 10.0
_DRAW_SECONDS = 60.0
_SAMPLES = 10


def train(
    recipe: Recipe,
    workdir: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    cpu_replicas: int | None = None,
    skip_broken: bool = False,
    deterministic: bool = True,
    validate_epochs: int = 1,
    log: Callable[[str], None] = print,
) -> Evaluation:
    """Trains one network by a recipe and returns its errors on the test images, after the last epoch.

    Everything that the run leaves lies in `workdir` (see `RunFolder`). The same call again continues a run that was
    interrupted, from its last epoch, and returns the result of one that is finished. Of one device, of several GPUs
    or of logical CPUs, `batch_size` is what all compute together in a step.

    Args:
        recipe: What decides the result.
        workdir: Folder of the run, new or begun with the same recipe.
        data_dir: Where the data lie; see `open_split`.
        download: Whether TFDS may fetch a data set that is missing.
        cpu_replicas: Train on this many logical CPUs; see `distribution.strategy`.
        skip_broken: Look for images that do not decode beforehand, and leave them out, instead of stopping at one.
        deterministic: Keep the order of the images that the seed determines, even where that means waiting.
        validate_epochs: Epochs between two looks at the test images, for the curves. No choice rests on them.
        log: Takes the lines of progress.

    Raises:
        ValueError: Another recipe was begun in `workdir`; the data are broken, too few, or do not fit the recipe; the
            batch does not divide among the replicas.
        FileNotFoundError: The data are missing.
        FloatingPointError: The loss is no longer a number; the last checkpoint is from before.
    """
    folder = RunFolder(workdir)
    if folder.path.exists() and not folder.path.is_dir():
        raise ValueError(f"Expected a folder as workdir. Received: {folder.path}, a file")
    devices = distribution.strategy(cpu_replicas)
    count = distribution.replicas(devices)
    if recipe.batch_size % count:
        raise ValueError(f"Expected a `batch_size` that {count} replicas can share. Received: {recipe.batch_size}")
    data = {"data_dir": str(data_dir) if data_dir else None, "replicas": count}
    if (folder.path / "recipe.json").is_file():
        folder.begin(recipe, data)
        if (done := folder.evaluation()) is not None:
            log(f"{folder.path} is finished")
            return done
    train_split, test_split = (
        _checked(open_split(recipe.dataset, split, data_dir=data_dir, download=download), recipe, skip_broken, log)
        for split in ("train", "test")
    )
    steps = steps_per_epoch(train_split, recipe.batch_size)
    preprocessing = preprocessing_of(recipe, train_split)
    folder.begin(recipe, data)

    keras.utils.set_random_seed(recipe.seed)
    with _precision(recipe.precision), distribution.scope(devices):
        model = compiled(recipe, preprocessing, len(train_split.class_names), steps)
    history = folder.restore_checkpoint(model)
    log(
        f"{recipe.model} on {recipe.dataset}: {model.count_params():,} parameters, {len(train_split):,} images, "
        f"{recipe.epochs} epochs of {steps} steps of {recipe.batch_size}, {count} replica{'s' if count > 1 else ''}"
        + (f", continued after epoch {len(history)}" if history else "")
    )
    batches = training_batches(
        train_split, recipe, preprocessing, first_step=len(history) * steps, deterministic=deterministic
    )
    with naming_broken_images(train_split, test_split):
        model.fit(
            batches,
            steps_per_epoch=steps,
            initial_epoch=len(history),
            epochs=recipe.epochs,
            validation_data=evaluation_batches(
                test_split, preprocessing, shared_batch(len(test_split), recipe.batch_size, count)
            ),
            validation_freq=validate_epochs,
            shuffle=False,  # the batches are
            callbacks=[
                Record(folder, history, log, recipe, steps),
                keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False, profile_batch=0),
            ],
            verbose=0,
        )
    Classifier(model, preprocessing, train_split.class_names).save(folder.model)
    _write_samples(folder.samples, test_split, preprocessing)
    # Of the file, not of the model at hand: so the result is one that the file gives.
    evaluation = evaluate(Classifier.load(folder.model), test_split, batch_size=recipe.batch_size)
    folder.finish(evaluation)
    return evaluation


def compiled(recipe: Recipe, preprocessing: Preprocessing, classes: int, steps: int) -> keras.Model:
    """Returns the recipe's network, of logits, compiled for `steps` steps per epoch."""
    model = build(
        recipe.architecture,
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        classes=classes,
        classifier_activation=None,
    )
    model.compile(
        optimizer=optimizer(recipe, learning_rate(recipe, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


def shared_batch(images: int, batch_size: int, replicas: int) -> int:
    """Returns the largest batch, up to `batch_size`, whose last one leaves no replica without an image."""
    return next(b for b in range(batch_size, 0, -1) if images % b == 0 or images % b >= replicas)


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


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _checked(split: Split, recipe: Recipe, skip_broken: bool, log: Callable[[str], None]) -> Split:
    if recipe.shorter_side and isinstance(split, ArraySplit):
        raise ValueError(
            f"Expected no `shorter_side` for {recipe.dataset}, whose images are all of one size (pad_pixels varies "
            f"those). Received: {recipe.shorter_side}"
        )
    if skip_broken and (broken := broken_images(split)):
        assert not isinstance(split, ArraySplit)
        names = ", ".join(split.name_of(index) for index in broken[:5])
        log(
            f"{len(broken)} of {len(split)} images are broken and left out: {names}{', ...' if len(broken) > 5 else ''}"
        )
        split = without(split, broken)
    return split


def _write_samples(folder: Path, split: Split, preprocessing: Preprocessing) -> None:
    """Writes a test image of each of the first classes, as the network sees it, before normalisation."""
    pixels, labels = pixel_array(sample(split, 100 * _SAMPLES), preprocessing)
    for index, name in enumerate(split.class_names[:_SAMPLES]):
        found = np.flatnonzero(labels == index)
        if found.size:
            safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
            with atomic.new_file(folder / f"{safe}.png") as aside:
                aside.write_bytes(tf.io.encode_png(pixels[found[0]]).numpy())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
