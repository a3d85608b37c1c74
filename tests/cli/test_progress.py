"""Progress on the terminal: one line that updates; in a pipe, the lines of a log."""

import contextlib
import io
import logging
import os
import pty
import re
import sys
import threading
import time

import pytest

from resnet_keras.cli import progress
from resnet_keras.cli.progress import print_progress
from resnet_keras.training.progress import StepProgress

_steps = logging.getLogger("resnet_keras.training.progress")
_epochs = logging.getLogger("resnet_keras.training.loop")


def step(number: int) -> None:
    position = StepProgress(
        epoch=3,
        epochs=120,
        step=number,
        steps=44,
        loss=1.25,
        metrics={"accuracy": 0.5},
        images_per_second=1234.0,
        seconds_left=61.0,
    )
    level = logging.INFO if number % 20 == 0 else logging.DEBUG
    _steps.log(level, str(position), extra={"step_progress": position})


def log_an_epoch(stream: str) -> None:
    with print_progress(stream):
        _epochs.info("resnet20 on digits")
        for number in (10, 20, 30):
            step(number)
        _epochs.info("epoch 3/120: loss 1.2500")
        step(1)


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns what a pseudo terminal gets of an epoch."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    shown, written = pty.openpty()
    received: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(shown, 4096):
                received.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with open(written, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        log_an_epoch("stdout")
    reader.join(10)
    os.close(shown)
    return b"".join(received).decode()


def test_a_terminal_shows_one_line_with_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown_on_a_terminal(monkeypatch)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    drawn = [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert drawn[0] == "resnet20 on digits"
    lines = [line for line in drawn if line.startswith("epoch 3/120 ")]
    assert len(lines) >= 4  # each step's, also those below INFO
    assert all("━" in line for line in lines)
    assert all(line.endswith("loss 1.2500, accuracy 50.00%, 1,234 images/s, 0:01:01 left") for line in lines)
    assert "epoch 3/120: loss 1.2500" in drawn
    assert "step 20/44" not in plain
    assert "\x1b[2K" in output  # the line is erased before the next message, and at the end
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # the cursor is back
    assert _steps.level == logging.NOTSET


def test_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log_an_epoch("stderr")
    assert stream.getvalue().splitlines() == [
        "resnet20 on digits",
        "  step 20/44: loss 1.2500, accuracy 50.00%, 1,234 images/s, 0:01:01 left",
        "epoch 3/120: loss 1.2500",
    ]


def test_messages_are_printed_inside_the_context_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with print_progress("stdout"):
        _epochs.info("inside")
    _epochs.warning("after")
    assert capsys.readouterr().out == "inside\n"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Says so."""
        return True


def silent(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    """Returns what a stream gets of a command that is silent for a while, with less patience."""
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_BEAT_SECONDS", 0.005)
    monkeypatch.setattr(sys, "stdout", stream)
    with print_progress("stdout"):
        _epochs.info("writing")
        end = time.monotonic() + 5
        while "..." not in stream.getvalue() and time.monotonic() < end and stream.isatty():
            time.sleep(0.005)
        _epochs.info("written")
    return stream.getvalue()


def test_a_terminal_shows_the_seconds_of_a_silence_which_the_next_message_overwrites(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = silent(monkeypatch, Terminal())
    assert re.fullmatch(r"writing\n(\.\.\. 0 s\r)+\x1b\[Kwritten\n(\.\.\. 0 s\r)*(\x1b\[K)?", shown)
    assert not [thread for thread in threading.enumerate() if "_beat" in thread.name]


def test_a_pipe_gets_no_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert silent(monkeypatch, io.StringIO()) == "writing\nwritten\n"
