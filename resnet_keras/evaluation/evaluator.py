"""How often a classifier, or several together, are wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from resnet_keras.applications.classifier import Classifier, softmax
from resnet_keras.data.broken_images import explain_broken_images
from resnet_keras.data.class_names import class_indices
from resnet_keras.data.splits import RecordSplit, Split
from resnet_keras.evaluation.view_batches import view_batches
from resnet_keras.evaluation.views import Views
from resnet_keras.surgery.cloning import clone_for_any_size

_REPORT_SECONDS = 10.0


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


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """What was answered for each image of a split, in its order.

    Attributes:
        labels: The right classes (N,).
        predicted: The most probable classes (N,).
        ranks: How many classes were thought more probable than the right one (N,).
        losses: Cross-entropies, in nats (N,).
        class_names: Of the classes, in their order.
    """

    labels: np.ndarray
    predicted: np.ndarray
    ranks: np.ndarray
    losses: np.ndarray
    class_names: tuple[str, ...]

    @property
    def evaluation(self) -> Evaluation:
        """The errors over all images."""
        return Evaluation(
            images=len(self.ranks),
            top1_error=float((self.ranks >= 1).mean()),
            top5_error=float((self.ranks >= 5).mean()) if len(self.class_names) > 5 else None,
            loss=float(self.losses.mean()),
        )


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes precede the right one: (N, classes), (N,) -> (N,). Equals go in the classes' order."""
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    count = ((probabilities > right) | ((probabilities == right) & before)).sum(axis=1)
    return np.where(np.isnan(probabilities).any(axis=1), probabilities.shape[1], count)


def evaluate(
    classifiers: Classifier | Sequence[Classifier],
    split: Split,
    *,
    views: Views | None = None,
    batch_size: int = 128,
    log: Callable[[str], None] | None = None,
) -> Evaluation:
    """Returns the errors of one classifier, or of several together, on every image of `split`; see `answer`."""
    return predict_split(classifiers, split, views=views, batch_size=batch_size, log=log).evaluation


def predict_split(
    classifiers: Classifier | Sequence[Classifier],
    split: Split,
    *,
    views: Views | None = None,
    batch_size: int = 128,
    log: Callable[[str], None] | None = None,
) -> SplitPredictions:
    """Returns what one classifier, or several together, answer for every image of `split`, each image once.

    Args:
        classifiers: One, or several whose scores are averaged. Each has its own preprocessing.
        split: Images of the classifiers' classes.
        views: What of each image they are shown; its resized center if `None`.
        batch_size: Views in a step.
        log: Takes a line of progress every few seconds.

    Raises:
        ValueError: The split has classes that the classifiers have not, or an image that does not decode; a scale is
            shorter than the crop, or too short for the network.
    """
    if batch_size < 1:
        raise ValueError(f"Expected `batch_size` of at least 1. Received: {batch_size}")
    members = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    shown = views or Views()
    _check(members, shown)
    split = align_classes(split, members[0].class_names)
    if not len(split):
        raise ValueError("Expected a split with images. Received: an empty one")
    if shown.crops == "full":
        members = [replace(member, model=clone_for_any_size(member.model)) for member in members]
    batches = view_batches(split, [member.preprocessing for member in members], shown, batch_size)
    found: list[tuple[np.ndarray, ...]] = []
    progress = _Progress(len(split), log)
    with explain_broken_images(split):
        for class_indices, inputs, labels in batches:
            probabilities = _probabilities(members, inputs, shown, batch_size)
            right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
            losses = -np.log(np.maximum(right.astype(np.float64), np.finfo(np.float32).tiny))
            rank = ranks(probabilities, labels)
            found.append((class_indices, labels, probabilities.argmax(axis=1), rank, losses))
            progress.tell(rank)
    class_indices, *columns = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(class_indices, kind="stable")
    labels, predicted, rank, losses = (column[order] for column in columns)
    return SplitPredictions(labels, predicted, rank, losses, members[0].class_names)


def _check(members: list[Classifier], views: Views) -> None:
    if not members:
        raise ValueError("Expected at least one classifier. Received: none")
    for member in members:
        views.sides(member.preprocessing)
        if len(member.class_names) != len(members[0].class_names):
            raise ValueError(
                f"Expected classifiers of the same {len(members[0].class_names)} classes. "
                f"Received: one of {len(member.class_names)}"
            )
        if member.class_names != members[0].class_names and set(member.class_names) == set(members[0].class_names):
            raise ValueError(
                "Expected classifiers with their classes in the same order. Received: "
                f"{', '.join(members[0].class_names[:5])} ... and {', '.join(member.class_names[:5])} ..."
            )


def align_classes(split: Split, class_names: tuple[str, ...]) -> Split:
    """Returns a split of a classifier's classes: by their names where it has those, or as it is.

    Raises:
        ValueError: It has another number of classes, and not by names that the classifier knows.
    """
    found = class_indices(split.class_names, class_names)
    if len(split.class_names) == len(class_names) and found in (None, list(range(len(class_names)))):
        return split
    if found is None or isinstance(split, RecordSplit):
        raise ValueError(
            f"Expected a split of the classifier's {len(class_names)} classes, or a folder of some of them by their "
            f"names. Received: one of {len(split.class_names)}"
        )
    return replace(split, labels=np.array(found)[split.labels], class_names=class_names)


def _probabilities(
    members: list[Classifier], inputs: Iterable[Iterable[np.ndarray]], views: Views, batch_size: int
) -> np.ndarray:
    """Returns the mean over all members, scales and views: arrays (N, views, H, W, C) -> (N, classes)."""
    scores = []
    for member, scales in zip(members, inputs, strict=True):
        for shown in scales:
            flat = shown.reshape(-1, *shown.shape[2:])
            outputs = np.concatenate(
                [_outputs(member, flat[i : i + batch_size], views) for i in range(0, len(flat), batch_size)]
            )
            scores.append(outputs.reshape(*shown.shape[:2], -1).mean(axis=1))
    mean = np.mean(scores, axis=0)
    return softmax(mean) if views.average == "logits" else mean


def _outputs(member: Classifier, images: np.ndarray, views: Views) -> np.ndarray:
    return member.probabilities(images) if views.average == "probabilities" else member.logits(images)


class _Progress:
    """Tells how an evaluation goes on."""

    def __init__(self, images: int, log: Callable[[str], None] | None) -> None:
        self.images, self.log = images, log
        self.begun = self.told = time.monotonic()
        self.done = self.wrong = 0

    def tell(self, ranks: np.ndarray) -> None:
        """Counts a batch, and tells if it is time."""
        self.done += len(ranks)
        self.wrong += int((ranks >= 1).sum())
        now = time.monotonic()
        if self.log is None or now - self.told < _REPORT_SECONDS:
            return
        self.told = now
        rate = self.done / (now - self.begun)
        left = (self.images - self.done) / rate
        self.log(
            f"  {self.done:,} of {self.images:,} images, {rate:,.1f} images/s, {left:,.0f} s left, "
            f"top-1 error so far {self.wrong / self.done:.2%}"
        )
