"""Weights of any source into a network that exists, with a report of every tensor."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.blocks import HEAD
from resnet_keras.weights.conventions import Conventions, conventions_of_model
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.sources import open_weights

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor of a source and of every weight of the network.

    Attributes:
        source: The file, folder or model.
        layout: The library whose names the source has.
        matched: Tensors of the source that are in the network now, bit for bit but for the order of their axes, and
            for a bias of a convolution, which is taken off a mean.
        missing: Weights of the network that the source does not have.
        unexpected: Tensors of the source that the network has no place for.
        misshapen: Weights whose shapes differ, with both.
        new_head: Weights of a classifier that stays as it was, because the source's has another number of classes, or
            none.
        passed_over: What is no weight, such as counters of batches, or the head for a network without one.
        notes: What was assumed.
    """

    source: str
    layout: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    new_head: tuple[str, ...]
    passed_over: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not fit, in lines; shapes first."""
        return (
            *self.misshapen,
            *(f"{name}: not in the file" for name in self.missing),
            *(f"{name}: in the file only" for name in self.unexpected),
        )

    def __str__(self) -> str:
        """Returns the report in a line, and a line for each thing to know."""
        counts = {
            "matched": self.matched,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "misshapen": self.misshapen,
            "passed over": self.passed_over,
        }
        line = f"{self.source} ({self.layout}): " + ", ".join(f"{len(what)} {name}" for name, what in counts.items())
        head = [f"the classifier stays new: {', '.join(self.new_head)}"] if self.new_head else []
        return "\n  ".join([line, *_shown(self.problems), *head, *self.notes])


def load_weights(
    model: keras.Model,
    source: str | Path | keras.Model | ImportedWeights,
    *,
    strict: bool = True,
    bottleneck_stride: str | None = None,
    zero_channels: str | None = None,
) -> LoadReport:
    """Loads weights of our own or another library's into a network of ours; nothing in a file is executed.

    Nothing is assigned unless everything fits, down to the place of strides and of zero channels, which make another
    function of the same weights. Batch normalization takes the source's epsilon. Where the source has a classifier of
    another number of classes, or none, the rest is loaded, and a warning says so.

    Args:
        model: A network of this package.
        source: See `open_checkpoint`: a file, a folder, a Keras model, or the name of published weights.
        strict: Whether anything missing, unexpected or misshapen is an error. If not, what fits is loaded.
        bottleneck_stride: Where the source's bottlenecks have their stride, if not where its library has them.
        zero_channels: Where the source's option A puts its zeros, if not where others of its kind do.

    Returns:
        What became of every tensor.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The source is damaged, malicious or of no known layout; or something does not fit (the message
            names the weights and gives both shapes).
    """
    found = source if isinstance(source, ImportedWeights) else open_weights(source, model.name)
    weights = {
        f"{layer.name}/{weight.name}": (layer, weight) for layer in flat_layers(model) for weight in layer.weights
    }
    report = _compared(weights, found)
    if strict and report.problems:
        raise ValueError(
            f"Expected weights that fit {model.name!r} ({len(weights)} weights). Received: {found.source} "
            f"({len(found.tensors) + len(found.unexpected)} tensors, {found.layout}), which differs in\n  "
            + "\n  ".join(_shown(report.problems))
        )
    expected = replace(
        found.traits,
        bottleneck_stride=bottleneck_stride or found.traits.bottleneck_stride,  # type: ignore[arg-type]
        zero_channels=zero_channels or found.traits.zero_channels,  # type: ignore[arg-type]
        # That no normalization follows, names and shapes show.
        projection=found.traits.projection if found.traits.projection != "bare" else None,
    )
    _check_traits(model, expected, found)
    if report.new_head:
        warnings.warn(
            f"The classifier of {model.name!r} stays as it was: {found.source} has "
            f"{'none' if found.classes is None else f'one of {found.classes} classes'}",
            stacklevel=2,
        )
    _assign(weights, found, report)
    _set_epsilon(model, found.traits.epsilon)
    return report


def _compared(weights: dict, found: ImportedWeights) -> LoadReport:
    matched: list[str] = []
    missing: list[str] = []
    misshapen: list[str] = []
    shapes = {name: tuple(weight.shape) for name, (_, weight) in weights.items()}
    has_head = f"{HEAD}/kernel" in shapes
    same_head = has_head and found.classes == shapes[f"{HEAD}/kernel"][-1]
    for name, shape in shapes.items():
        array = found.tensors.get(name)
        if name.startswith(f"{HEAD}/") and not same_head:
            continue
        if array is None:
            missing.append(name)
        elif array.shape != shape:
            misshapen.append(f"{_called(found, name)}: expected shape {shape}, the file has {array.shape}")
        else:
            matched.extend(found.names[name])
    extra = [name for name in found.tensors if name not in shapes]
    heads = [name for name in found.tensors if name.startswith(f"{HEAD}/") and not same_head]
    return LoadReport(
        source=found.source,
        layout=found.layout,
        matched=tuple(matched),
        missing=tuple(missing),
        unexpected=(
            *(_called(found, name) for name in extra if name not in heads),
            *found.unexpected,
        ),
        misshapen=tuple(misshapen),
        new_head=tuple(name for name in shapes if name.startswith(f"{HEAD}/")) if has_head and not same_head else (),
        passed_over=(*found.passed_over, *(called for name in heads for called in found.names[name])),
        notes=found.notes,
    )


def _called(found: ImportedWeights, name: str) -> str:
    """Returns our name of a tensor, and what the source calls it if that is another."""
    called = ", ".join(found.names[name])
    return name if called == name else f"{name} ({called})"


def _shown(problems: tuple[str, ...]) -> list[str]:
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return [*problems[:_SHOWN], *more]


def _check_traits(model: keras.Model, expected: Conventions, found: ImportedWeights) -> None:
    own = conventions_of_model(model)
    if expected.plain is not None and own.plain is not None and expected.plain != own.plain:
        kinds = {True: "a plain network", False: "a residual network"}
        raise ValueError(
            f"Expected {kinds[expected.plain]} for {found.source}. Received: {model.name!r}, {kinds[own.plain]}"
        )
    for field, what in (
        ("bottleneck_stride", "the stride of its bottlenecks"),
        ("zero_channels", "the zero channels of its option A"),
        ("projection", "the pooling of its shortcuts"),
        ("halving", "the strides of its stages"),
        ("padding", "the padding of its strided kernels"),
        ("pool_border", "the border of its pool"),
    ):
        wanted, there = getattr(expected, field), getattr(own, field)
        if wanted and there and wanted != there:
            raise ValueError(
                f"Expected a network with {what} where {found.source} ({found.layout}) has them: {field}={wanted!r}. "
                f"Received: {model.name!r}, with {there!r}"
            )


def _assign(weights: dict, found: ImportedWeights, report: LoadReport) -> None:
    loaded = set(report.matched)
    for name, (_, weight) in weights.items():
        if name in found.tensors and loaded.issuperset(found.names[name]):
            # In double precision only where the network is: of half precision, NumPy knows not all types.
            weight.assign(np.asarray(found.tensors[name], "float64" if weight.dtype == "float64" else "float32"))


def _set_epsilon(model: keras.Model, epsilon: float | None) -> None:
    """Gives batch normalizations the epsilon that the weights were trained with."""
    changed = False
    for layer in flat_layers(model):
        if epsilon is not None and isinstance(layer, keras.layers.BatchNormalization) and layer.epsilon != epsilon:
            layer.epsilon, changed = epsilon, True
    if changed:  # functions that were traced before hold the old one
        model.train_function = model.test_function = model.predict_function = None
