"""Our weights under other libraries' names, from the table of layouts that imports them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from resnet_keras.checks.fields import nearest
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.blocks import HEAD
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.equivalents import with_epsilon, with_reversed_input, with_zero_channels_on_both_sides
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.layout import Layout
from resnet_keras.weights.layouts import LAYOUTS
from resnet_keras.weights.library_networks import (
    cifar_network,
    timm_settings,
    torchvision_network,
    transformers_settings,
)
from resnet_keras.weights.recognition import recognize_architecture

WEIGHTS_FILE = "model.safetensors"
"""Name of the weights beside the settings of timm and transformers."""

_CONVENTIONS = {each.name for each in fields(Conventions)}
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A library for PyTorch that weights are written for.

    Attributes:
        library: Its name in the table of layouts.
        networks: Fields of `Architecture` and `Conventions` with the values that its networks have.
        stated: Conventions that its settings state, so that the layout's usual value is not the only one.
        prefix: Before all names except those of the classifier.
        spelling: Which of the spellings in the table it has, e.g. of `fc|linear`.
        has_settings: Whether JSON with preprocessing and class names belongs to its weights.
        any_channels: Whether its networks take other images than those of three channels.
    """

    library: str
    networks: Mapping[str, tuple[Any, ...]]
    stated: tuple[str, ...] = ()
    prefix: str = ""
    spelling: int = 0
    has_settings: bool = False
    any_channels: bool = False


_COMMON = {"activation": ("after",), "first_projection": (False,), "conv_bias": (False,), "output_stride": (None,)}
_CIFAR = {**_COMMON, "stem": ("cifar",), "block": ("basic",), "se_reduction": (0,)}

TARGETS: dict[str, Target] = {
    "torchvision": Target(
        library="torchvision",
        networks={**_COMMON, "stem": ("imagenet",), "shortcut": ("B",), "se_reduction": (0,)},
    ),
    "timm": Target(
        library="timm",
        networks={
            **_COMMON,
            "activation": ("after", "before"),
            "first_activation": ("block",),
            "stem": ("imagenet", "deep", "strided"),
            "shortcut": ("B",),
        },
        has_settings=True,
        any_channels=True,
    ),
    "transformers": Target(
        library="transformers",
        networks={**_COMMON, "stem": ("imagenet",), "shortcut": ("B",), "se_reduction": (0,)},
        stated=("bottleneck_stride",),
        prefix="resnet.",
        has_settings=True,
        any_channels=True,
    ),
    # akamaster/pytorch_resnet_cifar10 and chenyaofo/pytorch-cifar-models have torchvision's names.
    "pytorch_resnet_cifar10": Target(library="torchvision", networks={**_CIFAR, "shortcut": ("A",)}, spelling=1),
    "pytorch_cifar_models": Target(library="torchvision", networks={**_CIFAR, "shortcut": ("B",)}),
}
"""Libraries that weights are written for, by the name of `layout`."""


@dataclass(frozen=True, eq=False)
class ExportedWeights:
    """Weights as another library has them.

    Attributes:
        layout: A name in `TARGETS`.
        tensors: Arrays under the library's names, counters of batches included.
        settings: JSON by the name of its file.
        code: Python that loads them, with `PATH` for the file, `FOLDER` for its folder.
        notes: What was changed in the weights, in sentences.
    """

    layout: str
    tensors: Mapping[str, np.ndarray]
    settings: Mapping[str, Mapping[str, Any]]
    code: str
    notes: tuple[str, ...]


def export_weights(found: ImportedWeights, layout: str) -> ExportedWeights:
    """Returns the weights of a network of this package as another library has them.

    Args:
        found: The weights, with preprocessing and class names.
        layout: A name in `TARGETS`.

    Raises:
        ValueError: There is no such layout, or the library does not have such a network (the message says what differs
            and which layouts fit).
    """
    check_layout(layout)
    row = _with_option_b(recognize_architecture(found))
    try:
        return _exported(found, row, layout)
    except ValueError as error:
        others = [name for name in TARGETS if name != layout and _fits(found, row, name)]
        fitting = f"Layouts that fit: {', '.join(others)}" if others else "No layout fits"
        raise ValueError(
            f"Expected a network that {layout} has, {error}. {fitting}. Received: {found.source}"
        ) from None


def check_layout(layout: str) -> None:
    """Raises a ValueError if there is no such layout."""
    if layout not in TARGETS:
        raise ValueError(
            f"Expected `layout` to be one of {', '.join(TARGETS)}. Received: {layout!r}.{nearest(layout, TARGETS)}"
        )


def _fits(found: ImportedWeights, row: Architecture, layout: str) -> bool:
    try:
        _exported(found, row, layout)
    except ValueError:
        return False
    return True


