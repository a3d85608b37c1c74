"""The plan of a run, without running it."""

import importlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

from resnet_keras.applications.classifier import Classifier
from resnet_keras.cli import train as program
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.networks.complexity import multiply_adds, parameters
from resnet_keras.recipes.catalog import RECIPES, Recipe
from resnet_keras.training import data
from resnet_keras.training.inputs import TrainingInputs, precision, prepare_inputs
from resnet_keras.training.model import compile_network
from resnet_keras.training.run_plan import RunPlan, dry_run, memory
from resnet_keras.training.schedules import learning_rate_schedule

LITTLE = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
STEPS = 11
MODULE = importlib.import_module("resnet_keras.training.run_plan")
UNIT = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", LITTLE)
        yield


def recipe_of(**changes: Any) -> Recipe:
    digits = RECIPES["digits"].replace(model="little", epochs=4, batch_size=128, warmup_steps=5)
    return digits.replace(**changes)


def network(**changes: Any) -> keras.Model:
    return compile_network(recipe_of(**changes), UNIT, 10, STEPS)


def drawn(file: Path) -> np.ndarray:
    picture = tf.io.decode_png(file.read_bytes()).numpy()
    assert min(picture.shape[:2]) > 50
    assert np.ptp(picture[..., :3]) > 100
    return picture


def test_it_prints_and_draws_and_trains_nothing(tmp_path: Path) -> None:
    policy = keras.config.dtype_policy().name
    plan = dry_run(recipe_of(precision="mixed_bfloat16"), tmp_path / "new" / "run")
    assert keras.config.dtype_policy().name == policy
    count = parameters(network())
    assert plan.summary.startswith("little on digits: ")
    assert plan.summary.endswith("1,438 images, 4 epochs of 11 steps of 128, 1 replica")
    assert plan.sizes == ((4, 8),)
    assert plan.multiply_adds == pytest.approx(3 * multiply_adds(network()) * 4 * STEPS * 128)
    assert plan.memory[0] == 12 * count
    assert plan.files == tuple(tmp_path / "new" / "run" / name for name in ("schedule.png", "batch.png"))
    assert sorted(path.name for path in (tmp_path / "new" / "run").iterdir()) == ["batch.png", "schedule.png"]
    for file in plan.files:
        drawn(file)
    said = str(plan).splitlines()
    assert said[0] == plan.summary
    last = 0.025 * (1 + math.cos(math.pi * 38 / 39))
    assert said[1] == f"learning rate: 0.01 at first, 0.05 at step 5, {last:.3g} at the end, step 43"
    assert said[2] == "images: 8x8 for 4 epochs"
    assert (
        "estimated memory of each device: 0.00 GiB of weights, gradients and optimizer, 0.00 GiB of activations"
        in said[3]
    )
    assert said[-2:] == [f"see {file}" for file in plan.files]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr_schedule": "step", "lr_drops": (0.5, 0.75)},
        {"lr_schedule": "one_cycle", "warmup_epochs": 1.0},
        {"lr_batch_size": 64, "warmup_steps": 0},
        {"epochs": 300},
    ],
)
def test_its_rates_are_those_of_the_schedule(changes: dict[str, Any]) -> None:
    recipe = recipe_of(**changes)
    steps, rates = MODULE._rates(recipe, STEPS)
    schedule = learning_rate_schedule(recipe, STEPS)
    assert (steps[0], steps[-1]) == (0, recipe.schedule.epochs * STEPS - 1)
    assert len(steps) == min(recipe.schedule.epochs * STEPS, 1000)
    assert (np.diff(steps) > 0).all()
    for i in (0, int(rates.argmax()), len(steps) // 2, -1):
        assert rates[i] == float(schedule(int(steps[i])))
    every = (
        [float(schedule(step)) for step in range(recipe.schedule.epochs * STEPS)]
        if recipe.schedule.epochs < 10
        else [rates.max()]
    )
    assert rates.max() == max(every)


@pytest.mark.slow
def test_sizes_are_printed_phase_by_phase_and_count_by_their_area(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_draw_schedule", lambda *args: None)
    plan = dry_run(recipe_of(train_sizes=(6, 12)), tmp_path)
    assert plan.sizes == ((2, 6), (2, 12))
    assert "images: 6x6 for 2 epochs, 12x12 for 2 epochs" in str(plan)
    largest = compile_network(recipe_of(), UNIT.at(12), 10, STEPS)
    assert plan.multiply_adds == pytest.approx(3 * multiply_adds(largest) * STEPS * 128 * 2 * (1 + 0.25))
    assert plan.memory == memory(largest, recipe_of(), 1)
    one = dry_run(recipe_of(train_sizes=(6,)), tmp_path)
    assert one.sizes == ((4, 6),)
    assert one.multiply_adds == pytest.approx(plan.multiply_adds / 2.5, rel=0.01)  # but for the head
    assert one.memory == memory(network(), recipe_of(), 1)  # of validation, whose images are larger


def test_a_teacher_computes_too(tmp_path: Path) -> None:
    alone, taught = (
        dry_run(recipe_of(**changes), tmp_path / "run") for changes in ({}, {"teacher": "resnet20_digits"})
    )
    teacher = Classifier.from_pretrained("resnet20_digits").model
    assert taught.multiply_adds - alone.multiply_adds == pytest.approx(multiply_adds(teacher) * 4 * STEPS * 128)
    assert taught.memory[0] - alone.memory[0] == 4 * parameters(teacher)


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({}, 3),
        ({"optimizer": "lamb", "l2": 0.0}, 4),
        ({"ema": 0.9}, 4),
        ({"optimizer": "lamb", "l2": 0.0, "ema": 0.9}, 5),
    ],
)
def test_memory_of_weights_is_of_all_their_copies(changes: dict[str, Any], copies: int) -> None:
    model = network(**changes)
    kept = [variable for variable in model.optimizer.variables if variable.shape in {v.shape for v in model.weights}]
    assert len(kept) >= len(model.trainable_weights) * (copies - 2 - bool(changes.get("ema")))
    assert memory(model, recipe_of(**changes), 1)[0] == 4 * copies * parameters(model)


