"""The page on trained networks."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.tables import unpadded
from PIL import Image

from resnet_keras.cli import runs as program
from resnet_keras.cli import train as train_program
from resnet_keras.evaluation.predictions import Evaluation
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import ARRAYS, RunFolder
from resnet_keras.runs.results_page import write_results_page
from resnet_keras.runs.saved_run import read_run
from resnet_keras.runs.summary import summarize_runs

DIGITS = RECIPES["digits"]
MACHINE = {"processor": "AMD EPYC", "cores": 2, "machine": "Linux x86_64", "tensorflow": "2.21.0", "keras": "3.15.1"}


def write_run(
    path: Path, recipe: Recipe, error: float, *, seconds: float = 60.0, done: int | None = None, **about: Any
) -> Path:
    """Writes a finished run whose test error on images alone is a point larger than `error`."""
    folder = RunFolder(path)
    folder.begin(recipe, {"data_dir": None, **MACHINE, "python": "3.11.7", **about})
    epochs = recipe.schedule.epochs if done is None else done
    rows = [{"epoch": i + 1, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5} for i in range(epochs)]
    rows[-1]["val_accuracy"] = 1 - error - 0.01
    folder.write_history(rows)
    folder.model.write_bytes(b"")
    folder.finish(Evaluation(images=359, top1_error=error, top5_error=None, loss=0.1), seconds)
    return path


def page_of(path: Path) -> str:
    write_results_page(summarize_runs([path]), path / "docs" / "results.md")
    return unpadded((path / "docs" / "results.md").read_text(encoding="utf-8"))


def test_a_section_has_commands_errors_times_machine_and_curves(tmp_path: Path) -> None:
    for seed, error in enumerate((0.008, 0.010, 0.015)):
        write_run(tmp_path / f"digits_{seed}", DIGITS.replace(seed=seed), error, seconds=60.0 + seed)
    text = page_of(tmp_path)
    # Mean 1.1 %; deviations -0.3, -0.1 and 0.4 points: the root of 0.26 / 2 is 0.36.
    assert "| digits resnet20 | 3 | 40 | 1.10 ± 0.36 | – | 359 | 0:01:01 |" in text
    assert (
        "\n resnet train digits --workdir runs/digits_0\n resnet train digits --seed 1 --workdir runs/digits_1\n"
        in text
    )
    assert "- Errors: top-1 error 0.80 % (seed 0), 1.00 % (seed 1), 1.50 % (seed 2).\n" in text
    assert (
        "- Time of all epochs: 0:01:00 (seed 0), 0:01:01 (seed 1), 0:01:02 (seed 2), on AMD EPYC, 2 cores, "
        "Linux x86_64, TensorFlow 2.21.0, Keras 3.15.1, Python 3.11.7.\n"
    ) in text
    assert "Cut short" not in text
    assert "![Errors and losses of digits resnet20](images/results/digits_resnet20.png)" in text
    with Image.open(tmp_path / "docs" / "images" / "results" / "digits_resnet20.png") as picture:
        assert picture.format == "PNG"
        assert max(picture.size) <= 800
    assert str(tmp_path) not in text


def test_errors_on_images_alone_and_with_mirrored_images_are_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "fast", RECIPES["cifar10_fast"], 0.09, data_dir="/data")
    text = page_of(tmp_path)
    assert "| cifar10_fast resnet20 | 1 | 20 | 10.00 | 9.00 | 359 |" in text
    assert "- Errors: top-1 error 10.00 % (seed 0); with mirrored images 9.00 % (seed 0).\n" in text
    assert "\n resnet train cifar10_fast --data-dir DIR --workdir runs/fast\n" in text


def test_runs_cut_short_say_so(tmp_path: Path) -> None:
    write_run(tmp_path / "short", DIGITS.replace(epochs=6), 0.1)
    write_run(tmp_path / "stopped", DIGITS, 0.1, done=9)
    text = page_of(tmp_path)
    assert "| digits resnet20, epochs=6 | 1 | 6 of 40 |" in text
    assert "- Cut short: 6 of the recipe's 40 epochs.\n" in text
    assert "- Stopped by a callback after 9 of 40 epochs: seed 0.\n" in text


def test_machines_are_apart_and_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a", DIGITS, 0.1, gpus=["NVIDIA H100", "NVIDIA H100"], python="3.12.1")
    old = {"processor": None, "cores": None, "tensorflow": "2.20.0"}
    write_run(tmp_path / "b", DIGITS.replace(seed=1), 0.1, **old)
    text = page_of(tmp_path)
    assert "0:01:00 (seed 0), on NVIDIA H100, NVIDIA H100, AMD EPYC, 2 cores, Linux x86_64, TensorFlow 2.21.0," in text
    assert "0:01:00 (seed 1), on Linux x86_64, TensorFlow 2.20.0," in text


def test_a_run_on_images_of_its_caller_has_no_command(tmp_path: Path) -> None:
    write_run(tmp_path / "own", DIGITS.replace(dataset=ARRAYS), 0.1)
    assert read_run(tmp_path / "own").command is None
    assert "Trained in Python, on images that the program brought." in page_of(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 5, "model": "resnet56", "seed": 3},
        {"flip": True, "lr_drops": (0.25, 0.5), "peak_lr": 0.02},
        {"rematerialize": True, "train_images": 500, "precision": "mixed_bfloat16"},
        {"image_size": None, "train_sizes": (8, 16), "nesterov": True},
    ],
)
def test_the_command_trains_the_same_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    recipe = DIGITS.replace(**changes)
    command = read_run(write_run(tmp_path / "run", recipe, 0.1)).command
    assert command is not None
    trained: list[Recipe] = []
    monkeypatch.setattr(train_program, "train", lambda name, recipe, options: trained.append(recipe))
    assert train_program.main(command.removeprefix("resnet train ").split()) == 0
    assert trained == [recipe]


def test_recipes_of_one_name_have_a_picture_each(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_run(tmp_path / place, RECIPES["finetune"], 0.1, data_dir=f"/{place}/flowers")
    assert len(set(re.findall(r"\((images/results/.*\.png)\)", page_of(tmp_path)))) == 2


def test_the_program_writes_the_page_and_refuses_unfinished_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder(tmp_path / "begun").begin(DIGITS, {"data_dir": None})
    page = tmp_path / "page.md"
    assert program.main([str(tmp_path), "--page", str(page)]) == 2
    assert f"resnet runs: Expected finished runs for {page}. Received: 1 unfinished ones" in capsys.readouterr().err
    write_run(tmp_path / "run", DIGITS, 0.1)
    table = tmp_path / "runs.csv"
    assert program.main([str(tmp_path), "--page", str(page), "--csv", str(table)]) == 0
    assert page.read_text().startswith("# Results\n")
    with table.open(newline="") as file:
        assert [row["progress"] for row in csv.DictReader(file)] == ["finished", "epoch 0 of 40"]
