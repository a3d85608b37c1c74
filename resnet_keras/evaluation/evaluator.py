"""Top-1 and top-5 errors of a classifier or an ensemble on a data split (arXiv:1512.03385, §3.4)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import head_of, sigmoid, softmax
from resnet_keras.checks.fields import check_counts
from resnet_keras.data.image_checks import explain_broken_images
from resnet_keras.data.splits import RecordSplit, Split
from resnet_keras.evaluation.class_places import check_places, class_places
from resnet_keras.evaluation.predictions import (
    Evaluation,
    EvaluationProgress,
    SplitPredictions,
    measures_of_one,
    measures_of_several,
)
from resnet_keras.evaluation.scoring import Scorer, default_devices
from resnet_keras.evaluation.view_batches import view_batches
from resnet_keras.evaluation.views import Views
from resnet_keras.surgery.cloning import clone_for_any_size

_log = logging.getLogger(__name__)


def evaluate(
    classifiers: Classifier | Sequence[Classifier],
    split: Split,
    *,
    views: Views | None = None,
    batch_size: int = 128,
    devices: Sequence[str] | None = None,
) -> Evaluation:
    """Returns the errors of a classifier or an ensemble on every image of `split`; see `predict_split`."""
    return predict_split(classifiers, split, views=views, batch_size=batch_size, devices=devices).evaluation


def predict_split(
    classifiers: Classifier | Sequence[Classifier],
    split: Split,
    *,
    views: Views | None = None,
    batch_size: int = 128,
    devices: Sequence[str] | None = None,
) -> SplitPredictions:
    """Returns the predictions of a classifier or an ensemble for every image of `split`, each image once.

    Progress is logged every ten seconds.

    Args:
        classifiers: One classifier, or an ensemble whose scores are averaged. Each has its own preprocessing.
        split: Labeled images of the classifiers' classes. For networks that end in the sigmoid of each class, an
            `ArraySplit` or `FileSplit` may have several labels per image: 0 or 1 for each class (N, classes).
        views: Crops and scales of each image; the center crop if `None`.
        batch_size: Views in a batch.
        devices: Names of TensorFlow's devices that share each batch, such as "CPU:0"; all GPUs if `None`.

    Raises:
        ValueError: The split has classes that the classifiers do not know, no images, or an image that does not
            decode; the classifiers differ in their classes; a scale is shorter than the crop, or too short for the
            network.
    """
    check_counts(batch_size=batch_size)
    members = [classifiers] if isinstance(classifiers, Classifier) else list(classifiers)
    views = views or Views()
    _check(members, views, split)
    split = align_classes(split, members[0].class_names)
    if not len(split):
        raise ValueError("Expected a split with images. Received: an empty one")
    if views.crops == "full":
        members = [replace(member, model=clone_for_any_size(member.model)) for member in members]
    batches = view_batches(split, [member.preprocessing for member in members], views, batch_size)
    devices = default_devices() if devices is None else devices
    networks = [Scorer(member, views, devices) for member in members]
    several = head_of(members[0].model) == "sigmoid"
    columns: list[tuple[np.ndarray, ...]] = []
    progress = EvaluationProgress(len(split))
    with explain_broken_images(split):
        for positions, inputs, labels in batches:
            probabilities = _probabilities(networks, inputs, views, batch_size)
            measured = measures_of_several(probabilities, labels) if several else measures_of_one(probabilities, labels)
            columns.append((positions, *measured))
            progress.add(measured[2])
    positions, *others = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(positions, kind="stable")
    labels, predicted, rank, losses, *scores = (column[order] for column in others)
    return SplitPredictions(labels, predicted, rank, losses, members[0].class_names, *scores)


def _check(members: list[Classifier], views: Views, split: Split) -> None:
    if not members:
        raise ValueError("Expected at least one classifier. Received: none")
    several = {head_of(member.model) == "sigmoid" for member in members}
    if len(several) > 1:
        raise ValueError(
            "Expected classifiers of one kind. Received: some of one label per image (softmax), and some of several "
            "(the sigmoid of each class)"
        )
    if several == {False} and not isinstance(split, RecordSplit) and split.labels.ndim == 2:
        raise ValueError(
            "Expected a network that ends in the sigmoid of each class, for images with several labels. "
            f"Received: {members[0].model.name}, of one label per image"
        )
    for member in members:
        views.sides(member.preprocessing)
        if told := views.repeated(member.preprocessing):
            _log.warning(told)
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
        check_places(member.class_names, members[0].class_names, "another classifier has")


def align_classes(split: Split, class_names: tuple[str, ...]) -> Split:
    """Returns a split whose labels are class indices of a classifier, matched by class names where those are equal.

    Args:
        split: Any split. Names that the classifier does not know keep their indices if the number of classes agrees.
        class_names: Class names of the classifier, in order.

    Raises:
        ValueError: The number of classes differs, and not all names are names of the classifier.
    """
    places = class_places(split.class_names, class_names, ordered=isinstance(split, RecordSplit))
    if places == list(range(len(class_names))) or isinstance(split, RecordSplit):
        return split
    labels = (
        np.array(places)[split.labels] if split.labels.ndim == 1 else _moved(split.labels, places, len(class_names))
    )
    return replace(split, labels=labels, class_names=class_names)


def _moved(labels: np.ndarray, places: list[int], classes: int) -> np.ndarray:
    """Returns several labels per image with each class at its place among others."""
    moved = np.zeros((len(labels), classes), labels.dtype)
    moved[:, places] = labels
    return moved


def _probabilities(
    networks: list[Scorer], inputs: Iterable[Iterable[np.ndarray]], views: Views, batch_size: int
) -> np.ndarray:
    """Returns the mean over all members, scales and views: (N, views, H, W, C) -> (N, classes)."""
    scores = []
    for network, scales in zip(networks, inputs, strict=True):
        for images in scales:
            flat = images.reshape(-1, *images.shape[2:])
            outputs = np.concatenate([network(flat[i : i + batch_size]) for i in range(0, len(flat), batch_size)])
            scores.append(outputs.reshape(*images.shape[:2], -1).mean(axis=1))
    mean = np.mean(scores, axis=0)
    if views.average == "probabilities":
        return mean
    return sigmoid(mean) if networks[0].head == "sigmoid" else softmax(mean)
