"""Commands whose processes end with this one, however it ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# A program of its own, as `preexec_fn` of `subprocess` is not safe in a process with threads, which TensorFlow starts.
_LAUNCHER = """
import ctypes, os, sys
parent, number, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG, which stays through `exec`
if os.getppid() != int(parent):  # it has ended already
    sys.exit(1)
os.execvp(command[0], command)
"""


def ending_with_parent(command: Sequence[str], number: signal.Signals) -> list[str]:
    """Returns a command that runs `command` in a process that gets a signal when this one ends, also by `kill -9`.

    On Linux; elsewhere it is the command itself. The parent is the thread that starts the process, so that thread must
    live as long.

    Args:
        command: A program and its arguments.
        number: The signal.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(int(number)), *command]
