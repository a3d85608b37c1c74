"""The images of a run: two splits that go through the recipe's pipeline, or the caller's own batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.evaluation_input import evaluation_batches, pixel_array
from resnet_keras.data.fingerprint import data_fingerprint
from resnet_keras.data.image_checks import explain_broken_images
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.data.training_input import steps_per_epoch, training_batches
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.sharding import own_rows, training_part, validation_part
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.evaluation.views import Views
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.image_grid import DPI, image_grid
from resnet_keras.runs.results import Result
from resnet_keras.training.image_size_phases import Phase

_log = logging.getLogger(__name__)

_SAMPLES = 10
_NAMED = 10  # classes in a message


class TrainedNetwork(Protocol):
    """A trained network with what it needs to take images: a `Classifier`, or that of another task."""

    @property
    def model(self) -> keras.Model:
        """The network."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def save(self, path: Path) -> None:
        """Writes a `.keras` file."""


class TrainingData(Protocol):
    """The images of a run, for training, validation and the final evaluation."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    @property
    def soft_labels(self) -> bool:
        """Whether labels are probabilities of all classes (N, classes), instead of indices (N,)."""

    @property
    def size(self) -> str:
        """Number of training images, in words."""

    def fingerprint(self) -> dict[str, Any] | None:
        """Returns what tells the images from others; `None` if they cannot be read twice."""

    def steps(self, recipe: Recipe) -> int:
        """Returns the steps in an epoch."""

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> Any:
        """Returns the training batches of a phase, for `fit`."""

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> Any:
        """Returns the batches of validation, for `fit`; `None` without validation."""

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns about `count` training images as the network sees them, without augmentation: (N, H, W, C)."""

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the same images in batches, without rounding their pixels, and their labels."""

    def evaluate(self, trained: Any, recipe: Recipe) -> Result:
        """Returns the result of the trained network on the test images."""

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns the first images of a training batch to look at, uint8 (≤ most, H, W, C), and a title of each."""

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes test images of some classes, as PNG files, and a picture of all of them."""

    def explain_errors(self) -> AbstractContextManager[None]:
        """Returns a context that names broken images in TensorFlow's errors."""


def unnormalized(images: Any, preprocessing: Preprocessing) -> np.ndarray:
    """Returns the pixels of images as a network sees them: (N, H, W, C) -> uint8 (N, H, W, C) in RGB."""
    pixels: Any = np.clip(np.asarray(images) * preprocessing.std + preprocessing.mean, 0, 255).astype(np.uint8)
    return pixels[..., ::-1] if preprocessing.channel_order == "bgr" else pixels


def _label_in_words(label: Any, names: tuple[str, ...]) -> str:
    """Returns the class of an image; of a soft label, the classes of the one or two largest probabilities."""
    if np.ndim(label) == 0:
        return names[int(label)]
    first, second = np.argsort(label)[::-1][:2]
    largest = f"{names[first]} {label[first]:.0%}"
    return largest if label[second] < 0.05 else f"{largest}\n{names[second]} {label[second]:.0%}"


