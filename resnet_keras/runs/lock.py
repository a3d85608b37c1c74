"""The folder of a running process: one process at a time, and it stays where it is."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
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


@contextmanager
def open_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Holds a folder open; yields a function that checks that it is where it was.

    The function raises an `OSError` that says where the folder is now, as far as the system tells that. On Windows,
    where an open folder cannot be moved, it checks nothing.
    """
    if sys.platform == "win32":
        yield lambda: None
        return
    descriptor = os.open(folder, os.O_RDONLY)

    def check() -> None:
        try:
            stays = os.path.samestat(os.fstat(descriptor), os.stat(folder))
        except FileNotFoundError:
            stays = False
        if not stays:
            raise OSError(
                errno.ESTALE,
                f"Expected {folder} to stay where it is while a run writes to it. Received: {_place(descriptor)}",
            )

    try:
        yield check
    finally:
        os.close(descriptor)


def _place(descriptor: int) -> str:
    """Returns in words where an open folder is now."""
    if not os.fstat(descriptor).st_nlink:
        return "it was removed"
    try:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "it was moved or removed"
    return "it was removed" if place.endswith(" (deleted)") else f"it is now {place}, where the same recipe resumes"


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except OSError:  # the holder has not written it yet, or has just removed it
        return ""
