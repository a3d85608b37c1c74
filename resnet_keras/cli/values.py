"""Values of flags: which texts a type takes, and what was expected, in words."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

_WORDS = {int: ("an integer", "integers"), float: ("a number", "numbers")}


def most_values(kind: Any) -> float:
    """Returns the largest number of texts that make a value of a type; infinity for `tuple[int, ...]`."""
    if _is_union(kind):
        return max(map(most_values, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        return math.inf if Ellipsis in inner else len(inner)
    return 1


def takes(kind: Any, texts: Sequence[str]) -> bool:
    """Returns whether texts of the command line make a value of a type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return takes(inner[0], texts)
    if _is_union(kind):
        return any(takes(each, texts) for each in inner)
    if origin is tuple:
        kinds = [inner[0]] * len(texts) if Ellipsis in inner else list(inner)
        return len(kinds) == len(texts) and all(takes(each, [text]) for each, text in zip(kinds, texts, strict=True))
    if len(texts) != 1:
        return False
    if origin is Literal:
        return texts[0] in map(str, inner)
    if kind is type(None):
        return texts[0] == "None"
    if kind is bool:
        return texts[0] in ("True", "False")
    if kind in (int, float):
        try:
            kind(texts[0])
        except ValueError:
            return False
    return True


def expected(kind: Any) -> str:
    """Returns what a flag of a type expects, in words, e.g. "an integer or None"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return expected(inner[0])
    if _is_union(kind):
        return " or ".join(map(expected, inner))
    if origin is tuple:
        several = _WORDS.get(inner[0], ("", "texts"))[1]
        return several if Ellipsis in inner else f"{len(inner)} {several}"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if kind is type(None):
        return "None"
    if kind is bool:
        return "True or False"
    return _WORDS.get(kind, ("a path" if kind.__name__ == "Path" else "a text", ""))[0]


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)
