"""What a run was begun with: weights and a teacher that have changed since are another run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from helpers.messages import interrupt, on_message
from helpers.small_networks import drawn

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training.inputs import TrainingInputs, initial_weights
from resnet_keras.training.origin import origin_of
from resnet_keras.training.trainer import train

LITTLE = Architecture(stem="cifar", block="basic", repeats=(1,), widths=(4,))
GRAY = Preprocessing(image_size=(8, 8), channels=1, mean=(78.0,), std=(96.0,))
FOUND: Any = None  # data are not read
IMAGES = {"train": {"images": 3}}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setitem(ARCHITECTURES, "little", LITTLE)
    monkeypatch.setattr(RunFolder, "write_curves", lambda folder, history: None)
    return RECIPES["digits"].replace(
        model="little", epochs=2, lr_drops=(), batch_size=128, weights=str(tmp_path / "begin.keras"), teacher="initial"
    )


def classifier(classes: str = "0123456789", preprocessing: Preprocessing = GRAY) -> Classifier:
    model = build(LITTLE, input_shape=(8, 8, 1), classes=10, classifier_activation=None)
    return Classifier(drawn(model), preprocessing, tuple(classes))


def moved() -> Classifier:
    made = classifier()
    made.model.layers[-1].bias.assign_add(keras.ops.ones(10))
    return made


def origin(recipe: Recipe, saved: Classifier, teacher: Classifier | None = None) -> dict[str, Any]:
    saved.save(Path(str(recipe.network.weights)))
    inputs = TrainingInputs(recipe, FOUND, GRAY, 1, initial_weights(recipe), teacher=teacher)
    return origin_of(recipe, inputs, IMAGES)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (classifier, []),
        (moved, ["initial_weights"]),
        (lambda: classifier("9876543210"), ["initial_weights"]),
        (lambda: classifier(preprocessing=replace(GRAY, mean=(0.0,))), ["initial_preprocessing"]),
    ],
)
def test_other_initial_weights_classes_or_preprocessing_are_another_origin(
    recipe: Recipe, tmp_path: Path, change: Callable[[], Classifier], names: list[str]
) -> None:
    before, now = origin(recipe, classifier()), origin(recipe, change())
    assert [name for name in now if now[name] != before[name]] == names
    folder = tmp_path / "checkpoints" / "step_000000012"
    folder.mkdir(parents=True)
    (folder / "progress.json").write_text(json.dumps({"origin": before}))
    checkpoints = Checkpoints(folder.parent, lambda variable: [variable], now)
    if names:
        with pytest.raises(ValueError, match=f"step_000000012, of another: {names[0]}=.{{16}} .here .{{16}}.; move it"):
            checkpoints.check()
        old = {name: value for name, value in before.items() if name not in names}  # of an earlier version
        (folder / "progress.json").write_text(json.dumps({"origin": old}))
    checkpoints.check()


def test_a_teacher_of_other_weights_or_preprocessing_is_another_origin(recipe: Recipe) -> None:
    before = origin(recipe, classifier(), classifier())
    for teacher, name in (
        (moved(), "teacher_weights"),
        (classifier(preprocessing=replace(GRAY, std=(1.0,))), "teacher_preprocessing"),
    ):
        now = origin(recipe, classifier(), teacher)
        assert [key for key in now if now[key] != before[key]] == [name]


@pytest.mark.slow
def test_a_run_whose_initial_weights_have_changed_is_not_resumed(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "begin.keras"
    classifier().save(file)
    with pytest.raises(KeyboardInterrupt), on_message("epoch 1/", interrupt):
        train(recipe, tmp_path / "run")
    moved().save(file)
    with pytest.raises(ValueError, match=r"Expected the checkpoints of one run .*: initial_weights="):
        train(recipe, tmp_path / "run")
    classifier().save(file)
    assert train(recipe, tmp_path / "run").images == 359
