"""Predictions of a classifier for image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.exif import apply_orientation
from resnet_keras.data.image_files import IMAGE_SUFFIXES, files_below
from resnet_keras.data.image_ops import crop, decode, normalize

_BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image.

    Attributes:
        path: The image file.
        classes: Pairs of name and probability, the most probable first.
    """

    path: str
    classes: tuple[tuple[str, float], ...]


def image_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Returns the files among `paths` and the images below the folders among them, in order.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = files_below(path)
            if not inside:
                raise FileNotFoundError(
                    f"Expected images ({', '.join(IMAGE_SUFFIXES)}) below a folder. Received: {path}"
                )
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"Expected an image or a folder of images. Received: {path}, which does not exist")
    return found


def predict(classifier: Classifier, paths: Sequence[str | Path], *, top_k: int = 5) -> Iterator[Prediction]:
    """Yields the `top_k` most probable classes of each image.

    Images are rotated by their EXIF orientation, then go through the classifier's preprocessing.

    Args:
        classifier: A network with its preprocessing and class names.
        paths: Image files, and folders of images.
        top_k: Number of classes per image.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
        ValueError: A file does not decode (the message names it), or `top_k` is below 1.
    """
    if top_k < 1:
        raise ValueError(f"Expected `top_k` of at least 1. Received: {top_k}")
    files = image_paths(paths)
    for start in range(0, len(files), _BATCH):
        part = files[start : start + _BATCH]
        images = tf.stack([_image(classifier, path) for path in part])
        probabilities = classifier.probabilities(images.numpy())
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for path, row, best in zip(part, probabilities, order, strict=True):
            yield Prediction(str(path), tuple((classifier.class_names[i], float(row[i])) for i in best))


def _image(classifier: Classifier, path: Path) -> tf.Tensor:
    preprocessing = classifier.preprocessing
    encoded = tf.constant(path.read_bytes())
    try:
        image = apply_orientation(decode(encoded, preprocessing.channels), encoded)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"Expected a whole JPEG, PNG, GIF or BMP image. Received: {path}") from error
    return normalize(crop(image, preprocessing), preprocessing)
