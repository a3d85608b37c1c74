"""Signals as a program in a terminal has them, whatever pytest was started with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from resnet_keras.training.preemption import SIGNALS

NUMBERS = [getattr(signal, name) for name in SIGNALS]


@contextmanager
def default_signals() -> Iterator[None]:
    """Gives the signals that end a run their default handlers; `nohup` and the background ignore some."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def send(number: int) -> None:
    """Sends a signal to this process and waits until Python has called the handler."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)
