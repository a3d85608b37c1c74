"""Preemption: ending a run on SIGTERM so that it can resume."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(Exception):
    """The process received SIGTERM; the same command resumes the run."""


class PreemptionHandler:
    """A handler of SIGTERM, which schedulers and cloud machines send before they end a process.

    Attributes:
        received: Whether SIGTERM has arrived.
    """

    def __init__(self) -> None:
        self.received = False
        self._deferred = False

    @contextmanager
    def install(self) -> Iterator[None]:
        """Handles SIGTERM inside the context: it raises `Preempted` instead of ending the process.

        Only the main thread of Python receives signals; in another thread this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only records SIGTERM inside the context: the code in it must check `received` from time to time."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: Any) -> None:
        self.received = True
        if not self._deferred:
            raise Preempted("SIGTERM received; the same command resumes the run")
