"""Teachers: the frozen network that a recipe distills from (arXiv:1503.02531)."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import check_one_label, features_and_logits
from resnet_keras.data.class_names import class_indices, imagenet_class_names, wordnet_ids
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.recipes.settings import INITIAL
from resnet_keras.surgery.cloning import clone_for_any_size
from resnet_keras.surgery.folding import fold
from resnet_keras.training.model import build_network
from resnet_keras.weights.imported import ImportedWeights

_log = logging.getLogger(__name__)

_SHOWN = 3  # classes in a message


def open_teacher(recipe: Recipe, class_names: tuple[str, ...], preprocessing: Preprocessing) -> Classifier | None:
    """Returns the trained classifier that a recipe distills from; `None` if it names none.

    Args:
        recipe: Its `teacher` applies; the network of the initial weights is none of these.
        class_names: Classes of the run.
        preprocessing: That of the run.

    Raises:
        FileNotFoundError: The teacher is not there.
        ValueError: The teacher lacks a class, has images of other channels, or several labels for an image.
    """
    source = recipe.optimization.teacher
    if source in (None, INITIAL):
        return None
    teacher = Classifier.from_pretrained(source)
    check_one_label(teacher.model, "a teacher")
    if teacher.preprocessing.channels != preprocessing.channels:
        raise ValueError(
            f"Expected a teacher for images of {preprocessing.channels} channels. "
            f"Received: {source}, for {teacher.preprocessing.channels}"
        )
    _columns(teacher, class_names, str(source))
    _log.info(f"the teacher is {teacher.model.name} of {source}, with {teacher.model.count_params():,} parameters")
    return teacher


def check_without_normalization(teacher: Classifier, source: str) -> None:
    """Checks that a teacher takes the batches of a `tf.data.Dataset` as they are: their normalization is not known.

    Raises:
        ValueError: It normalizes its images, or has their channels in another order.
    """
    own = teacher.preprocessing
    if set(own.mean) == {0.0} and set(own.std) == {1.0} and own.channel_order == "rgb":
        return
    order = "" if own.channel_order == "rgb" else f", and channels in the order {own.channel_order}"
    raise ValueError(
        "Expected a `teacher` that was trained on such batches, or `train_data` and `test_data` as arrays, because the "
        f"normalization of a tf.data.Dataset is not known. Received: {source}, with a mean of "
        f"{_numbers(own.mean)} and a standard deviation of {_numbers(own.std)}{order}"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


def build_teacher(
    recipe: Recipe,
    class_names: tuple[str, ...],
    preprocessing: Preprocessing,
    weights: ImportedWeights | None,
    teacher: Classifier | None,
) -> keras.Model | None:
    """Returns the frozen teacher of a recipe, from the run's normalized images to logits; `None` without one.

    It computes in the precision of the recipe.

    Args:
        recipe: Recipe of the run.
        class_names: Classes of the run, in the order of the logits.
        preprocessing: That of the run.
        weights: Initial weights of the run.
        teacher: Classifier from `open_teacher`.
    """
    if teacher is not None:
        precision = keras.DTypePolicy(recipe.optimization.precision).compute_dtype
        return teacher_network(teacher, class_names, preprocessing, precision)
    if recipe.optimization.teacher is None:
        return None
    in_floats = recipe.replace(quantization_aware=False)
    any_size = bool(recipe.data.train_sizes)
    model = build_network(in_floats, preprocessing, len(class_names), weights=weights, any_size=any_size)
    model.trainable = False
    return model


def teacher_network(
    teacher: Classifier, class_names: tuple[str, ...], preprocessing: Preprocessing, precision: str = "float32"
) -> keras.Model:
    """Returns a frozen copy of a classifier for the images of a run: normalized (N, H, W, C) -> logits (N, classes).

    The copy takes images of any size, with the normalization and the order of channels of the run; its logits are in
    the order of the run's classes, without those of others. Batch normalization is folded into the convolutions
    (arXiv:1712.05877, section 3.2).

    Args:
        teacher: Classifier that has all classes of the run.
        class_names: Classes of the run.
        preprocessing: That of the run.
        precision: "float32", "bfloat16" or "float16", the type of the convolutions; the logits are in float32.
    """
    both = features_and_logits(teacher.model)
    network = fold(clone_for_any_size(keras.Model(both.input, both.output["logits"])), precision=precision)
    images = keras.Input((None, None, preprocessing.channels), dtype="float32")
    logits = keras.ops.cast(network(_normalized(images, preprocessing, teacher.preprocessing)), "float32")
    columns = _columns(teacher, class_names, teacher.model.name)
    if columns != list(range(len(teacher.class_names))):
        logits = keras.ops.take(logits, columns, axis=-1)
    model = keras.Model(images, logits, name="teacher")
    model.trainable = False
    return model


def _normalized(images: Any, here: Preprocessing, there: Preprocessing) -> Any:
    """Returns images of one normalization and order of channels in those of another."""
    order = 1 if here.channel_order == there.channel_order else -1
    mean, std, own_mean, own_std = (
        np.asarray(values, np.float32) for values in (here.mean[::order], here.std[::order], there.mean, there.std)
    )
    scale, shift = std / own_std, (mean - own_mean) / own_std
    images = images if order == 1 else keras.ops.flip(images, axis=-1)
    return images if (scale == 1).all() and (shift == 0).all() else images * scale + shift


def _columns(teacher: Classifier, class_names: tuple[str, ...], source: str) -> list[int]:
    """Returns the output of a teacher for each class: by names, and those of ImageNet by WordNet ids, too.

    Classes that are numbers, which are no names of the teacher, are its outputs in their order.
    """
    own = teacher.class_names
    if (found := class_indices(class_names, own)) is not None:
        return found
    if len(own) == len(class_names) and class_names == tuple(map(str, range(len(class_names)))):
        return list(range(len(own)))
    known = {*own, *(wordnet_ids() if own == imagenet_class_names() else ())}
    missing = [name for name in class_names if name not in known]
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise ValueError(
        f"Expected a `teacher` with the classes of the data, such as {class_names[0]}. "
        f"Received: {source}, without {', '.join(missing[:_SHOWN])}{more}; it has {', '.join(own[:_SHOWN])}, ..."
    )
