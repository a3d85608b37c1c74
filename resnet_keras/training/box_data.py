"""Images with boxes as the data of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from resnet_keras import files
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import evenly_spaced
from resnet_keras.detection.average_precision import coco_average_precision
from resnet_keras.detection.box_input import (
    BoxAugmentation,
    box_batches,
    canvas_batches,
    most_boxes_of,
)
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.image_reading import explain_undecodable
from resnet_keras.detection.results import DetectionResult
from resnet_keras.distributed.sharding import own_rows, training_part
from resnet_keras.distributed.strategy import Strategy
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.image_grid import DPI, image_grid
from resnet_keras.training.data import unnormalized
from resnet_keras.training.image_size_phases import Phase

_SAMPLES = 10
_READ_FILES, _READ_BYTES = 1000, 1 << 16  # of a split, and at the start of a file
_COLORS = ("red", "lime", "blue", "yellow", "magenta", "cyan", "orange", "white")


@dataclass(frozen=True, eq=False)
class BoxData:
    """Images with boxes to train and to evaluate on.

    Keras does not validate: the losses of a detector are over random samples. `epoch_measures` has the average
    precision.

    Attributes:
        train_split: Images to train on.
        test_split: Images to evaluate on at the end.
        fit: Shorter and longest side of images on the canvas; see `box_batches`.
        validation_split: Images that epochs are validated on; the test images if `None`.
    """

    train_split: BoxSplit
    test_split: BoxSplit
    fit: tuple[int, int] | None
    validation_split: BoxSplit | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, without background."""
        return self.train_split.class_names

    @property
    def soft_labels(self) -> bool:
        """Labels are no probabilities."""
        return False

    @property
    def size(self) -> str:
        """Numbers of training images and of their objects, in words."""
        return f"{len(self.train_split):,} images with {self.train_split.boxes:,} objects"

    @property
    def description(self) -> str:
        """Classes, numbers of images, and what was left out, in words."""
        names, splits = self.class_names, (self.train_split, self.test_split)
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        images, boxes = (sum(getattr(each, f"skipped_{kind}") for each in splits) for kind in ("images", "boxes"))
        validated = f", {len(self.validation_split):,} others for the epochs" if self.validation_split else ""
        skipped = f"; {images} images and {boxes} boxes left out" if images or boxes else ""
        test = f"{len(self.test_split):,} images for the test{validated}"
        return f"{len(names):,} classes ({listed}); {self.size}; {test}{skipped}"

    def fingerprint(self) -> dict[str, Any]:
        """Returns class names, numbers, and hashes of images and boxes; see `data_fingerprint`."""
        splits = {"train": self.train_split, "test": self.test_split, "validation": self.validation_split}
        return {name: _fingerprint(split) for name, split in splits.items() if split is not None}

    def steps(self, recipe: Recipe) -> int:
        """Returns the full batches in an epoch.

        Raises:
            ValueError: There is none.
        """
        count, size = len(self.train_split), recipe.data.batch_size
        if count < size:
            raise ValueError(f"Expected `batch_size` to be at most {count}, all training images. Received: {size}")
        return count // size

    def batches(
        self, recipe: Recipe, preprocessing: Preprocessing, phase: Phase, strategy: Strategy, *, deterministic: bool
    ) -> Any:
        """Returns the training batches of a phase: the inputs of `training_network`, and labels."""
        batches = box_batches(
            self.train_split,
            preprocessing,
            BoxAugmentation(flip=recipe.augmentation.flip, shorter_side=recipe.detection.train_sides),
            batch_size=recipe.data.batch_size,
            epochs=recipe.schedule.epochs,
            seed=recipe.seed,
            first_step=phase.first_step,
            last_step=phase.last_step,
            fit=self.fit,
            most_boxes=most_boxes_of(self.train_split),
            deterministic=deterministic,
            rows=own_rows(strategy, recipe.data.batch_size),
        )
        inputs = mapped(batches, lambda images, found: ({"images": images, **found}, found["labels"]))
        return training_part(strategy, inputs, recipe.data.batch_size)

    def validation(self, recipe: Recipe, preprocessing: Preprocessing, strategy: Strategy) -> None:
        """Returns nothing: see the class."""

    def epoch_measures(self, detector: Detector, recipe: Recipe, after_batch: Callable[[], None]) -> dict[str, float]:
        """Returns COCO's average precision of a detector on the images that epochs are validated on.

        Args:
            detector: Network with its weights of the moment.
            recipe: Recipe of the run.
            after_batch: Called after each batch.
        """
        split = self.test_split if self.validation_split is None else self.validation_split
        found = []
        for batch in canvas_batches(split, detector.preprocessing, recipe.data.batch_size, fit=self.fit):
            found.extend(detector.find(batch))
            after_batch()
        result = coco_average_precision(split, found)
        return {"ap": result.ap or 0.0, "ap50": result.ap50 or 0.0}

    def images(self, count: int, preprocessing: Preprocessing) -> np.ndarray:
        """Returns `count` training images on their canvas, normalized: float32 (N, H, W, C)."""
        return np.concatenate([batch for batch, _ in self.sample_batches(count, 32, preprocessing)])

    def sample_batches(
        self, count: int, batch_size: int, preprocessing: Preprocessing
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the same images in batches, and zeros instead of labels (N,)."""
        for batch in canvas_batches(evenly(self.train_split, count), preprocessing, batch_size, fit=self.fit):
            yield batch.images, np.zeros(len(batch.images), np.int64)

    def evaluate(self, trained: Detector, recipe: Recipe) -> DetectionResult:
        """Returns the average precision on the test images."""
        return trained.evaluate(self.test_split, batch_size=recipe.data.batch_size)

    def pictures(self, batch: Any, preprocessing: Preprocessing, most: int) -> tuple[np.ndarray, list[str]]:
        """Returns the first images of a training batch with their boxes drawn, and the classes in each."""
        inputs = batch[0]
        pixels = unnormalized(np.asarray(inputs["images"])[:most], preprocessing)
        drawn, titles = [], []
        for image, boxes, labels in zip(
            pixels, np.asarray(inputs["boxes"]), np.asarray(inputs["labels"]), strict=False
        ):
            found = labels[labels > 0] - 1
            drawn.append(drawn_boxes(image, boxes[: len(found)], found))
            titles.append(", ".join(self.class_names[label] for label in sorted(set(found.tolist()))) or "no object")
        return np.stack(drawn), titles

    def write_samples(self, folder: Path, preprocessing: Preprocessing) -> None:
        """Writes test images on their canvas, and a picture of all of them with their objects."""
        split = evenly(self.test_split, _SAMPLES)
        (batch,) = canvas_batches(split, preprocessing, _SAMPLES, fit=self.fit)
        pixels, shown = unnormalized(batch.images, preprocessing), []
        for index, (image, size, example) in enumerate(zip(pixels, batch.sizes, split.examples, strict=True)):
            with files.new_file(folder / f"{index}_{example.image.stem}.png") as aside:
                aside.write_bytes(tf.io.encode_png(image).numpy())
            ratio = np.tile(size[::-1] / (example.width, example.height), 2)
            shown.append(drawn_boxes(image, example.boxes * ratio, example.labels))
        height, width = pixels.shape[1:3]
        title = f"test images with their objects, {height}x{width} pixels"
        with files.new_file(folder.with_suffix(".png")) as aside:
            names = [str(example.identity) for example in split.examples]
            image_grid(np.stack(shown), names, title).savefig(aside, dpi=DPI)

    def explain_errors(self) -> AbstractContextManager[None]:
        """Returns a context that names broken images in TensorFlow's errors."""
        return explain_undecodable(
            self.train_split, self.test_split, *([self.validation_split] if self.validation_split else [])
        )


def evenly(split: BoxSplit, count: int) -> BoxSplit:
    """Returns `count` images of a split, evenly over its order; all if there are fewer."""
    return replace(split, examples=tuple(split.examples[index] for index in evenly_spaced(len(split), count)))


def _fingerprint(split: BoxSplit) -> dict[str, Any]:
    state = hashlib.sha256()
    read = set(evenly_spaced(len(split), _READ_FILES).tolist())
    if split.records is not None:  # prepared once, and numbered by its version
        read = set()
        state.update(f"{split.records.builder.info.full_name}\0{split.records.split}\n".encode())
    for index, example in enumerate(split.examples):
        size = example.record if split.records else example.image.stat().st_size
        state.update(f"{example.image.name}\0{size}\n".encode())
        for values in (example.boxes, example.labels, example.trained):
            state.update(np.ascontiguousarray(values).tobytes())
        if index in read:
            with example.image.open("rb") as file:
                state.update(file.read(_READ_BYTES))
    return {"class_names": list(split.class_names), "images": len(split), "records": state.hexdigest()[:16]}


def drawn_boxes(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns an image with boxes in the colors of their classes: uint8 (H, W, 3 or 1) -> (H, W, 3)."""
    picture = Image.fromarray(image if image.shape[-1] == 3 else image.repeat(3, -1))
    pen = ImageDraw.Draw(picture)
    for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
        pen.rectangle(box, outline=_COLORS[label % len(_COLORS)], width=max(1, image.shape[0] // 200))
    return np.asarray(picture)
