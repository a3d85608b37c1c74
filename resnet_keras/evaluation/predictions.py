"""Predictions for the images of a split, and their measures: errors, average precision."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass

import numpy as np

_log = logging.getLogger(__name__)
_REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Evaluation:
    """Errors over all images of a split.

    Attributes:
        images: Number of images.
        top1_error: Fraction of images whose most probable class is wrong.
        top5_error: Fraction of images whose class is not among the five most probable ones; `None` with five classes
            or fewer.
        loss: Mean cross-entropy in nats.
    """

    images: int
    top1_error: float
    top5_error: float | None
    loss: float

    def __str__(self) -> str:
        """Returns the errors in percent."""
        top5 = "" if self.top5_error is None else f", top-5 error {self.top5_error:.2%}"
        return f"top-1 error {self.top1_error:.2%}{top5}, loss {self.loss:.4f}, {self.images} images"


@dataclass(frozen=True)
class LabelEvaluation(Evaluation):
    """Measures over all images of a split, of a network that ends in the sigmoid of each class.

    The top-1 error is the fraction of images whose most probable class is none of their labels, and the loss the mean
    binary cross-entropy of all classes.

    Attributes:
        mean_average_precision: Mean of the average precision of each class that has images.
    """

    mean_average_precision: float

    def __str__(self) -> str:
        """Returns the mean average precision and the errors in percent."""
        return f"mean average precision {self.mean_average_precision:.2%}, {super().__str__()}"


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Predictions for each image of a split, in the order of the split.

    Attributes:
        labels: Indices of the true classes (N,); of a network for several labels, 0 or 1 for each class (N, classes).
        predicted: Indices of the most probable classes (N,).
        ranks: Number of classes that are more probable than the true class (N,); 0 is a correct prediction, and -1 an
            image without a label.
        losses: Cross-entropies in nats (N,).
        class_names: Names of the classes, in order.
        scores: Probability of each class, of a network for several labels (N, classes); `None` of others.
    """

    labels: np.ndarray
    predicted: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    class_names: tuple[str, ...]
    scores: np.ndarray | None = None

    @property
    def evaluation(self) -> Evaluation:
        """The errors over all images."""
        known = self.ranks[self.ranks >= 0]
        result = Evaluation(
            images=len(self.ranks),
            top1_error=float((known >= 1).mean()),
            top5_error=float((known >= 5).mean()) if len(self.class_names) > 5 else None,
            loss=float(self.losses.mean()),
        )
        precisions = [each for each in self.average_precisions if each is not None]
        if not precisions:
            return result
        return LabelEvaluation(**asdict(result), mean_average_precision=float(np.mean(precisions)))

    @property
    def average_precisions(self) -> list[float | None]:
        """The average precision of each class, `None` without images; empty unless a network has several labels."""
        if self.scores is None:
            return []
        return [average_precision(self.labels[:, i], self.scores[:, i]) for i in range(len(self.class_names))]


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Returns the mean precision at the score of each image of a class, weighted by recall.

    Images of equal scores count together, as in scikit-learn's `average_precision_score`.

    Args:
        labels: Whether an image is of the class (N,).
        scores: Probability of the class (N,).

    Returns:
        In [0, 1]; `None` if no image is of the class.
    """
    positives = labels.astype(bool)
    if not positives.any():
        return None
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positives[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # last of each group of equal scores
    precision, recall = found[ends] / (ends + 1), found[ends] / found[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the rank of the true class: (N, classes), (N,) -> (N,). Classes of equal probability rank by index.

    An image with a probability that is NaN has the last rank.
    """
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    count = ((probabilities > right) | ((probabilities == right) & before)).sum(axis=1)
    return np.where(np.isnan(probabilities).any(axis=1), probabilities.shape[1], count)


def measures_of_one(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns labels, predictions, ranks and losses of images with one label each."""
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    losses = -np.log(np.maximum(right.astype(np.float64), np.finfo(np.float32).tiny))
    return labels, probabilities.argmax(axis=1), ranks(probabilities, labels), losses


def measures_of_several(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns labels, predictions, ranks, losses and probabilities of images with several labels, or with one."""
    classes = probabilities.shape[1]
    several = labels if labels.ndim == 2 else np.eye(classes, dtype=np.int64)[labels]
    best = np.where(several > 0, probabilities, -1.0).argmax(axis=1)  # the most probable of the true classes
    rank = np.where((several > 0).any(axis=1), ranks(probabilities, best), -1)
    right = np.where(several > 0, probabilities, 1 - probabilities).astype(np.float64)
    losses = -np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean(axis=1)
    return several, probabilities.argmax(axis=1), rank, losses, probabilities


class EvaluationProgress:
    """Progress of an evaluation, logged every `_REPORT_SECONDS`."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.start = self.logged = time.monotonic()
        self.done = self.wrong = 0

    def add(self, ranks: np.ndarray) -> None:
        """Counts a batch, and logs the progress if it is time."""
        self.done += len(ranks)
        self.wrong += int((ranks >= 1).sum())
        now = time.monotonic()
        if now - self.logged < _REPORT_SECONDS:
            return
        self.logged = now
        rate = self.done / (now - self.start)
        left = (self.images - self.done) / rate
        _log.info(
            f"  {self.done:,} of {self.images:,} images, {rate:,.1f} images/s, {left:,.0f} s left, "
            f"top-1 error so far {self.wrong / self.done:.2%}"
        )
