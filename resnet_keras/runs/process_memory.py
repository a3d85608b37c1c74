"""Peak memory of a process, on Linux, macOS and Windows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil


def peak_memory(pid: int | None = None) -> int:
    """Returns the largest resident memory that a process has held so far, in bytes.

    Python and all libraries count; memory of accelerators does not.

    Args:
        pid: Number of a running process; this one if `None`.

    Returns:
        The peak. macOS gives the peak of another process to nobody; for one, its resident memory at present.

    Raises:
        psutil.NoSuchProcess: No such process runs.
    """
    status = Path("/proc", "self" if pid is None else str(pid), "status")
    if status.is_file():
        # `getrusage` would include the memory that the parent had when it started this process.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return 1024 * int(found[1])
    if pid is None and sys.platform != "win32":
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    memory = psutil.Process(pid).memory_info()
    return getattr(memory, "peak_wset", memory.rss)
