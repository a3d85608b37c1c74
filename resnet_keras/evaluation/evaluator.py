"""Top-1 and top-5 errors of a classifier or an ensemble on a data split (arXiv:1512.03385, §3.4)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import softmax
from resnet_keras.checks.fields import check_counts
from resnet_keras.data.class_names import class_indices, wordnet_ids
from resnet_keras.data.image_checks import explain_broken_images
from resnet_keras.data.splits import RecordSplit, Split
from resnet_keras.evaluation.view_batches import view_batches
from resnet_keras.evaluation.views import Views
from resnet_keras.surgery.cloning import clone_for_any_size

_log = logging.getLogger(__name__)

_NAMED = 3  # classes in a message
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


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Predictions for each image of a split, in the order of the split.

    Attributes:
        labels: Indices of the true classes (N,).
        predicted: Indices of the most probable classes (N,).
        ranks: Number of classes that are more probable than the true class (N,); 0 is a correct prediction.
        losses: Cross-entropies in nats (N,).
        class_names: Names of the classes, in order.
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
    """Returns the rank of the true class: (N, classes), (N,) -> (N,). Classes of equal probability rank by index.

    An image with a probability that is NaN has the last rank.
    """
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
) -> Evaluation:
    """Returns the errors of a classifier or an ensemble on every image of `split`; see `predict_split`."""
    return predict_split(classifiers, split, views=views, batch_size=batch_size).evaluation


def predict_split(
    classifiers: Classifier | Sequence[Classifier],
    split: Split,
    *,
    views: Views | None = None,
    batch_size: int = 128,
) -> SplitPredictions:
    """Returns the predictions of a classifier or an ensemble for every image of `split`, each image once.

    Progress is logged every ten seconds.

    Args:
        classifiers: One classifier, or an ensemble whose scores are averaged. Each has its own preprocessing.
        split: Labeled images of the classifiers' classes.
        views: Crops and scales of each image; the center crop if `None`.
        batch_size: Views in a batch.

    Raises:
        ValueError: The split has classes that the classifiers do not know, no images, or an image that does not
            decode; the classifiers differ in their classes; a scale is shorter than the crop, or too short for the
            network.
    """
    check_counts(batch_size=batch_size)
    members = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    views = views or Views()
    _check(members, views)
    split = align_classes(split, members[0].class_names)
    if not len(split):
        raise ValueError("Expected a split with images. Received: an empty one")
    if views.crops == "full":
        members = [replace(member, model=clone_for_any_size(member.model)) for member in members]
    batches = view_batches(split, [member.preprocessing for member in members], views, batch_size)
    networks = [_EqualBatches(member, views) for member in members]
    columns: list[tuple[np.ndarray, ...]] = []
    progress = _Progress(len(split))
    with explain_broken_images(split):
        for positions, inputs, labels in batches:
            probabilities = _probabilities(networks, inputs, views, batch_size)
            right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
            losses = -np.log(np.maximum(right.astype(np.float64), np.finfo(np.float32).tiny))
            rank = ranks(probabilities, labels)
            columns.append((positions, labels, probabilities.argmax(axis=1), rank, losses))
            progress.add(rank)
    positions, *others = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(positions, kind="stable")
    labels, predicted, rank, losses = (column[order] for column in others)
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
    """Returns a split whose labels are class indices of a classifier, matched by class names where those are equal.

    Args:
        split: Any split. Names that the classifier does not know keep their indices if the number of classes agrees.
        class_names: Class names of the classifier, in order.

    Raises:
        ValueError: The number of classes differs, and not all names are names of the classifier.
    """
    found = class_indices(split.class_names, class_names)
    if len(split.class_names) == len(class_names) and found in (None, list(range(len(class_names)))):
        _check_places(split.class_names, class_names)
        return split
    if found is None or isinstance(split, RecordSplit):
        raise ValueError(
            f"Expected a split of the classifier's {len(class_names)} classes, or a folder of some of them by their "
            f"names. Received: one of {len(split.class_names)}"
        )
    return replace(split, labels=np.array(found)[split.labels], class_names=class_names)


def _check_places(names: tuple[str, ...], class_names: tuple[str, ...]) -> None:
    """Refuses class names that a classifier has at other places, and warns of names that it does not have."""
    if names == class_names or tuple(names) == wordnet_ids():
        return
    pairs = [(name, known) for name, known in zip(names, class_names, strict=True) if name != known]
    known_elsewhere = [name for name, _ in pairs if name in class_names]
    numbered = tuple(map(str, range(len(names))))
    if known_elsewhere and numbered not in (names, class_names):
        raise ValueError(
            "Expected the classifier's classes, or none of them. Received: classes of other names beside "
            f"{known_elsewhere[0]}, such as {next(name for name in names if name not in class_names)}"
        )
    shown = ", ".join(f"{name} as {known}" for name, known in pairs[:_NAMED]) + ", ..." * (len(pairs) > _NAMED)
    _log.warning(f"the data have other class names than the classifier; they are matched by their order: {shown}")


def _probabilities(
    networks: list[_EqualBatches], inputs: Iterable[Iterable[np.ndarray]], views: Views, batch_size: int
) -> np.ndarray:
    """Returns the mean over all members, scales and views: (N, views, H, W, C) -> (N, classes)."""
    scores = []
    for network, scales in zip(networks, inputs, strict=True):
        for images in scales:
            flat = images.reshape(-1, *images.shape[2:])
            outputs = np.concatenate([network(flat[i : i + batch_size]) for i in range(0, len(flat), batch_size)])
            scores.append(outputs.reshape(*images.shape[:2], -1).mean(axis=1))
    mean = np.mean(scores, axis=0)
    return softmax(mean) if views.average == "logits" else mean


class _EqualBatches:
    """The scores of a classifier for batches of one size: the last one is filled up.

    A network is traced again for a batch of another size, which takes longer than a batch.
    """

    def __init__(self, classifier: Classifier, views: Views) -> None:
        probabilities = views.average == "probabilities"
        self._scores = classifier.probabilities_of_inputs if probabilities else classifier.logits_of_inputs
        self._fill = views.crops != "full"  # whole images have many sizes, each with few images
        self._sizes: dict[tuple[int, ...], int] = {}  # by the shape of an image

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the scores of normalized images: (N, H, W, C) -> (N, classes)."""
        count, shape = len(images), images.shape[1:]
        size = self._sizes.setdefault(shape, count)
        if count < size and self._fill:
            images = np.concatenate([images, np.broadcast_to(images[-1:], (size - count, *shape))])
        return self._scores(images)[:count]


class _Progress:
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
