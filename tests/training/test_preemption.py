"""A signal ends a run where it can resume; a second one ends it at once."""

import signal
import threading
from collections.abc import Iterator

import pytest
from helpers.signals import NUMBERS, default_signals, send

from resnet_keras.training import preemption
from resnet_keras.training.preemption import SIGNALS, Preempted, PreemptionHandler


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Gives all signals their default handlers."""
    with default_signals():
        yield


def ask_to_end() -> None:
    send(signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_the_work_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    handler = PreemptionHandler()
    said = f"^{SIGNALS[number.name]} received; the same command resumes the run$"
    with pytest.raises(Preempted, match=said), handler.install():
        send(number)
        pytest.fail("the work went on")
    assert handler.received
    assert signal.getsignal(number) is before


def test_a_signal_is_noted_while_somebody_looks() -> None:
    before = signal.getsignal(signal.SIGTERM)
    handler = PreemptionHandler()
    looked = False
    with handler.install():
        with pytest.raises(Preempted, match="^SIGTERM received; the same"), handler.deferred():
            assert not handler.received
            ask_to_end()
            assert handler.received
            ask_to_end()  # of a launcher beside a terminal
            looked = True
        assert looked
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_ends_the_work_at_once_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = PreemptionHandler()
    said = r"^Ctrl-C received twice; .* from its last checkpoint$"
    with handler.install(), pytest.raises(Preempted, match=said), handler.deferred():
        send(signal.SIGINT)
        monkeypatch.setattr(preemption, "_SECOND_SECONDS", 0.0)  # as if a second had passed
        send(signal.SIGTERM)
        pytest.fail("the work went on")


def test_the_limit_of_processor_time_may_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = PreemptionHandler()
    saved = False
    with handler.install(), pytest.raises(Preempted, match="^SIGXCPU received; the same"), handler.deferred():
        send(signal.SIGXCPU)
        monkeypatch.setattr(preemption, "_SECOND_SECONDS", 0.0)
        send(signal.SIGXCPU)
        saved = True
    assert saved


def test_a_signal_that_is_ignored_or_handled_by_the_program_stays_so() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    handler = PreemptionHandler()
    with handler.install():
        send(signal.SIGHUP)
        send(signal.SIGUSR1)
    assert not handler.received
    assert heard == [signal.SIGUSR1]


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
