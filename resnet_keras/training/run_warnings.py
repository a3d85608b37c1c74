"""Warnings about a run before it starts: settings and data that rarely are what was meant."""

from __future__ import annotations

import os

import keras
import numpy as np

from resnet_keras.data.splits import RecordSplit
from resnet_keras.distributed import strategy as distribution
from resnet_keras.distributed.processor import leaves_onednn_off
from resnet_keras.training.data import SplitData
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.mask_data import MaskData

_FEW_STEPS = 50
_FEW_IMAGES = 1_000  # too few to train a network from random weights
_FEW_TEST_IMAGES = 100
_FEW_IN_MASK_TEST = 10
_FEW_IN_BATCH_NORM = 8
_LEFT_OUT = 0.05


def run_warnings(inputs: TrainingInputs, replicas: int = 1) -> tuple[str, ...]:
    """Returns what looks wrong with a run, in sentences with the settings to change; none for a usual run."""
    found = [*_length(inputs), *_start(inputs, replicas)]
    if isinstance(inputs.data, SplitData):
        found += [*_images(inputs, inputs.data), *_test_images(inputs.data)]
    if isinstance(inputs.data, MaskData):
        found += _masks(inputs, inputs.data)
    return (*found, *_processor())


def _length(inputs: TrainingInputs) -> list[str]:
    """Returns warnings about the steps of a run."""
    recipe, steps = inputs.recipe, inputs.steps
    total = recipe.schedule.epochs * steps
    warmup = recipe.schedule.warmup(steps, recipe.architecture.depth)
    found = []
    if 2 * warmup > total:
        part = "all" if warmup >= total else f"{warmup:,}"
        found.append(f"{part} of the {total:,} steps are warm-up; lower `warmup_steps` or `warmup_epochs`")
    if total < _FEW_STEPS:
        found.append(f"the run has {total} steps; for more, raise `epochs` or lower `batch_size`")
    elif steps == 1 and recipe.schedule.epochs > 1:
        found.append("an epoch is one step; lower `batch_size` for more")
    return found


def _start(inputs: TrainingInputs, replicas: int) -> list[str]:
    """Returns warnings about initial weights and batch normalization."""
    recipe, weights = inputs.recipe, inputs.weights
    found = []
    frozen = recipe.network.freeze_batch_norms
    if weights is None and (frozen or recipe.network.freeze):
        field = "freeze" if recipe.network.freeze else "freeze_batch_norms"
        found.append(f"random weights are frozen by `{field}`; give `weights`, or freeze nothing")
    elif weights is not None and weights.preprocessing is None:
        found.append(
            f"{weights.source} does not say how it expects its images; the data set's mean and standard deviation are "
            "used"
        )
    alone = 1 if recipe.network.batch_norm == "synchronized" else replicas
    images = recipe.data.batch_size // (alone * recipe.optimization.accumulate)
    # In quantization-aware training, batch normalization is folded and runs in inference mode.
    trains_norms = not (frozen or recipe.network.freeze == "backbone" or recipe.network.quantization_aware)
    if trains_norms and images < _FEW_IN_BATCH_NORM:
        found.append(
            f"batch normalization takes its statistics from {images} image{'s' * (images > 1)}; set "
            "`freeze_batch_norms`, or raise `batch_size`"
        )
    return found


def _processor() -> list[str]:
    """Returns a warning about kernels that training on this processor goes without."""
    if "TF_ENABLE_ONEDNN_OPTS" in os.environ or not leaves_onednn_off():
        return []
    if keras.backend.backend() != "tensorflow" or distribution.gpus():
        return []
    return [
        "TensorFlow leaves oneDNN off on this processor; set TF_ENABLE_ONEDNN_OPTS=1 in the environment before it is "
        "imported, as the program `resnet` does, to train twice as fast"
    ]


def _images(inputs: TrainingInputs, data: SplitData) -> list[str]:
    """Returns warnings about the training images."""
    recipe, count = inputs.recipe, len(data.train_split)
    found = []
    left = 0 if recipe.data.carry_over else count - inputs.steps * recipe.data.batch_size
    if left > _LEFT_OUT * count:
        found.append(
            f"{left} of {count:,} images are left out of each epoch, others in each; set `carry_over` to train all"
        )
    if inputs.weights is None and count < _FEW_IMAGES and recipe.data.dataset == "folder":
        found.append(f"{count} images are few for random weights; give `weights`, e.g. imagenet")
    if not isinstance(data.train_split, RecordSplit):
        single = [data.class_names[i] for i in np.flatnonzero(_counts(data.train_split.labels, data) == 1)]
        if single:
            found.append(f"one training image alone of {_listed(single)}")
    return found


def _masks(inputs: TrainingInputs, data: MaskData) -> list[str]:
    """Returns warnings about images with masks."""
    count, tested = len(data.parts.train), len(data.parts.test)
    found = []
    left = count - inputs.steps * inputs.recipe.data.batch_size
    if left > _LEFT_OUT * count:
        found.append(
            f"{left} of {count:,} images are left out of each epoch, others in each; choose a `batch_size` that "
            "divides them"
        )
    if tested < _FEW_IN_MASK_TEST:
        found.append(f"{tested} test image{'s decide' if tested > 1 else ' decides'} little")
    return found


def _test_images(data: SplitData) -> list[str]:
    """Returns warnings about the test images."""
    count = len(data.test_split)
    found = []
    if count < _FEW_TEST_IMAGES:
        images = f"{count} test images" if count > 1 else "one test image"
        found.append(f"{images} decide little: each is {1 / max(count, 1):.1%} of the error")
    if not isinstance(data.test_split, RecordSplit):
        absent = [data.class_names[i] for i in np.flatnonzero(_counts(data.test_split.labels, data) == 0)]
        if absent:
            found.append(f"no test images of {_listed(absent)}")
    return found


def _counts(labels: np.ndarray, data: SplitData) -> np.ndarray:
    return np.bincount(labels, minlength=len(data.class_names))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} other classes"
