"""Actions on messages of the library, at the moment it logs them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_message(start: str, action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` for each message that starts with `start`, inside the context."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(start):
                action()

    handler = Handler()
    logger = logging.getLogger("resnet_keras")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def interrupt() -> None:
    """Interrupts the run, as Ctrl-C does."""
    raise KeyboardInterrupt
