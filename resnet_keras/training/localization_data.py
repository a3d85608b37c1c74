"""Images with one object each as the data of a run of localization."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.box_input import BoxAugmentation, box_batches
from resnet_keras.detection.boxes import decode
from resnet_keras.detection.localization_input import canvas_box, largest_boxes, target_batches, with_targets
from resnet_keras.detection.localization_measures import LocalizationResult
from resnet_keras.detection.localization_network import CANVAS_WEIGHTS
from resnet_keras.detection.localizer import Localizer
from resnet_keras.distributed.sharding import own_rows, training_part, validation_everywhere
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.box_data import BoxData, drawn_boxes
from resnet_keras.training.data import unnormalized
from resnet_keras.training.image_size_phases import Phase


@dataclass(frozen=True, eq=False)
class LocalizationData:
    """Images of one class each to train and to evaluate on. Epochs are validated on the test images.

    Attributes:
        boxes: The images with all their boxes.
    """

    boxes: BoxData

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.boxes.class_names

    @property
    def soft_labels(self) -> bool:
        """`False`: each image has one class."""
        return False

    @property
    def size(self) -> str:
        """Number of training images, in words."""
        return self.boxes.size

    @property
    def description(self) -> str:
        """Classes, numbers of images, and what was left out, in words."""
        return f"{self.boxes.description}; epochs are validated on the test images, too"

    def fingerprint(self) -> dict[str, Any]:
        """Returns class names, numbers, and hashes of images and boxes; see `data_fingerprint`."""
        return self.boxes.fingerprint()

    def steps(self, recipe: Recipe) -> int:
        """Returns the full batches in an epoch.

        Raises:
            ValueError: There is none.
        """
        return self.boxes.steps(recipe)

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> Any:
        """Returns the training batches of a phase: images, and the class and the box of the largest object."""
        batches = box_batches(
            largest_boxes(self.boxes.train_split),
            preprocessing,
            BoxAugmentation(flip=recipe.augmentation.flip),
            batch_size=recipe.data.batch_size,
            epochs=recipe.schedule.epochs,
            seed=recipe.seed,
            first_step=phase.first_step,
            last_step=phase.last_step,
            most_boxes=1,
            deterministic=deterministic,
            rows=own_rows(strategy, recipe.data.batch_size),
        )
        return training_part(strategy, with_targets(batches, preprocessing), recipe.data.batch_size)

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> Any:
        """Returns the test images on their canvas, with the class and the box of the largest object."""
        split = largest_boxes(self.boxes.test_split)
        return validation_everywhere(
            strategy, len(split), lambda size: target_batches(split, preprocessing, size), recipe.data.batch_size
        )

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns `count` training images on their canvas, normalized: float32 (N, H, W, C)."""
        return self.boxes.images(count, preprocessing)

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the same images in batches, and zeros instead of labels (N,)."""
        return self.boxes.sample_batches(count, batch_size, preprocessing)

    def evaluate(self, trained: Localizer, recipe: Recipe) -> LocalizationResult:
        """Returns the errors on the test images."""
        return trained.evaluate(self.boxes.test_split, batch_size=recipe.data.batch_size)

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns the first images of a training batch with their boxes drawn, and the class of each."""
        images, targets = (np.asarray(part)[:most] for part in batch)
        labels = targets[:, 0].astype(int)
        boxes = np.asarray(decode(targets[:, None, 1:], canvas_box(preprocessing), CANVAS_WEIGHTS))
        pixels = unnormalized(images, preprocessing)
        shown = [drawn_boxes(*each) for each in zip(pixels, boxes, labels[:, None], strict=True)]
        return np.stack(shown), [self.class_names[label] for label in labels]

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes test images on their canvas, and a picture of all of them with their objects."""
        self.boxes.write_samples(folder, preprocessing)

    def explain_errors(self) -> AbstractContextManager[None]:
        """Returns a context that names broken images in TensorFlow's errors."""
        return self.boxes.explain_errors()
