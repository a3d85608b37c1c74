"""Statistics of batch normalization as true averages instead of moving averages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from resnet_keras.layers.batch_norm import note_folded_statistics
from resnet_keras.layers.traversal import flat_layers


def recalibrate(model: keras.Model, batches: Iterable[Any]) -> int:
    """Sets the statistics of every batch normalization to true averages over a pass; returns the number of images.

    The paper's authors released their networks so: mean and variance "strictly computed using average (not moving
    average) on a sufficiently large training batch after the training procedure". As in training, each batch is
    normalized by its own statistics. The variance is that of all images together, including that between batches.

    Args:
        model: A network; only its moving statistics change.
        batches: Normalized images (N, H, W, C), alone or as the first item of a tuple, in batches as large as in
            training, and as mixed: each is normalized by itself, and of one class it would lose what sets the class
            apart.

    Raises:
        ValueError: There are no batches, or the model has no batch normalization.
    """
    layers = _batch_norms(model)
    before = [(layer.momentum, layer.trainable) for layer in layers]
    statistics = [_statistics(layer) for layer in layers]
    sums = [(np.zeros(len(mean)), np.zeros(len(mean))) for mean, _ in statistics]
    images = 0
    try:
        note_folded_statistics(model, None)
        for layer in layers:  # moving statistics become those of the last batch
            layer.momentum, layer.trainable = 0.0, True
            # A statistic that is NaN would stay NaN, also times 0.
            layer.moving_mean.assign(keras.ops.zeros_like(layer.moving_mean))
            layer.moving_variance.assign(keras.ops.ones_like(layer.moving_variance))
        for batch in batches:
            inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
            model(inputs, training=True)
            images += len(inputs)
            for layer, (first, second) in zip(layers, sums, strict=True):
                mean, variance = _statistics(layer)
                first += len(inputs) * mean
                second += len(inputs) * (variance + mean**2)
        if images:
            means = [first / images for first, _ in sums]
            statistics = [
                (mean, np.maximum(second / images - mean**2, 0.0))
                for mean, (_, second) in zip(means, sums, strict=True)
            ]
    finally:
        for layer, (momentum, trainable), (mean, variance) in zip(layers, before, statistics, strict=True):
            layer.momentum, layer.trainable = momentum, trainable
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
    if not images:
        raise ValueError("Expected at least one batch of images. Received: none")
    return images


def _statistics(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    pair = (layer.moving_mean, layer.moving_variance)
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(value), np.float64) for value in pair)
    return mean, variance


def restore_statistics(model: keras.Model, batches: Iterable[Any]) -> int:
    """Sets the statistics of every batch normalization without changing the outputs of the network.

    Some weights are published with the statistics folded into scale and offset, for inference. Training such a network
    would normalize by the batches and so change its outputs at once; with frozen batch normalization, it would train
    without normalization and diverge at common learning rates. Here mean and variance over a pass become the moving
    statistics, and scale and offset compensate for them. Blocks must not be in nested models.

    Args:
        model: A network; its batch normalizations change.
        batches: Normalized images (N, H, W, C), alone or as the first item of a tuple.

    Returns:
        The number of images.

    Raises:
        ValueError: There are no batches, or the model has no batch normalization.
    """
    layers = _batch_norms(model)
    inside = keras.Model(model.input, [layer.input for layer in layers])
    sums = [np.zeros((2, layer.moving_mean.shape[0])) for layer in layers]
    images = 0
    for batch in batches:
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        images += len(inputs)
        for total, value in zip(sums, inside.predict_on_batch(inputs), strict=True):
            value = np.asarray(value, np.float64)
            total += len(inputs) * np.stack([value.mean((0, 1, 2)), (value**2).mean((0, 1, 2))])
    if not images:
        raise ValueError("Expected at least one batch of images. Received: none")
    note_folded_statistics(model, None)
    for layer, (first, second) in zip(layers, sums, strict=True):
        mean = first / images
        variance = np.maximum(second / images - mean**2, 0.0)
        old_mean, old_variance = _statistics(layer)
        gamma, beta = (np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in (layer.gamma, layer.beta))
        slope = gamma / np.sqrt(old_variance + layer.epsilon)
        layer.gamma.assign(slope * np.sqrt(variance + layer.epsilon))
        layer.beta.assign(beta + slope * (mean - old_mean))
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return images


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = [layer for layer in flat_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if not layers:
        raise ValueError(f"Expected a network with batch normalization. Received: {model.name!r}, without")
    return layers
