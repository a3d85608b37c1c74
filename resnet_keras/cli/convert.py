"""Converts weights between libraries, e.g. `resnet convert model.safetensors --to resnet18.keras`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

import resnet_keras
from resnet_keras.cli.program import run
from resnet_keras.data.class_names import read_class_names

SECTIONS = {
    "Output": ("to", "layout", "class-names"),
    "Network": ("network", "bottleneck-stride", "zero-channels"),
    "Preprocessing": ("image-size", "crop-ratio", "interpolation", "channel-order", "mean", "std"),
}


def convert(
    source: tyro.conf.Positional[str],
    *,
    to: Path,
    layout: (
        Literal["torchvision", "timm", "transformers", "pytorch_resnet_cifar10", "pytorch_cifar_models", "resnet_keras"]
        | None
    ) = None,
    network: str | None = None,
    class_names: Path | None = None,
    image_size: int | None = None,
    crop_ratio: float | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    channel_order: Literal["rgb", "bgr"] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    bottleneck_stride: Literal["1x1", "3x3"] | None = None,
    zero_channels: Literal["end", "both_sides"] | None = None,
    prefix: str | None = None,
    averaged: bool = True,
    skip_unexpected: bool = False,
    allow_nonfinite: bool = False,
    data_dir: Path | None = None,
) -> None:
    """Writes a .keras file from the weights of any library, or weights of a library for PyTorch.

    The library of the source is recognized. The file is opened again and compared with the source. Flags override the
    preprocessing of the source, or the conventions of its library.

    Args:
        source: A .safetensors, .pth, .th, .bin, .keras, or .h5 file; a folder of a hub; a run folder; imagenet,
            torchvision, or hf://OWNER/NAME.
        to: The .keras file to write; with --layout, a .safetensors file or a folder.
        layout: Library to write for; resnet_keras: a run in float16.
        network: Name of the network, for imagenet and torchvision.
        class_names: Text file with one class name per line.
        image_size: Height and width of the network's input in pixels.
        crop_ratio: Image size divided by the shorter side that images are resized to.
        interpolation: Interpolation for resizing images.
        channel_order: Channel order of the network's input.
        mean: Mean of each channel, in pixel values (0-255).
        std: Standard deviation of each channel, in pixel values.
        bottleneck_stride: Convolution of a bottleneck that has the stride; as in the library if it is not given.
        zero_channels: Position of option A's zero channels; as in the library if it is not given.
        prefix: Beginning of the names of the network's tensors, if a file has several networks.
        averaged: Take the moving average of the weights, if a file has both.
        skip_unexpected: Pass over tensors that have no place in the network.
        allow_nonfinite: Convert weights that are NaN or infinite, and negative variances.
        data_dir: Folder of a run's data set, for --layout resnet_keras; that of the training if it is not given.
    """
    if layout == "resnet_keras":
        others = {
            "network": network, "class_names": class_names, "image_size": image_size, "crop_ratio": crop_ratio,
            "interpolation": interpolation, "channel_order": channel_order, "mean": mean, "std": std,
            "bottleneck_stride": bottleneck_stride, "zero_channels": zero_channels, "prefix": prefix,
        }  # fmt: skip
        if given := [f"`{name}`" for name, value in others.items() if value is not None]:
            raise ValueError(
                f"Expected no flag but `to` and `data_dir` with `layout` resnet_keras. Received: {', '.join(given)}"
            )
        _write_run_weights(source, to, data_dir)
        return
    resnet_keras.applications.check_destination(to, layout)
    imported = resnet_keras.weights.open_weights(source, network, prefix=prefix, averaged=averaged)
    chosen = imported.preprocessing or _stated_preprocessing(imported.source, image_size, mean, std)
    changes: dict[str, Any] = {"interpolation": interpolation, "channel_order": channel_order, "mean": mean, "std": std}
    chosen = replace(chosen, **{field: value for field, value in changes.items() if value is not None})
    if image_size or crop_ratio:
        chosen = chosen.at(image_size or chosen.image_size, crop_ratio)
    classifier, report = resnet_keras.convert(
        imported,
        preprocessing=chosen,
        class_names=read_class_names(class_names) if class_names else None,
        bottleneck_stride=bottleneck_stride,
        zero_channels=zero_channels,
        skip_unexpected=skip_unexpected,
        allow_nonfinite=allow_nonfinite,
    )
    print(report)
    if layout is not None:
        print(resnet_keras.applications.save_for_torch(classifier, to, layout))
        return
    classifier.save(to)
    difference = resnet_keras.applications.largest_difference(classifier, resnet_keras.Classifier.load(to))
    print(f"{to}: {classifier.model.name}, {classifier.model.count_params():,} weights, {classifier.preprocessing}")
    print(f"opened again, its outputs differ by {difference:.1g}")


def _stated_preprocessing(
    source: str, image_size: int | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> resnet_keras.Preprocessing:
    """Returns the preprocessing of flags alone, for a source that says none."""
    if mean and std and image_size:
        return resnet_keras.Preprocessing(image_size=(image_size, image_size), channels=len(mean), mean=mean, std=std)
    stated = {"image_size": image_size, "mean": mean, "std": std}
    lacking = [f"`{name}`" for name, value in stated.items() if not value]
    raise ValueError(
        "Expected `image_size`, `mean` and `std` of the network's input, of pixels 0-255, because "
        f"{source} does not say its preprocessing. Received: no {' and no '.join(lacking)}"
    )


def _write_run_weights(run: str, to: Path, data_dir: Path | None) -> None:
    facts = resnet_keras.runs.write_run_weights(run, to, data_dir=data_dir)
    plain, mirrored = facts.evaluation, facts.mirrored_evaluation
    print(f"{to}: {facts.architecture.name}, {to.stat().st_size:,} bytes, by `{facts.command}`")
    print(
        f"test error {plain['top1_error']:.2%} on {plain['images']:,} images of {facts.dataset}, "
        f"{mirrored['top1_error']:.2%} with mirrored images"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet convert`."""
    return run(convert, "resnet convert", argv, sections=SECTIONS)
