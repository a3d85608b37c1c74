"""What a run writes for TensorBoard beside its curves: hyperparameters and images of the first batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from resnet_keras.recipes.recipe import TaskName
from resnet_keras.training.image_size_phases import Phase
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.own_batches import BatchData

_IMAGES = 8
_LEAST_SIDE = 64  # TensorBoard shows images at their size
_MEASURES: dict[TaskName, tuple[tuple[str, str], ...]] = {
    "classification": (("accuracy", "accuracy"),),
    "segmentation": (("mean_iou", "mean IoU"),),
    "localization": (("localized", "localized"), ("accuracy", "accuracy")),
    "detection": (),
}


def write_start(folder: Path, inputs: TrainingInputs, phase: Phase, batches: Any) -> None:
    """Writes the fields of a recipe as hyperparameters, and images of the first batch.

    Args:
        folder: Folder of TensorBoard's logs.
        inputs: Recipe, preprocessing and data.
        phase: First phase of the run.
        batches: Its batches. No images are written of the caller's own batches, or of those that devices share.
    """
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=0):
        metrics = [
            hparams.Metric(f"epoch_{name}", group=group, display_name=f"{images} {title}")
            for group, images in (("validation", "test"), ("train", "training"))
            for name, title in (*_MEASURES[inputs.recipe.task], ("loss", "loss"))
        ]
        hparams.hparams_config(hparams=[], metrics=metrics)
        hparams.hparams({name: _plain(value) for name, value in inputs.recipe.flat().items()})
        pixels = np.zeros((0, 1, 1, 3), np.uint8)
        if isinstance(batches, tf.data.Dataset) and not isinstance(inputs.data, BatchData):
            preprocessing = inputs.preprocessing.at(phase.image_size) if phase.image_size else inputs.preprocessing
            pixels = inputs.data.pictures(next(batches.as_numpy_iterator()), preprocessing, _IMAGES)[0]
        if len(pixels):
            scale = -(-_LEAST_SIDE // min(pixels.shape[1:3]))
            tf.summary.image("first batch", pixels.repeat(scale, 1).repeat(scale, 2), max_outputs=_IMAGES)
    writer.close()


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
