"""The end that a machine announces: preemption by SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(Exception):
    """The process was asked to end; the same command again goes on."""


class PreemptionHandler:
    """Whether the process has been asked to end.

    Attributes:
        received: Whether it has.
        deferred: Whether somebody looks at `received` from time to time; otherwise the request ends the work at once,
            by `Preempted`.
    """

    def __init__(self) -> None:
        self.received = self.deferred = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Takes a SIGTERM, in place of ending by it, as long as the context lasts.

        Where the caller is not the main thread, which alone hears of signals, it changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """Defers the end to whoever looks at `received`, as long as the context lasts."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False

    def _note(self, number: int, frame: Any) -> None:
        self.received = True
        if not self.deferred:
            raise Preempted("asked to end by SIGTERM; the same command goes on")
