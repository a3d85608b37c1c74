"""Networks of this package as other libraries describe them: arguments of their classes, and settings of hubs."""

from __future__ import annotations

import math
from typing import Any

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import DEPTHS

_FOUR_STAGES = (64, 128, 256, 512)
_CIFAR_WIDTHS = (16, 32, 64)
_PILLOW_FILTERS = {"bilinear": 2, "bicubic": 3}

# timm's name of 50 layers (18 with basic blocks) for a kind of network; the others have the same but for the depth.
_TIMM_NAMES = {
    ("imagenet", "after", 0, "normalized"): "resnet{}",
    ("imagenet", "after", 0, "pooled"): "resnet{}",  # with avg_down
    ("deep", "after", 0, "normalized"): "resnet{}c",
    ("deep", "after", 0, "pooled"): "resnet{}d",
    ("imagenet", "after", 16, "normalized"): "seresnet{}",
    ("strided", "after", 4, "pooled"): "resnetrs{}",
    ("imagenet", "before", 0, "bare"): "resnetv2_{}",
}
# Depths that timm has under each of these names; others are made of 50 or 18 layers by arguments.
_TIMM_DEPTHS = {
    "resnet{}": (18, 34, 50, 101, 152, 200),
    "resnet{}c": (50, 101, 152),
    "resnet{}d": (18, 34, 50, 101, 152, 200),
    "seresnet{}": (18, 34, 50, 101, 152),
    "resnetrs{}": (50, 101, 152, 200, 270, 350, 420),
    "resnetv2_{}": (18, 34, 50, 101, 152),
}
# timm's names of networks that differ from 50 or 101 layers in these arguments.
_TIMM_WIDE = {
    ("resnet50", 1, 128): "wide_resnet50_2",
    ("resnet101", 1, 128): "wide_resnet101_2",
    ("resnet50", 32, 4): "resnext50_32x4d",
    ("resnet101", 32, 8): "resnext101_32x8d",
    ("resnet101", 64, 4): "resnext101_64x4d",
    ("seresnet50", 32, 4): "seresnext50_32x4d",
}


def torchvision_network(row: Architecture, classes: int) -> str:
    """Returns the call that makes a network of torchvision.

    Raises:
        ValueError: It has none such; the message says which widths it has.
    """
    planes, base_width = _planes(row)
    _expect_stem_and_planes(row, planes)
    arguments = {"num_classes": classes, "groups": row.groups, "width_per_group": base_width}
    given = "".join(f", {name}={value}" for name, value in arguments.items() if (name, value) not in _TORCHVISION_SAME)
    depth = next((d for d, known in DEPTHS.items() if known == (row.block, row.repeats) and d <= 152), None)
    if depth is not None:
        return f"torchvision.models.resnet{depth}({given[2:]})"
    block = "BasicBlock" if row.block == "basic" else "Bottleneck"
    return f"torchvision.models.ResNet(torchvision.models.resnet.{block}, {list(row.repeats)}{given})"


_TORCHVISION_SAME = {("num_classes", 1000), ("groups", 1), ("width_per_group", 64)}


def cifar_network(row: Architecture, function: str, classes: int) -> str:
    """Returns the call that makes a network of one of the CIFAR repositories.

    Raises:
        ValueError: They have none such.
    """
    if row.widths != _CIFAR_WIDTHS or row.stem_width not in (None, 16) or row.expansion not in (None, 1):
        raise ValueError(f"with widths {_CIFAR_WIDTHS} after a stem of 16 channels, instead of {row.widths}")
    return f"{function}(BasicBlock, {list(row.repeats)}, num_classes={classes})"


def timm_network(row: Architecture) -> tuple[str, dict[str, Any]]:
    """Returns timm's name of a network, and the arguments in which it differs from what is usual under that name.

    Raises:
        ValueError: timm has none such; the message says what it has.
    """
    kind = (row.stem, row.activation, row.se_reduction, row.conventions.projection)
    if kind not in _TIMM_NAMES:
        known = "; ".join(f"{stem}, {se}, {projection}" for stem, _, se, projection in _TIMM_NAMES)
        raise ValueError(
            f"with stem, se_reduction, and projection of one of: {known}; instead of {kind[0]}, {kind[2]}, {kind[3]}"
        )
    if row.activation == "before":
        return _timm_v2(row)
    if len(row.repeats) != 4:
        raise ValueError(f"with four stages, instead of {len(row.repeats)}")
    planes, base_width = _planes(row)
    usual_stem = 32 if row.stem != "imagenet" else 64
    stem_width = (row.stem_width or row.widths[0]) // (2 if row.stem != "imagenet" else 1)
    if row.stem == "imagenet" and stem_width != 64:
        raise ValueError(f"with a stem of 64 channels, instead of {stem_width}")
    leaving = [row.channels_per_width * width for width in row.widths]
    if row.se_reduction and any(channels % (8 * row.se_reduction) for channels in leaving):
        raise ValueError(
            f"with stages whose reduced channels are multiples of 8, instead of {leaving} / {row.se_reduction}"
        )
    name, arguments = _timm_depth(row, _TIMM_NAMES[kind])
    if (name, row.groups, base_width) in _TIMM_WIDE and not arguments:
        name = _TIMM_WIDE[name, row.groups, base_width]
    else:
        arguments |= {"cardinality": row.groups} if row.groups != 1 else {}
        arguments |= {"base_width": base_width} if base_width != 64 else {}
    arguments |= {"channels": list(planes)} if planes != _FOUR_STAGES else {}
    arguments |= {"stem_width": stem_width} if stem_width != usual_stem else {}
    arguments |= {"avg_down": True} if (row.stem, kind[3]) == ("imagenet", "pooled") else {}
    return name, arguments


