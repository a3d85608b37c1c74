"""One run in a folder at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Holds a folder for this process, as long as the context or the process lasts, however it ends.

    The operating system lets go of the lock with the process, so that nothing stands in the way of the next run after a
    `kill -9`. On a network file system it holds between machines where that knows `flock`, as NFS 4 does.

    Raises:
        BlockingIOError: Another process holds the folder; the message says which.
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise BlockingIOError(
                error.errno, f"Expected no other run in {folder}. Received: {file.read().strip() or 'one'}"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
