"""What all command lines have in common: flags from a signature, a quiet start, and errors in one line."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

import tyro

from resnet_keras.training.preemption import Preempted

USER_ERROR = 2
"""Exit status when the input was at fault, as argparse has it."""

LOST_WORKER = 3
"""Exit status when another of several machines was lost: the same command again goes on."""

PREEMPTED = 4
"""Exit status when a SIGTERM ended a run, which is saved: the same command again goes on."""


def run(function: Callable[..., int | None], name: str, argv: Sequence[str] | None) -> int:
    """Calls `function` with the arguments that `argv` (the process's own if `None`) gives; returns its status.

    Bad input, as the library's errors tell it, is printed in full and without a traceback.
    """

    @functools.wraps(function)
    def started(*args: object, **kwargs: object) -> int | None:
        _start_tensorflow()
        return function(*args, **kwargs)

    settings = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    try:
        return tyro.cli(started, args=argv, prog=name, config=settings, use_underscores=False) or 0
    except ConnectionError as error:  # of another worker, not of the input
        return _told(name, error, LOST_WORKER)
    except Preempted as error:
        return _told(name, error, PREEMPTED)
    except OSError as error:
        # Of the library's own messages without the number that Python puts in front.
        return _told(name, error if error.filename is not None else error.strerror or error, USER_ERROR)
    except (ValueError, FloatingPointError, MemoryError) as error:
        return _told(name, error, USER_ERROR)


def _told(name: str, what: object, status: int) -> int:
    print(f"{name}: {what}", file=sys.stderr)
    return status


def _start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices, without its greeting of a dozen lines.

    No setting silences what it says before its log is set up, so the standard error is held back meanwhile, and shown
    if it fails. Whoever sets TF_CPP_MIN_LOG_LEVEL hears everything from that level on.
    """
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            importlib.import_module("tensorflow").config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
