"""Public names of a folder, loaded when they are first used, and errors that name the nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazy_loader

from resnet_keras.checks.extras import missing_backend
from resnet_keras.checks.fields import nearest


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package whose `__init__.pyi` lists its public names.

    Args:
        package: `__name__` of the package.
        file: `__file__` of the package.
    """
    load, names, public = lazy_loader.attach_stub(package, file)

    def load_or_suggest(name: str) -> Any:
        if name.startswith("__"):
            return load(name)
        try:
            return load(name)
        except ModuleNotFoundError as error:
            raise missing_backend(error) or error from error
        except AttributeError as error:
            if name in public:  # the name exists; the error is of its module
                raise
            near = nearest(name, public)
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}{near and '.' + near}", name=name
            ) from error

    return load_or_suggest, names, public
