"""Outputs of a classifier's network: features, logits and probabilities."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np

from resnet_keras.layers.fake_quant import FakeQuant
from resnet_keras.layers.keras_internals import producer
from resnet_keras.layers.traversal import flat_layers

Head = Literal["logits", "softmax", "sigmoid"]
"""What a network returns: logits, their softmax (one label), or the sigmoid of each (several labels)."""

_HEADS: dict[Any, Head] = {
    None: "logits",
    keras.activations.linear: "logits",
    keras.activations.log_softmax: "logits",  # they have the same softmax
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
}


def head_of(model: keras.Model) -> Head:
    """Returns what a classifier's network returns.

    Raises:
        ValueError: It ends in another activation, or has one output.
    """
    last = flat_layers(model)[-1]
    activation = keras.activations.softmax if isinstance(last, keras.layers.Softmax) else _activation(last)
    if activation not in _HEADS:
        raise ValueError(
            "Expected a network that ends in logits, their softmax, or the sigmoid of each class. "
            f"Received: {model.name}, which ends in {last.name}, a {type(last).__name__} with the activation "
            f"{getattr(activation, '__name__', activation)}"
        )
    if model.output_shape[-1] == 1:
        raise ValueError(
            "Expected one output per class, at least 2. `resnet_keras.convert` makes two of one: of the classes no and "
            f"yes. Received: {model.name}, with one output"
        )
    return _HEADS[activation]


def _activation(layer: keras.layers.Layer) -> Any:
    activation = getattr(layer, "activation", None)
    return activation if activation is None or callable(activation) else keras.activations.get(activation)


def features_and_logits(model: keras.Model) -> keras.Model:
    """Returns a classifier's network with two outputs: the input of its last dense layer, and the logits.

    Raises:
        ValueError: The network ends in neither logits nor their softmax or sigmoid, or in these inside a nested model.
    """
    last = model.layers[-1]
    (images,), (logits,) = model.inputs, model.outputs  # a Sequential has no `output`
    if head_of(model) != "logits" or _activation(last) is keras.activations.log_softmax:
        if isinstance(last, keras.Model):
            raise ValueError(
                "Expected a network whose last layer has its activation. `resnet_keras.convert` makes one of the same "
                f"weights. Received: {model.name}, whose last layer is the model {last.name}, which ends in "
                f"{head_of(model)}"
            )
        logits = last.input
        if isinstance(last, keras.layers.Dense):
            dense = last.__class__.from_config({**last.get_config(), "activation": None})
            logits = dense(last.input)
            dense.set_weights(last.get_weights())
    operation = producer(logits)
    while isinstance(operation, FakeQuant):
        operation = producer(operation.input)
    features = operation.input if isinstance(operation, keras.layers.Dense) else logits
    return keras.Model(images, {"features": features, "logits": logits}, name=model.name)


def outputs_logits(model: keras.Model) -> bool:
    """Returns whether a classifier's outputs are logits, without an activation after them."""
    return head_of(model) == "logits"


def check_one_label(model: keras.Model, purpose: str) -> None:
    """Checks that the classes of a network exclude each other.

    Args:
        model: Network of a classifier.
        purpose: What needs that, e.g. "an export".

    Raises:
        ValueError: It ends in the sigmoid of each class.
    """
    if head_of(model) == "sigmoid":
        raise ValueError(
            f"Expected, for {purpose}, a network of one label per image, which ends in logits or their softmax. "
            f"Received: {model.name}, which ends in the sigmoid of each class, for several labels; it can predict and "
            "be evaluated"
        )


def probabilities_from(head: Head, outputs: np.ndarray) -> np.ndarray:
    """Returns the probabilities for outputs of a kind of head."""
    return softmax(outputs) if head == "logits" else outputs


def logits_from(model: keras.Model, outputs: np.ndarray) -> np.ndarray:
    """Returns the logits for a classifier's outputs, or the logarithms of the probabilities if it returns those.

    For several labels, they are the logarithms of the odds.
    """
    head = head_of(model)
    if head == "logits":
        return outputs
    return log_probabilities(outputs) - (log_probabilities(1 - outputs) if head == "sigmoid" else 0)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns the sigmoid of each logit."""
    return np.exp(-np.logaddexp(0, -logits))


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
