"""The classifier of a network, fitted to the features of images while the rest is frozen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from resnet_keras.networks.blocks import HEAD

_L2 = 1e-3
_STEPS = 300
_CURVATURE = 0.5  # of the cross-entropy along any direction, for features of a mean squared length of 1


def fit_head(model: keras.Model, batches: Iterable[tuple[Any, Any]], *, mirrored: bool = False) -> int:
    """Fits the classifier of a network by logistic regression on its features; returns the number of images.

    A new classifier on a trained network starts right after it: the gradients of the layers below are small then, and
    their features are kept (LP-FT, arXiv:2202.10054). Features are scaled to a length of 1, because images that differ
    in contrast, not in class, have features of different lengths. Measured with ResNet-18 on 10 to 500 images of 5
    classes of CIFAR-10, that gives fewer errors than the nearest neighbor by the angle between features.

    Args:
        model: A network of this package with a classifier, which changes.
        batches: Normalized images (N, H, W, C) and their labels, integers (N,) or probabilities (N, classes).
        mirrored: Whether the mirror image of each image counts, too.

    Raises:
        ValueError: There are no batches.
    """
    layer = model.get_layer(HEAD)
    pooled = keras.Model(model.input, layer.input)
    classes = layer.units
    found: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for images, labels in batches:
        labels = np.asarray(labels)
        target = np.eye(classes)[labels] if labels.ndim == 1 else labels.astype(np.float64)
        for view in (images, images[:, :, ::-1]) if mirrored else (images,):
            found.append(np.asarray(keras.ops.convert_to_numpy(pooled.predict_on_batch(view)), np.float64))
            targets.append(target)
    if not found:
        raise ValueError("Expected at least one batch of images. Received: none")
    kernel, bias = _logistic_regression(np.concatenate(found), np.concatenate(targets))
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    return sum(map(len, found)) // (2 if mirrored else 1)


def _logistic_regression(features: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of softmax regression with a small L2 penalty, by accelerated gradient descent."""
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    inputs = features / lengths
    mean = inputs.mean(0)
    scale = max(float(np.sqrt(((inputs - mean) ** 2).sum(1).mean())), 1e-12)
    inputs = np.hstack([(inputs - mean) / scale, np.ones((len(inputs), 1))])
    penalty = np.r_[np.full(inputs.shape[1] - 1, _L2), 0.0][:, None]
    rate = 1.0 / (2 * _CURVATURE + _L2)  # the ones add as much curvature as the features
    weights = ahead = np.zeros((inputs.shape[1], targets.shape[1]))
    for step in range(_STEPS):
        logits = inputs @ ahead
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        gradient = inputs.T @ (probabilities - targets) / len(inputs) + penalty * ahead
        before, weights = weights, ahead - rate * gradient
        ahead = weights + step / (step + 3) * (weights - before)
    kernel = weights[:-1] / scale
    # For a feature of the mean length, the logits are those that were fitted.
    return kernel / lengths.mean(), weights[-1] - mean @ kernel
