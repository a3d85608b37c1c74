"""Quantization-aware training (QAT): networks with fake quantization to int8 (arXiv:1712.05877, §3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from resnet_keras.layers.fake_quant import FakeQuant, QuantizedConv2D, QuantizedDense
from resnet_keras.layers.keras_internals import consumers, producer
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.surgery.folding import conv_norm_pairs, first_convolution, scale_and_shift

PIXELS_SCALE, PIXELS_RANGE = "pixels_scale", "pixels_range"
"""Names of the layers that give the input channels one scale, and that fake-quantize them."""


def quantize(model: keras.Model, std: Sequence[float] = (1.0,)) -> keras.Model:
    """Returns a copy of a network with fake quantization to int8, for training and export.

    Batch normalization is frozen and folded into the convolutions. Kernels are fake-quantized, and so are all tensors
    that int8 kernels write to memory: the input, the outputs of convolutions and additions (after the ReLU, where one
    follows), the pooled features and the logits. The ranges are unknown before `calibrate`.

    An int8 file takes pixels minus their mean. So before the input is fake-quantized, its channels, which are divided
    by different standard deviations, get one scale; the first convolution compensates for it.

    Args:
        model: A functional network in float32 that returns logits; each batch normalization follows a convolution.
        std: Standard deviation by which the pixels are divided, for each channel of the input, or one for all.

    Raises:
        ValueError: The network has a batch normalization elsewhere or squeeze-and-excitation, is quantized already, is
            not in float32, or does not begin with a convolution.
    """
    layers = flat_layers(model)
    ratio = np.asarray(std, np.float64) / np.mean(std)
    norms = conv_norm_pairs(model)
    folded_away = {norm.name for norm in norms.values()}
    _check(model, folded_away)
    rectified = _feeding_a_relu(layers)
    inputs: dict[int, Any] = {}

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            return QuantizedConv2D.from_config({**config, "use_bias": True})
        if isinstance(layer, keras.layers.Dense):
            return QuantizedDense.from_config({**config, "use_bias": True})
        return layer.__class__.from_config(config)

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(layer, "name", None)
        if not args or not isinstance(args[0], keras.KerasTensor):
            return layer(*args, **kwargs)
        before = producer(args[0])
        if isinstance(before, keras.layers.InputLayer) and before.name == model.input.name:
            if id(args[0]) not in inputs:
                pixels = keras.layers.Rescaling(ratio.tolist(), name=PIXELS_SCALE)(args[0])
                inputs[id(args[0])] = FakeQuant(name=PIXELS_RANGE)(pixels)
            args = (inputs[id(args[0])], *args[1:])
        outputs = args[0] if name in folded_away else layer(*args, **kwargs)
        if not isinstance(layer, _WRITERS) or name in norms or name in rectified:
            return outputs
        return FakeQuant(fixed=False, name=f"{name}_range")(outputs)

    copy = keras.models.clone_model(model, clone_function=copied, call_function=called, recursive=True)
    originals = {layer.name: layer for layer in layers}
    for layer in flat_layers(copy):
        if isinstance(layer, QuantizedConv2D):
            _give(layer, originals[layer.name], norms.get(layer.name))
        elif isinstance(layer, QuantizedDense):
            _give_dense(layer, originals[layer.name])
    first = copy.get_layer(first_convolution(model).name)  # type: ignore[union-attr]
    first.kernel.assign(keras.ops.convert_to_numpy(first.kernel.value) / ratio[:, None])
    return copy


def calibrate(model: keras.Model, batches: Iterable[Any]) -> int:
    """Sets the ranges of a quantized network by calibration; returns the number of images.

    A range is the mean, over the batches, of the smallest and the largest value; the range of the input is that of all
    images.

    Args:
        model: A network from `quantize`.
        batches: Normalized images (N, H, W, C).

    Raises:
        ValueError: There are no batches, or the network has no ranges.
    """
    ranges = [layer for layer in flat_layers(model) if isinstance(layer, FakeQuant)]
    if not ranges:
        raise ValueError(f"Expected a quantized network. Received: {model.name!r}, which is not")
    for layer in ranges:
        layer.seen = []
    images = 0
    try:
        for batch in batches:
            model(batch, training=False)
            images += len(batch)
        if not images:
            raise ValueError("Expected at least one batch of images. Received: none")
        for layer in ranges:
            low, high = np.transpose(layer.seen or [])
            layer.low.assign(low.min() if layer.fixed else low.mean())
            layer.high.assign(high.max() if layer.fixed else high.mean())
    finally:
        for layer in ranges:
            layer.seen = None
    return images


def is_quantized(model: keras.Model) -> bool:
    """Returns whether a network has fake quantization."""
    return any(isinstance(layer, FakeQuant) for layer in flat_layers(model))


_WRITERS = (
    keras.layers.BatchNormalization, keras.layers.Conv2D, keras.layers.ReLU, keras.layers.Add,
    keras.layers.GlobalAveragePooling2D, keras.layers.Dense,
)  # fmt: skip


def _check(model: keras.Model, folded_away: set[str]) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Expected KERAS_BACKEND=tensorflow to quantize. Received: {keras.backend.backend()}")
    layers = flat_layers(model)
    norms = [layer.name for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    left = [name for name in norms if name not in folded_away]
    if left or is_quantized(model):
        raise ValueError(
            "Expected a network whose every batch normalization follows a convolution, and not quantized yet. "
            f"Received: {model.name!r}, with {', '.join(left[:3]) or 'quantized layers'}"
        )
    if any(isinstance(layer, keras.layers.Multiply) for layer in layers):
        raise ValueError(
            f"Expected a network without squeeze-and-excitation, whose products are not quantized. "
            f"Received: {model.name!r}"
        )
    if any(layer.compute_dtype != "float32" for layer in layers):
        raise ValueError(f"Expected a network in float32 to quantize. Received: {model.name!r}, in reduced precision")
    if first_convolution(model) is None:
        raise ValueError(f"Expected a network that begins with a convolution. Received: {model.name!r}")


def _feeding_a_relu(layers: list[keras.layers.Layer]) -> set[str]:
    """Returns the names of layers whose only consumer is a ReLU; int8 kernels apply it before they quantize."""
    return {
        layer.name
        for layer in layers
        if [isinstance(reader, keras.layers.ReLU) for reader in consumers(layer)] == [True]
    }


def _give(layer: QuantizedConv2D, original: keras.layers.Conv2D, norm: Any) -> None:
    layer.kernel.assign(original.kernel.value)
    bias = keras.ops.convert_to_numpy(original.bias.value).astype(np.float64) if original.use_bias else 0.0
    scale, shift = scale_and_shift(norm) if norm is not None else (1.0, 0.0)
    layer.scale.assign(np.broadcast_to(scale, layer.scale.shape))
    layer.bias.assign(np.broadcast_to(scale * bias + shift, layer.bias.shape))


def _give_dense(layer: QuantizedDense, original: keras.layers.Dense) -> None:
    layer.kernel.assign(original.kernel.value)
    layer.bias.assign(original.bias.value if original.use_bias else np.zeros(layer.bias.shape))
