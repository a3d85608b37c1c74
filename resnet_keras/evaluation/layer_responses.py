"""Standard deviations of layer responses (arXiv:1512.03385, §4.2, Fig. 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from resnet_keras.applications.classifier import Classifier
from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.surgery.cloning import clone_in_float32
from resnet_keras.surgery.folding import conv_norm_pairs


def response_deviations(network: Classifier | keras.Model, batches: Iterable[Any]) -> dict[str, float]:
    """Returns the standard deviation of the response of each 3x3 layer of a network, in the order of the layers.

    The response of a layer is the output of its batch normalization, before the activation and before the addition. In
    a residual network, the response of the last layer of a residual function is what the block adds to its input. The
    deviation is over all images, positions and channels, of the network in inference mode, in float32.

    Example:
        >>> classifier = resnet_keras.Classifier.load("runs/r20")
        >>> split = resnet_keras.open_split("cifar10", "test")
        >>> batches = resnet_keras.data.evaluation_batches(split, classifier.preprocessing, 128)
        >>> resnet_keras.evaluation.response_deviations(classifier, batches.take(8))
        {'stem_conv': ..., 'stage1_block1_conv1': ..., ...}

    Args:
        network: A functional network, with or without nested models: of this package, from a file or from
            `keras.applications`.
        batches: Normalized images (N, H, W, C), alone or as the first item of a tuple.

    Returns:
        Standard deviations by the name of the convolution.

    Raises:
        ValueError: No 3x3 convolution has a batch normalization of its own, or there are no images.
    """
    model = clone_in_float32(network.model if isinstance(network, Classifier) else network)
    norms = conv_norm_pairs(model)
    layers = {
        layer.name: norms[layer.name]
        for layer in flat_layers(model)
        if layer.name in norms and tuple(layer.kernel_size) == (3, 3)
    }
    if not layers:
        raise ValueError(
            "Expected a network of 3x3 convolutions, each followed by its batch normalization. "
            f"Received: {model.name!r}, without"
        )
    moments = {name: np.zeros(3) for name in layers}  # count, sum, and sum of squares of the values

    def add(name: str, outputs: Any) -> None:
        values = np.asarray(keras.ops.convert_to_numpy(outputs), np.float64)
        moments[name] += (values.size, values.sum(), np.square(values).sum())

    with _recorded(layers, add):
        for batch in batches:
            model(batch[0] if isinstance(batch, (tuple, list)) else batch, training=False)
    if not all(count for count, _, _ in moments.values()):
        raise ValueError("Expected at least one image. Received: none")
    return {
        name: float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0)))
        for name, (count, total, squares) in moments.items()
    }


@contextmanager
def _recorded(layers: dict[str, keras.layers.Layer], record: Callable[[str, Any], None]) -> Iterator[None]:
    """Calls `record` with the name and the outputs of each layer in a context.

    A second model with all these outputs would not reach blocks in nested models, whose tensors lie in another graph.
    """

    def recorded(name: str, call: Callable) -> Callable:
        def called(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            record(name, outputs)
            return outputs

        return called

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(patch_methods(layer, call=recorded(name, layer.call)))
        yield
