"""Detectors are trained by the one loop: a run, its result, resumption, and two devices."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.little_detector_runs import RECIPE, write_shapes
from helpers.two_devices import run_on_two_devices

from resnet_keras.cli.program import main
from resnet_keras.data.opening import DataSource
from resnet_keras.detection.box_input import BoxAugmentation
from resnet_keras.detection.detector import Detector, is_detector
from resnet_keras.detection.results import DetectionResult
from resnet_keras.detection.targets import SamplingRules
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training import box_data, detection
from resnet_keras.training.box_data import BoxData, evenly
from resnet_keras.training.image_size_phases import Phase
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.tasks import task_of
from resnet_keras.training.trainer import train


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of nine images of rectangles in VOC's layout."""
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def data(shapes: Path) -> BoxData:
    """The images of `shapes`."""
    return BoxData(*detection.open_training_boxes(DataSource(data_dir=shapes)), None)


def test_the_recipe_decides_the_task() -> None:
    assert task_of(RECIPE) is detection
    assert task_of(RECIPES["digits"]) is not detection


def test_recipes_name_detectors_with_their_changes() -> None:
    paper = detection.detector_row(RECIPES["voc_frcnn_c4"])
    assert (paper.neck, paper.anchor_sizes, paper.proposals) == ("c4", ((128, 256, 512),), (2000, 300))
    little = detection.detector_row(RECIPE)
    assert (little.channels, little.box_units, little.proposals) == (8, 16, (40, 20))
    assert little.anchor_sizes == ((12,), (24,), (32,), (48,), (64,))
    assert little.frozen_batch_norm
    assert not little.global_context
    assert detection.detector_row(RECIPE.replace(global_context=True)).global_context


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"canvas": None}, "Expected a `canvas` with `detector`"),
        ({"canvas": (64, 100)}, "multiples of 32 with a pyramid"),
        ({"anchor_sizes": (8.0, 16.0)}, "one size for each of 5 maps"),
        ({"mixup": 0.2}, "Expected `mixup` to be 0.0 with `detector`. Received: 0.2"),
        ({"head": "unet"}, "Expected `head` to be None with `detector`. Received: 'unet'"),
        ({"crop_area": (0.5, 1.0)}, "Expected `crop_area` to be None with `detector`"),
    ],
)
def test_settings_that_do_not_fit_a_detector_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RECIPE.replace(**changes)


def test_fields_of_detectors_are_for_detectors_alone() -> None:
    with pytest.raises(ValueError, match="Expected `canvas` to be None without a `detector`. Received: \\(64, 64\\)"):
        RECIPES["digits"].replace(canvas=(64, 64))


def test_data_of_a_run(data: BoxData) -> None:
    assert data.description == ("2 classes (green, red); 6 images with 6 objects; 3 images for the test")
    assert data.steps(RECIPE) == 3
    with pytest.raises(ValueError, match="at most 6, all training images. Received: 7"):
        data.steps(RECIPE.replace(batch_size=7))
    assert [example.identity for example in evenly(data.test_split, 2).examples] == ["test6", "test8"]
    before = data.fingerprint()
    assert before == data.fingerprint()
    other = BoxData(evenly(data.train_split, 5), data.test_split, None).fingerprint()
    assert (other["train"] == before["train"], other["test"] == before["test"]) == (False, True)


def test_batches_and_pictures_of_a_run(data: BoxData, tmp_path: Path) -> None:
    preprocessing = detection.canvas_preprocessing(RECIPE.detection.canvas, None)
    phase = Phase(1, 4, 3, None)
    batches = list(data.batches(RECIPE, preprocessing, phase, None, deterministic=True))
    assert len(batches) == 3
    inputs, labels = batches[0]
    assert sorted(inputs) == ["boxes", "images", "labels", "sizes"]
    np.testing.assert_array_equal(labels, inputs["labels"])
    pixels, titles = data.pictures(batches[0], preprocessing, 2)
    assert pixels.shape == (2, 64, 64, 3)
    assert set(titles) <= {"no object", "red", "green", "green, red"}
    data.write_samples(tmp_path / "samples", preprocessing)
    assert len(list((tmp_path / "samples").glob("*.png"))) == 3


