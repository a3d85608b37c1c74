"""A localization network with its preprocessing and class names: images of any size in, a box for each class out."""

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
from resnet_keras.checks.fields import check_counts
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.input_images import read_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.box_input import CanvasBatch, canvas_batches
from resnet_keras.detection.box_split import BoxSplit
from resnet_keras.detection.boxes import clip_boxes, decode
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.localization_input import canvas_box
from resnet_keras.detection.localization_measures import LocalizationResult, measure_localization
from resnet_keras.detection.localization_network import CANVAS_WEIGHTS
from resnet_keras.weights.keras_archive import save_archive
from resnet_keras.weights.sources import LOCALIZER_MEMBER


@dataclass(frozen=True, eq=False, repr=False)
class Localizer:
    """A network that tells the class of an image and where its object is, its preprocessing and its class names.

    Example:
        >>> localizer = detection.Localizer.load("runs/animals")
        >>> (found,) = localizer.predict("cat.jpg", top_k=1)
        >>> localizer.class_names[found.labels[0]], found.scores[0], found.boxes[0]

    Attributes:
        model: A model from `LocalizationNetwork`.
        preprocessing: Canvas that images fill from the upper left, `image_size`, and their normalization.
        class_names: One name per class.

    Raises:
        ValueError: The model takes or returns other shapes, or a name is not a line of text.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        wanted = (None, *self.preprocessing.image_size, self.preprocessing.channels)
        shapes = self.model.input_shape, self.model.output_shape
        if shapes != (wanted, (None, len(self.class_names), 5)):
            raise ValueError(
                f"Expected a model from `LocalizationNetwork` of {wanted} to (None, {len(self.class_names)}, 5), a row "
                f"for each class name. Received: {self.model.name}, of {shapes[0]} to {shapes[1]}"
            )

    def __repr__(self) -> str:
        """Returns the network's name, the size of its canvas, and the number of classes."""
        height, width = self.preprocessing.image_size
        return f"Localizer({self.model.name}, {height}x{width}, {len(self.class_names)} classes)"

    @classmethod
    def load(cls, path: str | Path) -> Localizer:
        """Returns the localizer in a file that `save` wrote, or the final one of a run's folder.

        Raises:
            FileNotFoundError: There is no such file, or no finished run in the folder.
            ValueError: The file is damaged, malicious, or not of a localizer.
        """

        def made(model: keras.Model, metadata: dict[str, Any]) -> Localizer:
            return cls(model, Preprocessing(**metadata["preprocessing"]), tuple(metadata["class_names"]))

        return open_model_file(path, LOCALIZER_MEMBER, "a localizer", made)

    def save(self, path: str | Path) -> None:
        """Writes a `.keras` file; an existing one is replaced once the new one is complete."""
        metadata = {"preprocessing": self.preprocessing.to_json(), "class_names": self.class_names}
        save_archive(self.model, path, LOCALIZER_MEMBER, metadata)

    def predict(self, images: Any, *, top_k: int = 5) -> list[FoundBoxes]:
        """Returns the most probable classes of each image, their probabilities, and their boxes in its own pixels.

        Args:
            images: See `Detector.predict`.
            top_k: Number of classes; all if there are fewer.

        Raises:
            FileNotFoundError: A path does not exist, or a folder has no image.
            ValueError: A file is damaged (the message names it), an array is no image, or `top_k` is below 1.
        """
        return [found for _, found in self.localizations(images, top_k=top_k)]

    def localizations(self, images: Any, *, top_k: int = 5) -> Iterator[tuple[np.ndarray, FoundBoxes]]:
        """Yields each image, upright, and what is in it; see `predict`."""
        check_counts(top_k=top_k)
        for image in read_images(images, self.preprocessing.channels):
            full = image.pixels.shape[:2]
            size = resized_size(tf.constant(full), self.preprocessing.image_size)
            pixels = on_canvas(image.pixels, self.preprocessing, size)
            batch = CanvasBatch(pixels[None].numpy(), size[None].numpy(), np.array([full], np.int32))
            ((probabilities, boxes),) = self._found(batch)
            best = np.argsort(-probabilities, kind="stable")[:top_k]
            yield image.pixels, FoundBoxes(boxes[best], probabilities[best], best)

    def evaluate(self, split: BoxSplit, *, batch_size: int = 32) -> LocalizationResult:
        """Returns the errors on images whose objects are of one class each.

        Args:
            split: Images of this localizer's classes; see `one_class_images`.
            batch_size: Images in each step.

        Raises:
            ValueError: The classes are others.
        """
        if split.class_names != self.class_names:
            raise ValueError(
                f"Expected images with boxes of the classes {', '.join(self.class_names)}. Received: "
                f"{', '.join(split.class_names)}"
            )
        batches = canvas_batches(split, self.preprocessing, batch_size)
        return measure_localization(split.examples, (found for batch in batches for found in self._found(batch)))

    def _found(self, batch: CanvasBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns the probabilities and the boxes of all classes for each image of a batch, in its file's pixels."""
        outputs = self._traced(tf.constant(batch.images))
        boxes = decode(outputs[..., 1:], canvas_box(self.preprocessing), CANVAS_WEIGHTS)
        boxes = clip_boxes(boxes, batch.sizes).numpy()
        ratios = np.tile((batch.full_sizes / batch.sizes)[:, ::-1], 2)
        probabilities = tf.nn.softmax(outputs[..., 0]).numpy()
        return list(zip(probabilities, boxes * ratios[:, None], strict=True))

    @cached_property
    def _traced(self) -> Any:
        shape = (None, *self.preprocessing.image_size, self.preprocessing.channels)
        signature = [tf.TensorSpec(shape, tf.float32)]
        return tf.function(
            lambda images: self.model(images, training=False), input_signature=signature, autograph=False
        )


def is_localizer(path: str | Path) -> bool:
    """Returns whether a file is one that `Localizer.save` wrote, or a folder that of a finished run with one."""
    return has_member(path, LOCALIZER_MEMBER)
