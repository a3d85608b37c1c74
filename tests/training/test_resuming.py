"""A run that ends early resumes to the same result, however it ended."""

import csv
import functools
import math
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.little_runs import MODELS, RESULT, killed_after, little_runs
from helpers.messages import on_message
from helpers.short_recipes import EVERYTHING, PLAIN
from helpers.signals import default_signals, send

from resnet_keras.distributed.strategy import AverageStatistics
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.lock import lock_run
from resnet_keras.training import callbacks, classification, data, progress
from resnet_keras.training.preemption import SIGNALS, Preempted
from resnet_keras.training.trainer import train

COLUMNS = ["epoch", "learning_rate", "accuracy", "loss", "val_accuracy", "val_loss"]


@pytest.fixture(scope="module", autouse=True)
def quick_runs() -> Iterator[None]:
    """Makes runs of a little network, without curves and final evaluation, and keeps their models."""
    with little_runs():
        yield


def state_of_last() -> list[np.ndarray]:
    """Returns weights, statistics, random states, momenta and counts of the last run's model."""
    model = MODELS[-1]
    return [keras.ops.convert_to_numpy(variable) for variable in (*model.variables, *model.optimizer.variables)]


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return [{name: row[name] for name in COLUMNS} for row in csv.DictReader(file)]


