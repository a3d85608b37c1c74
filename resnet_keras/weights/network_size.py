"""Numbers that a network needs, from its configuration alone: before anything of it is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

MODELS = ("Functional", "Sequential")
"""Classes of networks."""

_MOST_MAP = 2**28  # numbers of one feature map: 1 GiB; ImageNet's stem at 4096x4096 pixels has as many
_MOST_SMALL_MAP = 2**24  # likewise, of small images
_MOST_PER_PIXEL = 2048
_MOST_SUM_PER_PIXEL = 2**18  # of all feature maps; ResNet-1202 has 52,000
_FREE_SIDE = 256  # of images of any size
_CONVOLUTIONS = ("Conv2D", "QuantizedConv2D", "DepthwiseConv2D")
_POOLS = ("MaxPooling2D", "AveragePooling2D")


@dataclass(frozen=True)
class Shape:
    """A feature map of one image, or of one region of it.

    Attributes:
        channels: Its channels, at least as many as it has, like the others.
        height: Rows.
        width: Columns.
        regions: Regions of an image.
    """

    channels: int
    height: int = 1
    width: int = 1
    regions: int = 1

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return self.channels * self.height * self.width * self.regions


class NetworkSize:
    """Numbers that a network needs, at least as many as it has.

    Args:
        config: Configuration of a model.

    Attributes:
        weights: Numbers of its weights.
        pixels: Pixels of its images; 256x256 where they are of any size.
        largest: The feature map of most numbers.
        maps: Numbers of all feature maps together.

    Raises:
        ValueError: A layer does not say its size.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.weights = self.maps = 0
        self.pixels = 1
        self.largest = Shape(0)
        self._regions = 1
        self._follow(config, Shape(0))

    def check(self) -> None:
        """Checks that feature maps are not many times larger than images.

        Raises:
            ValueError: They are.
        """
        of_image = max(_MOST_SMALL_MAP, _MOST_PER_PIXEL * self.pixels)
        most = _MOST_MAP if self.largest.regions > 1 else min(of_image, _MOST_MAP)
        if self.largest.numbers > most:
            raise ValueError(
                f"its network has a feature map of {self.largest.numbers:,} numbers, more than {most:,} for images of "
                f"{self.pixels:,} pixels"
            )
        most = max(_MOST_SUM_PER_PIXEL * self.pixels, 2 * _MOST_MAP)
        if self.maps > most:
            raise ValueError(f"its network has feature maps of {self.maps:,} numbers together, more than {most:,}")

    def _follow(self, config: dict[str, Any], given: Shape) -> Shape:
        """Adds the layers of a model, and returns what its outputs are at most."""
        last, known = given, dict[str, Shape]()
        for layer in config["layers"]:
            kind, inner = layer["class_name"], layer["config"]
            before = [known.get(name, given) for name in _inputs(layer.get("inbound_nodes", ()))] or [last]
            if kind in MODELS:
                last = self._follow(inner, _joined(before))
            else:
                self.weights += _weights(kind, inner, _joined(before).channels)
                last = self._output(layer, inner, before)
                self.maps += last.numbers
                self.largest = max(self.largest, last, key=lambda shape: shape.numbers)
            known[layer.get("name") or inner.get("name") or ""] = last
        outputs = [known[name] for name in _names(config.get("output_layers", ())) if name in known]
        return _joined(outputs or [last])

    def _output(self, layer: dict[str, Any], config: dict[str, Any], before: Sequence[Shape]) -> Shape:
        kind, joined = layer["class_name"], _joined(before)
        if kind == "InputLayer":
            shape = config.get("batch_shape") or config.get("batch_input_shape") or [1]
            sides = [_FREE_SIDE if side is None else int(side) for side in shape[1:-1]] if len(shape) == 4 else [1, 1]
            self.pixels = max(self.pixels, math.prod(sides))
            return Shape(int(shape[-1] or 1), *sides)
        if kind == "Proposals":
            self._regions = max(self._regions, int(config["after"][-1]))
            return Shape(4, self._regions)
        if kind == "RoIAlign":
            return Shape(joined.channels, int(config["size"]), int(config["size"]), self._regions)
        if kind == "Reshape":
            if min(shape := [int(side) for side in config["target_shape"]]) < 1:
                message = f"its network has a Reshape to the shape {str(shape)[:100]}, which does not say its size"
                raise ValueError(message)
            return replace(joined, channels=max(shape), height=math.prod(shape) // max(shape), width=1)
        height, width = _sides(kind, layer, config, before)
        return replace(joined, channels=_channels(kind, layer, config, before), height=height, width=width)


def _joined(shapes: Sequence[Shape]) -> Shape:
    """Returns a shape as large as each in every direction."""
    return Shape(
        max(shape.channels for shape in shapes),
        max(shape.height for shape in shapes),
        max(shape.width for shape in shapes),
        max(shape.regions for shape in shapes),
    )


def _sides(kind: str, layer: dict[str, Any], config: dict[str, Any], before: Sequence[Shape]) -> tuple[int, int]:
    """Returns at least the height and the width of a layer's output."""
    joined = _joined(before)
    height, width = joined.height, joined.width
    if kind in (*_CONVOLUTIONS, *_POOLS):
        down, right = _pair(config.get("strides") or config.get("pool_size") or 1)
        return -(-height // max(down, 1)), -(-width // max(right, 1))
    if kind.startswith("Global"):
        return 1, 1
    if kind == "UpSampling2D":
        down, right = _pair(config["size"])
        return height * down, width * right
    if kind == "Resizing":
        return int(config["height"]), int(config["width"])
    if kind == "Concatenate" and config.get("axis", -1) not in (-1, 3):
        return sum(shape.height for shape in before), sum(shape.width for shape in before)
    if kind == "ZeroPadding2D":
        rows, columns = padding if isinstance(padding := config["padding"], list) else (padding, padding)
        return height + _both(rows), width + _both(columns)
    more = _padding(layer.get("inbound_nodes")) if kind == "Pad" else 0
    return height + more, width + more


def _channels(kind: str, layer: dict[str, Any], config: dict[str, Any], before: Sequence[Shape]) -> int:
    """Returns at least the channels of a layer's output."""
    channels = _joined(before).channels
    if kind in ("Conv2D", "QuantizedConv2D"):
        return int(config["filters"])
    if kind in ("Dense", "QuantizedDense"):
        return int(config["units"])
    if kind == "DepthwiseConv2D":
        return channels * int(config.get("depth_multiplier", 1))
    if kind in ("Concatenate", "WithContext"):
        return sum(shape.channels for shape in before)
    return channels + (_padding(layer.get("inbound_nodes")) if kind == "Pad" else 0)


def _weights(kind: str, config: dict[str, Any], channels: int) -> int:
    """Returns at least the numbers of a layer's weights."""
    window = math.prod(_pair(config.get("kernel_size", 1)))
    if kind in ("Conv2D", "QuantizedConv2D"):
        return window * -(-channels // max(config.get("groups") or 1, 1)) * config["filters"] + 3 * config["filters"]
    if kind in ("Dense", "QuantizedDense"):
        return (channels + 3) * config["units"]
    if kind == "DepthwiseConv2D":
        return (window + 1) * channels * config.get("depth_multiplier", 1)
    if kind == "ODEBlock":
        return 18 * (channels + 1) * channels + 6 * channels
    return 4 * channels if kind.endswith("Normalization") else 0


def _inputs(value: Any) -> Iterator[str]:
    """Yields the names of the layers that a layer's calls get tensors from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
        else:
            for each in value.values():
                yield from _inputs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _inputs(each)


def _names(value: Any) -> Iterator[str]:
    """Yields the names of the layers whose outputs a model has."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names(each)


def _padding(value: Any) -> int:
    if isinstance(value, dict):
        return 0 if value.get("class_name") == "__keras_tensor__" else sum(map(_padding, value.values()))
    if isinstance(value, list):
        return sum(map(_padding, value))
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _both(value: Any) -> int:
    """Returns what is added to both ends of a side."""
    return sum(map(int, value)) if isinstance(value, list) else 2 * int(value)


def _pair(value: Any) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, (list, tuple)) else (int(value),) * 2
