"""The caller's own images: NumPy arrays that go through the recipe's pipeline, or batches that are used as they are."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.settings import Augmentation
from resnet_keras.data.splits import ArraySplit
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.evaluation.evaluator import Evaluation, SplitPredictions, ranks
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import ARRAYS, BATCHES
from resnet_keras.training.data import SplitData, TrainingData
from resnet_keras.training.image_size_phases import Phase

_CHUNK = 1000  # images whose pixels are summed at once, in float64
_LABELS_OUTSIDE = "Expected labels of a tf.data.Dataset"
_TOO_FEW = "was expected to contain"  # TensorFlow's words for fewer batches than were asserted


@dataclass(frozen=True, eq=False)
class OwnData:
    """The caller's own images, as `train` takes them.

    Attributes:
        train: (images, labels), or a `tf.data.Dataset` of such batches.
        test: Likewise.
        class_names: Names of the classes, or their number; `None` takes both from the data.
        steps_per_epoch: Batches of `train` in an epoch, for a `tf.data.Dataset`.
        test_steps: Batches of `test`, for a `tf.data.Dataset`.

    Raises:
        ValueError: The two are of different kinds, or neither arrays nor data sets; steps are given for arrays.
    """

    train: Any
    test: Any
    class_names: Sequence[str] | int | None = None
    steps_per_epoch: int | None = None
    test_steps: int | None = None

    def __post_init__(self) -> None:
        kinds = [isinstance(data, tf.data.Dataset) for data in (self.train, self.test)]
        if self.train is None or self.test is None or kinds[0] != kinds[1]:
            raise ValueError(
                "Expected both `train_data` and `test_data`, as (images, labels) or as a tf.data.Dataset of batches. "
                f"Received: {type(self.train).__name__} and {type(self.test).__name__}"
            )
        for name in ("steps_per_epoch", "test_steps"):
            steps = getattr(self, name)
            if steps is not None and (steps < 1 or not kinds[0]):
                raise ValueError(
                    f"Expected `{name}` of at least 1 with a tf.data.Dataset, and None with arrays. Received: {steps}"
                )

    @property
    def in_batches(self) -> bool:
        """Whether the images are batches of a `tf.data.Dataset`."""
        return isinstance(self.train, tf.data.Dataset)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Returns the recipe of a run on these images: for batches, without what the recipe's pipeline would do.

        Raises:
            ValueError: The recipe has a setting that batches cannot follow.
        """
        if not self.in_batches:
            return recipe.replace(dataset=ARRAYS)
        refused = {
            "train_sizes": recipe.data.train_sizes,
            "train_images": recipe.data.train_images,
            "quantization_aware": recipe.network.quantization_aware,
        }
        if found := {name: value for name, value in refused.items() if value}:
            raise ValueError(
                f"Expected no {', '.join(found)} with a tf.data.Dataset, whose images are used as they are; arrays can "
                f"have them. Received: {', '.join(f'{name}={value}' for name, value in found.items())}"
            )
        return replace(recipe, augmentation=Augmentation()).replace(dataset=BATCHES, test_flip=False)

    def open(self, recipe: Recipe) -> TrainingData:
        """Returns the images, after checks.

        Raises:
            ValueError: Shapes, types, labels or the number of batches are not as `train` needs them.
        """
        return self._open_batches(recipe) if self.in_batches else self._open_arrays(recipe)

    def _open_arrays(self, recipe: Recipe) -> SplitData:
        pairs = {name: _arrays(name, data) for name, data in (("train_data", self.train), ("test_data", self.test))}
        (images, labels), (test_images, _) = pairs.values()
        names = _class_names(self.class_names, int(labels.max()) + 1)
        for name, (_, found) in pairs.items():
            if len(outside := np.flatnonzero((found < 0) | (found >= len(names)))):
                raise ValueError(
                    f"Expected labels from 0 to {len(names) - 1} in `{name}`. Received: {found[outside[0]]} for image "
                    f"{outside[0]} ({len(outside)} images in all)"
                )
        if images.shape[3] != test_images.shape[3]:
            raise ValueError(
                f"Expected images of {images.shape[3]} channels in `test_data`, as in `train_data`. "
                f"Received: {test_images.shape[3]}"
            )
        mean, std = _statistics(images)
        height, width, channels = images.shape[1:]
        info = Dataset(
            source="arrays", classes=len(names), image_size=height if height == width else None, channels=channels,
            mean=mean, std=std,
        )  # fmt: skip
        train, test = (ArraySplit(images, labels, names, info) for images, labels in pairs.values())
        return SplitData(train, test, recipe.soft_labels)

    def _open_batches(self, recipe: Recipe) -> BatchData:
        train = _checked_batches("train_data", self.train, "steps_per_epoch", self.steps_per_epoch)
        test = _checked_batches("test_data", self.test, "test_steps", self.test_steps)
        images, labels = train.first
        if len(images) != recipe.data.batch_size:
            raise ValueError(
                f"Expected batches of {recipe.data.batch_size} images, the recipe's `batch_size`, in `train_data`. "
                f"Received: {len(images)}; recipe.replace(batch_size={len(images)}) changes it"
            )
        for what, one, other in zip(("images", "labels"), train.first, test.first, strict=True):
            if one.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"Expected {what} of shape {('N', *one.shape[1:])} in `test_data`, as in `train_data`. "
                    f"Received: {('N', *other.shape[1:])}"
                )
        given = self.class_names if self.class_names is not None else getattr(self.train, "class_names", None)
        if given is None and labels.ndim == 1:
            raise ValueError(
                "Expected `class_names`, or their number, with a tf.data.Dataset of labels (N,). Received: None"
            )
        names = _class_names(given, labels.shape[1] if labels.ndim == 2 else 0)
        if labels.ndim == 2 and labels.shape[1] != len(names):
            raise ValueError(f"Expected labels of {len(names)} classes. Received: labels of shape {labels.shape}")
        if train.steps is None:
            raise ValueError(
                "Expected `steps_per_epoch`, because the number of batches of `train_data` is not known before they "
                "are read. Received: None"
            )
        soft = labels.ndim == 2 or recipe.soft_labels
        prepared = [_with_labels(data.batches, len(names), soft and labels.ndim == 1) for data in (train, test)]
        return BatchData(prepared[0], prepared[1], names, soft, train.steps, images.shape[1:])


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
        return np.concatenate(list(self.sample_batches(count, 0, preprocessing)))[:count]

    def sample_batches(self, count: int, batch_size: int, preprocessing: Preprocessing) -> Iterator[np.ndarray]:
        """Yields the first batches, in the size that they have."""
        batches = self.train.take(-(-count // self._batch_size)).as_numpy_iterator()
        return (images.astype(np.float32) for images, _ in batches)

    def evaluate(self, classifier: Classifier, recipe: Recipe) -> Evaluation:
        """Returns the errors on the test batches."""
        columns: list[tuple[np.ndarray, ...]] = []
        for images, labels in self.test.as_numpy_iterator():
            right = labels.argmax(1) if labels.ndim == 2 else labels.astype(np.int64)
            probabilities = classifier.probabilities(images.astype(np.float32))
            of_right = np.take_along_axis(probabilities, right[:, None], axis=1)[:, 0].astype(np.float64)
            losses = -np.log(np.maximum(of_right, np.finfo(np.float32).tiny))
            columns.append((right, probabilities.argmax(1), ranks(probabilities, right), losses))
        labels, predicted, rank, losses = (np.concatenate(column) for column in zip(*columns, strict=True))
        return SplitPredictions(labels, predicted, rank, losses, self.class_names).evaluation

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


def identity(data: TrainingData) -> dict[str, Any]:
    """Returns what a run remembers of the caller's images: a later call must bring the same.

    Of arrays it has a checksum of all pixels and labels; of batches their shapes and number alone.
    """
    found: dict[str, Any] = {"class_names": list(data.class_names)}
    if isinstance(data, SplitData):
        for name, split in (("train_data", data.train_split), ("test_data", data.test_split)):
            assert isinstance(split, ArraySplit)
            found[name] = _checksum(split.images, split.labels)
        return found
    assert isinstance(data, BatchData)
    return found | {"steps_per_epoch": data.epoch_steps, "image_shape": list(data.image_shape)}


@dataclass(frozen=True, eq=False)
class _Batches:
    """A data set after the checks: its batches, their number if it is known, and the first of them."""

    batches: tf.data.Dataset
    steps: int | None
    first: tuple[np.ndarray, np.ndarray]


def _checked_batches(name: str, dataset: tf.data.Dataset, steps_name: str, steps: int | None) -> _Batches:
    count = int(dataset.cardinality())
    if count == 0:
        raise ValueError(f"Expected batches in `{name}`. Received: an empty tf.data.Dataset")
    if count == tf.data.INFINITE_CARDINALITY and steps is None:
        raise ValueError(f"Expected `{steps_name}` with an endless `{name}`. Received: None")
    if 0 < count < (steps or 0):
        raise ValueError(f"Expected at least {steps} batches in `{name}`, its `{steps_name}`. Received: {count}")
    first = _first_batch(name, dataset)
    if steps is None:
        return _Batches(dataset, count if count > 0 else None, first)
    if count == tf.data.INFINITE_CARDINALITY and name == "train_data":
        return _Batches(dataset, steps, first)
    return _Batches(dataset.take(steps).apply(tf.data.experimental.assert_cardinality(steps)), steps, first)


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


def _with_labels(batches: tf.data.Dataset, classes: int, one_hot: bool) -> tf.data.Dataset:
    """Returns batches whose labels are checked and, for a loss that needs them, probabilities."""

    def checked(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if labels.dtype.is_floating:
            return images, labels
        message = f"{_LABELS_OUTSIDE} from 0 to {classes - 1}. Received: others"
        inside = tf.reduce_all((labels >= 0) & (labels < tf.cast(classes, labels.dtype)))
        with tf.control_dependencies([tf.debugging.Assert(inside, [message])]):
            return tf.identity(images), tf.one_hot(labels, classes) if one_hot else tf.identity(labels)

    return batches.map(checked, tf.data.AUTOTUNE)


def _class_names(given: Sequence[str] | int | None, classes: int) -> tuple[str, ...]:
    if given is None or isinstance(given, int):
        names = tuple(map(str, range(classes if given is None else given)))
    else:
        names = tuple(given)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"Expected the names of at least 2 classes, all different. Received: {given or classes}")
    return names


def _arrays(name: str, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels (N,) of a pair of arrays."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            f"Expected `{name}` as (images, labels), two arrays, or as a tf.data.Dataset of batches. "
            f"Received: {type(data).__name__}"
        )
    images, labels = (np.asarray(part) for part in data)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        hint = "; images[..., None] adds the channel" if images.ndim == 3 else ""
        raise ValueError(f"Expected images (N, H, W, 1 or 3) in `{name}`. Received: shape {images.shape}{hint}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(f"Expected images of uint8 or floats from 0 to 255 in `{name}`. Received: {images.dtype}")
    if images.dtype.kind == "f":
        images = np.asarray(images, np.float32)
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and 1 < high <= 255):
            hint = "; multiply by 255 if they are from 0 to 1" if low >= 0 and high <= 1 else ""
            raise ValueError(
                f"Expected pixels from 0 to 255 in `{name}`, as the recipe normalizes them. "
                f"Received: floats from {low:g} to {high:g}{hint}"
            )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(images):
        hint = "; labels.argmax(1) turns probabilities into labels" if labels.ndim == 2 else ""
        raise ValueError(
            f"Expected {len(images)} integer labels (N,) in `{name}`, one for each image. "
            f"Received: {labels.dtype} {labels.shape}{hint}"
        )
    return images, labels.astype(np.int64)


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, rounded so that they do not depend on the order of sums."""
    sums = np.zeros((2, images.shape[3]))
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.float64)
        sums += np.stack([chunk.sum((0, 1, 2)), (chunk**2).sum((0, 1, 2))])
    mean, square = sums / (len(images) * images.shape[1] * images.shape[2])
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    return tuple(round(float(m), 2) for m in mean), tuple(max(round(float(s), 2), 1.0) for s in std)


def _checksum(images: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(f"{images.dtype} {images.shape}".encode())
    for array in itertools.chain((images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)), [labels]):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
