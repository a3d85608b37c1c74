"""Segmentation as a task of training: a class for each pixel; see `Task`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from resnet_keras.applications.named_networks import network_and_weights
from resnet_keras.data.datasets import Dataset, dataset
from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.segmentation.builders import FCN, DeepLabV3, UNet
from resnet_keras.segmentation.mask_sets import open_parts
from resnet_keras.segmentation.objective import (
    MaskCrossEntropy,
    MaskMeanIoU,
    PixelAccuracy,
    joined,
    without_auxiliary,
)
from resnet_keras.segmentation.segmenter import Segmenter
from resnet_keras.surgery.cloning import transfer
from resnet_keras.training.continuation import open_continuation
from resnet_keras.training.data import TrainingData
from resnet_keras.training.inputs import TrainingInputs, initial_weights
from resnet_keras.training.mask_data import MaskData
from resnet_keras.training.model import compile_model
from resnet_keras.weights.dense_heads import AUXILIARY_HEAD
from resnet_keras.weights.imported import ImportedWeights

_log = logging.getLogger(__name__)

_HEAD_LAYERS = {
    "fcn": {"head_conv": True, "aspp_conv1": False},
    "deeplabv3": {"aspp_conv1": True},
    "unet": {"decoder1_conv1": True},
}
"""For each head, layers that it has and does not have, by which weights of a whole network are known."""


def open_inputs(
    recipe: Recipe, source: DataSource | None, own_data: TrainingData | None, *, replicas: int
) -> TrainingInputs:
    """Opens images with masks, and the weights of a backbone or of a whole segmentation network."""
    if own_data is not None:
        raise ValueError(
            "Expected `data_dir`, a folder of images and masks, with a segmentation `head`. Received: `train_data`"
        )
    data = MaskData(open_parts(recipe.data.dataset, source or DataSource(), ignored=recipe.data.ignored_label))
    if len(data.class_names) < 2:
        raise ValueError(f"Expected masks of at least 2 classes. Received: {len(data.class_names)}")
    _log.info(f"{recipe.data.dataset}: {data.description}")
    steps = data.steps(recipe)  # before weights are downloaded
    weights = initial_weights(recipe)
    preprocessing = _preprocessing(recipe, dataset(recipe.data.dataset), weights)
    continuation = open_continuation(recipe, data.class_names, load)
    return TrainingInputs(recipe, data, preprocessing, steps, weights, continuation)


def create_network(inputs: TrainingInputs, *, steps_per_execution: int = 1) -> keras.Model:
    """Returns a segmentation network, compiled with the cross-entropy of pixels, mean IoU and pixel accuracy."""
    recipe, classes = inputs.recipe, len(inputs.data.class_names)
    ignored, has_auxiliary = recipe.data.ignored_label, recipe.network.head != "unet"
    auxiliary = recipe.optimization.auxiliary_loss if has_auxiliary else 0.0
    model = joined(_build(inputs, classes, auxiliary=bool(auxiliary)))
    size = (1, *inputs.preprocessing.image_size)
    compile_model(
        model,
        recipe,
        inputs.steps,
        loss=MaskCrossEntropy(classes, ignored=ignored, auxiliary=auxiliary),
        metrics=[MaskMeanIoU(classes, ignored=ignored), PixelAccuracy(classes, ignored=ignored)],
        example=(keras.ops.zeros(size), keras.ops.zeros((*size, classes))),
        steps_per_execution=steps_per_execution,
        first_step=inputs.first_step,
    )
    return model


def epoch_measures(inputs: TrainingInputs, model: keras.Model) -> None:
    """Returns nothing: Keras validates."""


def finished(inputs: TrainingInputs, model: keras.Model) -> Segmenter:
    """Returns a segmenter, without the auxiliary head, which training alone needs."""
    return Segmenter(without_auxiliary(model), inputs.preprocessing, inputs.data.class_names)


def load(path: Path) -> Segmenter:
    """Returns the segmenter in a file or the folder of a run."""
    return Segmenter.load(path)


def _build(inputs: TrainingInputs, classes: int, *, auxiliary: bool) -> keras.Model:
    network, weights = inputs.recipe.network, inputs.weights
    row, _ = network_and_weights(network.model, weights)
    shape = (*inputs.preprocessing.image_size, inputs.preprocessing.channels)
    whole = weights is not None and weights.has_head(_HEAD_LAYERS[str(network.head)])
    source: dict[str, Any] = {"weights" if whole else "backbone_weights": weights}
    backbone = network.applied_to(row)
    if network.head == "unet":
        return UNet(backbone, classes, input_shape=shape, **source)
    build = DeepLabV3 if network.head == "deeplabv3" else FCN
    options: dict[str, Any] = {"input_shape": shape, "output_stride": network.output_stride or 8}
    lacks = weights is not None and whole and f"{AUXILIARY_HEAD}/kernel" not in weights.head
    if not (auxiliary and lacks):
        return build(backbone, classes, auxiliary=auxiliary, **options, **source)
    # Finished runs have no auxiliary head; it is new.
    model = build(backbone, classes, auxiliary=True, **options)
    transfer(build(backbone, classes, **options, **source), model)
    return model


def _preprocessing(recipe: Recipe, info: Dataset, weights: ImportedWeights | None) -> Preprocessing:
    """Returns the size that images have as a whole, and the normalization of the weights, or that of ImageNet."""
    data, trained = recipe.data, weights.preprocessing if weights else None
    side = data.image_size or recipe.architecture.image_size
    size = data.crop_size or ((side, side) if data.image_size or trained is None else trained.image_size)
    if trained is not None:
        found = replace(trained.at(size), shorter_side=None)
    else:
        mean, std = info.mean, info.std
        found = Preprocessing(image_size=size, channels=len(mean), mean=mean, std=std)
    return replace(found, interpolation=data.interpolation or found.interpolation)
