"""Localization by the one loop and the program: train, resume, evaluate, predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.little_localizer_runs import RECIPE, write_squares
from helpers.two_devices import run_on_two_devices

from resnet_keras.cli import evaluate, export, predict
from resnet_keras.data.opening import DataSource
from resnet_keras.detection import LocalizationResult, Localizer
from resnet_keras.detection.box_input import BoxAugmentation
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training import localization, localization_data
from resnet_keras.training.detection import canvas_preprocessing
from resnet_keras.training.image_size_phases import Phase
from resnet_keras.training.tasks import task_of
from resnet_keras.training.trainer import train


def test_the_head_decides_the_task_and_its_fields() -> None:
    assert task_of(RECIPE) is localization
    assert RECIPE.network.title == "box over resnet18"
    with pytest.raises(ValueError, match="Expected `crop_area` to be None with the head box"):
        RECIPE.replace(crop_area=(0.5, 1.0))
    with pytest.raises(ValueError, match="Expected `canvas` to be None without a `detector`"):
        RECIPE.replace(canvas=(64, 64))


@pytest.mark.parametrize("flip", [False, True])
def test_training_batches_have_the_recipes_flip_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    recipe, seen = RECIPE.replace(flip=flip, seed=3), []
    data = localization.open_inputs(
        recipe, DataSource(data_dir=write_squares(tmp_path, train=4, test=1)), None, replicas=1
    ).data
    monkeypatch.setattr(localization_data, "box_batches", lambda *args, **options: seen.append((args[1:], options)))
    monkeypatch.setattr(localization_data, "with_targets", lambda batches, preprocessing: batches)
    preprocessing = canvas_preprocessing((64, 64), None)
    data.batches(recipe, preprocessing, Phase(1, 2, 1, None), None, deterministic=False)
    assert seen == [
        (
            (preprocessing, BoxAugmentation(flip=flip)),
            {
                "batch_size": 4,
                "epochs": 2,
                "seed": 3,
                "first_step": 1,
                "last_step": 2,
                "most_boxes": 1,
                "deterministic": False,
                "rows": range(4),
            },
        )
    ]


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


TWO_DEVICES = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
from helpers.little_localizer_runs import RECIPE
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed.strategy import create_strategy
from resnet_keras.training import localization
from resnet_keras.training.image_size_phases import Phase

recipe = RECIPE.replace(freeze_batch_norms=True)
inputs = localization.open_inputs(recipe, DataSource(data_dir=sys.argv[1]), None, replicas=2)
batches = inputs.data.batches(recipe, inputs.preprocessing, Phase(0, 2, 3, None), None, deterministic=True)
found = []
for strategy in (tf.distribute.get_strategy(), create_strategy(2)):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = localization.create_network(inputs)
    losses = model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0).history
    validation = inputs.data.validation(recipe, inputs.preprocessing, strategy)
    found.append([losses, model.evaluate(validation, verbose=0, return_dict=True)])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_train_and_validate_as_one(tmp_path: Path) -> None:
    one, two = json.loads(run_on_two_devices(TWO_DEVICES, write_squares(tmp_path / "squares")))
    for own, other in zip(one, two, strict=True):
        assert set(own) == {"loss", "accuracy", "localized"}
        for name, values in own.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-4, err_msg=name)
