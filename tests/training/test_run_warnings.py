"""What looks wrong with a run is told before it starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_keras.cli import train
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed import strategy as distribution
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training import run_warnings as module
from resnet_keras.training.inputs import TrainingInputs, prepare_inputs
from resnet_keras.training.run_warnings import run_warnings

USUAL = RECIPES["digits"]
FINETUNE = RECIPES["finetune"].replace(model="resnet20", weights="digits", image_size=8)


def folder_of(root: Path, train: dict[str, int], test: dict[str, int]) -> Path:
    """Writes gray images of 8x8 pixels, as many of each class as they say."""
    for part, counts in (("train", train), ("test", test)):
        for name, count in counts.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def inputs_of(recipe: Recipe, root: Path | None = None, **options: Any) -> TrainingInputs:
    return prepare_inputs(recipe, DataSource(data_dir=root), **options)


@pytest.fixture(autouse=True)
def usual_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which TensorFlow decides nothing that is worth a warning."""
    monkeypatch.setattr(module, "leaves_onednn_off", lambda: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """53 training images, 14 test images."""
    return folder_of(tmp_path_factory.mktemp("few"), {"cat": 27, "dog": 26}, {"cat": 7, "dog": 7})


def test_a_usual_run_has_no_warnings() -> None:
    assert run_warnings(inputs_of(USUAL)) == ()


def test_a_processor_on_which_training_could_be_faster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "leaves_onednn_off", lambda: True)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    (found,) = run_warnings(inputs_of(USUAL))
    assert found.startswith("TensorFlow leaves oneDNN off on this processor; set TF_ENABLE_ONEDNN_OPTS=1 in the")
    with monkeypatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # somebody wants it so
        assert run_warnings(inputs_of(USUAL)) == ()
    monkeypatch.setattr(distribution, "gpus", lambda: ["NVIDIA H200"])
    assert run_warnings(inputs_of(USUAL)) == ()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"warmup_steps": 4000}, "all of the 1,760 steps are warm-up; lower `warmup_steps` or `warmup_epochs`"),
        ({"warmup_steps": 900}, "900 of the 1,760 steps are warm-up; lower `warmup_steps` or `warmup_epochs`"),
        ({"batch_size": 1024}, "414 of 1,438 images are left out of each epoch, others in each; set `carry_over`"),
        ({"batch_size": 1024}, "the run has 40 steps; for more, raise `epochs` or lower `batch_size`"),
        ({"batch_size": 1024, "epochs": 60}, "an epoch is one step; lower `batch_size` for more"),
        ({"batch_size": 4}, "batch normalization takes its statistics from 4 images; set `freeze_batch_norms`"),
        ({"accumulate": 8}, "batch normalization takes its statistics from 4 images"),
        ({"freeze_batch_norms": True}, "random weights are frozen by `freeze_batch_norms`; give `weights`"),
    ],
)
def test_settings_that_look_wrong_are_named(changes: dict[str, Any], warning: str) -> None:
    assert any(found.startswith(warning) for found in run_warnings(inputs_of(USUAL.replace(**changes))))


def test_replicas_share_the_images_of_batch_normalization() -> None:
    assert "from 4 images" in run_warnings(inputs_of(USUAL), replicas=8)[0]
    assert run_warnings(inputs_of(USUAL.replace(batch_norm="synchronized")), replicas=8) == ()
    few = USUAL.replace(batch_norm="synchronized", accumulate=8)  # which parts of a step do not share
    assert "from 4 images" in run_warnings(inputs_of(few), replicas=4)[0]


def test_quantization_aware_training_takes_no_statistics_of_few_images() -> None:
    few = USUAL.replace(weights="digits", quantization_aware=True, batch_size=4)
    assert run_warnings(inputs_of(few)) == ()


def test_few_images_are_told(folder: Path) -> None:
    plain = USUAL.replace(dataset="folder", image_size=8, pad_pixels=0, warmup_steps=0)
    assert run_warnings(inputs_of(plain, folder)) == (
        "the run has 40 steps; for more, raise `epochs` or lower `batch_size`",
        "21 of 53 images are left out of each epoch, others in each; set `carry_over` to train all",
        "53 images are few for random weights; give `weights`, e.g. imagenet",
        "14 test images decide little: each is 7.1% of the error",
    )
    assert run_warnings(inputs_of(FINETUNE, folder)) == ("14 test images decide little: each is 7.1% of the error",)


def test_classes_with_too_few_images_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"cat": 1, "dog": 9, "emu": 1}, {"cat": 60, "dog": 60, "emu": 60})
    assert run_warnings(inputs_of(FINETUNE, root)) == ("one training image alone of cat, emu",)


@pytest.mark.parametrize(("count", "size", "steps"), [(10, 2, 5), (53, 13, 5), (500, 32, 16), (3, 1, 3)])
def test_few_images_have_small_batches_and_all_of_them_train(tmp_path: Path, count: int, size: int, steps: int) -> None:
    root = folder_of(tmp_path, {"cat": count - 1, "dog": 1}, {"cat": 1, "dog": 1})
    inputs = inputs_of(FINETUNE, root)
    assert (inputs.recipe.data.batch_size, inputs.steps) == (size, steps)
    assert inputs.recipe.lr_scale == size / 32


def test_small_batches_divide_among_replicas(folder: Path) -> None:
    assert inputs_of(FINETUNE, folder, replicas=4).recipe.data.batch_size == 12
    assert inputs_of(FINETUNE.replace(accumulate=8), folder, replicas=2).recipe.data.batch_size == 16


def test_a_classifier_is_fitted_unless_the_weights_have_the_same_one(folder: Path, tmp_path: Path) -> None:
    assert inputs_of(FINETUNE, folder).fits_head
    assert not inputs_of(USUAL.replace(weights="digits", fit_head=True)).fits_head
    assert not inputs_of(FINETUNE.replace(weights=None), folder).fits_head
    animals = {f"animal{i}": 3 for i in range(10)}  # as many classes as digits, but others
    assert inputs_of(FINETUNE, folder_of(tmp_path, animals, animals)).fits_head


@pytest.mark.slow
def test_the_program_prints_its_warnings_with_the_names_of_flags(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["finetune", "--model", "resnet20", "--weights", "digits", "--image-size", "8", "--batch-size", "4"]
    arguments += ["--data-dir", str(folder), "--workdir", str(tmp_path), "--epochs", "1", "--no-freeze-batch-norms"]
    wanted = "warning: batch normalization takes its statistics from 4 images; set --freeze-batch-norms, or raise"
    for flags in (["--dry-run"], []):
        assert train.main([*arguments, *flags]) == 0
        assert capsys.readouterr().out.count(wanted) == 1
