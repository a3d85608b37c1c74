"""The program `resnet`: its commands, and what they share: flags, progress lines, and errors in one line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from resnet_keras.checks.extras import MissingExtra, missing_backend
from resnet_keras.cli.progress import print_progress
from resnet_keras.distributed.processor import leaves_onednn_off
from resnet_keras.training.preemption import Preempted

USER_ERROR = 2
"""Exit status when the input was at fault, as argparse has it."""

LOST_WORKER = 3
"""Exit status when another of several machines was lost: the same command resumes."""

PREEMPTED = 4
"""Exit status when a signal or Ctrl-C ended a run, which is saved: the same command resumes it."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C in anything but a run."""

CLOSED_PIPE = 141
"""Exit status when nobody reads the output any more, as shells report SIGPIPE."""

COMMANDS = {
    "train": "Trains a network by a recipe; the same command resumes a run.",
    "evaluate": "Prints the error of runs or files, alone or as an ensemble.",
    "predict": "Finds classes, masks, or boxes in images.",
    "explain": "Draws where in an image a network finds a class.",
    "convert": "Converts weights from other libraries, and to them.",
    "export": "Writes SavedModel, LiteRT, and ONNX files and verifies them.",
    "networks": "Prints parameters, multiply-adds and feature maps of networks.",
    "recipes": "Prints all recipes with their sources and published errors.",
    "runs": "Prints a table of finished and unfinished runs.",
    "bench": "Measures the speed of a recipe's input, or of exports.",
    "reproduce": "Repeats the paper's experiments at one of three budgets.",
    "workers": "Runs a command as several workers on this machine.",
    "recalibrate": "Recomputes the statistics of batch normalization.",
}
"""Each is a module of this folder, whose `main` takes the arguments and returns the exit status."""

_SIDE_DOORS = ("sklearn", "matplotlib")

EXAMPLES = (
    "resnet train digits --workdir runs/digits_resnet20",
    "resnet evaluate runs/digits_resnet20",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program with the arguments given (the process's own if `None`); returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with ended_in_one_line("resnet") as ended:
        return _dispatch(arguments)
    return ended.status


def run(
    function: Callable[..., int | None],
    name: str,
    argv: Sequence[str] | None,
    *,
    sections: Mapping[str, Sequence[str]] | None = None,
    progress: Literal["stdout", "stderr"] = "stderr",
    parsed: Callable[..., int | None] | None = None,
    tensorflow: bool = True,
    single_images: bool = False,
) -> int:
    """Calls a command's function with the arguments in `argv`; returns the exit status.

    Errors in the input are printed in full without a traceback.

    Args:
        function: Its parameters are the flags; its docstring is the help. It returns a status, or `None` for 0.
        name: The command as it is typed, e.g. `resnet evaluate`.
        argv: Arguments after the command; the process's own if `None`.
        sections: What the short help shows; see `command_help`.
        progress: Where the library's log messages go.
        parsed: Function that is called instead, with the same flags as parameters; `function` describes them.
        tensorflow: Whether TensorFlow is imported before; otherwise the function calls `start_tensorflow` itself where
            it needs it.
        single_images: See `start_tensorflow`.
    """
    from resnet_keras.cli.flags import check, errors_name_flags, flags_of, naming_flags
    from resnet_keras.cli.help_text import command_help

    arguments = list(sys.argv[1:] if argv is None else argv)
    with ended_in_one_line(" ".join(name.split()[:2])) as ended:
        asked = {"-h", "--help", "--help-all"}.intersection(arguments)
        if asked:
            print(command_help(name, function, sections, everything="--help-all" in asked))
            return 0
        flags = flags_of(function)
        check(arguments, flags)
        with errors_name_flags(flags):
            worded = functools.partial(naming_flags, flags=flags)
            starts = functools.partial(start_tensorflow, single_images=single_images) if tensorflow else None
            return _call(parsed or function, name, arguments, progress, worded, starts)
    return ended.status


def fail(name: str, what: object, status: int = USER_ERROR) -> int:
    """Prints an error to the standard error, and returns the status."""
    # Names in files may hold what terminals obey.
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], str(what))
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(f"{name}: {text}", file=sys.stderr)
    return status


