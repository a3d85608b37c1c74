"""Reference that artifacts are compared with: test images, and the classifier's logits for them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import logits_from
from resnet_keras.data.evaluation_input import pixel_array
from resnet_keras.data.image_checks import explain_broken_images
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.opening import DataSource
from resnet_keras.data.sampling import class_balanced_sample, stratified_sample
from resnet_keras.evaluation.evaluator import align_classes
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.options import ExportOptions, allowed_changes
from resnet_keras.exporting.unlabeled import NOISE, folder_pixels, noise_pixels
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.surgery.cloning import clone_in_float32
from resnet_keras.surgery.quantization import is_quantized

_MOST_IMAGES, _LEAST_IMAGES, _CALL_PIXELS = 64, 8, 2**19
_TRACED_PIXELS = 2**23  # of so many pixels, a trace takes less time than it saves


@dataclass(frozen=True, eq=False)
class Reference:
    """Images of a verification and the answers of the classifier.

    Attributes:
        pixels: Test images, uint8 (N, H, W, C).
        labels: Their classes (N,); `None` without labels.
        logits: The classifier's logits in float32 (N, classes).
        calibration: Training images, uint8 (M, H, W, C), that set the scales of integers; none if no format has them.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray
    calibration: np.ndarray

    def first(self, count: int) -> Reference:
        """Returns the reference of the first images alone."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], labels=labels, logits=self.logits[:count])


def images_per_call(pixels: np.ndarray) -> int:
    """Returns how many images (N, H, W, C) a network computes at once: the memory of more is new to each call."""
    return max(_LEAST_IMAGES, min(_MOST_IMAGES, _CALL_PIXELS // math.prod(pixels.shape[1:3])))


def read_reference(
    classifier: Classifier,
    formats: Sequence[Format],
    options: ExportOptions,
    dataset: str | None,
    source: DataSource,
    images: str | Path | None = None,
) -> Reference:
    """Reads the images of an export and computes the classifier's logits.

    Args:
        classifier: Network, preprocessing and class names.
        formats: Formats of the export. Training images are read only if one of them is calibrated.
        options: Numbers of images, and the agreement.
        dataset: Name of the data set; `None` with `images`.
        source: Place of the data set.
        images: Folder of images without labels instead of a data set, or "noise".

    Raises:
        FileNotFoundError: The data set or the folder is not there.
        ValueError: The data set has other classes, an image is broken, or a network in half precision disagrees with
            itself in float32.
    """
    integers = any(FORMATS[each].integer for each in formats) and not is_quantized(classifier.model)
    counts = (options.test_images, options.calibration_images if integers else 0)
    labels = None
    if dataset is not None:
        pixels, labels, calibration = _dataset_pixels(classifier, dataset, source, counts)
    elif images is not None and str(images) != NOISE:
        pixels, calibration = folder_pixels(images, classifier.preprocessing, counts, source.on_corrupt)
    else:
        pixels = noise_pixels(classifier.preprocessing, counts[0])
        calibration = pixels[:0]
    logits, changes = _logits_in_float32(classifier, pixels)
    if changes > allowed_changes(options.least_agreement, len(pixels)):
        raise ValueError(
            "Expected the network to have the same top-1 in float32 as in the precision of its training, on "
            f"{options.least_agreement:.2%} of the images. Received: {1 - changes / len(pixels):.2%}"
        )
    return Reference(pixels, labels, logits, calibration)


def _dataset_pixels(
    classifier: Classifier, dataset: str, source: DataSource, counts: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns test images with their labels, and training images for the calibration, if it has any."""

    def split(part: str) -> Any:
        return align_classes(source.open(dataset, part), classifier.class_names)

    preprocessing = classifier.preprocessing
    test = split("test")
    with explain_broken_images(test):
        pixels, labels = pixel_array(stratified_sample(test, counts[0]), preprocessing)
    calibration = np.zeros((0, *preprocessing.image_size, preprocessing.channels), np.uint8)
    if counts[1]:
        train = split("train")
        with explain_broken_images(train):
            calibration, _ = pixel_array(class_balanced_sample(train, counts[1]), preprocessing)
    return pixels, labels, calibration


def _logits_in_float32(classifier: Classifier, pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the logits that artifacts are compared with, and how many differ in top-1 from the trained network's.

    Artifacts compute in float32. So a network in half precision is compared in float32, too: its rounding errors, of
    the order of 1e-2, would hide the failures of an artifact.
    """
    trained = _logits(classifier, pixels)
    if all(layer.compute_dtype == "float32" for layer in flat_layers(classifier.model)):
        return trained, 0
    expected = _logits(replace(classifier, model=clone_in_float32(classifier.model)), pixels)
    return expected, int((expected.argmax(1) != trained.argmax(1)).sum())


def _logits(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """Returns the logits of pixels (N, H, W, C); the logarithms of the probabilities if the network returns those."""
    traced = math.prod(pixels.shape[:3]) > _TRACED_PIXELS
    compute = classifier.model.predict_on_batch if traced else functools.partial(classifier.model, training=False)
    batch, parts = images_per_call(pixels), []
    for first in range(0, len(pixels), batch):
        images = normalize(pixels[first : first + batch], classifier.preprocessing)
        parts.append(np.asarray(compute(images), np.float32))
    return logits_from(classifier.model, np.concatenate(parts))