@dataclass(frozen=True, eq=False)
class SplitData:
    """Two splits that go through the recipe's pipeline.

    Attributes:
        train_split: Images to train on.
        test_split: Images to evaluate on at the end.
        soft_labels: Whether the recipe's labels are probabilities of all classes.
        validation_split: Images to validate epochs on; the test images if `None`.
    """

    train_split: Split
    test_split: Split
    soft_labels: bool
    validation_split: Split | None = None

    @property
    def description(self) -> str:
        """Classes, numbers of images, and what epochs are validated on, in words."""
        names = self.class_names
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        validated = "the test images, too: there are no others"
        if self.validation_split is not None:
            validated = f"{len(self.validation_split):,} others"
        return (
            f"{len(names):,} classes ({listed}); {len(self.train_split):,} images for training, "
            f"{len(self.test_split):,} for the test at the end; epochs are validated on {validated}"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.train_split.class_names

    @property
    def size(self) -> str:
        """Number of training images, in words."""
        return f"{len(self.train_split):,} images"

    def fingerprint(self) -> dict[str, Any]:
        """Returns class names, numbers and hashes of the images; see `data_fingerprint`."""
        splits = {"train": self.train_split, "test": self.test_split, "validation": self.validation_split}
        return data_fingerprint({part: split for part, split in splits.items() if split is not None})

    def steps(self, recipe: Recipe) -> int:
        """Returns the full batches in an epoch.

        Raises:
            ValueError: There is none.
        """
        return steps_per_epoch(self.train_split, recipe.data.batch_size, carry_over=recipe.data.carry_over)

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> Any:
        """Returns the training batches of a phase: shuffled and augmented; each worker has its own rows of them."""
        batches = training_batches(
            self.train_split,
            preprocessing.at(phase.image_size) if phase.image_size else preprocessing,
            recipe.augmentation,
            batch_size=recipe.data.batch_size,
            epochs=recipe.schedule.epochs,
            seed=recipe.seed,
            one_hot=self.soft_labels,
            first_step=phase.first_step,
            last_step=phase.last_step,
            deterministic=deterministic,
            rows=own_rows(strategy, recipe.data.batch_size),
            carry_over=recipe.data.carry_over,
        )
        return training_part(strategy, batches, recipe.data.batch_size)

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> Any:
        """Returns the batches of validation; `None` if JAX's devices cannot share the images equally."""

        def batches_of(split: Split, size: int) -> tf.data.Dataset:
            return evaluation_batches(split, preprocessing, size, one_hot=self.soft_labels)

        split = self.test_split if self.validation_split is None else self.validation_split
        count = len(split)
        if distribution.can_share(count):
            return validation_part(strategy, split, batches_of, recipe.data.batch_size)
        _log.info(f"no validation before the end: JAX's devices cannot share {count:,} images equally")
        return None

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns about `count` training images, the classes in their proportions: float32 (N, H, W, C)."""
        pixels, _ = pixel_array(stratified_sample(self.train_split, count), preprocessing)
        return normalize(pixels, preprocessing).numpy()

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the same images in batches, without rounding their pixels after a resize, and their labels (N,)."""
        batches = evaluation_batches(stratified_sample(self.train_split, count), preprocessing, batch_size)
        return iter(batches.as_numpy_iterator())

    def evaluate(self, trained: Classifier, recipe: Recipe) -> Evaluation:
        """Returns the errors on the test split."""
        views = Views(flip=recipe.evaluation.test_flip)
        return evaluate(trained, self.test_split, views=views, batch_size=recipe.data.batch_size)

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns the pixels of the first images of a training batch, and the label of each in words."""
        images, labels = (np.asarray(part[:most]) for part in batch)
        return unnormalized(images, preprocessing), [_label_in_words(each, self.class_names) for each in labels]

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes a test image of each of the first classes, as the network sees it before normalization.

        A picture beside the folder, `samples.png`, shows all of them, enlarged.
        """
        pixels, labels = pixel_array(stratified_sample(self.test_split, 100 * _SAMPLES), preprocessing)
        shown: dict[str, np.ndarray] = {}
        for index, name in enumerate(self.class_names[:_SAMPLES]):
            found = np.flatnonzero(labels == index)
            if found.size:
                shown[name] = pixels[found[0]]
                safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
                with files.new_file(folder / f"{safe}.png") as aside:
                    aside.write_bytes(tf.io.encode_png(shown[name]).numpy())
        height, width = pixels.shape[1:3]
        title = f"test images, {height}x{width} pixels"
        with files.new_file(folder.with_suffix(".png")) as aside:
            image_grid(np.stack(list(shown.values())), list(shown), title).savefig(aside, dpi=DPI)

    def explain_errors(self) -> AbstractContextManager[None]:
        """Returns a context that names broken images in TensorFlow's errors."""
        others = [] if self.validation_split is None else [self.validation_split]
        return explain_broken_images(self.train_split, self.test_split, *others)
