"""The settings that hubs keep beside weights: preprocessing, class names and conventions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from resnet_keras import files
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.preprocessing import Interpolation, Preprocessing
from resnet_keras.networks.conventions import BottleneckStride, Conventions

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError, RecursionError)
"""Errors of reading malformed settings."""

T = TypeVar("T")

_INSTEAD = ". Copy the weights without this file, and state their preprocessing: resnet convert --image-size ..."

_TIMM = (
    r"(tv_|gluon_)?(resnet\d+(_v1b|_v1c|_v1d|c|d)?|(wide_resnet\d+|resnetv2|seresnet|resnetrs)_?\d+"
    r"|(se)?resnext\d+_\d+x\d+d)"
)
"""timm's names of the networks that are among ours."""

_PILLOW_FILTERS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
_FILTER_NAMES = {0: "nearest", 1: "lanczos", 4: "box", 5: "hamming"}
_WARPS = 384  # shorter side from which ConvNeXt's processor, which the ResNets use, squashes instead of cropping

# Arguments of timm's ResNets that their weights show, or that matter in training alone.
_SEEN_ARGUMENTS = (
    *("num_classes", "in_chans", "img_size", "layers", "channels", "cardinality", "base_width", "stem_width"),
    *("stem_type", "avg_down", "drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last"),
)
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "act_layer": (None, "relu"),
    "norm_layer": (None, "batchnorm", "batchnorm2d"),
    "aa_layer": (None, ""),
    "global_pool": (None, "avg"),
    "replace_stem_pool": (None, False),
    "block_args": (None, {}, {"attn_layer": "se"}),
    "output_stride": (None, 8, 16, 32),
}
"""The values of the others that networks of this package have."""


def check_other_networks(path: Path) -> None:
    """Refuses the settings of networks that have the weights of ours and are another function of them.

    Raises:
        ValueError: The settings are those of such a network, or the file is not a JSON object.
    """
    config = _json(path)
    settings = {key: config.get(key) for key in ("architecture", "hidden_act", "downsample_in_first_stage")}
    others = (
        isinstance(settings["architecture"], str) and not re.fullmatch(_TIMM, settings["architecture"]),
        settings["hidden_act"] not in (None, "relu"),
        settings["downsample_in_first_stage"] not in (None, False),
    )
    if any(others):
        raise ValueError(f"Expected the settings of a network of this package. Received: {path}, with {settings}")
    _check_arguments(config, path)


def _check_arguments(config: Mapping[str, Any], path: Path) -> None:
    """Refuses arguments of timm's networks that change what they compute; `output_stride` is followed."""
    arguments = config.get("model_args") or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"Expected `model_args` by name, as timm writes them. Received: {path}, with {arguments!r}")
    stated = {"global_pool": config.get("global_pool"), **arguments}
    for name, value in stated.items():
        if name not in _SEEN_ARGUMENTS and value not in _ARGUMENTS.get(name, (None,)):
            raise ValueError(
                f"Expected the settings of a network of this package. Received: {path}, with {name}={value!r}, which "
                "changes what the network computes"
            )


def check_keras_cv(settings: Mapping[str, Any], source: str) -> None:
    """Refuses a backbone or a classifier of KerasCV that no network of this package is.

    Args:
        settings: The arguments of its class.
        source: The name of the source in messages.

    Raises:
        ValueError: Its strides are not 1, 2, 2, ..., it dilates, or its classifier does not average.
    """
    strides = list(settings.get("stackwise_strides") or [1])
    dilations = settings.get("stackwise_dilations") or [1]
    pooling = settings.get("pooling", "avg") if "num_classes" in settings else "avg"
    if strides != [1, *[2] * (len(strides) - 1)] or any(dilation != 1 for dilation in dilations) or pooling != "avg":
        raise ValueError(
            "Expected a network of KerasCV with strides 1, 2, 2, ..., without dilation and with average pooling. "
            f"Received: {source}, with strides {strides}, dilations {list(dilations)}, pooling={pooling!r}"
        )


def conventions_of_keras_hub(folder: Path) -> Conventions:
    """Returns the conventions in the settings of a KerasHub preset.

    Raises:
        ValueError: Its strides or its shortcuts are none that networks of this package have.
    """
    conventions = Conventions()
    for name in ("config.json", "task.json"):
        settings = _json(folder / name).get("config", {})
        config = settings.get("backbone", {}).get("config", settings) if isinstance(settings, dict) else {}
        strides = config.get("stackwise_num_strides", [1, 2, 2, 2])
        kind, before = config.get("block_type"), config.get("use_pre_activation")
        pooled = str(kind).endswith("_vd")
        if (pooled and before) or strides != [1, *[2] * (len(strides) - 1)]:
            raise ValueError(
                f"Expected the settings of a network of this package. Received: {folder / name}, with {kind}, "
                f"strides {strides}, use_pre_activation={before}"
            )
        if kind is not None and not before:
            conventions = Conventions(projection="pooled" if pooled else "normalized")
    return conventions


def read_settings(reads: Callable[[Mapping[str, Any]], T], path: Path) -> T:
    """Returns the settings in a file, read by `reads`.

    Raises:
        ValueError: The settings are malformed; the message names the file.
    """
    try:
        return reads(_json(path))
    except MALFORMED as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"Expected settings as their library writes them. Received: {path}: {reason}") from error