def version() -> str:
    """Returns the version of the installed package."""
    from importlib import metadata  # not at the top: it would take half of the time of `--help`

    try:
        return metadata.version("resnet_keras")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _dispatch(arguments: Sequence[str]) -> int:
    from resnet_keras.cli.help_text import program_help

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "--help-all", "help"):
        print(program_help(COMMANDS, EXAMPLES))
        return 0
    if command in ("--version", "-V", "version") or rest == ["--version"]:
        print(f"resnet_keras {version()}")
        return 0
    if command not in COMMANDS:
        from resnet_keras.checks.fields import nearest

        raise ValueError(
            f"Expected a command, one of {', '.join(COMMANDS)}. Received: {command}.{nearest(command, COMMANDS)}"
        )
    status: int = importlib.import_module(f"resnet_keras.cli.{command}").main(rest)
    return status


def _call(
    function: Callable[..., int | None],
    name: str,
    arguments: list[str],
    progress: str,
    worded: Callable[[str], str],
    starts: Callable[[], None] | None,
) -> int:
    import tyro

    @functools.wraps(function)
    def deferred(*args: object, **kwargs: object) -> Callable[[], int | None]:
        return functools.partial(function, *args, **kwargs)

    settings = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            call = tyro.cli(deferred, args=arguments, prog=name, config=settings, use_underscores=False)
    except SystemExit:  # a mistake that `check` does not know, of which tyro prints a box
        # The box holds the message of a dataclass that refused its fields, broken into lines.
        text = " ".join(re.sub(r"[│╭╮╰╯─]|-{4,}", " ", box.getvalue()).split())
        if found := re.search(r"Expected .+?Received: .+?(?= For full helptext|$)", text):
            raise ValueError(found[0]) from None
        raise ValueError(f"Expected arguments as in {name} --help. Received: {' '.join(arguments)}") from None
    with print_progress(progress, worded):
        if starts is not None:
            starts()
        return call() or 0


class Ended:
    """Exit status of a command that an exception ended."""

    status = 0


@contextlib.contextmanager
def ended_in_one_line(name: str) -> Iterator[Ended]:
    """Turns exceptions that are not bugs into one line and an exit status."""
    ended = Ended()
    try:
        yield ended
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would fail again when it flushes at its end.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ended.status = CLOSED_PIPE
    except Preempted as error:
        ended.status = fail(name, error, PREEMPTED)
    except KeyboardInterrupt:
        ended.status = fail(name, "interrupted", INTERRUPTED)
    except ConnectionError as error:  # of another worker, not of the input
        ended.status = fail(name, error, LOST_WORKER)
    except OSError as error:
        # The library's own messages are printed without the number that Python puts in front.
        ended.status = fail(name, error if error.filename is not None else error.strerror or error)
    except (ValueError, FloatingPointError, MemoryError, MissingExtra) as error:
        ended.status = fail(name, error)
    except RuntimeError as error:
        from resnet_keras.exporting.child_process import ArtifactError  # not at the top: it takes 15 ms

        if not isinstance(error, ArtifactError):
            raise
        ended.status = fail(name, error)
    except ModuleNotFoundError as error:
        if (missing := missing_backend(error)) is None:
            raise
        ended.status = fail(name, missing)


def start_tensorflow(*, single_images: bool = False) -> None:
    """Imports TensorFlow and lets it look for devices, without its greeting of a dozen lines.

    It uses its kernels of oneDNN, also on processors where it would not by itself, unless TF_ENABLE_ONEDNN_OPTS is set.
    Their convolution of a single image with its batch normalization takes nine times as long as TensorFlow's own on a
    processor with AVX2, and several images at once take about as long as by these.

    No setting silences what it prints before its log is set up. So the standard error is held back meanwhile, and
    printed if the import fails. With TF_CPP_MIN_LOG_LEVEL set, everything from that level on is printed.

    Args:
        single_images: Whether a network computes images one by one; then oneDNN is left as TensorFlow has it.
    """
    if not single_images and "tensorflow" not in sys.modules and leaves_onednn_off():
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _without_side_doors():
        _import_tensorflow()
        importlib.import_module("keras")


@contextlib.contextmanager
def _without_side_doors() -> Iterator[None]:
    """Hides packages that Keras imports where they are installed, for parts of it that the program does not use.

    They take 2 s of CPU, a quarter of a prediction. What imports them later finds them.
    """
    hidden = [name for name in _SIDE_DOORS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _import_tensorflow() -> None:
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    visible = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            importlib.import_module("tensorflow").config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(visible, held.read())
            raise
        finally:
            os.dup2(visible, 2)
            os.close(visible)
