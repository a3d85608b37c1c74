"""Batches of the caller's `tf.data.Dataset`, which are used as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.evaluation.predictions import Evaluation, SplitPredictions, ranks
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.image_size_phases import Phase

_LABELS_OUTSIDE = "Expected labels of a tf.data.Dataset"
_TOO_FEW = "was expected to contain"  # TensorFlow's words for fewer batches than were asserted


@dataclass(frozen=True, eq=False)
class BatchData:
    """Batches of a `tf.data.Dataset`, which are used as they are.

    Attributes:
        train: Batches of an epoch, or endless ones.
        test: All test batches.
        class_names: Names of the classes, in the order of the labels.
        soft_labels: Whether labels are probabilities of all classes.
        epoch_steps: Batches in an epoch.
        image_shape: (H, W, C).
    """

    train: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    soft_labels: bool
    epoch_steps: int
    image_shape: tuple[int, ...]

    @property
    def size(self) -> str:
        """Number of training images, in words."""
        return "batches of a tf.data.Dataset"

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing that changes nothing: what the data set does to images is not known here."""
        height, width, channels = self.image_shape
        return Preprocessing(
            image_size=(height, width), channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
        )

    def fingerprint(self) -> None:
        """Returns `None`: the batches may differ each time."""

    def steps(self, recipe: Recipe) -> int:
        """Returns the batches in an epoch."""
        return self.epoch_steps

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> tf.data.Dataset:
        """Returns the batches of a phase. Of an epoch that resumes in its middle, the first batches are skipped."""
        endless = self.train.cardinality() == tf.data.INFINITE_CARDINALITY
        batches = self.train if endless else self.train.repeat()
        return batches.skip(phase.first_step % self.epoch_steps)

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> tf.data.Dataset:
        """Returns the test batches."""
        return self.test

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns about `count` training images, from the first batches: float32 (N, H, W, C)."""
        return np.concatenate([images for images, _ in self.sample_batches(count, 0, preprocessing)])[:count]

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the first batches, in the size that they have."""
        batches = self.train.take(-(-count // self._batch_size)).as_numpy_iterator()
        return ((images.astype(np.float32), labels) for images, labels in batches)

    def evaluate(self, trained: Classifier, recipe: Recipe) -> Evaluation:
        """Returns the errors on the test batches."""
        columns: list[tuple[np.ndarray, ...]] = []
        for images, labels in self.test.as_numpy_iterator():
            right = labels.argmax(1) if labels.ndim == 2 else labels.astype(np.int64)
            probabilities = trained.probabilities_of_inputs(images.astype(np.float32))
            of_right = np.take_along_axis(probabilities, right[:, None], axis=1)[:, 0].astype(np.float64)
            losses = -np.log(np.maximum(of_right, np.finfo(np.float32).tiny))
            columns.append((right, probabilities.argmax(1), ranks(probabilities, right), losses))
        labels, predicted, rank, losses = (np.concatenate(column) for column in zip(*columns, strict=True))
        return SplitPredictions(labels, predicted, rank, losses, self.class_names).evaluation

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns none: the images may be normalized in any way."""
        return np.zeros((0, *self.image_shape), np.uint8), []

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes nothing: the images may be normalized in any way."""

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Turns TensorFlow's errors about labels and missing batches into one sentence.

        Raises:
            ValueError: A label is outside the classes, or there are fewer batches than steps.
        """
        try:
            yield
        except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
            for line in error.message.splitlines():
                if _LABELS_OUTSIDE in line:
                    raise ValueError(line[line.index(_LABELS_OUTSIDE) :]) from None
                if _TOO_FEW in line:
                    raise ValueError(
                        "Expected as many batches as `steps_per_epoch` and `test_steps` say. "
                        f"Received: {line.strip().rpartition('}} ')[2]}"
                    ) from None
            raise

    @property
    def _batch_size(self) -> int:
        images, _ = next(iter(self.train.take(1)))
        return len(images)


@dataclass(frozen=True, eq=False)
class CheckedBatches:
    """A data set after the checks: its batches, their number if it is known, and the first of them."""

    batches: tf.data.Dataset
    steps: int | None
    first: tuple[np.ndarray, np.ndarray]


def checked_batches(name: str, dataset: tf.data.Dataset, steps_name: str, steps: int | None) -> CheckedBatches:
    """Returns a data set limited to `steps` batches, after checks of its number of batches and of the first one.

    Raises:
        ValueError: It is empty, endless without `steps`, too short, or has other shapes or types.
    """
    count = int(dataset.cardinality())
    if count == 0:
        raise ValueError(f"Expected batches in `{name}`. Received: an empty tf.data.Dataset")
    if count == tf.data.INFINITE_CARDINALITY and steps is None:
        raise ValueError(f"Expected `{steps_name}` with an endless `{name}`. Received: None")
    if 0 < count < (steps or 0):
        raise ValueError(f"Expected at least {steps} batches in `{name}`, its `{steps_name}`. Received: {count}")
    first = _first_batch(name, dataset)
    if steps is None:
        return CheckedBatches(dataset, count if count > 0 else None, first)
    if count == tf.data.INFINITE_CARDINALITY and name == "train_data":
        return CheckedBatches(dataset, steps, first)
    return CheckedBatches(dataset.take(steps).apply(tf.data.experimental.assert_cardinality(steps)), steps, first)


def _first_batch(name: str, dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(dataset.element_spec, tuple) or len(dataset.element_spec) != 2:
        raise ValueError(f"Expected batches (images, labels) in `{name}`. Received: {dataset.element_spec}")
    batch = next(dataset.as_numpy_iterator(), None)
    if batch is None:
        raise ValueError(f"Expected batches in `{name}`. Received: an empty tf.data.Dataset")
    images, labels = (np.asarray(part) for part in batch)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype.kind != "f":
        raise ValueError(
            f"Expected images as the network sees them in `{name}`: floats (N, H, W, 1 or 3). "
            f"Received: {images.dtype} {images.shape}"
        )
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    soft = labels.ndim == 2 and labels.dtype.kind == "f"
    if not (whole or soft) or len(labels) != len(images):
        raise ValueError(
            f"Expected labels in `{name}` as integers (N,) or as probabilities (N, classes), N = {len(images)}. "
            f"Received: {labels.dtype} {labels.shape}"
        )
    return images, labels


def with_labels(batches: tf.data.Dataset, classes: int, one_hot: bool) -> tf.data.Dataset:
    """Returns batches whose labels are checked and, for a loss that needs them, probabilities."""

    def checked(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if labels.dtype.is_floating:
            return images, labels
        message = f"{_LABELS_OUTSIDE} from 0 to {classes - 1}. Received: others"
        inside = tf.reduce_all((labels >= 0) & (labels < tf.cast(classes, labels.dtype)))
        with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
            return tf.identity(images), tf.one_hot(labels, classes) if one_hot else tf.identity(labels)

    return mapped(batches, checked)
