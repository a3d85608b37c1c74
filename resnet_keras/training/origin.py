"""The origin of a run: what it was begun with, and must have when it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.fingerprint import digest
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.keras_file import arrays_of_model
from resnet_keras.weights.weights_file import tensor_hash

_HASH_DIGITS = 16


def origin_of(recipe: Recipe, inputs: TrainingInputs, images: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run, and hashes of its images, initial weights, and teacher.

    Files are opened again when a run resumes. Other weights there would change the teacher that is the network of the
    initial weights, the normalization of images, the order of classes, and what the network computes.

    Args:
        recipe: Recipe as the caller named it.
        inputs: What it has opened.
        images: Fingerprint of the images, or identity of the caller's own.
    """
    origin = recipe.flat() | {"images": digest(images)[:_HASH_DIGITS]}
    if inputs.weights is not None:
        origin |= _of_weights(inputs.weights)
    if inputs.teacher is not None:
        origin |= _of_teacher(inputs.teacher)
    return origin


def _of_weights(weights: ImportedWeights) -> dict[str, str]:
    tensors = {**weights.tensors, **{f"beside {name}": tensor for name, tensor in weights.head.items()}}
    facts = {"conventions": asdict(weights.conventions), "class_names": weights.class_names}
    preprocessing = None if weights.preprocessing is None else asdict(weights.preprocessing)
    return {
        "initial_weights": digest({"tensors": tensor_hash(tensors), **facts})[:_HASH_DIGITS],
        "initial_preprocessing": digest({"preprocessing": preprocessing})[:_HASH_DIGITS],
    }


def _of_teacher(teacher: Classifier) -> dict[str, str]:
    facts = {"preprocessing": asdict(teacher.preprocessing), "class_names": teacher.class_names}
    return {
        "teacher_weights": tensor_hash(arrays_of_model(teacher.model))[:_HASH_DIGITS],
        "teacher_preprocessing": digest(facts)[:_HASH_DIGITS],
    }
