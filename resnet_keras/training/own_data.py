"""The caller's own images: NumPy arrays that go through the recipe's pipeline, or batches that are used as they are."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.checks.fields import check_counts
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.settings import Augmentation
from resnet_keras.data.splits import ArraySplit
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import ARRAYS, BATCHES
from resnet_keras.training.data import SplitData, TrainingData
from resnet_keras.training.own_batches import BatchData, checked_batches, with_labels

_CHUNK = 1000  # images whose pixels are summed at once, in float64


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
            check_counts(**{name: steps})
            if steps is not None and not kinds[0]:
                raise ValueError(
                    f"Expected `{name}` with a tf.data.Dataset alone, and None with arrays. Received: {steps}"
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
        train = checked_batches("train_data", self.train, "steps_per_epoch", self.steps_per_epoch)
        test = checked_batches("test_data", self.test, "test_steps", self.test_steps)
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
        prepared = [with_labels(data.batches, len(names), soft and labels.ndim == 1) for data in (train, test)]
        return BatchData(prepared[0], prepared[1], names, soft, train.steps, images.shape[1:])


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


def _class_names(given: Sequence[str] | int | None, classes: int) -> tuple[str, ...]:
    if given is None or not isinstance(given, Sequence):
        names = tuple(map(str, range(classes if given is None else int(given))))
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
