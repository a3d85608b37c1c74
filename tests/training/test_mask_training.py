"""Segmentation networks through the training loop."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.little_runs import killed_after
from helpers.mask_folders import CLASSES, LITTLE, mask_recipe
from helpers.two_devices import run_on_two_devices

from resnet_keras.data.opening import DataSource
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder
from resnet_keras.runs.summary import summarize_runs
from resnet_keras.segmentation.mask_files import open_masks
from resnet_keras.segmentation.mask_input import whole_images
from resnet_keras.segmentation.measures import evaluate_masks
from resnet_keras.segmentation.segmenter import Segmenter
from resnet_keras.training import mask_training
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.run_plan import dry_run
from resnet_keras.training.trainer import train

COLUMNS = ("loss", "mean_iou", "pixel_accuracy", "val_loss", "val_mean_iou", "val_pixel_accuracy", "learning_rate")


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", LITTLE)
        yield


def inputs_of(mask_data: Path, recipe: Recipe) -> TrainingInputs:
    return mask_training.open_inputs(recipe, DataSource(data_dir=mask_data), None, replicas=1)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [{name: row[name] for name in COLUMNS} for row in csv.DictReader(file)]


def test_a_run_leaves_a_segmenter_and_its_measures_at_full_size(mask_data: Path, mask_run: Path) -> None:
    segmenter = Segmenter.load(mask_run)
    assert segmenter.class_names == CLASSES
    assert segmenter.model.output_shape == (None, 32, 48, 3)
    assert "auxiliary_logits" not in {layer.name for layer in segmenter.model.layers}
    split = open_masks(mask_data, "test")
    result = evaluate_masks(segmenter.model, whole_images(split, segmenter.preprocessing), CLASSES)
    found = RunFolder(mask_run).evaluation()
    assert found == result
    assert found.pixels == 4 * 38 * 70
    content = json.loads((mask_run / "evaluation.json").read_text())
    assert list(content) == ["images", "pixels", "mean_iou", "pixel_accuracy", "class_iou"]
    assert {path.name for path in mask_run.iterdir()} >= {"curves.png", "samples.png", "data.json", "history.csv"}


def test_a_table_of_runs_has_the_mean_iou(mask_run: Path) -> None:
    summary = summarize_runs([mask_run])
    result = RunFolder(mask_run).evaluation()
    assert "mean IoU, %" in str(summary) and f"{100 * result.mean_iou:.2f}" in str(summary)  # type: ignore[union-attr]
    assert summary.as_dict()["recipes"][0]["mean_ious"] == [result.mean_iou]  # type: ignore[union-attr]
    assert "mean_iou" in summary.as_csv()


@pytest.mark.slow
def test_a_killed_run_refuses_other_masks_and_resumes_to_the_same_bit_for_bit(
    mask_data: Path, mask_run: Path, tmp_path: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(mask_data, data)
    killed_after(2, mask_recipe(), run, data_dir=data, checkpoint_steps=2)  # after an epoch
    mask = data / "train" / "masks" / "3.png"
    content = mask.read_bytes()
    mask.write_bytes((data / "train" / "masks" / "4.png").read_bytes())
    with pytest.raises(ValueError, match=r"Expected the images that .*run was begun with.*other training images"):
        train(mask_recipe(), run, data_dir=data)
    mask.write_bytes(content)
    train(mask_recipe(), run, data_dir=data)
    assert history(run) == history(mask_run)
    models = [Segmenter.load(folder).model for folder in (run, mask_run)]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_a_unet_killed_anywhere_resumes_to_the_same(mask_data: Path, tmp_path: Path, saves: int) -> None:
    recipe = mask_recipe(
        head="unet", output_stride=None, crop_size=(32, 64), ema=0.9, accumulate=2, precision="mixed_bfloat16"
    )
    train(recipe, tmp_path / "whole", data_dir=mask_data)
    killed_after(saves, recipe, tmp_path / "parts", data_dir=mask_data, checkpoint_steps=2)
    train(recipe, tmp_path / "parts", data_dir=mask_data)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    models = [Segmenter.load(tmp_path / name).model for name in ("whole", "parts")]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_a_whole_network_or_of_a_backbone_start_a_run(mask_data: Path, mask_run: Path) -> None:
    trained = Segmenter.load(mask_run).model
    inputs = inputs_of(mask_data, mask_recipe(weights=str(mask_run / "model.keras")))
    began = mask_training.finished(inputs, mask_training.create_network(inputs)).model
    for one, other in zip(trained.get_weights(), began.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert inputs.weights is not None
    backbone = replace(inputs, weights=replace(inputs.weights, head={}, head_names={}))
    other = mask_training.create_network(backbone)
    kernels = [model.get_layer("stage3_block1_conv1").kernel.numpy() for model in (trained, other)]
    np.testing.assert_array_equal(*kernels)
    assert not np.array_equal(trained.get_layer("logits").kernel.numpy(), other.get_layer("logits").kernel.numpy())


def test_the_loss_has_the_recipes_auxiliary_weight_and_ignored_label(
    mask_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, built = inputs_of(mask_data, mask_recipe(auxiliary_loss=0.3)), []

    def two_heads(inputs: TrainingInputs, classes: int, *, auxiliary: bool) -> keras.Model:
        built.append(auxiliary)
        images = keras.Input((32, 48, 3))
        heads = {name: keras.layers.Conv2D(classes, 1)(images) for name in ("logits", "auxiliary_logits")}
        return keras.Model(images, heads)

    monkeypatch.setattr(mask_training, "_build", two_heads)
    model = mask_training.create_network(replace(inputs, recipe=inputs.recipe.replace(ignored_label=9)))
    assert built == [True]
    labels, outputs = np.full((1, 32, 48), 9), np.zeros((1, 32, 48, 6), np.float32)
    labels[:, :, :4] = 1
    outputs[..., 1] = np.log(2)  # of 3 classes, probabilities of 1/4, 1/2, 1/4; in the auxiliary head of 1/3 each
    assert float(model.loss(labels, outputs)) == pytest.approx(np.log(2) + 0.3 * np.log(3), rel=1e-5)


def test_frozen_stages_do_not_train(mask_data: Path) -> None:
    inputs = inputs_of(mask_data, mask_recipe(freeze="backbone", auxiliary_loss=0.0))
    model = mask_training.create_network(inputs)
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert names == {"head_conv", "head_conv_bn", "logits"}


def test_a_dry_run_tells_classes_sizes_and_the_output_stride(
    mask_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "resnet_keras"):
        plan = str(dry_run(mask_recipe(), tmp_path, data_dir=mask_data))
    assert "3 classes of pixels (sky, road, car); 6 images for training, 4 for the test at the end" in caplog.text
    assert "fcn over little at output stride 32 on folder" in plan
    assert "images: 32x48 for 2 epochs" in plan
    assert (tmp_path / "batch.png").is_file()
    assert "warning: 4 test images decide little" in plan
    assert "left out" not in plan


def test_arrays_are_refused(tmp_path: Path) -> None:
    images = np.zeros((4, 32, 48, 3), np.uint8)
    with pytest.raises(ValueError, match="Expected `data_dir`, a folder of images and masks"):
        train(mask_recipe(), tmp_path, train_data=(images, np.arange(4)), test_data=(images, np.arange(4)))


TWO = """
import sys
import json
import numpy as np
import keras
from helpers.mask_folders import LITTLE
from resnet_keras.data.opening import DataSource
from resnet_keras.distributed import multi_worker
from resnet_keras.distributed import strategy as distribution
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training import mask_training
from resnet_keras.training.image_size_phases import Phase

