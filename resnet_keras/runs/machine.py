"""Versions and hardware that a result, or its time, depends on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")
_CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, Any]:
    """Returns the versions and the machine that a result depends on."""
    return {
        "resnet_keras": metadata.version("resnet_keras"),
        "commit": _commit(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores(),
    }


def processor() -> str:
    """Returns the name of the processor, e.g. "Apple M2"; its architecture where the system does not tell the name."""
    name = platform.processor()
    if _CPU_INFO.is_file():
        found = re.search(r"^model name\s*: (.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
        name = found[1] if found else name
    elif platform.system() == "Darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string") or name
    return " ".join(name.split()) or platform.machine()


def has_bfloat16() -> bool | None:
    """Returns whether the processor has instructions for bfloat16; `None` where the system does not tell."""
    if not _CPU_INFO.is_file():
        return None
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    return bool({"avx512_bf16", "amx_bf16", "bf16"}.intersection(found[1].split())) if found else None


def cores() -> int:
    """Returns the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _commit() -> str | None:
    """Returns the commit of the source tree, if the package runs from one."""
    return _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD")


def _output(*command: str) -> str | None:
    """Returns what a command prints; `None` if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
