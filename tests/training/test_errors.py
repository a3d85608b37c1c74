"""Failures of a run, in a sentence."""

import errno
import threading
import time
from collections.abc import Iterator

import pytest
import tensorflow as tf

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training import errors as failures
from resnet_keras.training.errors import StallWatchdog, explain_failures

RECIPE = RECIPES["cifar10"].replace(batch_size=96)
OTHERS = "a smaller --batch-size or --precision mixed_bfloat16"


def test_an_error_of_too_little_memory_names_what_helps() -> None:
    raised = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nand ten more lines")
    wanted = (
        r"^Expected memory for 96 images in a step\. Received: OOM when allocating tensor; try --accumulate 2, a "
        r"smaller --batch-size or --precision mixed_bfloat16$"
    )
    with pytest.raises(MemoryError, match=wanted), explain_failures(RECIPE):
        raise raised
    with pytest.raises(MemoryError, match="try --accumulate 8,"), explain_failures(RECIPE.replace(accumulate=4)):
        raise raised


@pytest.mark.parametrize(
    ("recipe", "replicas", "advice"),
    [
        (
            RECIPE.replace(batch_size=81),
            1,
            "; try --accumulate 3, a smaller --batch-size or --precision mixed_bfloat16",
        ),
        (RECIPE, 32, "; try --accumulate 3, a smaller --batch-size or --precision mixed_bfloat16"),
        (RECIPE.replace(batch_size=7), 1, "; try --accumulate 7, a smaller --batch-size or --precision mixed_bfloat16"),
        (RECIPE.replace(precision="mixed_float16"), 1, "; try --accumulate 2 or a smaller --batch-size"),
        (RECIPES["cifar10_qat"], 1, "; try --accumulate 2 or a smaller --batch-size"),
        (RECIPES["finetune_detector"], 1, f"; try {OTHERS}"),
        (RECIPE.replace(batch_size=1, precision="mixed_bfloat16"), 1, ""),
    ],
)
def test_too_little_memory_has_advice_that_the_recipe_can_follow(recipe: Recipe, replicas: int, advice: str) -> None:
    with pytest.raises(MemoryError) as caught, explain_failures(recipe, replicas):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM")
    assert str(caught.value) == f"Expected memory for {recipe.data.batch_size} images in a step. Received: OOM{advice}"


def test_an_error_names_a_full_disk() -> None:
    with (
        pytest.raises(
            OSError, match=r"space on the disk\. Received: .*/x; No space left on device; the same"
        ) as caught,
        explain_failures(RECIPE),
    ):
        raise tf.errors.ResourceExhaustedError(None, None, "/data/x; No space left on device\nmore")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("kind", [tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.DataLossError])
def test_an_error_names_images_that_vanish(kind: type[tf.errors.OpError]) -> None:
    with (
        pytest.raises(OSError, match=r"images to stay where they are\. Received: cat\.jpg: gone; the same") as caught,
        explain_failures(RECIPE),
    ):
        raise kind(None, None, "cat.jpg: gone\n\t [[{{node ReadFile}}]]")
    assert caught.value.errno == errno.EIO


def test_an_error_names_a_file_that_vanishes_while_it_is_read() -> None:
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
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[StallWatchdog]:
    monkeypatch.setattr(failures, "STALL_SECONDS", 0.2)
    watchdog = StallWatchdog()
    yield watchdog
    watchdog.close()


def test_a_stall_is_warned_of(watchdog: StallWatchdog, caplog: pytest.LogCaptureFixture) -> None:
    watchdog.last -= 100
    watchdog.on_train_begin()
    time.sleep(0.1)
    assert caplog.messages == []  # the time before the start does not count
    time.sleep(0.3)
    assert len(caplog.messages) in (1, 2)
    assert caplog.messages[0].startswith("no step has ended for")
    assert caplog.messages[0].endswith("is the storage of the images still responding?")
    assert caplog.records[0].levelname == "WARNING"


def test_steps_of_training_and_validation_are_no_stall(
    watchdog: StallWatchdog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "STALL_SECONDS", 1.0)  # a busy machine may sleep for longer than it should
    watchdog.on_train_begin()
    for step in range(12):
        time.sleep(0.1)
        (watchdog.on_test_batch_end if step // 6 else watchdog.on_train_batch_end)(step)
    assert caplog.messages == []


def test_nothing_is_watched_between_two_trainings(watchdog: StallWatchdog, caplog: pytest.LogCaptureFixture) -> None:
    before = set(threading.enumerate())
    watchdog.on_train_begin()
    (thread,) = set(threading.enumerate()) - before
    watchdog.on_train_end()
    thread.join(1)
    assert not thread.is_alive()
    time.sleep(0.3)
    assert caplog.messages == []
    watchdog.on_train_begin()
    time.sleep(0.4)
    assert caplog.messages
