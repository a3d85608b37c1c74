"""How often a classifier is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnet_keras.broken_images import naming_broken_images
from resnet_keras.classifier import Classifier
from resnet_keras.input_pipeline import evaluation_batches
from resnet_keras.splits import Split


@dataclass(frozen=True)
class Evaluation:
    """Errors over all images of a split.

    Attributes:
        images: How many there were.
        top1_error: Fraction whose most probable class is a wrong one.
        top5_error: Fraction whose class is not among the five most probable; `None` with five classes or fewer.
        loss: Mean cross-entropy, in nats.
    """

    images: int
    top1_error: float
    top5_error: float | None
    loss: float

    def __str__(self) -> str:
        """Returns the errors in per cent."""
        top5 = "" if self.top5_error is None else f", top-5 error {self.top5_error:.2%}"
        return f"top-1 error {self.top1_error:.2%}{top5}, loss {self.loss:.4f}, {self.images} images"


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes precede the right one: (N, classes), (N,) -> (N,). Equals go in the classes' order."""
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    count = ((probabilities > right) | ((probabilities == right) & before)).sum(axis=1)
    return np.where(np.isnan(probabilities).any(axis=1), probabilities.shape[1], count)


def evaluate(classifier: Classifier, split: Split, *, batch_size: int = 128) -> Evaluation:
    """Returns the errors of `classifier` on every image of `split`, each seen once, resized and cropped in the centre.

    Raises:
        ValueError: The split has other classes than the classifier, or an image that does not decode.
    """
    if len(split.class_names) != len(classifier.class_names):
        raise ValueError(
            f"Expected a split of the classifier's {len(classifier.class_names)} classes. "
            f"Received: one of {len(split.class_names)}"
        )
    found: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    with naming_broken_images(split):
        for images, labels in evaluation_batches(split, classifier.preprocessing, batch_size).as_numpy_iterator():
            probabilities = classifier.probabilities(images)
            found.append(ranks(probabilities, labels))
            right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
            losses.append(-np.log(np.maximum(right.astype(np.float64), np.finfo(np.float32).tiny)))
    rank = np.concatenate(found)
    return Evaluation(
        images=len(rank),
        top1_error=float((rank >= 1).mean()),
        top5_error=float((rank >= 5).mean()) if len(classifier.class_names) > 5 else None,
        loss=float(np.concatenate(losses).mean()),
    )
