"""Predictions of a classifier one by one, for any number of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.top_classes import Prediction, check_top_k, most_probable
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.input_images import input_batches


def predict(
    classifier: Classifier, images: Any, *, top_k: int = 5, on_corrupt: OnCorrupt = "raise"
) -> Iterator[Prediction]:
    """Yields the `top_k` most probable classes of each image, in batches, as `Classifier.predict` returns them.

    Args:
        classifier: A network with its preprocessing and class names.
        images: Image files, folders of images, or images in another form; see `Classifier.predict`.
        top_k: Number of classes per image.
        on_corrupt: What to do about image files that cannot be read: "raise" stops at the first, "skip" skips each with
            a warning that names it.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
        ValueError: A file does not decode (the message names it), something is no image, or `top_k` is below 1.
    """
    check_top_k(top_k)
    for paths, inputs in input_batches(images, classifier.preprocessing, on_corrupt=on_corrupt):
        yield from most_probable(paths, classifier.probabilities_of_inputs(inputs), classifier.class_names, top_k)
