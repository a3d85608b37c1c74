"""Packages that only some features need: `pip install 'resnet_keras[EXTRA]'` installs them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


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
        raise MissingExtra(
            f"Expected the package {package}, for {feature}: pip install 'resnet_keras[{extra}]'. Received: {error}",
            name=error.name,
        ) from error