@pytest.mark.parametrize(("flip", "sides"), [(True, None), (False, (40, 56))])
def test_training_batches_have_the_recipes_augmentation_and_seed(
    data: BoxData, monkeypatch: pytest.MonkeyPatch, flip: bool, sides: tuple[int, int] | None
) -> None:
    preprocessing, seen = detection.canvas_preprocessing(RECIPE.detection.canvas, None), []
    monkeypatch.setattr(box_data, "box_batches", lambda *args, **options: seen.append((args, options)))
    monkeypatch.setattr(box_data, "mapped", lambda batches, function: batches)
    recipe = RECIPE.replace(flip=flip, train_sides=sides, seed=3)
    fitted = BoxData(data.train_split, data.test_split, (48, 64))
    fitted.batches(recipe, preprocessing, Phase(1, 4, 3, None), None, deterministic=False)
    assert seen == [
        (
            (data.train_split, preprocessing, BoxAugmentation(flip=flip, shorter_side=sides)),
            {
                "batch_size": 2,
                "epochs": 2,
                "seed": 3,
                "first_step": 1,
                "last_step": 4,
                "fit": (48, 64),
                "most_boxes": 2,
                "deterministic": False,
                "rows": range(2),
            },
        )
    ]


def test_a_network_is_trained_on_the_recipes_anchors_and_regions(
    data: BoxData, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, seen = RECIPE.replace(background_overlap=0.1, seed=3), []

    def network(*args: Any, **options: Any) -> keras.Model:
        seen.append((args, options))
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(6)])

    monkeypatch.setattr(detection, "_detector", lambda inputs: "detector")
    monkeypatch.setattr(detection, "training_network", network)
    preprocessing = detection.canvas_preprocessing(recipe.detection.canvas, None)
    detection.create_network(TrainingInputs(recipe, data, preprocessing, 3, None))
    rules = SamplingRules(anchors=32, regions=16, background_overlap=0.1)
    assert seen == [(("detector", (64, 64)), {"most_boxes": 2, "rules": rules, "seed": 3})]


def test_a_folder_without_a_part_for_the_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="as `data_dir`. Received: none"):
        detection.open_training_boxes(DataSource())
    write_shapes(tmp_path, test=0)
    with pytest.raises(FileNotFoundError, match="one for the test .*such as train and val. Received: train"):
        detection.open_training_boxes(DataSource(data_dir=tmp_path))


def test_epochs_are_validated_on_a_part_of_their_own_where_there_is_one(tmp_path: Path, data: BoxData) -> None:
    assert data.validation_split is None
    write_shapes(tmp_path, train=4, test=2)
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "val.txt").write_text("train2\n")
    (lists / "train.txt").write_text("train0\ntrain1\ntrain3\n")
    found = detection.open_inputs(RECIPE, DataSource(data_dir=tmp_path), None, replicas=1).data
    assert isinstance(found, BoxData)
    assert [example.identity for example in found.validation_split.examples] == ["train2"]
    assert "2 images for the test, 1 others for the epochs" in found.description


class _Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if int(self.model.optimizer.iterations) == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(RECIPE, folder, data_dir=shapes)
    return folder


