"""Preemption: ending a run on a signal so that it can resume."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = {
    "SIGTERM": "SIGTERM",  # of schedulers and cloud machines before they end a process
    "SIGINT": "Ctrl-C",
    "SIGHUP": "SIGHUP",  # of a terminal that closes
    "SIGUSR1": "SIGUSR1",  # of Slurm, `--signal=USR1@60`
    "SIGXCPU": "SIGXCPU",  # of a limit of processor time
}
"""The signals that end a run, as far as the system has them, and what messages call them."""

_SECOND_SECONDS = 1.0
"""A second signal within this time is the first one: a terminal and a launcher, or `timeout`, both send it."""


class Preempted(KeyboardInterrupt):
    """The process received a signal to end; the same command resumes the run.

    It is a `KeyboardInterrupt`, so that code that handles all of `Exception` does not catch it.
    """


class PreemptionHandler:
    """A handler of the signals in `SIGNALS`.

    Attributes:
        received: Whether one has arrived.
        cause: What messages call the first that has; empty before.
    """

    def __init__(self) -> None:
        self.received = False
        self.cause = ""
        self._deferred = False
        self._first = self._raised = -_SECOND_SECONDS

    @contextmanager
    def install(self) -> Iterator[None]:
        """Handles signals inside the context: they raise `Preempted` instead of ending the process.

        Signals that are ignored, as by `nohup`, stay ignored. Handlers that the program has installed stay, except for
        SIGTERM. Only the main thread of Python receives signals; in another thread this does nothing.
        """
        previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has few of them
                if number is not None and _is_replaced(number, signal.getsignal(number)):
                    previous[number] = signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only records a signal inside the context: the code in it must check `received` from time to time.

        Raises:
            Preempted: A second signal has arrived; at the end of the context, also if one has and nothing else ended
                the context.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.received:
            self._end(f"{self.cause} received; the same command resumes the run")

    def _handle(self, number: int, frame: Any) -> None:
        now, again = time.monotonic(), self.received
        if not again:
            self.received, self.cause, self._first = True, SIGNALS[signal.Signals(number).name], now
        if now - self._raised < _SECOND_SECONDS:
            return  # the run is ending
        if not self._deferred:
            self._end(f"{self.cause} received; the same command resumes the run")
        # The kernel repeats SIGXCPU every second.
        if again and now - self._first >= _SECOND_SECONDS and number != getattr(signal, "SIGXCPU", None):
            self._end(f"{self.cause} received twice; the same command resumes the run from its last checkpoint")

    def _end(self, message: str) -> None:
        self._raised = time.monotonic()
        raise Preempted(message)


def _is_replaced(number: int, handler: Any) -> bool:
    if number == signal.SIGTERM and callable(handler):
        return True
    return handler in (signal.SIG_DFL, signal.default_int_handler)
