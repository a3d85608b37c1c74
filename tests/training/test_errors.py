"""What fails amid a run, in a sentence."""

import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import tensorflow as tf

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training import errors as failures
from resnet_keras.training.errors import StallWatchdog, explain_failures

RECIPE = replace(RECIPES["cifar10_resnet20"], batch_size=96)


def test_too_little_memory_is_told_with_what_helps() -> None:
    raised = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nand ten more lines")
    wanted = (
        r"^Expected memory for 96 images in a step\. Received: OOM when allocating tensor; try --accumulate 2, a "
        r"smaller --batch-size or --precision mixed_bfloat16$"
    )
    with pytest.raises(MemoryError, match=wanted), explain_failures(RECIPE):
        raise raised
    with pytest.raises(MemoryError, match="try --accumulate 8,"), explain_failures(replace(RECIPE, accumulate=4)):
        raise raised


def test_a_full_disk_is_told() -> None:
    with (
        pytest.raises(
            OSError, match=r"space on the disk\. Received: .*/x; No space left on device; the same"
        ) as caught,
        explain_failures(RECIPE),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "/data/x; No space left on device\nmore")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("kind", [tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError])
def test_images_that_vanish_are_told(kind: type[tf.errors.OpError]) -> None:
    with (
        pytest.raises(OSError, match=r"images to stay where they are\. Received: cat\.jpg: gone; the same") as caught,
        explain_failures(RECIPE),
    ):
        raise kind(None, None, "cat.jpg: gone\n\t [[{{node ReadFile}}]]")
    assert caught.value.errno == errno.EIO


def test_a_file_that_vanishes_while_it_is_read_is_told() -> None:
    with pytest.raises(OSError, match=r"Received: .*no_such\.jpg; No such file"), explain_failures(RECIPE):
        list(tf.data.Dataset.from_tensors("no_such.jpg").map(tf.io.read_file))


@pytest.mark.parametrize(
    "error", [ValueError("a"), KeyboardInterrupt(), tf.errors.InvalidArgumentError(None, None, "a"), OSError(5, "a")]
)
def test_other_errors_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explain_failures(RECIPE):
        raise error
    assert caught.value is error


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StallWatchdog, list[str]]]:
    monkeypatch.setattr(failures, "SILENCE_SECONDS", 0.3)
    said: list[str] = []
    watch = StallWatchdog(said.append)
    yield watch, said
    watch.on_train_end()


def test_silence_is_told(watched: tuple[StallWatchdog, list[str]]) -> None:
    watch, said = watched
    watch.last -= 100
    watch.on_train_begin()
    time.sleep(0.1)
    assert said == []  # the time before the beginning does not count
    time.sleep(0.5)
    assert len(said) in (1, 2)
    assert "no step has ended for" in said[0]
    assert "do the images still come?" in said[0]


def test_steps_of_training_and_validation_break_the_silence(watched: tuple[StallWatchdog, list[str]]) -> None:
    watch, said = watched
    watch.on_train_begin()
    for step in range(16):
        time.sleep(0.05)
        (watch.on_test_batch_end if step // 8 else watch.on_train_batch_end)(step)
    assert said == []


def test_after_the_end_nobody_watches_until_it_begins_again(watched: tuple[StallWatchdog, list[str]]) -> None:
    watch, said = watched
    before = set(threading.enumerate())
    watch.on_train_begin()
    (thread,) = set(threading.enumerate()) - before
    watch.on_train_end()
    thread.join(1)
    assert not thread.is_alive()
    time.sleep(0.4)
    assert said == []
    watch.on_train_begin()
    time.sleep(0.6)
    assert said
