"""Loads weights of any source into a network, with a report of every tensor."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from resnet_keras.layers.batch_norm import note_folded_statistics
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.blocks import HEAD
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.dense_heads import AUXILIARY_HEAD, BOX_OFFSETS, OWN_HEAD
from resnet_keras.weights.finite import check_finite, not_finite
from resnet_keras.weights.imported import ImportedWeights
from resnet_keras.weights.leftovers import modules_of
from resnet_keras.weights.model_conventions import conventions_of_model
from resnet_keras.weights.sources import open_weights

_log = logging.getLogger(__name__)
_SHOWN = 5
_SKIPPED = "passed over, without a place in the network"


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Report of loaded, missing and unexpected weights: every tensor of a source and every weight of the network.

    Attributes:
        source: The file, folder or model.
        layout: The library whose names the source has.
        matched: Tensors of the source that the network has now, bit for bit except for the order of their axes, and
            for a bias of a convolution, which is subtracted from a mean.
        missing: Weights of the network that the source does not have.
        unexpected: Tensors of the source that the network does not have.
        shape_mismatch: Weights whose shapes differ, with both shapes.
        new_head: Weights of the network's classifier that keep their values, because the source's classifier has
            another number of classes, or the source has none.
        ignored: Tensors that are not weights, such as counters of batches, or a head for a network without one.
        notes: Assumptions, in sentences.
    """

    source: str
    layout: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shape_mismatch: tuple[str, ...]
    new_head: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each weight that does not fit; shapes first."""
        return (
            *self.shape_mismatch,
            *(f"{name}: not in the file" for name in self.missing),
            *(f"{name}: in the file only" for name in self.unexpected),
        )

    def __str__(self) -> str:
        """Returns the counts in one line, then a line for each problem and each note."""
        counts = {
            "matched": self.matched,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "shape mismatch": self.shape_mismatch,
            "ignored": self.ignored,
        }
        line = f"{self.source} ({self.layout}): " + ", ".join(f"{len(what)} {name}" for name, what in counts.items())
        head = [f"new classifier: {', '.join(self.new_head)}"] if self.new_head else []
        return "\n  ".join([line, *_shown(self.problems), *head, *self.notes])


def load_weights(
    model: keras.Model,
    source: str | Path | keras.Model | ImportedWeights,
    *,
    strict: bool = True,
    skip_unexpected: bool = False,
    allow_nonfinite: bool = False,
    bottleneck_stride: str | None = None,
    zero_channels: str | None = None,
) -> LoadReport:
    """Loads weights of this package or of another library into a network; nothing in a file is executed.

    Nothing is assigned unless everything fits, conventions included: with the stride in another convolution, for
    example, the same weights are another function. Batch normalization gets the source's epsilon. If the source's
    classifier has another number of classes, or the source has none, the rest is loaded, and a warning says so. If
    the statistics of batch normalization are folded into the weights, training warns once; see
    `resnet_keras.surgery.restore_statistics`.

    Args:
        model: A network of this package.
        source: See `open_weights`: a file, a folder, a Keras model, or the name of published weights.
        strict: Whether missing and unexpected weights and shape mismatches are errors. If not, all others are loaded.
        skip_unexpected: Whether to pass over tensors of the source that the network does not have, with a note. Those
            beside a backbone (other heads, a detector's parts) are passed over in any case if its classifier is not
            loaded.
        allow_nonfinite: Whether weights may be NaN or infinite in the network's precision, and variances negative.
        bottleneck_stride: Convolution of the source's bottlenecks that has the stride; its library's usual if `None`.
        zero_channels: Place of the source's zero channels under option A; its library's usual if `None`.

    Returns:
        Report of loaded, missing and unexpected weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The source is damaged, malicious or has no known layout; weights are not finite; or weights or
            conventions do not fit (the message names them and gives both shapes or values).
    """
    found = source if isinstance(source, ImportedWeights) else open_weights(source, model.name)
    weights = {
        f"{layer.name}/{weight.name}": (layer, weight) for layer in flat_layers(model) for weight in layer.weights
    }
    if any(re.fullmatch(OWN_HEAD, name) for name in weights):
        found = found.with_dense_head(auxiliary=f"{AUXILIARY_HEAD}/kernel" in weights)
    report = _compared(weights, found, skip_unexpected)
    if strict and report.problems:
        raise ValueError(
            f"Expected weights that fit {model.name!r} ({len(weights)} weights). Received: {found.source} "
            f"({len((*found.tensors, *found.unexpected, *found.beside))} tensors, {found.layout}), which differs in\n  "
            + "\n  ".join([*_shown(report.problems), *_way_on(report)])
        )
    stated = Conventions(bottleneck_stride=bottleneck_stride, zero_channels=zero_channels)  # type: ignore[arg-type]
    _check_conventions(model, found, found.conventions.merged(stated))
    values = _values(weights, found, report)
    if not allow_nonfinite:
        check_finite(
            not_finite(values, lambda name: _called(found, name)),
            found.source,
            "; `resnet convert --allow-nonfinite` converts them",
        )
    if report.new_head:
        warnings.warn(
            f"The classifier of {model.name!r} keeps its initial weights: {found.source} has "
            f"{'none' if found.classes is None else f'one of {found.classes} classes'}",
            stacklevel=2,
        )
    if not skip_unexpected:  # which asks for it
        for note in report.notes:
            if note.startswith(_SKIPPED):
                _log.warning(f"{found.source}: {note}")
    for name, value in values.items():
        weights[name][1].assign(value)
    _set_epsilon(model, found.conventions.epsilon)
    note_folded_statistics(model, found.source if found.has_folded_statistics else None)
    return report


def _way_on(report: LoadReport) -> list[str]:
    """Returns what to do about problems, if they are only tensors without a place."""
    if len(report.unexpected) < len(report.problems):
        return []
    return ["`resnet convert --skip-unexpected`, or `skip_unexpected=True`, passes over what has no place"]


def _compared(weights: dict, found: ImportedWeights, skip_unexpected: bool) -> LoadReport:
    matched: list[str] = []
    missing: list[str] = []
    shape_mismatch: list[str] = []
    shapes = {name: tuple(weight.shape) for name, (_, weight) in weights.items()}
    has_head = f"{HEAD}/kernel" in shapes
    same_head = has_head and found.classes == shapes[f"{HEAD}/kernel"][-1]
    for name, shape in shapes.items():
        array = found.tensors.get(name)
        if _classifies(name) and not same_head:
            continue
        if array is None:
            missing.append(name)
        elif array.shape != shape:
            shape_mismatch.append(f"{_called(found, name)}: expected shape {shape}, the file has {array.shape}")
        else:
            matched.extend(found.names[name])
    extra = [name for name in found.tensors if name not in shapes]
    heads = [name for name in found.tensors if _classifies(name) and not same_head]
    unexpected = (*(_called(found, name) for name in extra if name not in heads), *found.unexpected)
    beside = found.beside if same_head else ()
    skipped = (*unexpected, *beside) if skip_unexpected else () if same_head else found.beside
    notes = [f"{_SKIPPED}: {modules_of(skipped)}"] if skipped else []
    return LoadReport(
        source=found.source,
        layout=found.layout,
        matched=tuple(matched),
        missing=tuple(missing),
        unexpected=() if skip_unexpected else (*unexpected, *beside),
        shape_mismatch=tuple(shape_mismatch),
        new_head=tuple(name for name in shapes if _classifies(name)) if has_head and not same_head else (),
        ignored=(*found.ignored, *skipped, *(called for name in heads for called in found.names[name])),
        notes=(*found.notes, *notes),
    )


def _classifies(name: str) -> bool:
    """Returns whether a weight is that of a classifier, whose classes may be others."""
    return name.partition("/")[0] in (HEAD, AUXILIARY_HEAD, BOX_OFFSETS)


def _called(found: ImportedWeights, name: str) -> str:
    """Returns our name of a tensor, and the source's if it differs."""
    called = ", ".join(found.names[name])
    return name if called == name else f"{name} ({called})"


def _shown(problems: tuple[str, ...]) -> list[str]:
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return [*problems[:_SHOWN], *more]


def _check_conventions(model: keras.Model, found: ImportedWeights, expected: Conventions) -> None:
    if expected.projection == "bare":  # names and shapes show that no normalization follows
        expected = replace(expected, projection=None)
    own = conventions_of_model(model)
    for name, meaning in own.conflicts(expected):
        raise ValueError(
            f"Expected a network with {name}={getattr(expected, name)!r} ({meaning}), as {found.source} "
            f"({found.layout}) has it. Received: {model.name!r}, with {getattr(own, name)!r}"
        )


def _values(weights: dict, found: ImportedWeights, report: LoadReport) -> dict[str, np.ndarray]:
    """Returns the weights that are loaded, in the network's precision."""
    loaded = set(report.matched)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused
        return {
            # In float64 only if the network is: NumPy does not know all types of half precision.
            name: np.asarray(found.tensors[name], "float64" if weight.dtype == "float64" else "float32")
            for name, (_, weight) in weights.items()
            if name in found.tensors and loaded.issuperset(found.names[name])
        }


def _set_epsilon(model: keras.Model, epsilon: float | None) -> None:
    """Sets the epsilon of batch normalizations to that of the source."""
    changed = False
    for layer in flat_layers(model):
        if epsilon is not None and isinstance(layer, keras.layers.BatchNormalization) and layer.epsilon != epsilon:
            layer.epsilon, changed = epsilon, True
    if changed:  # traced functions hold the old one
        model.train_function = model.test_function = model.predict_function = None
