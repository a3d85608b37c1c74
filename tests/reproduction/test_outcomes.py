"""What runs came to, by network and seed."""

from pathlib import Path

from helpers.reproduced import DEGRADATION, THREE_SEEDS, three_seeds, write_run

from resnet_keras.reproduction.folder import ReproductionFolder
from resnet_keras.reproduction.outcomes import mean_and_deviation, outcomes


def test_errors_are_per_cent_by_seed(tmp_path: Path) -> None:
    shallow, deep, residual, _ = outcomes(three_seeds(tmp_path), THREE_SEEDS, "smoke")
    assert shallow.errors("training") == {0: 10.0, 1: 12.0, 2: 17.0}
    assert deep.errors("test") == {0: 50.0, 1: 50.0}
    assert deep.errors("ten_crop") == {}
    assert (residual.errors("training"), residual.images_per_second) == ({}, None)
    assert shallow.images_per_second == 500


def test_unfinished_runs_and_runs_of_another_recipe_are_not_counted(tmp_path: Path) -> None:
    folder = ReproductionFolder(tmp_path)
    variant = DEGRADATION.variants["smoke"][0]
    write_run(folder, variant.recipe, test=None)
    (first, *_) = outcomes(folder, DEGRADATION, "smoke")
    assert not first.runs
    assert [run.progress for run in first.begun] == ["epoch 6 of 6"]
    write_run(folder, variant.recipe.replace(peak_lr=0.7))
    (first, *_) = outcomes(folder, DEGRADATION, "smoke")
    assert (first.runs, first.begun) == ({}, ())


def test_a_mean_of_one_has_no_deviation() -> None:
    assert mean_and_deviation([]) == "–"
    assert mean_and_deviation([1.5], signed=True) == "+1.50"
    assert mean_and_deviation([1.0, 2.0], 3) == "1.500 ± 0.707"
