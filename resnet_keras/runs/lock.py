"""A lock that lets one process at a time train in a folder."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock_holder"
"""Names the process that holds the lock. It is a file of its own: on Windows a locked file cannot be read."""


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Locks a folder for this process until the context ends or the process ends, however it ends.

    The operating system releases the lock with the process, so a run can resume right after a `kill -9`. On a network
    file system the lock holds between machines if the file system supports such locks, as NFS 4 does.

    Raises:
        BlockingIOError: Another process holds the lock; the message names it. There is no waiting.
        OSError: The folder is not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / LOCK_FILE, timeout=0), folder / HOLDER_FILE
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            errno.EWOULDBLOCK, f"Expected no other run in {folder}. Received: {_read(holder) or 'another process'}"
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        try:
            holder.unlink(missing_ok=True)
        finally:
            lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except OSError:  # the holder has not written it yet, or has just removed it
        return ""
