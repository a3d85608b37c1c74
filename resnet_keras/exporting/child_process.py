"""Programs of this folder in child processes, which answer lines of JSON with lines of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from resnet_keras.checks.tensorflow_errors import reason_of
from resnet_keras.distributed.child_command import ending_with_parent
from resnet_keras.runs.process_memory import peak_memory

_OUTPUT_CHARACTERS = 4000
_FULL = os.strerror(errno.ENOSPC)


@contextlib.contextmanager
def space_expected(folder: Path) -> Iterator[None]:
    """Turns every error of a full disk, TensorFlow's and those of child processes, too, into one line.

    Args:
        folder: What is written, for the message.

    Raises:
        OSError: The disk is full.
    """
    try:
        yield
    except Exception as error:
        text = getattr(error, "message", None) or str(error)
        if _FULL not in text:
            raise
        reason = _FULL if isinstance(error, ArtifactError) else reason_of(text)
        raise OSError(
            errno.ENOSPC,
            f"Expected space on the disk for {folder}, and for temporary files in {tempfile.gettempdir()}. "
            f"Received: {reason}; nothing is published",
        ) from None


class ArtifactError(RuntimeError):
    """An artifact could not be made or run. Nothing was published.

    Attributes:
        output: The end of what the process wrote to its standard error.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class ChildProcess:
    """A running program; a context manager that kills it at the end. On Linux it also ends with this process.

    Args:
        program: Name of a file in this folder.
        *arguments: Arguments of the program.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        # Isolated from the source tree and from PYTHONPATH, so that it cannot import this package by accident.
        command = [sys.executable, "-I", str(Path(__file__).with_name(program)), *arguments]
        self._seconds: float | None = None
        self._late = False
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed by `close`)
        self._process = subprocess.Popen(
            ending_with_parent(command, signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            encoding="utf-8",
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process, which may have ended already."""
        if not self._stderr.closed:
            self._process.kill()
            self._process.communicate()
            self._stderr.close()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message. A process that has ended does not raise; `receive` does."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:  # a broken pipe
            pass

    def limit(self, *, seconds: float, memory: int) -> None:
        """Ends the process where one of its answers takes longer, or, on Linux, where it asks for more memory.

        Args:
            seconds: Of each answer from now on.
            memory: Its address space in bytes, with its libraries.
        """
        self._seconds = seconds
        if sys.platform == "linux":
            import resource

            with contextlib.suppress(OSError, ValueError):  # it has ended, or has a lower limit
                resource.prlimit(self._process.pid, resource.RLIMIT_AS, (memory, memory))

    def receive(self, expected: str, subject: object, advice: str) -> Any:
        """Returns the next answer.

        Args:
            expected: What was asked for, for the error.
            subject: The artifact, for the error.
            advice: The next step, for the error.

        Raises:
            ArtifactError: The process has ended; the message has the reason in one line.
        """
        assert self._process.stdout
        if line := self._line():
            return json.loads(line)
        status = self._process.wait()
        self._stderr.seek(0)
        output = self._stderr.read()[-_OUTPUT_CHARACTERS:]
        raise ArtifactError(
            f"Expected {expected}. Received: {subject}, status {status}: {self._reason(status, output)}. {advice}",
            output,
        )

    def _line(self) -> str:
        """Returns the next line of the process; none if it has ended, or has taken too long."""
        assert self._process.stdout
        if self._seconds is None:
            return self._process.stdout.readline()
        timer = threading.Timer(self._seconds, self._end_late)
        timer.daemon = True
        timer.start()
        try:
            return self._process.stdout.readline()
        finally:
            timer.cancel()

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def _reason(self, status: int, output: str) -> str:
        """Returns the reason for the end of the process in one line."""
        return f"no answer in {self._seconds:.0f} s" if self._late else _reason(status, output)

    def peak_memory(self) -> int:
        """Returns the largest memory that the process has held so far, with its libraries, in bytes."""
        return peak_memory(self._process.pid)


def _reason(status: int, output: str) -> str:
    """Returns the reason for the end of a process in one line."""
    errors = list(re.finditer(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)?: ", output, re.MULTILINE))
    if "Traceback (most recent call last)" in output and errors:
        last = errors[-1]
        return last[0] + reason_of(output[last.end() :]).rstrip(".")
    if status < 0:
        return f"it was killed by signal {-status}; is there enough memory?"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it said nothing"
