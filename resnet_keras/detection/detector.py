"""A detector with its preprocessing and class names: images of any size in, boxes in their pixels out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.applications.model_files import has_member, open_model_file
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.input_images import read_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.box_input import CanvasBatch, canvas_batches
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.image_reading import image_files
from resnet_keras.detection.refined import RefinedDetector
from resnet_keras.detection.refinements import Refinements
from resnet_keras.detection.region_layers import Detections
from resnet_keras.detection.results import DetectionResult, measure_detections
from resnet_keras.weights.keras_archive import save_archive
from resnet_keras.weights.sources import DETECTOR_MEMBER


@dataclass(frozen=True, eq=False, repr=False)
class Detector:
    """A Faster R-CNN, its preprocessing and its class names.

    Example:
        >>> detector = detection.Detector(model, preprocessing, ("cat", "dog"), fit=(800, 1333))
        >>> (found,) = detector.predict("pets.jpg")
        >>> found.boxes, found.scores, [detector.class_names[label] for label in found.labels]

    Attributes:
        model: A model from `FasterRCNN`.
        preprocessing: Canvas that images are placed on, `image_size`, and their normalization; its shorter side does
            not apply.
        class_names: One name per class, without background.
        fit: Shorter and longest side of an image on the canvas; `None` fills it. See `box_batches`.

    Raises:
        ValueError: The model does not take images of the preprocessing's size, has other numbers of classes, or is no
            Faster R-CNN; or a name is not a line of text.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    fit: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        inputs = self.model.input
        taken = tuple(inputs["images"].shape[1:]) if isinstance(inputs, dict) and "images" in inputs else ()
        wanted = (*self.preprocessing.image_size, self.preprocessing.channels)
        if len(taken) != 3 or any(own not in (None, side) for own, side in zip(taken, wanted, strict=True)):
            raise ValueError(
                f"Expected a model from `FasterRCNN` that takes images of {wanted}. Received: {self.model.name}, which "
                f"takes {taken or self.model.input_shape}"
            )
        # Keras can open a file only where the module of these layers is imported.
        if not any(isinstance(layer, Detections) for layer in self.model.layers):
            raise ValueError(f"Expected a model from `FasterRCNN`. Received: {self.model.name}, without detections")
        classes = self.model.get_layer("box_head").output["logits"].shape[-1] - 1
        if classes != len(self.class_names):
            raise ValueError(
                f"Expected a name for each of the {classes} classes of {self.model.name}. Received: "
                f"{len(self.class_names)}"
            )

    def __repr__(self) -> str:
        """Returns the network's name, the size of its canvas, and the number of classes."""
        height, width = self.preprocessing.image_size
        return f"Detector({self.model.name}, {height}x{width}, {len(self.class_names)} classes)"

    @classmethod
    def load(cls, path: str | Path) -> Detector:
        """Returns the detector in a file that `save` wrote, or the final one of a run's folder.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is damaged, malicious, or not of a detector.
        """

        def made(model: keras.Model, metadata: dict[str, Any]) -> Detector:
            shorter, longer = metadata["fit"] or (0, 0)
            fit = (int(shorter), int(longer)) if metadata["fit"] else None
            return cls(model, Preprocessing(**metadata["preprocessing"]), tuple(metadata["class_names"]), fit)

        return open_model_file(path, DETECTOR_MEMBER, "a detector", made)

    def save(self, path: str | Path) -> None:
        """Writes a `.keras` file; an existing one is replaced once the new one is complete."""
        metadata = {
            "preprocessing": self.preprocessing.to_json(),
            "class_names": self.class_names,
            "fit": list(self.fit) if self.fit else None,
        }
        save_archive(self.model, path, DETECTOR_MEMBER, metadata)

    def predict(self, images: Any, *, refinements: Refinements | None = None) -> list[FoundBoxes]:
        """Returns the objects in each image, in the image's own pixels, the best first.

        Args:
            images: A path, a folder, the bytes of an image file, a Pillow image, an array or a tensor of (H, W),
                (H, W, C) or (N, H, W, C), pixels 0–255; or a list or an iterator of these.
            refinements: Box refinement, flipping, and several scales; none if `None`.

        Raises:
            FileNotFoundError: A path does not exist, or a folder has no image.
            ValueError: A file is damaged (the message names it), or an array is no image.
        """
        return [found for _, found in self.detections(images, refinements=refinements)]

    def detections(
        self, images: Any, *, refinements: Refinements | None = None
    ) -> Iterator[tuple[np.ndarray, FoundBoxes]]:
        """Yields each image, upright, and the objects in it; see `predict`."""
        refined = RefinedDetector(self.model, self.preprocessing, self.fit, refinements) if refinements else None
        for image in read_images(images, self.preprocessing.channels):
            if refined is not None:
                yield image.pixels, refined.find(image.pixels)
                continue
            full = image.pixels.shape[:2]
            size = resized_size(tf.constant(full), self.preprocessing.image_size, self.fit)
            pixels = on_canvas(image.pixels, self.preprocessing, size)
            batch = CanvasBatch(pixels[None].numpy(), size[None].numpy(), np.array([full], np.int32))
            yield image.pixels, self.find(batch)[0]

    def find(self, batch: CanvasBatch) -> list[FoundBoxes]:
        """Returns the objects in each image of a batch of `canvas_batches`, in the pixels of the image's file."""
        outputs = self._traced(tf.constant(batch.images), tf.constant(batch.sizes))
        boxes, scores, labels, numbers = (outputs[name].numpy() for name in ("boxes", "scores", "labels", "number"))
        ratios = batch.full_sizes / batch.sizes
        return [
            FoundBoxes(each[:count] * np.tile(ratio[::-1], 2), score[:count], label[:count])
            for each, score, label, count, ratio in zip(boxes, scores, labels, numbers, ratios, strict=True)
        ]

    def evaluate(
        self, split: BoxSplit, *, batch_size: int = 8, refinements: Refinements | None = None
    ) -> DetectionResult:
        """Returns COCO's numbers and PASCAL VOC's on images with boxes.

        Args:
            split: Images with boxes of this detector's classes.
            batch_size: Images in each step; with refinements, it is one.
            refinements: See `predict`.

        Raises:
            ValueError: The classes are others, or no object counts.
            MissingExtra: faster-coco-eval is not installed.
        """
        if split.class_names != self.class_names:
            raise ValueError(
                f"Expected images with boxes of the classes {', '.join(self.class_names)}. Received: "
                f"{', '.join(split.class_names)}"
            )
        if refinements:
            return measure_detections(split, self.predict(image_files(split), refinements=refinements))
        batches = canvas_batches(split, self.preprocessing, batch_size, fit=self.fit)
        return measure_detections(split, [found for batch in batches for found in self.find(batch)])

    @cached_property
    def _traced(self) -> Any:
        shape = (None, *self.preprocessing.image_size, self.preprocessing.channels)
        signature = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((None, 2), tf.int32)]
        return tf.function(
            lambda images, sizes: self.model({"images": images, "sizes": sizes}, training=False),
            input_signature=signature,
            autograph=False,
        )


def is_detector(path: str | Path) -> bool:
    """Returns whether a file is one that `Detector.save` wrote, or a folder that of a finished run with one."""
    return has_member(path, DETECTOR_MEMBER)
