"""Versions and hardware that a result, or its time, depends on."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from resnet_keras.distributed import processor

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


def versions() -> dict[str, Any]:
    """Returns the versions and the machine that a result depends on."""
    return {
        "resnet_keras": metadata.version("resnet_keras"),
        "commit": _commit(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor.name(),
        "cores": processor.cores(),
    }


def _commit() -> str | None:
    """Returns the commit of the source tree, if the package runs from one."""
    return processor.output_of("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")
