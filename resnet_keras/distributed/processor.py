"""The processor: its name, its cores, and its instructions. Neither Keras nor TensorFlow is imported."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_NEURAL_NETWORK_FEATURES = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}


def name() -> str:
    """Returns the name of the processor, e.g. "Apple M2"; its architecture where the system does not tell the name."""
    found = platform.processor()
    if _CPU_INFO.is_file():
        line = re.search(r"^model name\s*: (.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
        found = line[1] if line else found
    elif platform.system() == "Darwin":
        found = output_of("sysctl", "-n", "machdep.cpu.brand_string") or found
    return " ".join(found.split()) or platform.machine()


def has_bfloat16() -> bool | None:
    """Returns whether the processor has instructions for bfloat16; `None` where the system does not tell."""
    features = _features()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & features) if features else None


def leaves_onednn_off() -> bool:
    """Returns whether TensorFlow leaves its kernels of oneDNN off on this processor unless it is told otherwise.

    Under Linux on x86, TensorFlow turns them on by itself only for processors with instructions for neural networks
    (AVX-512 VNNI and later), although convolutions of all processors with AVX2 are faster by them.
    """
    features = _features()
    return "avx2" in features and not _NEURAL_NETWORK_FEATURES & features


def cores() -> int:
    """Returns the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def output_of(*command: str) -> str | None:
    """Returns what a command prints; `None` if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _features() -> set[str]:
    """Returns the instruction sets of the processor; none where the system does not tell."""
    if not _CPU_INFO.is_file():
        return set()
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    return set(found[1].split()) if found else set()