def test_memory_of_activations_is_in_proportion_to_the_images_at_once() -> None:
    model = network()
    held, activations = memory(model, recipe_of(), 1)
    for changes, replicas, factor in (
        ({"batch_size": 256}, 1, 2.0),
        ({"accumulate": 4}, 1, 0.25),
        ({}, 2, 0.5),
        ({"accumulate": 2}, 4, 0.125),
    ):
        assert memory(model, recipe_of(**changes), replicas) == (held, activations * factor)
    with precision("mixed_bfloat16"):
        half = memory(network(), recipe_of(), 1)
    assert half[0] == held
    assert 0.5 <= half[1] / activations < 0.52  # but for the head, in float32
    # Into the stem go 8x8x1 numbers, into its normalization 8x8x4, and so on.
    first = 4 * 128 * 8 * 8 * (1 + 4 + 4 + 4 + 4 + 4)  # stem, and the first block's two convolutions
    assert first < activations < 3 * first


def start_of(**changes: Any) -> TrainingInputs:
    return prepare_inputs(recipe_of(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.2, "cutmix": 1.0},
        pytest.param({"label_smoothing": 0.1}, marks=pytest.mark.slow),
        pytest.param({"loss": "binary"}, marks=pytest.mark.slow),
        {"batch_size": 3},
    ],
)
def test_a_batch_of_any_labels_is_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    start = start_of(**changes)
    MODULE._draw_batch(start, start.preprocessing, tmp_path / "batch.png")
    drawn(tmp_path / "batch.png")


