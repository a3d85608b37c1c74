"""The images and masks of a run: parts of a data set that go through the recipe's crops and scales."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from resnet_keras import files
from resnet_keras.data.fingerprint import digest, hash_of_files
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import evenly_spaced
from resnet_keras.distributed.sharding import own_rows, training_part, validation_everywhere
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.image_grid import DPI, image_grid
from resnet_keras.segmentation.mask_files import MaskSplit
from resnet_keras.segmentation.mask_input import explain_broken_files, mask_batches, resized_batches, whole_images
from resnet_keras.segmentation.mask_sets import MaskParts
from resnet_keras.segmentation.measures import SegmentationResult, evaluate_masks
from resnet_keras.segmentation.segmenter import Segmenter, draw_mask
from resnet_keras.training.data import unnormalized
from resnet_keras.training.image_size_phases import Phase

_SAMPLES = 10
_NAMED = 10  # classes in a message
_NO_SCALE = (1.0, 1.0)


@dataclass(frozen=True, eq=False)
class MaskData:
    """Images and masks that go through the recipe's pipeline.

    Attributes:
        parts: Images with masks for training, test, and validation.
    """

    parts: MaskParts

    @property
    def description(self) -> str:
        """Classes, numbers of images, and what epochs are validated on, in words."""
        names, parts = self.class_names, self.parts
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        validated = "the test images, too: there are no others"
        if parts.validation is not None:
            validated = f"{len(parts.validation):,} others"
        return (
            f"{len(names):,} classes of pixels ({listed}); {len(parts.train):,} images for training, "
            f"{len(parts.test):,} for the test at the end; epochs are validated on {validated}"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.parts.train.class_names

    @property
    def soft_labels(self) -> bool:
        """`False`: each pixel has one class."""
        return False

    @property
    def size(self) -> str:
        """Number of training images, in words."""
        return f"{len(self.parts.train):,} images"

    def fingerprint(self) -> dict[str, Any]:
        """Returns class names, numbers and hashes of images and masks; see `data_fingerprint`."""
        return {
            name: {
                "class_names": list(split.class_names),
                "images": len(split),
                "version": None,
                "records": digest({"images": _hash(split.images), "masks": _hash(split.masks)}),
            }
            for name, split in self.parts.named.items()
        }

    def steps(self, recipe: Recipe) -> int:
        """Returns the full batches in an epoch.

        Raises:
            ValueError: There is none.
        """
        steps = len(self.parts.train) // recipe.data.batch_size
        if not steps:
            raise ValueError(
                f"Expected `batch_size` of at most {len(self.parts.train)}, the training images. "
                f"Received: {recipe.data.batch_size}"
            )
        return steps

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        """Returns the training batches of a phase: shuffled, scaled, cropped and mirrored."""
        batches = mask_batches(
            self.parts.train,
            preprocessing,
            batch_size=recipe.data.batch_size,
            epochs=recipe.schedule.epochs,
            seed=recipe.seed,
            first_step=phase.first_step,
            scale=recipe.augmentation.random_scale or _NO_SCALE,
            flip=recipe.augmentation.flip,
            deterministic=deterministic,
            rows=own_rows(strategy, recipe.data.batch_size),
        )
        return training_part(strategy, batches, recipe.data.batch_size)

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> Any:
        """Returns the batches of validation, at the network's size."""
        split = self.parts.test if self.parts.validation is None else self.parts.validation
        return validation_everywhere(
            strategy, len(split), lambda size: resized_batches(split, preprocessing, size), recipe.data.batch_size
        )

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns about `count` training images, resized as a whole: float32 (N, H, W, C)."""
        return np.concatenate([images for images, _ in self.sample_batches(count, count, preprocessing)])

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the first training images, resized as a whole, and their masks at the same size."""
        batches = resized_batches(_first(self.parts.train, count), preprocessing, batch_size)
        return iter(batches.as_numpy_iterator())

    def evaluate(self, trained: Segmenter, recipe: Recipe) -> SegmentationResult:
        """Returns the measures on the test images, at the full size of their masks."""
        split = self.parts.test
        pairs = whole_images(split, trained.preprocessing)
        return evaluate_masks(trained.model, pairs, split.class_names, ignored=split.ignored)

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns the first images of a training batch with their masks over them."""
        images, masks = (np.asarray(part[:most]) for part in batch)
        pixels = unnormalized(images, preprocessing)
        drawn = [draw_mask(*pair, len(self.class_names)) for pair in zip(pixels, masks, strict=True)]
        return np.stack(drawn), [""] * len(drawn)

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes some test images at the network's size, and a picture of them with their masks, `samples.png`."""
        ((images, masks),) = resized_batches(_first(self.parts.test, _SAMPLES), preprocessing, _SAMPLES)
        for index, pixels in enumerate(unnormalized(images, preprocessing)):
            with files.new_file(folder / f"{index}.png") as aside:
                Image.fromarray(pixels.squeeze()).save(aside, "PNG")
        drawn, titles = self.pictures((images, masks), preprocessing, _SAMPLES)
        height, width = drawn.shape[1:3]
        with files.new_file(folder.with_suffix(".png")) as aside:
            image_grid(drawn, titles, f"test images with their masks, {height}x{width} pixels").savefig(aside, dpi=DPI)

    def explain_errors(self) -> AbstractContextManager[None]:
        """Returns a context that names broken images and masks in TensorFlow's errors."""
        return explain_broken_files(*self.parts.named.values())


def _first(split: MaskSplit, count: int) -> MaskSplit:
    """Returns at most `count` images of a split, spread evenly over it."""
    chosen = evenly_spaced(len(split), count)
    images, masks = ([files[i] for i in chosen] for files in (split.images, split.masks))
    return MaskSplit(tuple(images), tuple(masks), split.class_names, split.ignored)


def _hash(paths: tuple[Path, ...] | tuple[bytes, ...]) -> str:
    contents = [hashlib.sha256(each).hexdigest() for each in paths if isinstance(each, bytes)]
    return digest({"contents": contents}) if contents else hash_of_files([str(path) for path in paths])
