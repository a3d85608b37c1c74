"""Localization as a task of training: the class of an image and the box of its object; see `Task`."""

from __future__ import annotations

import logging
from pathlib import Path

import keras

from resnet_keras.applications.named_networks import network_and_weights
from resnet_keras.data.opening import DataSource
from resnet_keras.detection.localization_input import one_class_images
from resnet_keras.detection.localization_network import LocalizationNetwork
from resnet_keras.detection.localization_objective import ClassAccuracy, LocalizationLoss, Localized
from resnet_keras.detection.localizer import Localizer
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.cloning import transfer
from resnet_keras.training.box_data import BoxData, evenly
from resnet_keras.training.continuation import open_continuation
from resnet_keras.training.data import TrainingData
from resnet_keras.training.detection import canvas_preprocessing, open_training_boxes, with_smaller_batches
from resnet_keras.training.inputs import TrainingInputs, initial_weights, precision
from resnet_keras.training.localization_data import LocalizationData
from resnet_keras.training.model import compile_model

_log = logging.getLogger(__name__)

_HEAD_LAYERS = {"box_conv1": True, "rpn_conv1": False}
"""Layers by which weights of a whole localization network are known."""


def open_inputs(
    recipe: Recipe, source: DataSource | None, own_data: TrainingData | None, *, replicas: int
) -> TrainingInputs:
    """Opens a folder of images of one class each with boxes, in VOC's or COCO's layout, and the weights."""
    if own_data is not None:
        raise ValueError("Expected a folder of images with boxes, as `data_dir`. Received: arrays or batches")
    source = source or DataSource()
    opened = open_training_boxes(source, recipe.data.dataset)
    train, test = (one_class_images(each, on_corrupt=source.on_corrupt) for each in opened)
    if recipe.data.train_images:
        train = evenly(train, recipe.data.train_images)
    data = LocalizationData(BoxData(train, test, None))
    _log.info(f"{recipe.data.dataset if train.records else source.data_dir}: {data.description}")
    whole, recipe = recipe, with_smaller_batches(recipe, len(train), replicas)
    steps = data.steps(recipe)  # before weights are downloaded
    weights = initial_weights(recipe)
    side = recipe.data.image_size or recipe.architecture.image_size
    preprocessing = canvas_preprocessing((side, side), weights)
    continuation = open_continuation(whole, data.class_names, load)
    return TrainingInputs(recipe, data, preprocessing, steps, weights, continuation)


def create_network(inputs: TrainingInputs, *, steps_per_execution: int = 1) -> keras.Model:
    """Returns a localization network, compiled with the loss of classes and boxes."""
    model = _network(inputs)
    compile_model(
        model,
        inputs.recipe,
        inputs.steps,
        loss=LocalizationLoss(),
        metrics=[ClassAccuracy(), Localized()],
        example=(keras.ops.zeros((1, 5)), keras.ops.zeros((1, *model.output_shape[1:]))),
        steps_per_execution=steps_per_execution,
        first_step=inputs.first_step,
    )
    return model


def epoch_measures(inputs: TrainingInputs, model: keras.Model) -> None:
    """Returns nothing: Keras validates."""


def finished(inputs: TrainingInputs, model: keras.Model) -> Localizer:
    """Returns a localizer with the trained weights."""
    with precision(inputs.recipe.optimization.precision):
        network = _network(inputs, with_weights=False)
    transfer(model, network)
    return Localizer(network, inputs.preprocessing, inputs.data.class_names)


def load(path: Path) -> Localizer:
    """Returns the localizer in a file or the folder of a run."""
    return Localizer.load(path)


def _network(inputs: TrainingInputs, *, with_weights: bool = True) -> keras.Model:
    settings, preprocessing, weights = inputs.recipe.network, inputs.preprocessing, inputs.weights
    row, _ = network_and_weights(settings.model, weights)
    whole = weights is not None and weights.has_head(_HEAD_LAYERS)
    return LocalizationNetwork(
        settings.applied_to(row),
        len(inputs.data.class_names),
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        weights=weights if whole and with_weights else None,
        backbone_weights=weights if not whole and with_weights else None,
    )