def test_colors_are_drawn_in_their_order(tmp_path: Path) -> None:
    start = start_of(batch_size=1, pad_pixels=0)
    orange = np.broadcast_to(np.array([250, 120, 10], np.uint8), (1, 8, 8, 3))
    split = replace(start.data.train_split, images=orange, labels=np.zeros(1, np.int64))
    for order in ("rgb", "bgr"):
        mean = (100.0, 110.0, 120.0)
        chosen = Preprocessing(image_size=(8, 8), channels=3, mean=mean, std=(50.0,) * 3, channel_order=order)
        MODULE._draw_batch(
            replace(start, data=replace(start.data, train_split=split)), chosen, tmp_path / f"{order}.png"
        )
        picture = drawn(tmp_path / f"{order}.png")[..., :3].reshape(-1, 3).astype(int)
        assert (np.abs(picture - [250, 120, 10]).max(1) <= 2).mean() > 0.2
        assert (np.abs(picture - [10, 120, 250]).max(1) <= 2).mean() == 0


def test_the_schedule_is_drawn_over_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: (figures.append(figure), file.touch()))
    dry_run(recipe_of(), tmp_path)
    (axes,), grid = (figure.axes for figure in figures)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "learning rate")
    assert axes.get_title() == "little: 4 epochs of 11 steps"
    assert axes.get_xlim() == (0, 4)
    assert figures[1].get_suptitle() == "first batch as the network sees it: 8x8 pixels, augmented"
    assert len(grid) == 32
    assert all(axes.get_title() in map(str, range(10)) for axes in grid)


def test_labels_are_named_by_their_largest_parts() -> None:
    names = ("cat", "dog", "fox")
    assert data._label_in_words(np.int64(1), names) == "dog"
    assert data._label_in_words(np.array([0.02, 0.95, 0.03]), names) == "dog 95%"
    assert data._label_in_words(np.array([0.3, 0.0, 0.7]), names) == "fox 70%\ncat 30%"


def test_missing_data_raise_as_in_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dry_run(recipe_of(dataset="folder", image_size=8), tmp_path / "run", data_dir=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at most 1438, all training images"):
        dry_run(recipe_of(batch_size=1439), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_replicas_cannot_share_raises_as_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_keras.distributed.strategy.replicas", lambda chosen: 3)
    with pytest.raises(ValueError, match="`batch_size` that 3 replicas can share. Received: 128"):
        dry_run(recipe_of(), tmp_path / "run")


def test_a_folder_of_another_recipe_raises_as_in_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({"schedule": {"epochs": 9}}))
    (tmp_path / "checkpoints" / "step_000000001").mkdir(parents=True)
    with pytest.raises(ValueError, match="Expected the recipe that .* was begun with"):
        dry_run(recipe_of(), tmp_path)


def test_the_program_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def fake_dry_run(recipe: Recipe, workdir: Path, **reading: Any) -> RunPlan:
        asked.append((recipe.schedule.epochs, workdir, reading))
        return dry_run(recipe.replace(model="little", batch_size=128), workdir, **reading)

    monkeypatch.setattr("resnet_keras.training.dry_run", fake_dry_run)
    run = tmp_path / "run"
    assert program.main(["digits", "--dry-run", "--epochs", "7", "--workdir", str(run)]) == 0
    reading = {"data_dir": None, "download": False, "cpu_replicas": None, "skip_broken": False}
    assert asked == [(7, run, reading)]
    said = capsys.readouterr().out
    assert "1,438 images, 7 epochs of 11 steps of 128" in said
    assert f"see {run / 'batch.png'}" in said
    assert sorted(path.name for path in run.iterdir()) == ["batch.png", "schedule.png"]
    missing = ["digits", "--dry-run", "--dataset", "folder", "--workdir", str(tmp_path / "other")]
    assert program.main(missing) == 2
    err = capsys.readouterr().err
    assert "Expected a folder of images" in err
    assert "Traceback" not in err
