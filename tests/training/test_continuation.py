"""More epochs after a finished run."""

import csv
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.little_detector_runs import RECIPE as BOXES
from helpers.little_detector_runs import write_shapes
from helpers.little_localizer_runs import RECIPE as ONE_BOX
from helpers.little_localizer_runs import write_squares
from helpers.mask_folders import LITTLE as IMAGENET_STEM
from helpers.mask_folders import mask_recipe
from helpers.short_recipes import PLAIN
from helpers.small_networks import drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.opening import DataSource
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.training import state
from resnet_keras.training.continuation import Continuation
from resnet_keras.training.run_plan import dry_run
from resnet_keras.training.schedules import learning_rate_schedule
from resnet_keras.training.tasks import task_of
from resnet_keras.training.trainer import train

LITTLE = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
RECIPE = PLAIN.replace(epochs=2, lr_schedule="cosine")
LONGER = RECIPE.replace(epochs=3)
STARTS: list[list[np.ndarray]] = []
FOLDER = importlib.import_module("resnet_keras.runs.folder")


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    """Trains a little network, and keeps the weights that runs start with."""
    initialize = state.TrainingState.initialize

    def kept(self: state.TrainingState, *args: Any) -> None:
        initialize(self, *args)
        STARTS.append(self.model.get_weights())

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", LITTLE)
        patch.setitem(ARCHITECTURES, "imagenet_stem", IMAGENET_STEM)
        patch.setattr(state.TrainingState, "initialize", kept)
        patch.setattr(FOLDER.RunFolder, "write_curves", lambda folder, history: None)
        yield
    STARTS.clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(RECIPE.replace(model="little"), folder)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_continued_run_trains_the_later_epochs_of_the_longer_schedule(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resnet_keras")
    recipe = LONGER.replace(model="little", continue_from=str(finished))
    steps: list[int] = []

    class Counted(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            steps.append(int(self.model.optimizer.iterations.numpy()))

    train(recipe, tmp_path / "longer", callbacks=[Counted()])
    assert steps == list(range(1, 9))  # momentum starts at zero, and the optimizer counts from there
    for found, expected in zip(STARTS[-1], Classifier.load(finished).model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    before, after = rows(finished), rows(tmp_path / "longer")
    assert [row["epoch"] for row in after] == ["1", "2", "3"]
    assert [row["loss"] for row in after[:2]] == [row["loss"] for row in before]
    rate = float(learning_rate_schedule(LONGER, 8)(23))  # of the last step, not of the one that would be next
    assert float(after[2]["learning_rate"]) == pytest.approx(rate)
    assert f"continued from {finished} after epoch 2, with momentum at zero: epochs 3 to 3" in caplog.text
    assert "those before had the rates of a run of 2" in caplog.text
    assert (tmp_path / "longer" / "evaluation.json").is_file()


def test_rates_are_those_of_one_run_of_all_epochs() -> None:
    whole, later = learning_rate_schedule(LONGER, 8), learning_rate_schedule(LONGER, 8, 16)
    assert [float(later(step)) for step in range(8)] == [float(whole(step)) for step in range(16, 24)]
    assert 0 < float(later(7)) < float(later(0)) < LONGER.schedule.peak_lr


@pytest.mark.slow
def test_the_plan_says_what_is_continued(finished: Path, tmp_path: Path) -> None:
    plan = dry_run(LONGER.replace(model="little", continue_from=str(finished)), tmp_path / "plan")
    assert f"continued from {finished} after epoch 2" in str(plan)
    assert plan.rates[0].tolist() == list(range(16, 24))
    assert plan.sizes == ((1, 8),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 2}, r"Expected `epochs` to be more than the 2 of .*, which count, too\. Received: 2"),
        ({"l2": 0.5}, r"apart from its schedule\. Received: l2=0\.5 \(there 0\.0005\)\. .* name it in `weights`"),
    ],
)
def test_what_does_not_continue_a_run_is_refused(
    finished: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = LONGER.replace(model="little", continue_from=str(finished), **changes)
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path)
    assert not (tmp_path / "recipe.json").exists()


def test_an_unfinished_run_and_a_folder_without_a_run_are_refused(finished: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.json").write_bytes((finished / "recipe.json").read_bytes())
    recipe = LONGER.replace(model="little", continue_from=str(unfinished))
    with pytest.raises(ValueError, match=r"a finished run; its own command finishes it\. .*at epoch 0 of 2"):
        train(recipe, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"to be the folder of a run\. Received: .*none"):
        train(recipe.replace(continue_from=str(tmp_path / "none")), tmp_path / "run")


def test_more_epochs_in_the_same_folder_are_refused_with_the_way_on(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"epochs=3 \(begun with 2\)\. .*`continue_from` to .*/run and name another"):
        train(LONGER.replace(model="little"), finished)
    with pytest.raises(ValueError, match=r"l2=0\.5 \(begun with 0\.0005\)$"):
        train(RECIPE.replace(model="little", l2=0.5), finished)


OTHER_TASKS = {
    "fcn": mask_recipe(model="resnet18", auxiliary_loss=0.4),
    "unet": mask_recipe(model="resnet18", head="unet", output_stride=None, crop_size=(32, 64)),
    "localization": ONE_BOX,
    "fpn": BOXES,
    "c4": BOXES.replace(detector="c4", anchor_sizes=(16.0, 32.0), background_overlap=0.1),
}


def data_of(recipe: Recipe, mask_data: Path, folder: Path) -> Path:
    """Returns a folder of masks, or writes one of boxes."""
    if recipe.task == "segmentation":
        return mask_data
    return write_squares(folder) if recipe.task == "localization" else write_shapes(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_TASKS)
def test_a_saved_network_of_every_task_goes_on_as_the_network_that_was_trained(
    name: str, mask_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resnet_keras")
    recipe = OTHER_TASKS[name].replace(model="imagenet_stem")
    task = task_of(recipe)
    source = DataSource(data_dir=data_of(recipe, mask_data, tmp_path / "data"))
    inputs = task.open_inputs(recipe, source, None, replicas=1)
    model = drawn(task.create_network(inputs))
    before = {layer.name: layer.get_weights() for layer in flat_layers(model) if layer.weights}
    task.finished(inputs, model).save(tmp_path / "model.keras")
    continuation = Continuation("runs/first", task.load(tmp_path / "model.keras"), [], 2)
    state.TrainingState(drawn(model, seed=9), None, None, None)._continue(continuation)
    for layer in flat_layers(model):
        for found, expected in zip(layer.get_weights(), before.get(layer.name, []), strict=True):
            assert np.array_equal(found, expected) != layer.name.startswith("auxiliary_"), layer.name
    told = "that runs/first does not have begin as in a new run: auxiliary_conv, auxiliary_conv_bn, auxiliary_logits"
    assert (told in caplog.text) == (name == "fcn")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn", "fpn"])
def test_a_run_of_masks_and_one_of_boxes_are_continued(name: str, mask_data: Path, tmp_path: Path) -> None:
    recipe: Recipe = OTHER_TASKS[name].replace(model="imagenet_stem", epochs=1)
    folder = data_of(recipe, mask_data, tmp_path / "data")
    train(recipe, tmp_path / "first", data_dir=folder)
    later = recipe.replace(epochs=2, continue_from=str(tmp_path / "first"))
    train(later, tmp_path / "second", data_dir=folder)
    assert [row["loss"] for row in rows(tmp_path / "second")][:1] == [row["loss"] for row in rows(tmp_path / "first")]
    assert len(rows(tmp_path / "second")) == 2
