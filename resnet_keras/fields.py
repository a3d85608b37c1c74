"""Fields of dataclasses that may have one of a few values: those that are annotated as a `Literal`."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def expect_choices(instance: Any) -> None:
    """Checks every field of a dataclass that is annotated as a `Literal`, or as a `Literal` or `None`.

    Raises:
        ValueError: A field has another value; the message lists those it may have.
    """
    for name, choices in _choices(instance.__class__).items():
        if getattr(instance, name) not in choices:
            raise ValueError(f"Expected `{name}` to be one of {choices}. Received: {getattr(instance, name)!r}")


@functools.cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in get_type_hints(kind).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(part is NoneType or get_origin(part) is Literal for part in parts):
            found[name] = tuple(value for part in parts for value in get_args(part) or (None,))
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the most similar of the known names as a question, or nothing if none is similar."""
    found = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f" Did you mean {found[0]}?" if found else ""
