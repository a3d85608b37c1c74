"""The network at the start of a run: built, with its initial weights, frozen in part, compiled."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from resnet_keras.applications.named_networks import build_with_weights, network_and_weights
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.blocks import HEAD
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.freezing import freeze
from resnet_keras.surgery.quantization import quantize
from resnet_keras.surgery.recalibration import restore_statistics
from resnet_keras.training.data import TrainingData
from resnet_keras.training.distillation import DistillationLoss, label_accuracy
from resnet_keras.training.optimizers import LossScale, Muon, create_optimizer
from resnet_keras.training.schedules import learning_rate_schedule
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.keras_file import arrays_of_model

_log = logging.getLogger(__name__)

_STATISTICS_IMAGES = 512
_STATISTICS_BATCH = 32  # the inputs of all batch normalizations are in memory at once
_STATISTICS_PIXELS = 224 * 224  # of an image


def compile_network(
    recipe: Recipe,
    preprocessing: Preprocessing,
    classes: int,
    steps: int,
    *,
    weights: ImportedWeights | None = None,
    steps_per_execution: int = 1,
    soft_labels: bool | None = None,
    first_step: int = 0,
) -> keras.Model:
    """Returns the recipe's network with its initial weights, compiled. It returns logits.

    Args:
        recipe: Recipe of the run.
        preprocessing: Size and channels of the network's input.
        classes: Number of classes.
        steps: Steps in an epoch, for the learning rate schedule.
        weights: Initial weights; `None` draws them.
        steps_per_execution: See `keras.Model.compile`.
        soft_labels: Whether labels are probabilities of all classes; the recipe's own if `None`.
        first_step: First step of the run; not 0 if it continues another.
    """
    soft_labels = recipe.soft_labels if soft_labels is None else soft_labels
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = build_network(recipe, preprocessing, classes, weights=weights, any_size=bool(recipe.data.train_sizes))
    for warning in caught:
        if issubclass(warning.category, UserWarning):  # others are for developers of libraries
            _log.warning(str(warning.message))
    if weights and weights.classes != classes:
        # A new head on a trained backbone starts at zero: random logits would give the backbone large gradients.
        kernel = model.get_layer(HEAD).kernel
        kernel.assign(keras.ops.zeros_like(kernel))
    accuracy = label_accuracy if soft_labels else keras.metrics.sparse_categorical_accuracy
    compile_model(
        model,
        recipe,
        steps,
        loss=_loss(recipe, soft_labels),
        metrics=[keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")],
        example=(keras.ops.zeros((1, classes) if soft_labels else (1,)), keras.ops.zeros((1, classes))),
        steps_per_execution=steps_per_execution,
        first_step=first_step,
    )
    return model


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    steps: int,
    *,
    loss: Any = None,
    metrics: Sequence[keras.metrics.Metric] = (),
    example: tuple[Any, Any] | None = None,
    steps_per_execution: int = 1,
    first_step: int = 0,
) -> None:
    """Freezes parts of a network of any task, and compiles it with the recipe's optimizer and learning rates.

    The variables of the optimizer and of the metrics exist afterwards, so that a checkpoint can restore them.

    Args:
        model: The network.
        recipe: Recipe of the run.
        steps: Steps in an epoch, for the learning rate schedule.
        loss: See `keras.Model.compile`; `None` for a network that adds its own losses.
        metrics: Metrics of training and validation.
        example: Labels and outputs of one image, of which the metrics are built; not needed without metrics.
        steps_per_execution: See `keras.Model.compile`.
        first_step: First step of the run; not 0 if it continues another.
    """
    if recipe.network.freeze or recipe.network.freeze_batch_norms:
        _log.info(str(freeze(model, recipe.network.freeze, batch_norms=recipe.network.freeze_batch_norms)))
    optimizer = create_optimizer(recipe.optimization, learning_rate_schedule(recipe, steps, first_step))
    model.compile(
        optimizer=LossScale(optimizer) if recipe.optimization.precision == "mixed_float16" else optimizer,
        loss=loss,
        metrics=list(metrics),
        steps_per_execution=steps_per_execution,
    )
    if isinstance(optimizer, Muon):
        optimizer.use_layers(model)
    model.optimizer.build(model.trainable_variables)  # in the strategy's scope, and before a checkpoint loads
    if example is not None and not tf.distribute.has_strategy():
        # Keras would build the metrics in the first step; under a strategy it builds them before.
        model.compute_metrics(None, *example)
        model.reset_metrics()


def build_network(
    recipe: Recipe,
    preprocessing: Preprocessing,
    classes: int,
    *,
    weights: ImportedWeights | None = None,
    loads: bool = True,
    any_size: bool = False,
) -> keras.Model:
    """Returns the recipe's network for images of one size or of any. It returns logits.

    Args:
        recipe: Recipe of the run.
        preprocessing: Size and channels of the network's input, and the standard deviation of its pixels.
        classes: Number of classes.
        weights: Initial weights, whose conventions the network follows.
        loads: Whether it has their values, too; otherwise they are random.
        any_size: Whether it takes images of any size.
    """
    size = (None, None) if any_size else preprocessing.image_size
    row, _ = network_and_weights(recipe.network.model, weights)
    model = build_with_weights(
        row,
        input_shape=(*size, preprocessing.channels),
        classes=classes,
        classifier_activation=None,
        weights=weights if loads else None,
        shortcut=recipe.network.shortcut,
        zero_channels=recipe.network.zero_channels,
        bottleneck_stride=recipe.network.bottleneck_stride,
        batch_norm=recipe.network.batch_norm,
        stochastic_depth=recipe.network.stochastic_depth,
        zero_init_residual=recipe.network.zero_init_residual,
    )
    return quantize(model, preprocessing.std) if recipe.network.quantization_aware else model


def _loss(recipe: Recipe, soft_labels: bool) -> keras.losses.Loss:
    if recipe.optimization.loss == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if recipe.optimization.teacher:
        return DistillationLoss(recipe.optimization.temperature, recipe.optimization.teacher_share)
    if soft_labels:
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def restore_folded_statistics(
    weights: ImportedWeights, recipe: Recipe, data: TrainingData, preprocessing: Preprocessing
) -> ImportedWeights:
    """Returns weights whose batch normalization has moving statistics again.

    Some published weights have them folded into scale and offset. Here they become those of some training images, and
    scale and offset change so that the network computes the same.
    """
    model = build_with_weights(
        recipe.network.model,
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        include_top=False,
        weights=weights,
        shortcut=recipe.network.shortcut,
        zero_channels=recipe.network.zero_channels,
        bottleneck_stride=recipe.network.bottleneck_stride,
    )
    height, width = preprocessing.image_size
    share = min(_STATISTICS_PIXELS / (height * width), 1.0)  # of larger images, fewer have as many pixels
    images, batch = (max(round(share * number), 1) for number in (_STATISTICS_IMAGES, _STATISTICS_BATCH))
    restore_statistics(model, data.sample_batches(images, batch, preprocessing))
    _log.info(f"statistics of batch normalization are restored, which {weights.source} has folded away")
    return replace(weights, tensors={**weights.tensors, **arrays_of_model(model)})
