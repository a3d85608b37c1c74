"""Converts other libraries' weights, e.g. `resnet convert model.safetensors --to resnet18.keras`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

import resnet_keras
from resnet_keras.cli.program import run
from resnet_keras.data.class_names import read_class_names as read_names


def convert(
    source: tyro.conf.Positional[str],
    *,
    to: Path,
    network: str | None = None,
    class_names: Path | None = None,
    image_size: int | None = None,
    crop_ratio: float | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    channel_order: Literal["rgb", "bgr"] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    bottleneck_stride: Literal["1x1", "3x3"] | None = None,
    zero_channels: Literal["behind", "around"] | None = None,
) -> None:
    """Writes a .keras file of any weights of these networks, with its preprocessing and class names.

    The library that the weights are of is recognized. The file is opened again and compared before this ends. Flags
    change what the source tells of preprocessing, or what is usual for its library.

    Args:
        source: A .safetensors, .pth, .th, .bin, .keras or .h5 file, a folder as a hub has it, imagenet, torchvision,
            or hf://OWNER/NAME.
        to: The .keras file to write.
        network: Name of the network, for imagenet and torchvision.
        class_names: Text file of class names, one a line.
        image_size: Height and width of the network's input in pixels.
        crop_ratio: Image size as a part of the shorter side that images are resized to.
        interpolation: How images are resized.
        channel_order: Of the network's input.
        mean: What is subtracted from the pixels (0-255), per channel.
        std: What the difference is divided by, per channel.
        bottleneck_stride: Which convolution of a bottleneck has the stride, if not where its library has it.
        zero_channels: Where option A puts its zero channels, if not where others of its kind do.
    """
    if to.suffix != ".keras":
        raise ValueError(f"Expected a file ending in .keras for --to. Received: {to}")
    found = resnet_keras.weights.open_weights(source, network)
    chosen = found.preprocessing
    if chosen is None and mean and std and image_size:
        chosen = resnet_keras.Preprocessing(image_size=(image_size, image_size), channels=len(mean), mean=mean, std=std)
    if chosen is not None:
        changes: dict[str, Any] = {
            "interpolation": interpolation,
            "channel_order": channel_order,
            "mean": mean,
            "std": std,
        }
        chosen = replace(chosen, **{field: value for field, value in changes.items() if value is not None})
        if image_size or crop_ratio:
            chosen = chosen.at(image_size or chosen.image_size, crop_ratio)
    classifier, report = resnet_keras.convert(
        found,
        preprocessing=chosen,
        class_names=read_names(class_names) if class_names else None,
        bottleneck_stride=bottleneck_stride,
        zero_channels=zero_channels,
    )
    print(report)
    classifier.save(to)
    difference = resnet_keras.applications.largest_difference(classifier, resnet_keras.Classifier.load(to))
    print(f"{to}: {classifier.model.name}, {classifier.model.count_params():,} weights, {classifier.preprocessing}")
    print(f"opened again, its outputs differ by {difference:.1g}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet convert`."""
    return run(convert, "resnet convert", argv)