def _timm_v2(row: Architecture) -> tuple[str, dict[str, Any]]:
    """Returns the same for activation before convolutions; `channels` are a stage's output channels there."""
    usual = {"basic": (1, _FOUR_STAGES), "bottleneck": (4, tuple(4 * width for width in _FOUR_STAGES))}
    expansion, channels = usual[row.block]
    stem_width, leaving = row.stem_width or row.widths[0], tuple(expansion * width for width in row.widths)
    if row.channels_per_width != expansion or row.groups != 1 or any(c % 8 for c in (stem_width, *row.widths)):
        raise ValueError(
            f"with an expansion of {expansion}, one group, and multiples of 8 channels, instead of an expansion of "
            f"{row.channels_per_width}, {row.groups} groups, and a stem and widths of {(stem_width, *row.widths)}"
        )
    name, arguments = _timm_depth(row, "resnetv2_{}")
    arguments |= {"channels": list(leaving)} if leaving != channels else {}
    return name, arguments | ({"stem_chs": stem_width} if stem_width != 64 else {})


def _timm_depth(row: Architecture, names: str) -> tuple[str, dict[str, Any]]:
    """Returns timm's name, by the depth, and the argument that gives the blocks of each stage if no name does."""
    depth = next((d for d, known in DEPTHS.items() if known == (row.block, row.repeats)), None)
    if depth in _TIMM_DEPTHS[names]:
        return names.format(depth), {}
    smallest = 18 if row.block == "basic" else 50
    if smallest not in _TIMM_DEPTHS[names]:
        raise ValueError(f"with bottleneck blocks, instead of {row.block} ones")
    return names.format(smallest), {"layers": list(row.repeats)}


def timm_settings(
    row: Architecture, preprocessing: Preprocessing, class_names: tuple[str, ...], *, first: str, head: str
) -> dict[str, Any]:
    """Returns the `config.json` of a folder of timm.

    Args:
        row: The network.
        preprocessing: Of square RGB or gray images.
        class_names: One name per output.
        first: timm's name of the first convolution.
        head: timm's name of the classifier.
    """
    name, arguments = timm_network(row)
    (side, _), channels = preprocessing.image_size, preprocessing.channels
    resized = preprocessing.shorter_side or side
    crop = side / resized
    if math.floor(side / crop) != resized:  # as timm computes it
        crop = math.nextafter(crop, 0)
    return {
        "architecture": name,
        "num_classes": len(class_names),
        "num_features": row.widths[-1] * row.channels_per_width,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [channels, side, side],
            "fixed_input_size": False,
            "interpolation": preprocessing.interpolation,
            "crop_pct": crop,
            "crop_mode": "center",
            "mean": [value / 255 for value in preprocessing.mean],
            "std": [value / 255 for value in preprocessing.std],
            "num_classes": len(class_names),
            "pool_size": [math.ceil(side / row.total_stride)] * 2,
            "first_conv": first,
            "classifier": head,
        },
        "label_names": list(class_names),
        **({"model_args": arguments} if arguments else {}),
    }


def transformers_settings(
    row: Architecture, preprocessing: Preprocessing, class_names: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Returns the `config.json` and the `preprocessor_config.json` of a folder of transformers.

    Raises:
        ValueError: It has no such network.
    """
    if row.expansion is not None or row.groups != 1:
        raise ValueError(
            f"with the paper's expansion and one group, instead of an expansion of {row.channels_per_width} and "
            f"{row.groups} groups"
        )
    (side, _), channels = preprocessing.image_size, preprocessing.channels
    resized = preprocessing.shorter_side or side
    return {
        "config.json": {
            "architectures": ["ResNetForImageClassification"],
            "model_type": "resnet",
            "num_channels": channels,
            "embedding_size": row.stem_width or row.widths[0],
            "hidden_sizes": [row.channels_per_width * width for width in row.widths],
            "depths": list(row.repeats),
            "layer_type": row.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": row.block == "bottleneck" and row.conventions.bottleneck_stride == "1x1",
            "dtype": "float32",
            "id2label": {str(i): name for i, name in enumerate(class_names)},
            "label2id": {name: i for i, name in enumerate(class_names)},
        },
        "preprocessor_config.json": {
            "image_processor_type": "BitImageProcessor",  # ConvNeXt's does not crop from 384 pixels on
            "do_convert_rgb": channels == 3,
            "do_resize": True,
            "size": {"shortest_edge": resized},
            "resample": _PILLOW_FILTERS[preprocessing.interpolation],
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [value / 255 for value in preprocessing.mean],
            "image_std": [value / 255 for value in preprocessing.std],
        },
    }


def _planes(row: Architecture) -> tuple[tuple[int, ...], int]:
    """Returns torchvision's and timm's numbers of a network: output channels over 4 (1), and the base width.

    The base width is the channels of a group in a stage of 64 planes.

    Raises:
        ValueError: They are not integers.
    """
    if row.block == "basic":
        if row.channels_per_width != 1:
            raise ValueError(f"with an expansion of 1 in basic blocks, instead of {row.channels_per_width}")
        return row.widths, 64
    wanted = row.channels_per_width * row.groups
    if 256 % wanted or any(row.channels_per_width * width % 4 for width in row.widths):
        raise ValueError(f"with widths whose base width is whole, instead of {row.widths} in {row.groups} groups")
    return tuple(row.channels_per_width * width // 4 for width in row.widths), 256 // wanted


def _expect_stem_and_planes(row: Architecture, planes: tuple[int, ...]) -> None:
    stem_width = row.stem_width or row.widths[0]
    if stem_width != 64 or planes != _FOUR_STAGES:
        raise ValueError(
            f"with a stem of 64 channels and planes {_FOUR_STAGES}, instead of a stem of {stem_width} channels and "
            f"planes {planes}"
        )