@pytest.mark.slow
def test_a_run_has_a_detector_and_its_average_precision(run: Path, shapes: Path, data: BoxData) -> None:
    saved = read_run(run)
    assert isinstance(saved.evaluation, DetectionResult)
    assert (saved.evaluation.images, saved.evaluation.objects) == (3, 3)
    losses = ("objectness_loss", "proposal_loss", "class_loss", "box_loss")
    for row in saved.history:
        assert row["loss"] == pytest.approx(sum(row[name] for name in losses), rel=1e-3)
    assert saved.history[1]["loss"] < saved.history[0]["loss"]
    assert saved.history[1]["val_ap50"] == pytest.approx(saved.evaluation.ap50, abs=1e-6)
    assert saved.history[1]["val_ap"] == pytest.approx(saved.evaluation.ap, abs=1e-6)
    assert is_detector(run / "model.keras")
    detector = Detector.load(run / "model.keras")
    assert detector.evaluate(data.test_split, batch_size=2) == saved.evaluation
    (found,) = detector.predict(shapes / "JPEGImages" / "test8.jpg")
    assert found.boxes.shape == (len(found.scores), 4)
    assert found.boxes.max(initial=0) <= 64


@pytest.mark.slow
def test_the_program_evaluates_a_run(run: Path, shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--split", "test", "--json"]) == 0
    assert DetectionResult(**json.loads(capsys.readouterr().out)) == read_run(run).evaluation
    assert main(["evaluate", str(run / "model.keras"), "--data-dir", str(shapes), "--split", "train"]) == 0
    said = capsys.readouterr().out
    assert "on 6 images with 6 objects" in said
    assert re.search(r"^  green +\S+%$", said, re.MULTILINE)
    assert main(["evaluate", str(run), "--crops", "ten"]) == 2
    assert "Expected no --crops with a detector" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another_detector(run: Path, shapes: Path) -> None:
    inputs = detection.open_inputs(RECIPE.replace(weights=str(run)), DataSource(data_dir=shapes), None, replicas=1)
    begun, trained = detection._detector(inputs), Detector.load(run).model
    for one, other in zip(begun.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_bits(run: Path, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path / "a", data_dir=shapes, checkpoint_steps=2, callbacks=[_Stop()])
    assert not (tmp_path / "a" / "model.keras").exists()
    assert train(RECIPE, tmp_path / "a", data_dir=shapes) == read_run(run).evaluation
    one, other = (Detector.load(folder / "model.keras").model.get_weights() for folder in (run, tmp_path / "a"))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


TWO_DEVICES = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
from helpers.little_detector_runs import RECIPE
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed.strategy import create_strategy
from resnet_keras.training import detection
from resnet_keras.training.image_size_phases import Phase

inputs = detection.open_inputs(RECIPE, DataSource(data_dir=sys.argv[1]), None, replicas=2)
batches = inputs.data.batches(RECIPE, inputs.preprocessing, Phase(0, 1, 3, None), None, deterministic=True)
losses, weights = [], []
for strategy in (tf.distribute.get_strategy(), create_strategy(2)):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = detection.create_network(inputs)
    before = model.get_weights()
    losses.append(model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history)
    weights.append([after - start for after, start in zip(model.get_weights(), before)])
moved = max(np.abs(each).max() for each in weights[0])
differing = max(np.abs(one - other).max() for one, other in zip(*weights))
print(json.dumps([*losses, float(moved), float(differing)]))
"""


@pytest.mark.slow
def test_two_devices_take_the_step_of_one(shapes: Path) -> None:
    # In later steps, rounding decides between proposals of nearly the same score, and the runs part.
    one, two, moved, differing = json.loads(run_on_two_devices(TWO_DEVICES, shapes))
    assert set(one) == {"loss", "objectness_loss", "proposal_loss", "class_loss", "box_loss"}
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-5)
    assert differing < 1e-3 * moved


@pytest.mark.slow
def test_c4_is_trained_too(shapes: Path, tmp_path: Path) -> None:
    recipe: Recipe = RECIPE.replace(detector="c4", anchor_sizes=(16.0, 32.0), epochs=1, background_overlap=0.1)
    result = train(recipe, tmp_path / "c4", data_dir=shapes)
    assert isinstance(result, DetectionResult)
    assert np.isfinite(read_run(tmp_path / "c4").history[0]["loss"])
