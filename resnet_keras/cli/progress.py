"""Log messages of the library, printed; in a terminal, the progress within an epoch is one line that updates."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SILENT_SECONDS, _BEAT_SECONDS = 2.0, 1.0
_STEPS = "resnet_keras.training.progress"  # its records carry a `StepProgress` as the attribute `step_progress`


class ProgressHandler(logging.Handler):
    """Prints messages to the stream that is the standard output or error at that time.

    In a terminal, messages about steps become one line with a bar. It updates in place and disappears with the next
    message. After two seconds without a message, their number stands in the line. Elsewhere all messages are lines.

    Args:
        name: Name of the stream in `sys`, "stdout" or "stderr".
        worded: Returns a message as the user of the program reads it.
    """

    def __init__(self, name: str, worded: Callable[[str], str] = str) -> None:
        super().__init__()
        self._name, self._worded = name, worded
        self._bar: tuple[Progress, TaskID] | None = None
        self._told = time.monotonic()
        self._beats = False  # whether the line has the seconds since the last message

    @property
    def stream(self) -> TextIO:
        """The stream to write to."""
        stream: TextIO = getattr(sys, self._name)
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        """Prints or draws a record."""
        try:
            self._print(record)
        except OSError as error:
            if error.errno != errno.EIO:  # of a terminal that has been closed; the run ends by SIGHUP
                raise

    def _print(self, record: logging.LogRecord) -> None:
        self._told = time.monotonic()
        step = getattr(record, "step_progress", None)
        if step is not None and self.stream.isatty():
            self._draw(step)
            return
        self.erase()
        self.stream.write(self._worded(self.format(record)) + "\n")
        self.stream.flush()

    def erase(self) -> None:
        """Removes the line of the steps, or the seconds, if there is one."""
        if self._beats:
            self._beats = False
            self.stream.write("\x1b[K")
        if self._bar is not None:
            bar, self._bar = self._bar[0], None
            bar.stop()

    def beat(self) -> None:
        """Writes the seconds since the last message, if they are more than two and the stream is a terminal.

        The cursor returns to the start of the line, so that whatever is printed next overwrites them.
        """
        # The stream may be closed already by what the command calls.
        with self.lock or contextlib.nullcontext(), contextlib.suppress(OSError, ValueError):
            seconds = time.monotonic() - self._told
            if self._bar is None and seconds > _SILENT_SECONDS and self.stream.isatty():
                self._beats = True
                self.stream.write(f"... {seconds:.0f} s\r")
                self.stream.flush()

    def _draw(self, step: Any) -> None:
        shown = {"description": f"epoch {step.epoch}/{step.epochs}", "total": step.steps, "completed": step.step}
        if self._bar is None:
            bar = self._create()
            self._bar = bar, bar.add_task(**shown, measures=step.measures)
            bar.start()
        bar, task = self._bar
        bar.update(task, **shown, measures=step.measures, refresh=True)

    def _create(self) -> Progress:
        # Not at the top: where no terminal is, nothing of it is needed.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[measures]}"),
            console=Console(file=self.stream),
            auto_refresh=False,
            transient=True,
            expand=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )


@contextlib.contextmanager
def print_progress(stream: str, worded: Callable[[str], str] = str) -> Iterator[None]:
    """Prints the library's messages from INFO on, inside the context, to `sys.stdout` or `sys.stderr` by name.

    Args:
        stream: "stdout" or "stderr".
        worded: Returns a message as the user of the program reads it.
    """
    logger, steps = logging.getLogger("resnet_keras"), logging.getLogger(_STEPS)
    handler = ProgressHandler(stream, worded)
    levels, propagate = (logger.level, steps.level), logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # another library may have given the root logger a handler, which would repeat each line
    if handler.stream.isatty():
        steps.setLevel(logging.DEBUG)  # more often than a line every few seconds
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(handler, ended), daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        handler.erase()
        logger.removeHandler(handler)
        logger.setLevel(levels[0])
        steps.setLevel(levels[1])
        logger.propagate = propagate


def _beat(handler: ProgressHandler, ended: threading.Event) -> None:
    """Tells each second that a silent command still works, until it has ended."""
    while not ended.wait(_BEAT_SECONDS):
        handler.beat()
