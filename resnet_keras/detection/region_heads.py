"""The parts of Faster R-CNN with weights, beside its backbone: pyramid, region proposal network, and box head."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from resnet_keras.detection.catalog import DetectorArchitecture
from resnet_keras.detection.context_layers import WithContext
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.blocks import HEAD, batch_norm, relu
from resnet_keras.weights.dense_heads import BOX_OFFSETS

_BOX_STD, _SCORE_STD = 0.001, 0.01  # arXiv:1504.08083, section 3.1


def feature_pyramid(maps: list[Any], row: DetectorArchitecture, network: Architecture) -> list[Any]:
    """Returns the pyramid's maps P2 to P6 of `channels` each, from C2 to C5 (arXiv:1612.03144, section 3).

    Each map is that of the backbone by a 1x1 convolution, plus the next coarser one, doubled by nearest neighbors, then
    a 3x3 convolution. P6 is every second pixel of P5, for proposals alone.
    """
    sums: list[Any] = []
    for level, x in reversed(list(enumerate(maps, 2))):
        x = _convolution(x, row, network, 1, name=f"fpn_lateral{level}")
        if sums:
            up = layers.UpSampling2D(2, interpolation="nearest", data_format="channels_last", name=f"fpn_up{level}")
            x = layers.Add(name=f"fpn_add{level}")([x, up(sums[0])])
        sums.insert(0, x)
    pyramid = [_convolution(x, row, network, 3, name=f"fpn_output{level}") for level, x in enumerate(sums, 2)]
    last = layers.MaxPooling2D(1, 2, data_format="channels_last", name="fpn_output6")(pyramid[-1])
    return [*pyramid, last]


def proposal_network(maps: list[Any], row: DetectorArchitecture) -> tuple[list[Any], list[Any]]:
    """Returns objectness (N, h, w, A) and offsets (N, h, w, 4 * A) of the anchors of each map, in float32.

    All maps share the layers (arXiv:1506.01497, section 3.1).
    """

    def layer(channels: int, kernel: int, name: str, **options: Any) -> layers.Layer:
        start = keras.initializers.RandomNormal(stddev=_SCORE_STD)
        return layers.Conv2D(
            channels,
            kernel,
            padding="same",
            kernel_initializer=start,
            data_format="channels_last",
            name=name,
            **options,
        )

    numbers = range(1, row.rpn_convolutions + 1)
    convolutions = [layer(row.channels, 3, f"rpn_conv{number}", activation="relu") for number in numbers]
    objectness = layer(row.anchors_per_place, 1, "rpn_objectness", dtype="float32")
    deltas = layer(4 * row.anchors_per_place, 1, "rpn_deltas", dtype="float32")
    scores, offsets = [], []
    for x in maps:
        for convolution in convolutions:
            x = convolution(x)
        scores.append(objectness(x))
        offsets.append(deltas(x))
    return scores, offsets


def box_head(channels: int, classes: int, row: DetectorArchitecture, network: Architecture) -> keras.Model:
    """Returns the head of a pyramid's regions: (R, size, size, channels) -> the outputs of `box_outputs`."""
    inputs = x = keras.Input((row.roi_size, row.roi_size, channels), name="regions")
    for number in range(1, row.box_convolutions + 1):
        x = _convolution(x, row.replace(neck_batch_norm=True), network, 3, name=f"box_conv{number}")
        x = relu(x, name=f"box_conv{number}_relu")
    x = layers.Reshape((row.roi_size**2 * x.shape[-1],), name="box_flatten")(x)
    for number in range(1, row.box_layers + 1):
        x = layers.Dense(row.box_units, activation="relu", kernel_initializer=_uniform(), name=f"box_dense{number}")(x)
    return _head(inputs, x, classes, row)


def conv5_head(conv5: keras.Model, classes: int, row: DetectorArchitecture) -> keras.Model:
    """Returns the head of C4's regions, conv5_x and its average: (R, size, size, channels) -> see `box_outputs`."""
    inputs = keras.Input((row.roi_size, row.roi_size, conv5.input_shape[-1]), name="regions")
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="box_pool")(conv5(inputs))
    return _head(inputs, x, classes, row)


def box_outputs(x: Any, classes: int) -> dict[str, Any]:
    """Returns logits (R, 1 + classes), background first, and offsets (R, 4 * (1 + classes)) of regions, in float32."""

    def layer(units: int, std: float, name: str) -> layers.Layer:
        return layers.Dense(
            units, kernel_initializer=keras.initializers.RandomNormal(stddev=std), dtype="float32", name=name
        )

    return {
        "logits": layer(1 + classes, _SCORE_STD, HEAD)(x),
        "deltas": layer(4 * (1 + classes), _BOX_STD, BOX_OFFSETS)(x),
    }


def _head(inputs: Any, features: Any, classes: int, row: DetectorArchitecture) -> keras.Model:
    """Returns the head of regions whose features are computed; with global context, a model of two inputs."""
    if not row.global_context:
        return keras.Model(inputs, box_outputs(features, classes), name="box_head")
    body = keras.Model(inputs, features, name="box_features")
    regions, context = (keras.Input(inputs.shape[1:], name=name) for name in ("regions", "context"))
    both = WithContext(name="box_context")(body(regions), body(context))
    return keras.Model({"regions": regions, "context": context}, box_outputs(both, classes), name="box_head")


def _convolution(x: Any, row: DetectorArchitecture, network: Architecture, kernel: int, *, name: str) -> Any:
    normalized = row.neck_batch_norm
    x = layers.Conv2D(
        row.channels,
        kernel,
        padding="same",
        use_bias=not normalized,
        kernel_initializer=_uniform(),
        data_format="channels_last",
        name=name,
    )(x)
    return batch_norm(x, network, name=f"{name}_bn") if normalized else x


def _uniform() -> keras.initializers.Initializer:
    """Returns the initializer of detectron's and torchvision's pyramids and heads: variance 1 / fan-in."""
    return keras.initializers.VarianceScaling(scale=1.0, mode="fan_in", distribution="uniform")
