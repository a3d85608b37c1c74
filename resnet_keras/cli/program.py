"""What all command lines have in common: flags from a signature, a quiet start, and errors in one line."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence

import tyro

USER_ERROR = 2
"""Exit status when the input was at fault, as argparse has it."""

LOST_WORKER = 3
"""Exit status when another of several machines was lost: the same command again goes on."""


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
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, FloatingPointError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USER_ERROR
    except ConnectionError as error:  # of another worker, not of the input
        print(f"{name}: {error}", file=sys.stderr)
        return LOST_WORKER


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
