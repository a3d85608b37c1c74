"""Checks of dataclass fields against their annotations: types, choices (`Literal`) and ranges (`Range`)."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

_P = ParamSpec("_P")
_R = TypeVar("_R")

_MOST_NAMES, _MOST_CHARACTERS = 10_000, 100  # that are compared with another: 0.1 s


@dataclass(frozen=True)
class Range:
    """Values that a field may have, as metadata of its annotation: `Annotated[int, at_least(1)]`.

    `None` is valid in any range where the annotation allows it.

    Attributes:
        expected: The range in words, e.g. "at least 1".
        holds: Returns whether a value of the annotated type lies in the range.
    """

    expected: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Range:
    """Returns the range [low, ∞)."""
    return Range(f"at least {low}", lambda value: value >= low)


def above(low: float) -> Range:
    """Returns the range (low, ∞)."""
    return Range(f"above {low}", lambda value: value > low)


def between(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Range:
    """Returns the range [low, high], without `low` if `open_low` and without `high` if `open_high`."""

    def holds(value: float) -> bool:
        return low <= value <= high and not (open_low and value == low) and not (open_high and value == high)

    return Range(f"in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}", holds)


def check_fields(instance: Any) -> None:
    """Checks every field of a dataclass against its annotation; call it from `__post_init__`.

    Checked are numbers (finite, and no `bool`), strings, booleans, tuples of these, classes, `None`, each `Literal` and
    each `Range`. Annotations of other kinds accept any value. Numbers of NumPy become Python's, which JSON can hold.

    Raises:
        ValueError: A field has a value of another type, none of its choices, or one out of its range.
    """
    for name, (hint, ranges) in _annotations(instance.__class__).items():
        value = getattr(instance, name)
        choices = _choices(hint)
        if choices:
            if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
                near = nearest(value, choices)
                raise ValueError(f"Expected `{name}` to be one of {choices}. Received: {value!r}{near and '.' + near}")
            continue
        if not _matches(value, hint):
            raise ValueError(f"Expected `{name}` to be {_described(hint)}. Received: {value!r}")
        if isinstance(value, (Real, tuple)):
            value = _plain(value)
            object.__setattr__(instance, name, value)
        for each in ranges:
            if value is not None and not each.holds(value):
                optional = ", or None" if NoneType in _members(hint) else ""
                raise ValueError(f"Expected `{name}` to be {each.expected}{optional}. Received: {value!r}")


def check_counts(**counts: Any) -> None:
    """Checks that arguments, given by name, are integers of at least 1; `None` passes.

    Raises:
        ValueError: One is not.
    """
    for name, value in counts.items():
        if value is not None and not (_matches(value, int) and value >= 1):
            raise ValueError(f"Expected `{name}` of at least 1. Received: {value!r}")


def suggest_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Returns a function whose error for an unknown keyword argument has the nearest, as that of Python 3.13 does."""
    known = [name for name, each in inspect.signature(function).parameters.items() if each.kind is not each.VAR_KEYWORD]

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name not in known:
                near = nearest(name, known)
                raise TypeError(
                    f"{checked.__name__}() got an unexpected keyword argument {name!r}{near and '.' + near}"
                )
        return function(*args, **kwargs)

    return checked


def nearest(name: Any, known: Iterable[Any], count: int = 1) -> str:
    """Returns a question with the nearest of the known names, to end an error message; "" if none is near.

    Args:
        name: The name that was given.
        known: All names.
        count: Largest number of names in the question.
    """
    names = [each for each in known if isinstance(each, str) and len(each) <= _MOST_CHARACTERS][:_MOST_NAMES]
    near = isinstance(name, str) and len(name) <= _MOST_CHARACTERS
    found = difflib.get_close_matches(name, names, count, 0.5) if near else []
    choice = " or ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
    return f" Did you mean {choice}?" if found else ""


@functools.cache
def _annotations(kind: type) -> dict[str, tuple[Any, tuple[Range, ...]]]:
    """Returns each field's annotation without metadata, and the ranges among the metadata."""
    found: dict[str, tuple[Any, tuple[Range, ...]]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        found[name] = (
            get_args(hint)[0] if metadata else hint,
            tuple(each for each in metadata if isinstance(each, Range)),
        )
    return {name: each for name, each in found.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]


def _members(hint: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _choices(hint: Any) -> tuple[Any, ...]:
    """Returns the values of a `Literal`, or of a `Literal` or `None`; none for other annotations."""
    members = _members(hint)
    if not all(member is NoneType or get_origin(member) is Literal for member in members):
        return ()
    return tuple(value for member in members for value in get_args(member) or (None,))


def _matches(value: Any, hint: Any) -> bool:
    """Returns whether a value has the annotated type; `True` for annotations that are not checked."""
    if get_origin(hint) in (Union, UnionType):
        return any(_matches(value, member) for member in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if len(items) == 2 and items[1] is Ellipsis:
            return all(_matches(each, items[0]) for each in value)
        return len(value) == len(items) and all(map(_matches, value, items))
    return isinstance(value, hint) if isinstance(hint, type) else True


def _plain(value: Any) -> Any:
    """Returns a number of NumPy, or each in a tuple, as a number of Python."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, (bool, int, float)) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _described(hint: Any) -> str:
    """Returns an annotation in words, e.g. "an integer, or None"."""
    if get_origin(hint) in (Union, UnionType):
        return ", or ".join(_described(member) for member in get_args(hint))
    if get_origin(hint) is Literal:
        return f"one of {get_args(hint)}"
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if len(items) == 2 and items[1] is Ellipsis:
            return f"a tuple, each item {_described(items[0])}"
        return f"a tuple of {len(items)}: {', '.join(map(_described, items))}"
    words = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string", NoneType: "None"}
    return words.get(hint) or (f"a {hint.__name__}" if isinstance(hint, type) else str(hint))