def _exported(found: ImportedWeights, row: Architecture, name: str) -> ExportedWeights:
    target = TARGETS[name]
    for problem in _misfits(found, row, target):
        raise ValueError(problem)
    preprocessing, class_names = _checked_metadata(found, target)
    tensors, notes = dict(found.tensors), []
    conventions = found.conventions
    if row.shortcut == "A" and conventions.zero_channels == "end":
        tensors = with_zero_channels_on_both_sides(tensors, row)
        notes.append("channels are in another order: option A adds its zero channels on both sides there")
        conventions = replace(conventions, zero_channels="both_sides")
    layout = _layout_of(target, tensors, conventions, row)
    if conventions.epsilon is None:
        raise ValueError("with one epsilon in all batch normalizations, instead of several")
    expected = layout.usual_conventions(preactivated=row.activation == "before").epsilon
    assert expected is not None  # every layout of PyTorch states it
    if conventions.epsilon != expected:
        tensors = with_epsilon(tensors, conventions.epsilon, expected)
        notes.append(
            f"an epsilon of {conventions.epsilon:g} is {expected:g} there; the difference is in the moving variances"
        )
    if preprocessing.channel_order == "bgr":
        tensors = with_reversed_input(tensors)
        preprocessing = replace(
            preprocessing, channel_order="rgb", mean=preprocessing.mean[::-1], std=preprocessing.std[::-1]
        )
        notes.append("the first convolution takes RGB instead of BGR")
    renamed = _renamed(tensors, layout, target)
    settings, code = _described(name, row, layout, tensors, preprocessing, class_names)
    return ExportedWeights(name, renamed, settings, code, tuple(notes))


def _with_option_b(row: Architecture) -> Architecture:
    """Returns the network with option B if it has projections where option B does, and nowhere else."""
    first = row.stem_width or row.widths[0]
    same = set(row.repeats) == {1} and first != row.widths[0] * row.channels_per_width
    return row.replace(shortcut="B") if row.shortcut == "C" and same else row


def _misfits(found: ImportedWeights, row: Architecture, target: Target) -> Iterator[str]:
    """Yields each property of the network that those of the library do not have."""
    for name, values in target.networks.items():
        value = getattr(found.conventions if name in _CONVENTIONS else row, name)
        if value not in values and not (name in _CONVENTIONS and value is None):
            expected = " or ".join(map(repr, values))
            yield f"with {name}={expected}, instead of {value!r}"
    if found.unexpected:
        yield f"without {found.unexpected[0]}"


def _checked_metadata(found: ImportedWeights, target: Target) -> tuple[Preprocessing, tuple[str, ...]]:
    preprocessing, class_names = found.preprocessing, found.class_names
    if preprocessing is None or class_names is None:
        raise ValueError("with preprocessing and class names")
    if preprocessing.channels != 3 and not target.any_channels:
        raise ValueError(f"for images of 3 channels, instead of {preprocessing.channels}")
    height, width = preprocessing.image_size
    if target.has_settings and height != width:
        raise ValueError(f"for square images, instead of {height}x{width} pixels")
    return preprocessing, class_names


def _layout_of(
    target: Target, tensors: Mapping[str, np.ndarray], conventions: Conventions, row: Architecture
) -> Layout:
    """Returns the library's layout with names for all tensors, in whose networks they compute the same."""
    problems: list[str] = []
    for layout in LAYOUTS:
        if target.library not in layout.name.split(", "):
            continue
        names = {name: layout.theirs(name, target.spelling) for name in tensors}
        nameless = [name for name, theirs in names.items() if theirs is None]
        if nameless or not set(layout.anchors) <= set(names.values()):
            problems.append(f"with a place for {nameless[0]}" if nameless else "with its names")
            continue
        usual = layout.usual_conventions(preactivated=row.activation == "before")
        conflicts = [
            f"with {name}={getattr(usual, name)!r} ({meaning}), instead of {getattr(conventions, name)!r}"
            for name, meaning in conventions.conflicts(usual)
            if name not in target.stated
        ]
        if not conflicts:
            return layout
        problems.insert(0, conflicts[0])
    raise ValueError(problems[0])


def _renamed(tensors: Mapping[str, np.ndarray], layout: Layout, target: Target) -> dict[str, np.ndarray]:
    """Returns the tensors in float32 under the library's names, with a counter for each batch normalization."""
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        theirs = layout.theirs(name, target.spelling)
        assert theirs is not None
        prefix = "" if name.startswith(f"{HEAD}/") else target.prefix
        found[prefix + theirs] = np.ascontiguousarray(layout.from_keras(name, array), np.float32)
        counter = f"{prefix}{theirs.rpartition('.')[0]}.{_COUNTER}"
        if name.endswith("/moving_variance") and layout.ignores(counter):
            found[counter] = np.zeros((), np.int64)
    return found


def _described(
    name: str,
    row: Architecture,
    layout: Layout,
    tensors: Mapping[str, np.ndarray],
    preprocessing: Preprocessing,
    class_names: tuple[str, ...],
) -> tuple[dict[str, dict[str, Any]], str]:
    """Returns the settings of a network in a library, and the Python that loads it."""
    if name == "transformers":
        code = 'transformers.ResNetForImageClassification.from_pretrained("FOLDER")'
        return transformers_settings(row, preprocessing, class_names), code
    if name == "timm":
        first = "stem_conv/kernel" if "stem_conv/kernel" in tensors else "stem_conv1/kernel"
        modules = [str(layout.theirs(each)).rpartition(".")[0] for each in (first, f"{HEAD}/kernel")]
        settings = timm_settings(row, preprocessing, class_names, first=modules[0], head=modules[1])
        return {"config.json": settings}, 'timm.create_model("local-dir:FOLDER", pretrained=True)'
    if name == "torchvision":
        call = torchvision_network(row, len(class_names))
    else:
        call = cifar_network(row, {"pytorch_resnet_cifar10": "ResNet"}.get(name, "CifarResNet"), len(class_names))
    return {}, f'model = {call}; model.load_state_dict(safetensors.torch.load_file("PATH"))'