def conventions_of_transformers(config: Mapping[str, Any]) -> Conventions:
    """Returns the conventions in a `config.json` of transformers: the convolution that has the stride."""
    strides: dict[Any, BottleneckStride | None] = {True: "1x1", False: "3x3", None: None}
    return Conventions(bottleneck_stride=strides[config.get("downsample_in_bottleneck")])


def conventions_of_timm(config: Mapping[str, Any]) -> Conventions:
    """Returns the conventions in a `config.json` of timm: the output stride."""
    stride = (config.get("model_args") or {}).get("output_stride")
    return Conventions(output_stride=None if stride == 32 else stride)


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names in a `config.json`; `None` if there are none."""
    labels = config.get("id2label")
    names = [labels[str(i)] for i in range(len(labels))] if labels else config.get("label_names")
    return check_class_names(str(name) if isinstance(name, int) else name for name in names) if names else None


def _json(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.is_file() else {}


def preprocessing_of_timm(settings: Mapping[str, Any]) -> Preprocessing | None:
    """Returns the preprocessing in the `pretrained_cfg` of a `config.json`; `None` if there is none."""
    config = settings.get("pretrained_cfg")
    if not config:
        return None
    channels, height, width = config["input_size"]
    mode = config.get("crop_mode") or "center"
    if mode != "center" and (config.get("crop_pct") or 1.0) < 1:
        raise ValueError(f"crop_mode={mode!r} is not followed{_INSTEAD}")
    scale = 255.0
    return Preprocessing(
        image_size=(height, width),
        channels=channels,
        mean=tuple(scale * value for value in config["mean"]),
        std=tuple(scale * value for value in config["std"]),
        interpolation=_interpolation(config.get("interpolation", "bilinear")),
    ).at((height, width), config.get("crop_pct") or 1.0)


def preprocessing_of_transformers(config: Mapping[str, Any]) -> Preprocessing | None:
    """Returns the preprocessing in a `preprocessor_config.json`; `None` if there is none.

    Raises:
        ValueError: It does what no `Preprocessing` does: squash images, leave their size, or another interpolation.
    """
    normalizes, rescales = config.get("do_normalize", True), config.get("do_rescale", True)
    if not config.get("image_mean") and (normalizes or "size" not in config):
        return None
    resample = config.get("resample")
    if resample not in (None, *_PILLOW_FILTERS):
        raise ValueError(
            f"resample={resample}, {_FILTER_NAMES.get(resample or 0, 'unknown')}, is not followed{_INSTEAD}"
        )
    size, crop = _sizes(config)
    scale = 1.0 / config.get("rescale_factor", 1 / 255) if rescales else 1.0
    channels = len(config["image_mean"]) if config.get("image_mean") else 3
    preprocessing = Preprocessing(
        image_size=crop,
        channels=channels,
        mean=tuple(scale * value for value in config["image_mean"]) if normalizes else (0.0,) * channels,
        std=tuple(scale * value for value in config["image_std"]) if normalizes else (scale,) * channels,
        shorter_side=size if size > max(crop) else None,
        interpolation=_PILLOW_FILTERS[2 if resample is None else resample],
        channel_order="bgr" if config.get("do_flip_channel_order") else "rgb",
    )
    # ConvNeXt's processor crops without saying so.
    ratio = config.get("crop_pct") or (224 / 256 if _is_convnext(config) and not config.get("crop_size") else None)
    return preprocessing.at(crop, ratio) if ratio else preprocessing


def _is_convnext(config: Mapping[str, Any]) -> bool:
    name = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
    return str(name).startswith("ConvNext")


def _sizes(config: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
    """Returns the shorter side that a processor resizes to, and the height and width that it crops."""
    if not config.get("do_resize", True):
        raise ValueError(f"do_resize=False is not followed{_INSTEAD}")
    size, crop = config.get("size", 224), config.get("crop_size")
    if isinstance(size, Mapping) and "shortest_edge" not in size:
        raise ValueError(f"size={size}, which squashes images, is not followed{_INSTEAD}")
    side = size if isinstance(size, int) else size["shortest_edge"]
    if _is_convnext(config) and side >= _WARPS:
        raise ValueError(f"a size of {side}, from which on ConvNeXt's processor squashes, is not followed{_INSTEAD}")
    if config.get("do_center_crop") is False and not _is_convnext(config):
        raise ValueError(f"do_center_crop=False is not followed{_INSTEAD}")
    if crop is None:
        return side, (side, side)
    return side, (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])


def preprocessing_of_keras_hub(config: Mapping[str, Any]) -> Preprocessing | None:
    """Returns the preprocessing in a `preprocessor.json`; `None` if there is none."""
    converter = config.get("config", {}).get("image_converter", {}).get("config", {})
    if not converter.get("image_size"):
        return None
    scale, offset = converter.get("scale"), converter.get("offset")
    scales = scale if isinstance(scale, list) else [1.0 if scale is None else scale] * 3
    offsets = offset if isinstance(offset, list) else [0.0 if offset is None else offset] * 3
    return Preprocessing(
        image_size=tuple(converter["image_size"]),
        channels=len(scales),
        mean=tuple(-o / s for s, o in zip(scales, offsets, strict=True)),
        std=tuple(1.0 / s for s in scales),
        interpolation=_interpolation(converter.get("interpolation", "bilinear")),
    )


def _interpolation(name: str) -> Interpolation:
    if name not in ("bilinear", "bicubic"):
        raise ValueError(f"the interpolation {name!r} is not followed{_INSTEAD}")
    return cast(Interpolation, name)
