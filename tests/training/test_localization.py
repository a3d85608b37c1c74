"""Localization by the one loop and the program: train, resume, evaluate, predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.box_folders import VocFolder
from PIL import Image

from resnet_keras.cli import evaluate, export, predict
from resnet_keras.detection import LocalizationResult, Localizer
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training import localization
from resnet_keras.training.tasks import task_of
from resnet_keras.training.trainer import train

RECIPE: Recipe = RECIPES["localization"].replace(
    weights=None, image_size=64, freeze_batch_norms=False, epochs=2, batch_size=4, batch_fraction=None, warmup_epochs=0
)


def write_squares(folder: Path, train: int = 12, test: int = 4) -> Path:
    """Writes images with one bright rectangle, red or green, in VOC's layout."""
    random, voc = np.random.default_rng(0), VocFolder(folder)
    for index in range(train + test):
        pixels = random.integers(0, 60, (64, 64, 3)).astype(np.uint8)
        left, top = random.integers(0, 30, 2)
        right, bottom = left + random.integers(14, 30), top + random.integers(14, 30)
        pixels[top:bottom, left:right, index % 2] = 255
        part = "train" if index < train else "test"
        voc.add(
            f"{part}{index}",
            [(("red", "green")[index % 2], left + 1, top + 1, right, bottom)],
            size=(64, 64),
            part=part,
        )
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{part}{index}.jpg", quality=95)
    return folder


def test_the_head_decides_the_task_and_its_fields() -> None:
    assert task_of(RECIPE) is localization
    assert RECIPE.network.title == "box over resnet18"
    with pytest.raises(ValueError, match="Expected `crop_area` to be None with the head box"):
        RECIPE.replace(crop_area=(0.5, 1.0))
    with pytest.raises(ValueError, match="Expected `canvas` to be None without a `detector`"):
        RECIPE.replace(canvas=(64, 64))


@pytest.mark.slow
def test_a_run_is_trained_evaluated_and_begun_from_and_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_squares(tmp_path / "squares")
    result = train(RECIPE, tmp_path / "run", data_dir=data)
    assert isinstance(result, LocalizationResult)
    assert result.images == 4
    run = read_run(tmp_path / "run")
    assert run.evaluation == result
    assert {"loss", "accuracy", "localized", "val_localized"} <= run.history[0].keys()
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    photo = data / "JPEGImages" / "test12.jpg"
    flags = ["--json", "--top-k", "1", "--boxes", str(tmp_path / "boxes")]
    assert predict.main([str(tmp_path / "run"), str(photo), *flags]) == 0
    (found,) = Localizer.load(tmp_path / "run").predict(photo, top_k=1)
    (row,) = json.loads(capsys.readouterr().out)["classes"]
    assert row["class"] == ("green", "red")[found.labels[0]]
    np.testing.assert_allclose(row["box"], found.boxes[0], atol=1e-3)
    assert (tmp_path / "boxes" / "test12.boxes.png").is_file()
    assert export.main([str(tmp_path / "run"), "--to", str(tmp_path)]) == 2
    assert "a localizer" in capsys.readouterr().err
    begun = RECIPE.replace(epochs=1, weights=str(tmp_path / "run"))
    again = train(begun, tmp_path / "again", data_dir=data)
    assert isinstance(again, LocalizationResult)
