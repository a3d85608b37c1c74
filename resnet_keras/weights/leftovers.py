"""Tensors of a source that are no weights of its network: counters, losses, other heads, other networks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from resnet_keras.networks.blocks import HEAD
from resnet_keras.weights.layout import Layout

_HEADS = r"(fc|linear|classifier|classif|heads?|last_linear|logits|outputs?|out)\d*"
"""First modules of classifiers in programs for PyTorch; in Keras, whoever adds a layer names it."""
_LOSSES = r"(.*\.)?(criterion|criteria|loss|losses|loss_fn|loss_func|loss_function|\w+_loss|metrics?|\w+_metrics?)\..*"
_COUNTED = "num_batches_tracked"
_SHOWN = 4


@dataclass(frozen=True)
class Leftovers:
    """Names of tensors without a place in the network, sorted.

    Attributes:
        unexpected: In the network's own modules.
        beside: In other modules.
        ignored: Not weights.
        notes: Sentences about what is ignored.
    """

    unexpected: tuple[str, ...]
    beside: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def without_prefix(name: str, prefix: str) -> str:
    """Returns a name without the prefix; a head may be beside the network that has the prefix."""
    while prefix and not name.startswith(prefix):
        outer, separator, _ = prefix[:-1].rpartition(prefix[-1])
        prefix = outer + separator
    return name.removeprefix(prefix)


def linear_head(
    left: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray], prefix: str, layout: Layout
) -> dict[str, str]:
    """Returns the names of kernel and bias of a classifier that its library would call otherwise, by ours.

    It is the one linear layer in a head, such as `fc.1` of a Sequential with dropout. A head of several layers, or
    with other weights, is no classifier of this package.

    Args:
        left: Tensors without a place in the network, with the source's axes.
        tensors: Those with a place, under our names.
        prefix: What the network's names begin with.
        layout: The names of the source's library.
    """
    if f"{HEAD}/kernel" in tensors:
        return {}
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in left.items():
        inner = without_prefix(name, prefix)
        first = re.split(r"[./]", inner)[0]
        if (layout.axes == "keras" or re.fullmatch(_HEADS, first)) and not inner.endswith(_COUNTED):
            groups.setdefault(first, {})[name] = array
    heads = [group for group in groups.values() if any(array.ndim > 1 for array in group.values())]
    return _kernel_and_bias(heads[0], _channels(tensors), layout) if len(heads) == 1 else {}


def _kernel_and_bias(group: Mapping[str, np.ndarray], channels: int | None, layout: Layout) -> dict[str, str]:
    """Returns the names of the one linear layer among tensors, by ours; none if there is more than that."""
    entering = 0 if layout.axes == "keras" else 1
    kernels = [name for name, array in group.items() if array.ndim == 2 and array.shape[entering] == channels]
    if len(kernels) != 1 or len(group) > 2:
        return {}
    module = re.sub(r"(weight|kernel)$", "", kernels[0])
    others = [name for name in group if name != kernels[0]]
    if any(name != f"{module}bias" for name in others):
        return {}
    return {f"{HEAD}/kernel": kernels[0], **{f"{HEAD}/bias": name for name in others}}


def _channels(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Returns the channels of the last block's last convolution."""
    places = {
        (int(match[1]), int(match[2]), int(match[3])): array.shape[-1]
        for name, array in tensors.items()
        if (match := re.fullmatch(r"stage(\d+)_block(\d+)_conv(\d)/kernel", name)) and array.ndim == 4
    }
    return places[max(places)] if places else None


def dense_layers(arrays: Mapping[str, np.ndarray]) -> set[str]:
    """Returns the layers with a matrix in a Keras model: the classifier, and what its user has added to our network."""
    names = (name.rpartition("/") for name, array in arrays.items() if array.ndim == 2)
    return {layer for layer, _, weight in names if weight == "kernel" and not re.match(r"stem|stage\d", layer)}


def sort_leftovers(left: Iterable[str], names: Mapping[str, tuple[str, ...]], prefix: str, layout: Layout) -> Leftovers:
    """Returns names without a place, sorted by what they are.

    Args:
        left: Names without a place.
        names: The source's names of the weights of the network, by ours.
        prefix: What the network's names begin with.
        layout: The names of the source's library.
    """
    own = {
        _first_word(without_prefix(name, prefix))
        for ours, called in names.items()
        for name in called
        if not ours.startswith(f"{HEAD}/")
    }
    unexpected: list[str] = []
    beside: list[str] = []
    ignored: list[str] = []
    for name in left:
        if layout.ignores(name) or re.fullmatch(_LOSSES, name):
            ignored.append(name)
        elif name.startswith(prefix) and _first_word(name.removeprefix(prefix)) in own:
            unexpected.append(name)
        else:
            beside.append(name)
    kinds = Counter(name.rpartition(".")[2] if layout.ignores(name) else name for name in ignored)
    told = [f"{name} ({count})" if count > 1 else name for name, count in kinds.items() if name != _COUNTED]
    notes = [f"passed over, because they are not weights of the network: {_listed(told)}"] if told else []
    return Leftovers(tuple(unexpected), tuple(beside), tuple(ignored), tuple(notes))


def modules_of(names: Iterable[str]) -> str:
    """Returns the first modules of names that are passed over, with the number of tensors in each."""
    counts = Counter(re.split(r"[./]", re.sub(r"^(module|model)[./]", "", name))[0] for name in names)
    return _listed([f"{module} ({count})" for module, count in counts.items()])


def _first_word(name: str) -> str:
    """Returns the letters that a name begins with: `layer` of `layer1.0.conv1.weight`."""
    match = re.match(r"[A-Za-z]+", name)
    return match[0] if match else name


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