class Result:
    """What a run came to."""

    def __init__(self, folder: Path) -> None:
        self.state, self.history = state_of_last(), history(folder)

    def check(self, folder: Path) -> None:
        """Makes sure that the run that has just ended came to the same, bit for bit."""
        assert history(folder) == self.history
        for one, other in zip(state_of_last(), self.state, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result of `EVERYTHING`, uninterrupted and without checkpoints mid-epoch."""
    folder = tmp_path_factory.mktemp("everything")
    train(EVERYTHING, folder, checkpoint_steps=None)
    return Result(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("plain")
    train(PLAIN, folder)
    return Result(folder)


@pytest.mark.slow
def test_the_seed_decides_the_result(plain: Result, tmp_path: Path) -> None:
    train(PLAIN, tmp_path / "again")
    plain.check(tmp_path / "again")
    train(PLAIN.replace(seed=1), tmp_path / "other")
    for one, other in zip(MODELS[-1].get_weights(), MODELS[-2].get_weights(), strict=True):
        assert one.ndim == 1 or not np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("saves", range(1, 10))
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_run_killed_once_goes_on_to_the_same(tmp_path: Path, saves: int, precision: str) -> None:
    recipe = EVERYTHING.replace(precision=precision, optimizer="lamb", l2=0.0, weight_decay=0.01, clip_norm=1.0)
    train(recipe, tmp_path / "whole", checkpoint_steps=None)
    whole = Result(tmp_path / "whole")
    killed_after(saves, recipe, tmp_path / "parts", checkpoint_steps=2)
    train(recipe, tmp_path / "parts")
    whole.check(tmp_path / "parts")


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_saves_wherever_it_comes_and_the_same_call_goes_on(
    plain: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "_MESSAGE_SECONDS", 0.0)  # a line each step
    for line, step, number in (
        ("  step 1/8", 2, signal.SIGTERM),  # mid-epoch, noticed after the next step
        ("  step 7/8", 8, signal.SIGHUP),  # noticed after the last step, before the validation
        ("epoch 1/2", 8, signal.SIGUSR1),  # after an epoch
        ("  step 3/8", 12, signal.SIGINT),
    ):
        said = rf"^{SIGNALS[number.name]} received; the last checkpoint is from step {step}, and the same command"
        with (
            default_signals(),
            pytest.raises(Preempted, match=said),
            on_message(line, functools.partial(send, number)),
        ):
            train(PLAIN, tmp_path, checkpoint_steps=None)
    caplog.clear()
    train(PLAIN, tmp_path, checkpoint_steps=None)
    assert "resumed after step 4 of epoch 2" in caplog.messages[0]
    plain.check(tmp_path)


def test_a_sigterm_before_the_first_step_ends_the_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(Preempted, match="the same command resumes"), on_message("resnet8 on digits", send_sigterm):
        train(PLAIN, tmp_path)


def last_checkpoint(folder: Path) -> str:
    return max(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_run_with_everything_goes_on_after_any_checkpoint_and_validation(
    everything: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    average = AverageStatistics.on_test_begin
    how = ""

    def interrupted(self: AverageStatistics, logs: Any = None) -> None:
        average(self, logs)
        if how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif how == "Ctrl-C":
            raise KeyboardInterrupt

    monkeypatch.setattr(AverageStatistics, "on_test_begin", interrupted)
    # Checkpoints are at 2, 4, 5, 7, 9, 10, 12, 14, 15.
    killed_after(1, EVERYTHING, tmp_path, checkpoint_steps=2)
    assert last_checkpoint(tmp_path) == "step_000000002"
    how = "SIGTERM"
    with pytest.raises(Preempted, match="the last checkpoint is from step 4, and the same command resumes"):
        train(EVERYTHING, tmp_path, checkpoint_steps=2)
    how = "Ctrl-C"
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "_BEFORE_VALIDATION_SECONDS", -1.0)
        for _ in range(2):  # the second time in the validation that the run resumes with
            caplog.clear()
            with pytest.raises(KeyboardInterrupt):
                train(EVERYTHING, tmp_path, checkpoint_steps=2)
        assert "resumed before the validation of epoch 1" in caplog.messages[0]
    how = ""
    for saves, step in ((3, 9), (3, 14)):
        killed_after(saves, EVERYTHING, tmp_path, checkpoint_steps=2)
        assert last_checkpoint(tmp_path) == f"step_{step:09d}"
    caplog.clear()
    train(EVERYTHING, tmp_path, checkpoint_steps=2)
    assert "resumed after step 4 of epoch 3" in caplog.messages[0]
    everything.check(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_several_steps_at_once_come_to_the_same_and_go_on(plain: Result, tmp_path: Path) -> None:
    killed_after(3, PLAIN, tmp_path, steps_per_execution=4, checkpoint_steps=3)  # checkpoints are at 4, 8, 12
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == ["step_000000008", "step_000000012"]
    train(PLAIN, tmp_path, steps_per_execution=3)  # which do not divide what is left
    plain.check(tmp_path)


@pytest.mark.slow
def test_leaving_broken_steps_out_changes_nothing_of_a_run_without(plain: Result, tmp_path: Path) -> None:
    train(PLAIN, tmp_path, skip_broken_steps=True)
    plain.check(tmp_path)
    with (tmp_path / "history.csv").open() as file:
        assert [row["skipped"] for row in csv.DictReader(file)] == ["0", "0"]


@pytest.mark.slow
def test_a_run_may_begin_to_leave_broken_steps_out_and_cease_to(plain: Result, tmp_path: Path) -> None:
    for saves, skip in ((1, False), (2, True)):
        killed_after(saves, PLAIN, tmp_path, skip_broken_steps=skip, checkpoint_steps=3)
    train(PLAIN, tmp_path)
    plain.check(tmp_path)


def with_broken_step(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    """Makes one step's images infinite."""
    batches = data.training_batches

    def changed(*args: Any, first_step: int, **options: Any) -> tf.data.Dataset:
        def one(step: tf.Tensor, parts: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.where(step + first_step == broken, np.float32(np.inf), parts[0]), parts[1]

        return batches(*args, first_step=first_step, **options).enumerate().map(one)

    monkeypatch.setattr(data, "training_batches", changed)


def test_a_loss_that_is_no_number_is_noticed_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_broken_step(monkeypatch, 4)
    with pytest.raises(FloatingPointError, match=r"Received: nan in epoch 1; the last checkpoint is from step 3"):
        train(PLAIN, tmp_path, checkpoint_steps=3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000003"]


@pytest.mark.slow
def test_no_checkpoint_holds_a_weight_that_is_no_number(tmp_path: Path) -> None:
    # The first step's loss is a number, but what it learns is not: the rate is the largest number.
    diverging = PLAIN.replace(peak_lr=3e38, warmup_lr=3e38, lr_schedule="step", momentum=0.0, weight_decay=1e6)
    with pytest.raises(FloatingPointError):
        train(diverging, tmp_path, checkpoint_steps=1)
    found = Checkpoints(tmp_path / "checkpoints", lambda variable: [variable]).read()
    assert found is None or all(np.isfinite(value).all() for value in found[1].values())


@pytest.mark.slow
def test_a_broken_step_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_broken_step(monkeypatch, 4)
    caplog.clear()
    train(PLAIN, tmp_path / "whole", skip_broken_steps=True)
    with (tmp_path / "whole" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["skipped"] for row in rows] == ["1", "1"]
    assert ", 1 steps skipped" in next(line for line in caplog.messages if line.startswith("epoch 1/2"))
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    right = float(rows[0]["accuracy"]) * 7 * 64  # of 7 batches: the broken one counts for nothing
    assert right == pytest.approx(round(right), abs=1e-3)
    whole = Result(tmp_path / "whole")
    killed_after(2, PLAIN, tmp_path / "parts", skip_broken_steps=True, checkpoint_steps=3)
    train(PLAIN, tmp_path / "parts", skip_broken_steps=True)
    whole.check(tmp_path / "parts")


def test_a_set_with_fewer_images_than_told_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = data.training_batches
    monkeypatch.setattr(data, "training_batches", lambda *args, **options: batches(*args, **options).take(11))
    with (
        pytest.warns(UserWarning, match="ran out of data"),
        pytest.raises(ValueError, match=r"images for 16 steps\. Received: no more after step 11; .* fewer images than"),
    ):
        train(PLAIN, tmp_path)
    assert len(history(tmp_path)) == 1  # the epoch that was whole


def test_two_runs_in_a_folder_at_once_are_refused(tmp_path: Path) -> None:
    with (
        lock_run(tmp_path),
        pytest.raises(BlockingIOError, match=rf"no other run in .*Received: process {os.getpid()}"),
    ):
        train(PLAIN, tmp_path)
    assert not (tmp_path / "recipe.json").exists()


def test_a_run_that_another_process_has_finished_meanwhile_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = classification.prepare_inputs

    def meanwhile(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(classification, "prepare_inputs", prepare)
        train(PLAIN.replace(epochs=1), tmp_path)
        return prepare(*args, **options)

    monkeypatch.setattr(classification, "prepare_inputs", meanwhile)
    models = len(MODELS)
    assert train(PLAIN.replace(epochs=1), tmp_path) == RESULT
    assert len(MODELS) == models + 1


@pytest.mark.parametrize("name", ["checkpoint_steps", "steps_per_execution", "validate_epochs"])
def test_a_number_of_steps_below_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected `{name}` of at least 1\. Received: 0"):
        train(PLAIN, tmp_path / "run", **{name: 0})  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_ended_leaves_no_thread_that_watches(tmp_path: Path) -> None:
    before = {thread for thread in threading.enumerate() if "_watch" in thread.name}
    killed_after(1, PLAIN, tmp_path)
    left = {thread for thread in threading.enumerate() if "_watch" in thread.name} - before
    for thread in left:
        thread.join(1)
    assert not [thread for thread in left if thread.is_alive()]
