"""The conventions of a Keras model, read from its layers or from its configuration."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from resnet_keras.networks.conventions import Conventions, Padding, PoolBorder, ZeroChannels

_READ = ("name", "strides", "kernel_size", "padding", "pad_width", "mode", "epsilon")


def conventions_of_model(model: Any) -> Conventions:
    """Returns the conventions of a network of this package, from its layers.

    It does not use `get_config`, for which Keras loads TensorFlow on every backend.
    """
    return conventions_of_config(_described(model))


def conventions_of_config(config: Any) -> Conventions:
    """Returns the conventions of a network of this package, from its configuration (`get_config`, a `.keras` file).

    Raises:
        ValueError: It is not a configuration as Keras writes it.
    """
    strides: dict[str, int] = {}
    norms: set[str] = set()
    zeros: set[ZeroChannels] = set()
    epsilons: set[float] = set()
    paddings: set[Padding] = set()
    borders: set[PoolBorder] = set()
    adds = pools = False
    try:
        for layer in _layers(config):
            kind, fields = layer["class_name"], layer["config"]
            if kind in ("Conv2D", "MaxPooling2D"):
                if "_shortcut_" not in fields["name"]:
                    strides[str(fields["name"])] = int(max(fields["strides"]))
                if kind == "Conv2D" and max(fields["strides"]) > 1 and max(fields["kernel_size"]) > 1:
                    paddings.add("same_tf" if fields["padding"] == "same" else "symmetric")
            elif kind == "Pad" or str(fields.get("name", "")).endswith("_shortcut_zeros"):
                # Files of earlier versions have an operation instead of the layer.
                before, after = fields["pad_width" if kind == "Pad" else "padding"][-1]
                zeros |= {"both_sides"} if before else {"end"} if after > 1 else set()
                borders |= {"edge"} if fields.get("mode") == "symmetric" else set()
            elif kind == "BatchNormalization":
                epsilons.add(float(fields["epsilon"]))
                norms.add(str(fields["name"]))
            adds |= kind == "Add"
            pools |= kind == "AveragePooling2D"
            borders |= {"zeros"} if fields.get("name") == "stem_pool_pad" else set()
            borders |= {"edge"} if fields.get("name") == "stem_pool_edge" else set()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"Expected a configuration as Keras writes it. Received: {type(error).__name__}, {error}"
        ) from error
    projects = any(name.endswith("_projection_bn") for name in norms)
    bare_stem = "final_bn" in norms and not any(name.startswith("stem") for name in norms)
    return Conventions(
        zero_channels="both_sides" if "both_sides" in zeros else next(iter(zeros), None),
        epsilon=epsilons.pop() if len(epsilons) == 1 else None,
        plain=not adds if strides else None,
        projection="pooled" if pools else "normalized" if projects else None,
        padding=paddings.pop() if len(paddings) == 1 else None,
        pool_border=borders.pop() if bare_stem and len(borders) == 1 else None,
    ).merged(_stride_conventions(strides))


_PIXEL_LAYERS = ("Rescaling", "Normalization", "Resizing", "CenterCrop", "Lambda", "TrueDivide", "Divide", "Subtract")


def check_pixels(config: Any, source: str) -> None:
    """Refuses a model with layers before its first convolution that change pixels, which its weights do not show.

    Args:
        config: Its configuration, or the fields of its layers.
        source: The name of the source in messages.

    Raises:
        ValueError: There is such a layer.
    """
    layers = list(_layers(config))
    first = itertools.takewhile(lambda each: "Conv2D" not in each["class_name"], layers)
    lambdas = (each for each in layers if each["class_name"] == "Lambda")  # which may be in front under any name
    found = next((each for each in itertools.chain(first, lambdas) if each["class_name"] in _PIXEL_LAYERS), None)
    if found is not None:
        raise ValueError(
            "Expected a network of normalized images, whose conversion is stated as preprocessing. "
            f"Received: {source}, with {found['config'].get('name')}, a {found['class_name']}. The model as it is can "
            "be evaluated and exported: resnet_keras.Classifier(model, preprocessing, class_names)"
        )


def check_pixels_of_model(model: Any) -> None:
    """Refuses a model with layers that change pixels; see `check_pixels`."""
    check_pixels(_described(model), model.name)


def last_activation(config: Mapping[str, Any]) -> Any:
    """Returns the activation of a model's last layer, from its configuration; `None` without one.

    Of a nested model it is that of its own last layer.
    """
    fields = config.get("config")
    while isinstance(fields, Mapping) and isinstance(fields.get("layers"), list) and fields["layers"]:
        last = fields["layers"][-1]
        fields = last.get("config") if isinstance(last, Mapping) else None
    return fields.get("activation") if isinstance(fields, Mapping) and "layers" not in fields else None


def _stride_conventions(strides: Mapping[str, int]) -> Conventions:
    """Returns the conventions that the strides of convolutions and pools show, by their layers' names."""
    blocks: dict[tuple[int, int], dict[int, int]] = {}
    for name, stride in strides.items():
        if match := re.fullmatch(r"stage(\d+)_block(\d+)_conv(\d)", name):
            blocks.setdefault((int(match[1]), int(match[2])), {})[int(match[3])] = stride
    if not blocks:
        return Conventions()
    strided = [place for place, convolutions in blocks.items() if max(convolutions.values()) > 1]
    bottlenecks = [blocks[place] for place in strided if 3 in blocks[place]]
    basics = [blocks[place] for place in strided if 3 not in blocks[place]]
    stages = max(stage for stage, _ in blocks)
    halved = {stage for stage, _ in strided}
    in_last = "last_of_previous" if 1 in halved else "last" if any(block > 1 for _, block in strided) else None
    # With strides in first blocks, every stage but the first has one, unless the network is dilated.
    dilates = in_last is None and any(stage not in halved for stage in range(2, stages + 1))
    path = [stride for name, stride in strides.items() if not name.endswith("_projection")]
    return Conventions(
        bottleneck_stride=("1x1" if bottlenecks[0].get(1, 1) > 1 else "3x3") if bottlenecks else None,
        basic_stride=("conv1" if basics[0].get(1, 1) > 1 else "conv2") if basics else None,
        strided_block=in_last or "first",  # type: ignore[arg-type]
        output_stride=math.prod(path) if dilates else None,
    )


def _layers(config: Any) -> Iterable[Mapping[str, Any]]:
    """Yields the configurations of all layers, those of nested models included."""
    if isinstance(config, Mapping):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), Mapping):
            yield config
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _layers(value)


def _described(model: Any) -> list[Mapping[str, Any]]:
    """Returns the fields of each layer that are read, those of nested models included, as in a configuration."""
    found: list[Mapping[str, Any]] = []
    for operation in getattr(model, "operations", model.layers):  # a Sequential has only layers
        if hasattr(operation, "operations") or hasattr(operation, "layers"):
            found.extend(_described(operation))
        else:
            fields = {key: getattr(operation, key) for key in _READ if hasattr(operation, key)}
            found.append({"class_name": type(operation).__name__, "config": fields})
    return found
