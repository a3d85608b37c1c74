"""What the weights of a network do not show, and its configuration does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from resnet_keras.networks.architecture import (
    Architecture,
    BottleneckStride,
    FirstActivation,
    Halving,
    Padding,
    PoolBorder,
    Projection,
    ZeroChannels,
)


@dataclass(frozen=True)
class Conventions:
    """What weights alone do not show of a network, and what makes it another function of them.

    Those that are fields of `Architecture`, too, say there what they mean. `None` is unknown, or without effect.

    Attributes:
        bottleneck_stride: Which convolution of a bottleneck carries its stride; `None` if unknown or without effect.
        zero_channels: Where option A puts its zeros; `None` if unknown or without effect.
        epsilon: Of batch normalization; `None` if unknown.
        plain: Whether the network has no shortcuts; `None` if unknown.
        output_stride: Pixels of the image per pixel of the last feature map, if it dilates in the place of strides.
        projection: How shortcuts project.
        halving: Which block of a stage has the stride.
        padding: Of strided kernels.
        pool_border: What a stem without activation pools beyond the image.
        first_activation: Where activation comes before convolutions, which has the first.
        first_projection: Whether the first block projects though its shape stays.
        biases: Whether convolutions that no normalization follows have biases.
    """

    bottleneck_stride: BottleneckStride | None = None
    zero_channels: ZeroChannels | None = None
    epsilon: float | None = None
    plain: bool | None = None
    output_stride: int | None = None
    projection: Projection | None = None
    halving: Halving | None = None
    padding: Padding | None = None
    pool_border: PoolBorder | None = None
    first_activation: FirstActivation | None = None
    first_projection: bool = False
    biases: bool = False

    def of(self, architecture: Architecture) -> Architecture:
        """Returns `architecture` with what is known here of variants that bear one name.

        Where activation comes before convolutions, libraries differ in where it begins and where the strides are.
        """
        followed = ["bottleneck_stride", "padding", "first_projection", "biases"]
        if architecture.shortcut:
            followed.append("zero_channels")
        if architecture.activation == "before":
            followed += ["halving", "pool_border", "first_activation"]
        known = {name: getattr(self, name) for name in followed if getattr(self, name) is not None}
        return replace(architecture, **known)


def conventions_of_model(model: Any) -> Conventions:
    """Returns the traits of a network of ours, from its layers.

    Not from `get_config`: on other backends, too, Keras loads TensorFlow for that.
    """
    return conventions_of_config(_described(model))


def conventions_of_config(config: Any) -> Conventions:
    """Returns the traits of a network of ours, from its configuration as `get_config` or a `.keras` file has it.

    Raises:
        ValueError: It is no configuration of Keras.
    """
    strides: dict[str, int] = {}
    zeros: set[ZeroChannels] = set()
    epsilons: set[float] = set()
    names: set[str] = set()
    paddings: set[Padding] = set()
    borders: set[PoolBorder] = set()
    adds = pools = False
    try:
        for layer in _layers(config):
            kind, fields = layer["class_name"], layer["config"]
            if kind in ("Conv2D", "MaxPooling2D"):
                strides[str(fields["name"])] = int(max(fields["strides"]))
                if kind == "Conv2D" and max(fields["strides"]) > 1 and max(fields["kernel_size"]) > 1:
                    paddings.add("behind" if fields["padding"] == "same" else "both")
            elif kind == "Pad":
                before, after = fields["pad_width"][-1]
                zeros |= {"around"} if before else {"behind"} if after > 1 else set()
                borders |= {"edge"} if fields.get("mode") == "symmetric" else set()
            elif kind == "BatchNormalization":
                epsilons.add(float(fields["epsilon"]))
                names.add(str(fields["name"]))
            adds |= kind == "Add"
            pools |= kind == "AveragePooling2D"
            borders |= {"zeros"} if fields.get("name") == "stem_pool_pad" else set()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"Expected a configuration as Keras writes it. Received: {type(error).__name__}, {error}"
        ) from error
    bottlenecks = [name.removesuffix("_conv3") for name in strides if re.match(r"stage.*_conv3$", name)]
    strided = [name for name in bottlenecks if max(strides.get(f"{name}_conv{k}", 1) for k in (1, 2)) > 1]
    stages: dict[int, int] = {}
    for name, stride in strides.items():
        if match := re.match(r"stage(\d+)_block1_conv", name):
            stages[int(match[1])] = max(stages.get(int(match[1]), 1), stride)
    last = any(stride > 1 for name, stride in strides.items() if re.match(r"stage\d+_block(?!1_)\d+_conv", name))
    dilates = not last and any(stride == 1 for stage, stride in stages.items() if stage > 1)
    bare_stem = "final_bn" in names and not any(name.startswith("stem") for name in names)
    path = [stride for name, stride in strides.items() if not name.endswith("_projection")]
    return Conventions(
        bottleneck_stride=("1x1" if strides[f"{strided[0]}_conv1"] > 1 else "3x3") if strided else None,
        zero_channels="around" if "around" in zeros else next(iter(zeros), None),
        epsilon=epsilons.pop() if len(epsilons) == 1 else None,
        plain=not adds if strides else None,
        output_stride=math.prod(path) if dilates else None,
        projection="pooled" if pools else "normalized" if any(n.endswith("_projection") for n in strides) else None,
        halving=("last" if last else "first") if strides else None,
        padding=paddings.pop() if len(paddings) == 1 else None,
        pool_border=borders.pop() if bare_stem and len(borders) == 1 else None,
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
            asked = ("name", "strides", "kernel_size", "padding", "pad_width", "mode", "epsilon")
            fields = {key: getattr(operation, key) for key in asked if hasattr(operation, key)}
            found.append({"class_name": type(operation).__name__, "config": fields})
    return found
