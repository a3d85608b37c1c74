"""Flags of a command, read from the signature of its function: for the help and for suggestions."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from resnet_keras.checks.fields import nearest

_VALUES = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag or positional argument of a command."""

    name: str
    """With its dashes, e.g. `--batch-size`; a positional argument in capitals."""
    value: str
    """Placeholder of its value, e.g. `N` or `{center,ten,full}`; empty for a switch."""
    choices: tuple[str, ...]
    """The only values that it takes; empty if there are others."""
    default: Any
    """`inspect.Parameter.empty` if the flag is required."""
    text: str
    """Description."""
    section: str
    """Title of its section: the first line of its dataclass's docstring."""
    positional: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """Its spellings; a switch has its opposite."""
        return (self.name, self.name.replace("--", "--no-", 1)) if not self.value else (self.name,)


def flags_of(function: Callable[..., Any]) -> list[Flag]:
    """Returns the flags of a function as tyro makes them, those of dataclass parameters among them."""
    hints = typing.get_type_hints(function, include_extras=True)
    texts = _argument_texts(inspect.getdoc(function) or "")
    return [
        flag
        for parameter in inspect.signature(function).parameters.values()
        for flag in _flags(
            parameter.name, hints[parameter.name], parameter.default, texts.get(parameter.name, ""), "Flags"
        )
    ]


def check(arguments: Sequence[str], flags: Sequence[Flag]) -> None:
    """Checks the names of flags and the values of those that have choices.

    Raises:
        ValueError: A flag does not exist, or its value is not one of its choices; the message has the nearest one.
    """
    known = {spelling: flag for flag in flags for spelling in flag.spellings}
    first = next((flag for flag in flags if flag.positional), None)
    if first is not None and arguments and not arguments[0].startswith("-"):
        _check_value(first, arguments[0])
    for position, argument in enumerate(arguments):
        if argument == "--":
            return
        if not argument.startswith("--"):
            continue
        name, is_assigned, value = argument.partition("=")
        name = name.replace("_", "-")
        if name not in known:
            raise ValueError(
                f"Expected a flag of this command. Received: {name}.{nearest(name, known)} See --help-all."
            )
        values = [value] if is_assigned else arguments[position + 1 : position + 2]
        if values:
            _check_value(known[name], values[0])


@contextlib.contextmanager
def errors_name_flags(flags: Sequence[Flag]) -> Iterator[None]:
    """Lets a `ValueError` of the library name flags, `--batch-size`, instead of arguments of Python, `batch_size`.

    Raises:
        ValueError: With the message of the original error, where names of flags are replaced.
    """
    known = {flag.name for flag in flags}

    def as_flag(match: re.Match[str]) -> str:
        name = f"--{match[1].replace('_', '-')}"
        return name if name in known else match[0]

    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"`(\w+)`", as_flag, str(error))) from error


def _check_value(flag: Flag, value: str) -> None:
    if flag.choices and value not in flag.choices:
        raise ValueError(
            f"Expected {flag.name} to be one of {', '.join(flag.choices)}. Received: {value}."
            f"{nearest(value, flag.choices)}"
        )


def _flags(name: str, annotation: Any, default: Any, text: str, section: str) -> Iterator[Flag]:
    metadata: tuple[Any, ...] = ()
    if typing.get_origin(annotation) is typing.Annotated:
        annotation, *rest = typing.get_args(annotation)
        metadata = tuple(rest)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        yield from _fields(annotation, default)
        return
    for each in metadata:
        name = getattr(each, "name", None) or name
    value, choices = _value(annotation)
    positional = any(str(each) == "Positional" for each in metadata)
    shown = name.upper() if positional else f"--{name.replace('_', '-')}"
    yield Flag(shown, value, choices, default, text, section, positional)


def _fields(kind: Any, default: Any) -> Iterator[Flag]:
    hints = typing.get_type_hints(kind, include_extras=True)
    texts = _field_texts(kind)
    title = (inspect.getdoc(kind) or kind.__name__).partition("\n")[0].rstrip(".")
    for field in dataclasses.fields(kind):
        if field.init:
            value = field.default if default is inspect.Parameter.empty else getattr(default, field.name)
            if value is dataclasses.MISSING:
                value = inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else None
            yield from _flags(field.name, hints[field.name], value, texts.get(field.name, ""), title)


def _value(annotation: Any) -> tuple[str, tuple[str, ...]]:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return "", ()
    if origin is Literal:
        choices = tuple(map(str, inner))
        return "{" + ",".join(choices) + "}", choices
    if origin in (typing.Union, types.UnionType):
        kinds = [_value(kind) for kind in inner if kind is not type(None)]
        together = tuple(choice for _, choices in kinds for choice in choices)
        free = any(not choices for _, choices in kinds)
        optional = ("None",) if type(None) in inner and together and not free else ()
        return "|".join(dict.fromkeys(value for value, _ in kinds)), () if free else together + optional
    if origin is tuple:
        several = [kind for kind in inner if kind is not Ellipsis]
        value = _value(several[0])[0]
        # Every value of a sequence would have to be checked; tyro does that.
        return (f"{value} ..." if Ellipsis in inner else " ".join([value] * len(several))), ()
    return _VALUES.get(annotation, getattr(annotation, "__name__", "VALUE").upper()), ()


def _argument_texts(documentation: str) -> dict[str, str]:
    """Returns the descriptions in the section Args of a docstring."""
    _, _, section = documentation.partition("Args:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _field_texts(kind: type) -> dict[str, str]:
    """Returns the strings that stand below the fields of a dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                texts[field.target.id] = " ".join(value.value.split())
    return texts
