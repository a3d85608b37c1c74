"""A run that ends early at its very end shows what an undisturbed one shows, and damage after it is told."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.little_runs import RESULT, little_runs
from helpers.messages import on_message
from helpers.short_recipes import PLAIN

from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.lock import HOLDER_FILE
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training.trainer import train


@pytest.fixture(scope="module", autouse=True)
def quick_runs() -> Iterator[None]:
    """Makes runs of a little network."""
    with little_runs():
        yield


def rows(folder: Path) -> list[str]:
    with (folder / "history.csv").open() as file:
        return [row["epoch"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_that_ends_at_its_end_is_completed_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, finish = RunFolder.write_history, RunFolder.finish
    drawn: list[int] = []
    monkeypatch.setattr(RunFolder, "write_curves", lambda folder, history: drawn.append(len(history)))

    def killed_in_the_last_epoch(folder: RunFolder, history: list[dict[str, float]]) -> None:
        if len(history) == PLAIN.schedule.epochs:
            raise KeyboardInterrupt
        write(folder, history)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "write_history", killed_in_the_last_epoch)
        train(PLAIN, tmp_path)
    assert rows(tmp_path) == ["1"]
    assert drawn == []

    def killed_before_the_checkpoints_are_removed(folder: RunFolder, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("resnet_keras.runs.folder.shutil.rmtree", lambda *args, **options: None)
            finish(folder, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "finish", killed_before_the_checkpoints_are_removed)
        train(PLAIN, tmp_path)
    assert rows(tmp_path) == ["1", "2"]
    assert drawn == [2]
    assert (tmp_path / "checkpoints" / "step_000000016").is_dir()
    (tmp_path / HOLDER_FILE).write_text("process 1 on another machine")
    (tmp_path / "samples").mkdir(exist_ok=True)
    (tmp_path / "samples" / ".aside-killed").mkdir()

    assert train(PLAIN, tmp_path) == RESULT
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert not left & {"checkpoints", HOLDER_FILE, "samples/.aside-killed"}
    assert {"model.keras", "history.csv", "evaluation.json"} <= left


@pytest.mark.slow
def test_a_folder_that_is_moved_is_not_made_anew_and_the_run_resumes_where_it_is(tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    said = rf"Expected {run} to stay .* Received: it is now {moved}, where the same recipe resumes"
    with pytest.raises(OSError, match=said), on_message("epoch 1/2", lambda: run.rename(moved)):
        train(PLAIN, run)
    assert not run.exists()
    assert train(PLAIN, moved) == RESULT
    assert rows(moved) == ["1", "2"]


def test_a_folder_that_is_removed_or_replaced_is_not_written_to(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(PLAIN, {"data_dir": None})
    with folder.held():
        folder.note(replicas=1)
        shutil.rmtree(folder.path)
        with pytest.raises(OSError, match=r"to stay where it is .* Received: it was removed$"):
            folder.write_history([{"epoch": 1, "loss": 2.0}])
        assert not folder.path.exists()
        folder.path.mkdir()
        with pytest.raises(OSError, match="to stay where it is"):
            folder.finish(RESULT)
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.keras", "history.csv", "evaluation.json"])
def test_a_file_that_changes_after_the_end_is_named(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(PLAIN, {"data_dir": None, "replicas": 1})
    folder.model.write_bytes(b"network")
    folder.write_history([{"epoch": 1, "loss": 2.0}])
    folder.finish(Evaluation(images=10, top1_error=0.25, top5_error=None, loss=1.0))
    assert read_run(tmp_path).evaluation == train(PLAIN, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"2", b"3").replace(b"net", b"not"))
    said = rf"Expected .*{name} as the run wrote it, .*Received: a changed or damaged file"
    with pytest.raises(ValueError, match=said):
        train(PLAIN, tmp_path)
    with pytest.raises(ValueError, match=said):
        read_run(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert train(PLAIN, tmp_path).top1_error == 0.25
