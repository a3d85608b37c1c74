"""Flags of a command, read from the signature of its function: for the help and for suggestions."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import math
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from resnet_keras.checks.fields import nearest
from resnet_keras.cli.values import expected, most_values, takes

_SYNONYMS = {
    **dict.fromkeys(("--learning-rate", "--lr", "--base-lr", "--max-lr"), ("--peak-lr",)),
    **dict.fromkeys(("--arch", "--architecture", "--network", "--net", "--backbone"), ("--model", "--network")),
    **dict.fromkeys(("--batch", "--bs", "-b"), ("--batch-size", "--batch")),
    **dict.fromkeys(("--data", "--data-path", "--data-root", "--root", "--folder"), ("--data-dir",)),
    **dict.fromkeys(("--out", "--output", "--output-dir", "--save-dir", "-o"), ("--workdir", "--to")),
    **dict.fromkeys(("--pretrained", "--checkpoint", "--ckpt", "--init"), ("--weights",)),
    **dict.fromkeys(("--img-size", "--imgsz", "--input-size", "--resolution"), ("--image-size",)),
    **dict.fromkeys(("--scheduler", "--lr-scheduler", "--sched"), ("--lr-schedule",)),
    **dict.fromkeys(("--wd", "--decay"), ("--weight-decay",)),
    **dict.fromkeys(("--amp", "--fp16", "--bf16", "--half", "--dtype"), ("--precision",)),
    **dict.fromkeys(("--opt",), ("--optimizer",)),
    **dict.fromkeys(("--format", "--include"), ("--formats",)),
}
"""Names that flags have in other programs of the field: the flags here, of which the first that the command has."""

_VALUES = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


@dataclasses.dataclass(frozen=True, eq=False)
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
    kind: Any
    """Type of its value."""
    text: str
    """Description."""
    section: str
    """Title of its section: the first line of its dataclass's docstring."""
    positional: bool = False

    @property
    def is_required(self) -> bool:
        """Whether the command needs it."""
        return self.default is inspect.Parameter.empty

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
    """Checks the arguments of a command, so that each mistake is one line.

    Raises:
        ValueError: A flag does not exist or has no value of its type, an argument is missing, or there is one too many.
            The message has the nearest flag or choice.
    """
    known = {spelling: flag for flag in flags for spelling in flag.spellings}
    free: list[str] = []
    given: set[Flag] = set()
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if argument == "--":
            free += arguments[position:]
            break
        if not _is_flag(argument):
            free.append(argument)
            continue
        name, is_assigned, value = argument.partition("=")
        name = name.replace("_", "-")
        if name not in known:
            meant = next((each for each in _SYNONYMS.get(name, ()) if each in known), None)
            near = f" Did you mean {meant}?" if meant else nearest(name, known)
            raise ValueError(f"Expected a flag of this command. Received: {name}.{near} See --help-all.")
        flag = known[name]
        given.add(flag)
        values = [value] if is_assigned else []
        most = most_values(flag.kind) if flag.value else 0
        while position < len(arguments) and len(values) < most and not _is_flag(arguments[position]):
            values.append(arguments[position])
            position += 1
        _check_values(flag, values)
    _check_free(free, flags)
    missing = [flag for flag in flags if not flag.positional and flag.is_required and flag not in given]
    if missing:
        raise ValueError(f"Expected {missing[0].name} {missing[0].value}. Received: no {missing[0].name}. See --help.")


@contextlib.contextmanager
def errors_name_flags(flags: Sequence[Flag]) -> Iterator[None]:
    """Lets a `ValueError` of the library name flags, `--batch-size`, instead of arguments of Python, `batch_size`.

    Raises:
        ValueError: With the message of the original error, where names of flags are replaced.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(naming_flags(str(error), flags)) from error


def naming_flags(message: str, flags: Sequence[Flag]) -> str:
    """Returns a message of the library with the names of flags, `--batch-size`, instead of arguments, `batch_size`."""
    known = {flag.name for flag in flags}

    def as_flag(match: re.Match[str]) -> str:
        name = f"--{match[1].replace('_', '-')}"
        return name if name in known else match[0]

    return re.sub(r"`(\w+)`", as_flag, message)


def _is_flag(argument: str) -> bool:
    """Returns whether an argument is meant as a flag; a negative number and a single dash are values."""
    return re.match(r"--?[A-Za-z]|--$", argument) is not None


def _check_values(flag: Flag, values: Sequence[str]) -> None:
    if not flag.value:
        if values:
            raise ValueError(f"Expected {flag.name} without a value. Received: {values[0]}")
        return
    if not takes(flag.kind, values):
        received = " ".join(values)
        if most_values(flag.kind) == math.inf:  # the first value that is wrong by itself
            received = next((value for value in values if not takes(flag.kind, [value])), received)
        near = nearest(received, flag.choices) if flag.choices else ""
        near = f".{near}" if near else ""
        raise ValueError(f"Expected {flag.name} to be {expected(flag.kind)}. Received: {received or 'no value'}{near}")


def _check_free(values: Sequence[str], flags: Sequence[Flag]) -> None:
    """Checks the values that belong to no flag."""
    rest = list(values)
    for flag in flags:
        if not flag.positional:
            continue
        most = most_values(flag.kind)
        own = rest if most == math.inf else rest[: int(most)]
        rest = rest[len(own) :]
        if own:
            _check_values(flag, own)
        elif flag.is_required and most != math.inf:
            raise ValueError(f"Expected {flag.name}. Received: none. See --help.")
    if rest:
        raise ValueError(f"Expected flags of this command. Received: {rest[0]}. See --help.")


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
    yield Flag(shown, value, choices, default, annotation, text, section, positional)


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
        if bool in inner:
            return "{True,False,None}", ("True", "False", "None")
        kinds = [_value(kind) for kind in inner if kind is not type(None)]
        together = tuple(choice for _, choices in kinds for choice in choices)
        free = any(not choices for _, choices in kinds)
        optional = ("None",) if type(None) in inner and together and not free else ()
        return "|".join(dict.fromkeys(value for value, _ in kinds)), () if free else together + optional
    if origin is tuple:
        several = [kind for kind in inner if kind is not Ellipsis]
        value = _value(several[0])[0]
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
