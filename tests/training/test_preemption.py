"""A SIGTERM ends a run where it can resume."""

import os
import signal
import threading
import time

import pytest

from resnet_keras.training.preemption import Preempted, PreemptionHandler


def ask_to_end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)  # until Python has called the handler


def test_a_sigterm_ends_the_work_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    handler = PreemptionHandler()
    with pytest.raises(Preempted, match="SIGTERM received; the same command resumes the run"), handler.install():
        ask_to_end()
        pytest.fail("the work went on")
    assert handler.received
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sigterm_is_noted_while_somebody_looks() -> None:
    before = signal.getsignal(signal.SIGTERM)
    handler = PreemptionHandler()
    with handler.install():
        with handler.deferred():
            assert not handler.received
            ask_to_end()
            assert handler.received
            ask_to_end()  # impatience changes nothing
        with pytest.raises(Preempted):
            ask_to_end()
    assert signal.getsignal(signal.SIGTERM) is before


def test_nobody_looks_any_more_after_an_error() -> None:
    handler = PreemptionHandler()
    with handler.install():
        with pytest.raises(KeyError), handler.deferred():
            raise KeyError
        with pytest.raises(Preempted):
            ask_to_end()


def test_the_handler_before_is_restored_after_an_error() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        handler = PreemptionHandler()
        with pytest.raises(KeyError), handler.install():
            raise KeyError
        ask_to_end()
        assert heard == [signal.SIGTERM]
        assert not handler.received
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_does_not_handle_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    during: list[object] = []

    def work() -> None:
        with PreemptionHandler().install():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]
    assert signal.getsignal(signal.SIGTERM) is before
