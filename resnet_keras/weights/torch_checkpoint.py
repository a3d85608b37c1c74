"""Finds a network's weights, and the names of its classes, in a checkpoint of a training program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.weights.bounded_pickle import Inert, shown
from resnet_keras.weights.torch_file import StoredTensor, read_content, whole_file

SAVE_ALONE = 'torch.save({"state_dict": model.state_dict()}, "weights.pth")'
"""What to run in PyTorch for a file that is read for certain."""

_WRAPPED_TIMES = 3
_STATES = ("state_dict", "model_state_dict", "model", "net", "module")
# The first two are those that timm looks for, in its order.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema", "ema_model", "params_ema")
_CLASS_NAMES = ("class_names", "classes", "CLASSES", "class_to_idx", "idx_to_class", "id2label", "label_names")
_BESIDE = ("meta", "hyper_parameters")  # MMCV's and Lightning's settings
_NOT_WEIGHTS = re.compile(r"(.*\.)?(n_averaged|num_batches_tracked|total_ops|total_params)")
_UNREAD = re.compile(r"^torch\._(utils|tensor)\._rebuild_|^torch\..*Storage$")
_SHOWN = 3
_MOST_NETWORKS = 8
_MOST_CHARACTERS = 200  # of a name


@dataclass(frozen=True, eq=False)
class TorchCheckpoint:
    """The weights in a checkpoint.

    Attributes:
        tensors: Arrays by name.
        class_names: Names of the classes, if the checkpoint has any.
        notes: What was chosen or passed over, in sentences.
    """

    tensors: Mapping[str, np.ndarray]
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by their names; see `open_torch`."""
    return dict(open_torch(path).tensors)


def open_torch(path: str | Path, *, averaged: bool = True) -> TorchCheckpoint:
    """Returns the weights in a checkpoint: those under `state_dict` or a similar key, if any.

    A pickle may name anything. What is not part of a tensor is held as an inert object: it is not run, and a note
    names it.

    Args:
        path: The file.
        averaged: Whether to take the moving average of the weights where a checkpoint has both, as timm does.

    Raises:
        ValueError: The file is damaged, truncated or not a checkpoint, or contains no tensors by name.
    """
    path = Path(path)
    content = read_content(path)
    with whole_file(path):
        state, notes = _state(content, averaged)
        found = {_text(name): value.array() for name, value in state.items() if isinstance(value, StoredTensor)}
        unread = {name: value.name for name, value in state.items() if isinstance(value, Inert)}
        kinds = [f"{shown(name)} ({kind})" for name, kind in unread.items() if _UNREAD.search(kind)]
    if kinds:
        raise ValueError(f"Expected tensors of numbers, of no special kind. Received: {path}, with {kinds[0]}")
    objects = _objects(content)
    if not found:
        held = f"objects of {_listed(objects)}, which are not run. Save" if objects else "none. Save"
        raise ValueError(
            f"Expected tensors by name, alone or under {', '.join(_STATES)}. Received: {path}, which holds {held} the "
            f"weights alone in PyTorch: {SAVE_ALONE}"
        )
    if objects:
        notes.append(f"passed over, and not run: objects of {_listed(objects)}")
    return TorchCheckpoint(found, _class_names(content), tuple(notes))


def _text(name: Any) -> str:
    if type(name) not in (str, int):
        raise ValueError(f"a tensor is called {shown(name)}")
    return str(name)


def _state(content: Any, averaged: bool) -> tuple[Mapping[Any, Any], list[str]]:
    """Returns the dictionary that has a network's tensors, and notes about the choice."""
    notes: list[str] = []
    for _ in range(_WRAPPED_TIMES):
        if not isinstance(content, Mapping):
            return {}, notes
        wrapped = [key for key in _STATES if isinstance(content.get(key), Mapping)]
        plain = next((key for key in wrapped if _has_tensors(content[key])), next(iter(wrapped), None))
        average = next((key for key in _AVERAGES if _has_tensors(content.get(key))), None)
        if plain is None and average is None:
            if any(isinstance(value, StoredTensor) for value in content.values()):
                return content, notes
            return _joined(content), notes
        if plain is not None and average is not None:
            lacking = _names(_inside(content[plain])) - _names(_inside(content[average]))
            if averaged and not lacking:
                notes.append(f"the moving average of the weights is taken ({average}), not the weights ({plain})")
            else:
                why = f", without {_listed(sorted(lacking))}" if lacking else ""
                notes.append(f"the weights are taken ({plain}), not their moving average ({average}){why}")
                average = None
        content = content[average or plain]
    return (content if isinstance(content, Mapping) else {}), notes


def _inside(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Returns a dictionary of tensors, which may be wrapped once more."""
    return next((state[key] for key in _STATES if isinstance(state.get(key), Mapping)), state)


def _joined(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the tensors of several networks in one checkpoint (student and teacher), with the keys before them."""
    networks = [
        (key, _inside(value))
        for key, value in content.items()
        if isinstance(key, str) and not key.startswith("optim") and _has_tensors(value)
    ]
    return {
        f"{key}.{name}": value
        for key, state in networks[:_MOST_NETWORKS]
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, StoredTensor)
    }


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(each, StoredTensor) for each in _inside(value).values())


def _names(state: Mapping[Any, Any]) -> set[str]:
    """Returns the names of the weights of a state, without the wrappers that averages and replicas are in."""
    names = (name for name, value in state.items() if isinstance(name, str) and isinstance(value, StoredTensor))
    return {re.sub(r"^(module\.)+", "", name) for name in names if not _NOT_WEIGHTS.fullmatch(name)}


def _objects(content: Any) -> list[str]:
    """Returns the names of the inert objects at the first levels of a checkpoint."""
    found: dict[str, None] = {}
    seen: set[int] = set()  # a pickle may hold one list any number of times

    def visit(value: Any, depth: int) -> None:
        if isinstance(value, Inert):
            found[value.name] = None
        elif depth and isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            for key in value if isinstance(value, Mapping) else ():
                visit(key, 0)
            for each in value.values() if isinstance(value, Mapping) else value:
                visit(each, depth - 1)

    visit(content, _WRAPPED_TIMES)
    return list(found)


def _listed(names: Iterable[str]) -> str:
    names = [name[:_MOST_CHARACTERS] for name in names]
    return ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _class_names(content: Any) -> tuple[str, ...] | None:
    """Returns the names of the classes beside the weights; `None` if there are none, or if they are not names."""
    for place in _places(content):
        for key in _CLASS_NAMES:
            names = _as_names(place.get(key))
            if names:
                return names
    return None


def _places(content: Any) -> Iterator[Mapping[Any, Any]]:
    if isinstance(content, Mapping):
        yield content
        yield from (content[key] for key in _BESIDE if isinstance(content.get(key), Mapping))


def _as_names(value: Any) -> tuple[str, ...] | None:
    """Returns names in the order of their indices from a list, from names by index, or from indices by name."""
    if isinstance(value, Mapping) and value and all(isinstance(index, int) for index in value.values()):
        value = {index: name for name, index in value.items()}
    if isinstance(value, Mapping):
        indices = value
        value = [indices.get(i, indices.get(str(i))) for i in range(len(indices))]
    is_list = isinstance(value, (list, tuple)) and len(value) > 1
    return tuple(value) if is_list and all(map(_is_name, value)) else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS
