"""The weights of a run in one file: the command that repeats it, and its errors."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe, flatten
from resnet_keras.runs.folder import RunFolder, dataset_of
from resnet_keras.runs.trained_weights import training_command, write_run_weights
from resnet_keras.weights.weights_file import read_facts


def test_a_run_becomes_a_file_with_its_training_and_its_errors(digits_run: Path, tmp_path: Path) -> None:
    facts = write_run_weights(digits_run, tmp_path / "x.safetensors")
    assert asdict(read_facts(tmp_path / "x.safetensors")) == asdict(facts)
    assert facts.command == "resnet train digits --model resnet20 --epochs 6 --seed 0"
    assert Recipe.from_flat(**flatten(facts.recipe)) == RECIPES["digits"].replace(epochs=6)
    assert [row["epoch"] for row in facts.history] == [1, 2, 3, 4, 5, 6]
    assert not {"data_dir", "own_data"} & facts.machine.keys()
    assert facts.machine["keras"] == RunFolder(digits_run).data()["keras"]
    measured = RunFolder(digits_run).evaluation()
    assert facts.evaluation["images"] == measured.images == 359
    assert facts.evaluation["top1_error"] == pytest.approx(measured.top1_error, abs=2 / 359)
    assert facts.mirrored_evaluation["images"] == 359
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    expected = Classifier.load(digits_run).probabilities(images)
    found = Classifier.from_pretrained(tmp_path / "x.safetensors").probabilities(images)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert not np.array_equal(found, expected)


def test_the_command_has_a_flag_for_each_other_value() -> None:
    recipe = RECIPES["cifar10_fast"].replace(
        model="resnet32", epochs=3, lr_drops=(0.3, 0.6), test_flip=False, seed=4, clip_norm=1.5
    )
    command = training_command(recipe)
    assert command.startswith("resnet train cifar10_fast --model resnet32 ")
    assert command.endswith(" --seed 4")
    for flag in ("--epochs 3", "--lr-drops 0.3 0.6", "--clip-norm 1.5"):
        assert flag in command


def test_other_suffixes_and_unfinished_runs_are_refused(digits_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.safetensors. Received: x\.bin"):
        write_run_weights(digits_run, "x.bin")
    with pytest.raises(FileNotFoundError, match="Expected a finished run's folder"):
        write_run_weights(tmp_path, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_weights_in_the_package_know_their_data_set() -> None:
    assert dataset_of("resnet20_digits", None, None) == ("digits", None)
    assert dataset_of("resnet20_digits", None, "there") == ("digits", "there")
    assert dataset_of("resnet20_digits", "cifar10", "there") == ("cifar10", "there")
