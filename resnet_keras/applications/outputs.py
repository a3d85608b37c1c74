"""Outputs of a classifier's network: features, logits and probabilities."""

from __future__ import annotations

import keras
import numpy as np

from resnet_keras.layers.fake_quant import FakeQuant
from resnet_keras.layers.keras_internals import producer


def features_and_logits(model: keras.Model) -> keras.Model:
    """Returns a classifier's network with two outputs: the input of its last dense layer, and the logits.

    Raises:
        ValueError: The network ends neither in logits nor in their softmax.
    """
    last, dense = model.layers[-1], None
    if outputs_logits(model):
        logits = model.output
    elif isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        logits = last.input
        if isinstance(last, keras.layers.Dense):
            dense = last.__class__.from_config({**last.get_config(), "activation": None})
            logits = dense(last.input)
            dense.set_weights(last.get_weights())
    else:
        raise ValueError(
            "Expected a network that ends in logits or in their softmax. "
            f"Received: {model.name}, which ends in {last.name}, a {type(last).__name__}"
        )
    operation = producer(logits)
    while isinstance(operation, FakeQuant):
        operation = producer(operation.input)
    features = operation.input if isinstance(operation, keras.layers.Dense) else logits
    return keras.Model(model.input, {"features": features, "logits": logits}, name=model.name)


def outputs_logits(model: keras.Model) -> bool:
    """Returns whether a classifier's outputs are logits, without an activation after them."""
    if isinstance(model.layers[-1], keras.layers.Softmax):
        return False
    activation = getattr(model.layers[-1], "activation", None)
    return activation is None or activation is keras.activations.linear


def logits_from(model: keras.Model, outputs: np.ndarray) -> np.ndarray:
    """Returns the logits for a classifier's outputs, or the logarithms of the probabilities if it returns those."""
    return outputs if outputs_logits(model) else log_probabilities(outputs)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the softmax along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, which stay finite where these are 0."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
