"""What the weights of a network do not show, and its configuration does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_keras.architectures import BottleneckStride, ZeroChannels


@dataclass(frozen=True)
class Traits:
    """What weights alone do not show of a network, and what makes it another function of them.

    Attributes:
        bottleneck_stride: Which convolution of a bottleneck carries its stride; `None` if unknown or without effect.
        zero_channels: Where option A puts its zeros; `None` if unknown or without effect.
        epsilon: Of batch normalisation; `None` if unknown.
        plain: Whether the network has no shortcuts; `None` if unknown.
        output_stride: Pixels of the image per pixel of the last feature map, if it dilates in the place of strides.
    """

    bottleneck_stride: BottleneckStride | None = None
    zero_channels: ZeroChannels | None = None
    epsilon: float | None = None
    plain: bool | None = None
    output_stride: int | None = None


def traits_of_model(model: Any) -> Traits:
    """Returns the traits of a network of ours, from its layers.

    Not from `get_config`: on other backends, too, Keras loads TensorFlow for that.
    """
    return traits_of(_described(model))


def traits_of(config: Any) -> Traits:
    """Returns the traits of a network of ours, from its configuration as `get_config` or a `.keras` file has it.

    Raises:
        ValueError: It is no configuration of Keras.
    """
    strides: dict[str, int] = {}
    zeros: set[ZeroChannels] = set()
    epsilons: set[float] = set()
    adds = False
    try:
        for layer in _layers(config):
            kind, fields = layer["class_name"], layer["config"]
            if kind in ("Conv2D", "MaxPooling2D"):
                strides[str(fields["name"])] = int(max(fields["strides"]))
            elif kind == "Pad":
                before, after = fields["pad_width"][-1]
                zeros |= {"around"} if before else {"behind"} if after > 1 else set()
            elif kind == "BatchNormalization":
                epsilons.add(float(fields["epsilon"]))
            adds |= kind == "Add"
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"Expected a configuration as Keras writes it. Received: {type(error).__name__}, {error}"
        ) from error
    bottlenecks = [name.removesuffix("_conv3") for name in strides if name.endswith("_conv3")]
    strided = [name for name in bottlenecks if max(strides.get(f"{name}_conv{k}", 1) for k in (1, 2)) > 1]
    stages: dict[int, int] = {}
    for name, stride in strides.items():
        if match := re.match(r"stage(\d+)_block1_conv", name):
            stages[int(match[1])] = max(stages.get(int(match[1]), 1), stride)
    dilates = any(stride == 1 for stage, stride in stages.items() if stage > 1)
    path = [stride for name, stride in strides.items() if not name.endswith("_projection")]
    return Traits(
        bottleneck_stride=("1x1" if strides[f"{strided[0]}_conv1"] > 1 else "3x3") if strided else None,
        zero_channels="around" if "around" in zeros else next(iter(zeros), None),
        epsilon=epsilons.pop() if len(epsilons) == 1 else None,
        plain=not adds if strides else None,
        output_stride=math.prod(path) if dilates else None,
    )


def _layers(config: Any) -> Iterable[Mapping[str, Any]]:
    """Yields the configurations of all layers within one, those of nested models too."""
    if isinstance(config, Mapping):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), Mapping):
            yield config
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _layers(value)


def _described(model: Any) -> list[Mapping[str, Any]]:
    """Returns what `traits_of` asks of each layer, those of nested models too, as a configuration has it."""
    found: list[Mapping[str, Any]] = []
    for operation in model.operations:
        if hasattr(operation, "operations"):
            found.extend(_described(operation))
        else:
            asked = ("name", "strides", "pad_width", "epsilon")
            fields = {key: getattr(operation, key) for key in asked if hasattr(operation, key)}
            found.append({"class_name": type(operation).__name__, "config": fields})
    return found
