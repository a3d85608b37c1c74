"""Packages that only some features need: the extras of this package."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata


class MissingExtra(ImportError):
    """A package of an extra is not installed; the message says how to install it."""


@contextlib.contextmanager
def required(extra: str, feature: str) -> Iterator[None]:
    """Names the extra to install if an import inside the block fails.

    Example:
        >>> with extras.required("export", "LiteRT"):
        ...     from ai_edge_litert.interpreter import Interpreter

    Args:
        extra: Name of the extra in pyproject.toml.
        feature: What needs the package, for the message.

    Raises:
        MissingExtra: A package is not installed.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "a package").partition(".")[0]
        packages = " ".join(packages_of(extra) or (package,))
        raise MissingExtra(
            f"Expected the package {package}, for {feature}: pip install {packages} (the extra {extra}). "
            f"Received: {error}",
            name=error.name,
        ) from error


def expect_installed(extra: str, feature: str, *modules: str) -> None:
    """Checks that modules are installed; imports none of them.

    Args:
        extra: Name of the extra in pyproject.toml.
        feature: What needs them, for the message.
        *modules: Their names.

    Raises:
        MissingExtra: One is not installed.
    """
    with required(extra, feature):
        for name in modules:
            if importlib.util.find_spec(name) is None:
                raise ImportError(f"No module named {name!r}", name=name)


_BACKENDS = {"jax": "jax", "jaxlib": "jax", "torch": "torch", "openvino": "openvino"}
"""Extra of a backend of Keras, by the module that it lacks."""


def missing_backend(error: ModuleNotFoundError) -> MissingExtra | None:
    """Returns what to install if Keras's backend is not installed; `None` if something else is missing."""
    module = (error.name or "").partition(".")[0]
    if (extra := _BACKENDS.get(module)) is None:
        return None
    packages = " ".join(packages_of(extra) or (module,))
    return MissingExtra(
        f"Expected the package {module}, for KERAS_BACKEND={extra}: pip install {packages} (the extra {extra}), or "
        f"unset KERAS_BACKEND for TensorFlow. Received: {error}",
        name=error.name,
    )


def packages_of(extra: str) -> tuple[str, ...]:
    """Returns the packages of an extra by their names on the index; none if this package or the extra is unknown."""
    try:
        requirements = metadata.requires("resnet_keras") or []
    except metadata.PackageNotFoundError:
        return ()
    found: dict[str, None] = {}
    for requirement in requirements:
        if not re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", requirement):
            continue
        if other := re.match(r"resnet[_-]keras\[([\w,-]+)\]", requirement):
            found |= dict.fromkeys(name for each in other[1].split(",") for name in packages_of(each))
        elif name := re.match(r"[\w.-]+", requirement):
            found[name[0]] = None
    return tuple(found)
