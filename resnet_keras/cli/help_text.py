"""Help of the program and of its commands, as plain text."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from resnet_keras.cli.flags import Flag, flags_of

_INDENT = 26


def command_help(
    name: str, function: Callable[..., Any], sections: Mapping[str, Sequence[str]] | None, everything: bool
) -> str:
    """Returns the help of a command.

    Args:
        name: The command as it is typed, e.g. `resnet evaluate`.
        function: The function that it calls; its docstring describes it.
        sections: For each title, names of flags as they are typed, without the dashes, in the order to show. The
            short help has only these. All flags are shown, by their dataclasses, if `None`.
        everything: Show the other flags, too.
    """
    flags = flags_of(function)
    width = min(shutil.get_terminal_size().columns, 100)
    about = (inspect.getdoc(function) or "").partition("\n\nArgs:")[0].partition("\n\nReturns:")[0]
    needed = [flag for flag in flags if flag.positional]
    usage = " ".join([name, *map(_positional, needed), "[flags]"])
    parts = [f"usage: {usage}", "\n\n".join(textwrap.fill(" ".join(p.split()), width) for p in about.split("\n\n"))]
    if needed:
        parts.append("\n".join(_line(flag, width) for flag in needed))
    titled, rest = _by_section([flag for flag in flags if not flag.positional], sections)
    if everything or not titled:
        for title, those in rest.items():
            titled[f"{title} (more)" if title in titled else title] = those
    parts += [title + ":\n" + "\n".join(_line(flag, width) for flag in those) for title, those in titled.items()]
    hidden = 0 if everything or not sections else sum(map(len, rest.values()))
    if hidden:
        parts.append(f"{hidden} more flags: {name} --help-all")
    return "\n\n".join(parts)


def program_help(commands: Mapping[str, str], examples: Sequence[str]) -> str:
    """Returns the help of the whole program: a line for each command, and examples."""
    lines = ["usage: resnet COMMAND [arguments]", "", "Residual networks: train, evaluate, convert, export.", ""]
    lines += [f"  {name:<13}{text}" for name, text in commands.items()]
    lines += ["", "Help of a command: resnet COMMAND --help. Version: resnet --version.", "", "Examples:"]
    return "\n".join([*lines, *(f"  {example}" for example in examples)])


def _by_section(
    flags: Sequence[Flag], sections: Mapping[str, Sequence[str]] | None
) -> tuple[dict[str, list[Flag]], dict[str, list[Flag]]]:
    """Returns the flags of each chosen section, and the others by their own sections."""
    named = {flag.name.removeprefix("--"): flag for flag in flags}
    titled = {title: [named.pop(name) for name in names] for title, names in (sections or {}).items()}
    rest: dict[str, list[Flag]] = {}
    for flag in named.values():
        rest.setdefault(flag.section, []).append(flag)
    return titled, rest


def _positional(flag: Flag) -> str:
    several = f"{flag.name} ..." if flag.value.endswith("...") else flag.name
    return several if flag.default is inspect.Parameter.empty else f"[{several}]"


def _line(flag: Flag, width: int) -> str:
    head = f"  {_positional(flag) if flag.positional else flag.name} {'' if flag.positional else flag.value}".rstrip()
    said = flag.text.replace(" if None", " if not given") + _default(flag)  # the text is of an argument in Python, too
    text = textwrap.wrap(said, width - _INDENT)
    if len(head) < _INDENT - 1:
        first, text = text[:1], text[1:]
        head = f"{head:<{_INDENT}}{''.join(first)}".rstrip()
    return "\n".join([head, *(" " * _INDENT + line for line in text)])


def _default(flag: Flag) -> str:
    if flag.default is inspect.Parameter.empty:
        return "" if flag.positional else " (required)"
    if flag.default is None or flag.default is False or flag.default == ():
        return ""
    value = flag.default
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f" (on; --no-{flag.name[2:]})" if value is True else f" (default: {shown})"