ARCHITECTURES["little"] = LITTLE
recipe = RECIPES["segmentation"].replace(
    model="little", head="fcn", output_stride=32, weights=None, crop_size=(32, 48), batch_size=4, epochs=1,
    freeze_batch_norms=True,
)
inputs = mask_training.open_inputs(recipe, DataSource(data_dir=sys.argv[1]), None, replicas=2)
found, begun = [], None
for strategy in (None, distribution.create_strategy(2)):
    keras.utils.set_random_seed(0)
    with distribution.scope(strategy):
        model = mask_training.create_network(inputs)
    model.get_layer("head_dropout").rate = model.get_layer("auxiliary_dropout").rate = 0.0
    begun = begun or model.get_weights()
    model.set_weights(begun)
    phase = Phase(first_step=0, last_step=1, steps=1, image_size=None)
    batches = inputs.data.batches(recipe, inputs.preprocessing, phase, strategy, deterministic=True)
    validation = inputs.data.validation(recipe, inputs.preprocessing, strategy)
    with multi_worker.patched_fit(model, strategy):
        logs = model.fit(batches, steps_per_epoch=1, validation_data=validation, verbose=0, shuffle=False).history
    found.append([{name: values[0] for name, values in logs.items()}, [w.tolist() for w in model.get_weights()]])
(ones, weights), (twos, others) = found
changed = max(np.abs(np.array(a) - b).max() for a, b in zip(weights, begun))
apart = max(np.abs(np.array(a) - np.array(b)).max() for a, b in zip(weights, others))
print(json.dumps([ones, twos, float(changed), float(apart)]))
"""


@pytest.mark.slow
def test_two_devices_have_the_loss_metrics_and_weights_of_one(mask_data: Path) -> None:
    ones, twos, changed, apart = json.loads(run_on_two_devices(TWO, mask_data))
    assert sorted(ones) == sorted(COLUMNS[:-1])
    assert twos == pytest.approx(ones, rel=1e-5)
    assert changed > 1e-3
    assert apart < 1e-6 + 1e-5 * changed


@pytest.mark.parametrize("broken", ["images/2.png", "masks/1.png"])
def test_a_broken_image_or_mask_is_named(mask_data: Path, tmp_path: Path, broken: str) -> None:
    folder = shutil.copytree(mask_data, tmp_path / "data")
    inputs = inputs_of(folder, mask_recipe())
    file = folder / "train" / broken
    file.write_bytes(file.read_bytes()[:-40])
    expected = re.escape(f"and masks (PNG). Received: {file}") + "$"
    with pytest.raises(ValueError, match=expected), inputs.data.explain_errors():
        list(inputs.data.sample_batches(6, 2, inputs.preprocessing))


def test_an_error_that_is_none_of_an_image_stays_what_it_is(mask_data: Path) -> None:
    inputs = inputs_of(mask_data, mask_recipe())
    with pytest.raises(tf.errors.InvalidArgumentError, match="another"), inputs.data.explain_errors():
        raise tf.errors.InvalidArgumentError(None, None, "another")
