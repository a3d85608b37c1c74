"""The network that a run begins with: built, given its weights, frozen in part, compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import keras
import tensorflow as tf

from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.data.evaluation_batches import evaluation_batches
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import Split
from resnet_keras.networks.blocks import HEAD
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.surgery.freezing import freeze
from resnet_keras.surgery.quantization import quantize
from resnet_keras.surgery.recalibration import restore_statistics
from resnet_keras.training.optimizers import LossScale, create_optimizer
from resnet_keras.training.schedules import learning_rate_schedule
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.keras_file import arrays_of_model

_UNFOLDING_IMAGES = 512
_UNFOLDING_BATCH = 32  # the inputs of all batch normalizations are held at once


def compile_network(
    recipe: Recipe,
    preprocessing: Preprocessing,
    classes: int,
    steps: int,
    *,
    weights: ImportedWeights | None = None,
    steps_per_execution: int = 1,
    log: Callable[[str], None] = print,
) -> keras.Model:
    """Returns the recipe's network, of logits, with its initial weights, compiled for `steps` steps per epoch."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = build_network(recipe, preprocessing, classes, weights=weights, any_size=bool(recipe.train_sizes))
    for warning in said:
        if issubclass(warning.category, UserWarning):  # not what libraries tell each other
            log(str(warning.message))
    if weights and weights.classes != classes:
        # A new head on a trained backbone: of features this large, random logits would shake the backbone at first.
        kernel = model.get_layer(HEAD).kernel
        kernel.assign(keras.ops.zeros_like(kernel))
    if recipe.freeze or recipe.freeze_batch_norms:
        log(str(freeze(model, recipe.freeze, batch_norms=recipe.freeze_batch_norms)))
    chosen = create_optimizer(recipe, learning_rate_schedule(recipe, steps))
    model.compile(
        optimizer=LossScale(chosen) if recipe.precision == "mixed_float16" else chosen,
        loss=_loss(recipe),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy")
            if recipe.soft_labels
            else keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        ],
        steps_per_execution=steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)  # here, in the scope of a strategy, and before a checkpoint loads
    if not tf.distribute.has_strategy():
        # Likewise the metrics, which Keras otherwise builds in the first step. Under a strategy it does so before.
        labels = keras.ops.zeros((1, classes) if recipe.soft_labels else (1,))
        model.compute_metrics(None, labels, keras.ops.zeros((1, classes)))
        model.reset_metrics()
    return model


def build_network(
    recipe: Recipe,
    preprocessing: Preprocessing,
    classes: int,
    *,
    weights: ImportedWeights | None = None,
    any_size: bool = False,
) -> keras.Model:
    """Returns the recipe's network, of logits, for images of one size or of any."""
    size = (None, None) if any_size else preprocessing.image_size
    model = build_with_weights(
        recipe.model,
        input_shape=(*size, preprocessing.channels),
        classes=classes,
        classifier_activation=None,
        weights=weights,
        shortcut=recipe.shortcut,
        zero_channels=recipe.zero_channels,
        bottleneck_stride=recipe.bottleneck_stride,
        batch_norm=recipe.batch_norm,
        stochastic_depth=recipe.stochastic_depth,
        zero_init_residual=recipe.zero_init_residual,
    )
    return quantize(model, preprocessing.std) if recipe.qat else model


def build_teacher(
    recipe: Recipe, preprocessing: Preprocessing, classes: int, weights: ImportedWeights | None
) -> keras.Model | None:
    """Returns the network of the initial weights, of logits, which a recipe's network learns from, if it does."""
    if not recipe.distill:
        return None
    any_size = bool(recipe.train_sizes)
    model = build_network(replace(recipe, qat=False), preprocessing, classes, weights=weights, any_size=any_size)
    model.trainable = False
    return model


def _loss(recipe: Recipe) -> keras.losses.Loss:
    if recipe.loss == "binary":
        return keras.losses.BinaryCrossentropy(from_logits=True)
    if recipe.soft_labels:
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def unfolded(weights: ImportedWeights, recipe: Recipe, split: Split, preprocessing: Preprocessing) -> ImportedWeights:
    """Returns the same network with statistics of batch normalization, as some training images give them."""
    model = build_with_weights(
        recipe.model,
        input_shape=(*preprocessing.image_size, preprocessing.channels),
        include_top=False,
        weights=weights,
        shortcut=recipe.shortcut,
        zero_channels=recipe.zero_channels,
        bottleneck_stride=recipe.bottleneck_stride,
    )
    batches = evaluation_batches(stratified_sample(split, _UNFOLDING_IMAGES), preprocessing, _UNFOLDING_BATCH)
    restore_statistics(model, batches.as_numpy_iterator())
    restored = {**weights.tensors, **arrays_of_model(model)}
    return replace(weights, tensors=restored)
