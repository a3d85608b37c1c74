"""Estimates of the time left, without the first call of a process, which traces the graph."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.checkpoints import Progress
from resnet_keras.training import progress
from resnet_keras.training.progress import ProgressMessages

EPOCHS, STEPS = 4, 10
LOGS = {"loss": 1.0, "accuracy": 0.5}


class Tracker(SimpleNamespace):
    """A run whose clock is set by hand."""

    def position(self) -> Progress:
        """Returns the progress after the current step."""
        return Progress(step=len(self.progress.history) * STEPS + self.done)


@pytest.fixture
def tracker() -> Tracker:
    recipe = RECIPES["digits"].replace(epochs=EPOCHS, batch_size=32)
    return Tracker(
        progress=Progress(),
        recipe=recipe,
        steps=STEPS,
        counters={},
        complete=False,
        done=0,
        epoch_seconds=0.0,
        row=None,
    )


def messages_of(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(progress, "_MESSAGE_SECONDS", -1.0)  # each step
    messages = ProgressMessages(tracker)  # type: ignore[arg-type]

    def step(number: int, seconds: float) -> None:
        tracker.done, tracker.epoch_seconds, tracker.complete = number, seconds, number == STEPS
        messages.on_train_batch_end(number - 1, LOGS)

    def end(seconds: float) -> None:
        tracker.row = {**LOGS, "learning_rate": 0.1, "images_per_second": 9.0, "seconds": seconds}
        tracker.progress.history.append(tracker.row)
        messages.on_epoch_end(len(tracker.progress.history) - 1, LOGS)

    return step, end


def test_the_first_call_does_not_count(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step, end = messages_of(tracker, monkeypatch)
    with caplog.at_level(logging.INFO, "resnet_keras"):
        step(1, 60.0)  # 59 s of tracing
        step(3, 62.0)
        step(10, 69.0)
        end(69.0)
        step(1, 1.0)
        end(10.0)
    left = [message.rpartition(", ")[2] for message in caplog.messages]
    # 37 steps of a second, 3 epochs of 10 s, 29 steps of a second, 2 epochs of 10 s.
    assert left == ["1 images/s", "0:00:37 left", "0:00:30 left", "0:00:29 left", "0:00:20 left"]


def test_an_epoch_that_is_one_call_tells_nothing_yet(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step, end = messages_of(tracker, monkeypatch)
    with caplog.at_level(logging.INFO, "resnet_keras"):
        step(10, 70.0)
        end(70.0)
        step(10, 10.0)
        end(10.0)
    assert [message.rpartition(", ")[2] for message in caplog.messages] == ["9 images/s", "0:00:20 left"]


@pytest.mark.parametrize("images", ["test", "validation"])
def test_an_epoch_names_the_images_of_its_validation(
    tracker: Tracker, caplog: pytest.LogCaptureFixture, images: str
) -> None:
    tracker.row = {**LOGS, "val_accuracy": 0.4, "learning_rate": 0.1, "images_per_second": 9.0, "seconds": 1.0}
    with caplog.at_level(logging.INFO, "resnet_keras"):
        ProgressMessages(tracker, images).on_epoch_end(0, LOGS)  # type: ignore[arg-type]
    wanted = f"epoch 1/4: loss 1.0000, accuracy 50.00%, {images} accuracy 40.00%, rate 0.1, 9 images/s, 0:00:03 left"
    assert caplog.messages == [wanted]
