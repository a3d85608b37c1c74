"""Training: progress, resuming, what a run leaves."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.messages import interrupt, on_message
from helpers.recipe_batches import recipe_batches

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.datasets import DATASETS
from resnet_keras.data.opening import DataSource, open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.distributed.sharding import shared_batch
from resnet_keras.evaluation.evaluator import evaluate
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES, Recipe
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.runs.folder import RunFolder
from resnet_keras.training import classification
from resnet_keras.training.inputs import prepare_inputs
from resnet_keras.training.model import compile_network
from resnet_keras.training.trainer import train
from resnet_keras.weights.loading import load_weights

SHORT = RECIPES["digits"].replace(model="resnet8", epochs=4, batch_size=128, warmup_steps=4)


@contextmanager
def short_network() -> Iterator[None]:
    """Gives every run a network of three blocks, where it does not matter which, and draws no curves."""
    row = Architecture(stem="cifar", block="basic", repeats=(1, 1, 1), widths=(8, 16, 32), shortcut="A")
    compile_long = classification.compile_network

    def compile_short(recipe: Recipe, *args: Any, **options: Any) -> keras.Model:
        return compile_long(recipe.replace(model="short"), *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "short", row)
        patch.setattr(classification, "compile_network", compile_short)
        patch.setattr(RunFolder, "write_curves", lambda folder, history: None)
        yield


@pytest.fixture
def short() -> Iterator[None]:
    with short_network():
        yield


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose weights others begin with; without augmentation it learns sooner."""
    folder = tmp_path_factory.mktemp("short") / "run"
    with short_network():
        train(SHORT.replace(pad_pixels=0), folder)
    return folder


def interrupted_after(epoch: int, *arguments: Any) -> None:
    """Trains until the end of `epoch`, and is interrupted there as by Ctrl-C."""
    with pytest.raises(KeyboardInterrupt), on_message(f"epoch {epoch}/", interrupt):
        train(*arguments)


def weights_of(run: Path) -> list[np.ndarray]:
    return Classifier.load(run).model.get_weights()


def test_a_run_leaves_recipe_versions_history_curves_model_samples_and_result(digits_run: Path) -> None:
    names = {path.name for path in digits_run.iterdir()}
    files = {"recipe.json", "run.json", "data.json", "history.csv", "curves.png", "model.keras", "evaluation.json"}
    assert names == files | {"tensorboard", "samples", "samples.png", ".lock"}
    with (digits_run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 3
    result = json.loads((digits_run / "evaluation.json").read_text())
    assert result["images"] == 359
    # The last epoch's validation and the final evaluation of the file are two ways to the same number.
    assert result["top1_error"] == pytest.approx(1 - float(rows[-1]["val_accuracy"]), abs=1e-6)
    assert result["top1_error"] < 0.15
    assert len(list((digits_run / "samples").glob("*.png"))) == 10
    assert tf.io.decode_png((digits_run / "curves.png").read_bytes()).shape[2] == 4
    assert json.loads((digits_run / "run.json").read_text())["tensorflow"] == tf.__version__


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_an_interrupted_run_ends_in_the_weights_of_one_that_was_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged checkpoint is skipped, and the one before it used."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    wanted = train(SHORT, whole)
    for epoch in (1, 3, 4):  # the last one after all training, before the model is written
        caplog.clear()
        interrupted_after(epoch, SHORT, parts)
        assert not (parts / "model.keras").exists()
        if epoch == 3:
            last = sorted((parts / "checkpoints").iterdir())[-1] / "state.safetensors"
            last.write_bytes(last.read_bytes()[:5000])
    assert "step_000000033 is damaged and is skipped: its checksum differs" in caplog.messages[0]
    assert "resumed after epoch 2" in caplog.messages[1]
    caplog.clear()
    found = train(SHORT, parts)
    assert "resumed after epoch 4" in caplog.messages[0]
    assert not any(line.startswith("epoch ") for line in caplog.messages)
    assert found == wanted
    for one, other in zip(weights_of(whole), weights_of(parts), strict=True):
        np.testing.assert_array_equal(one, other)
    histories = [(run / "history.csv").read_text().splitlines() for run in (whole, parts)]
    assert [line.split(",")[:4] for line in histories[0]] == [line.split(",")[:4] for line in histories[1]]


def test_a_finished_run_is_not_trained_again(digits_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (digits_run / "model.keras").stat().st_mtime_ns
    caplog.clear()
    result = train(RECIPES["digits"].replace(epochs=6), digits_run)
    assert caplog.messages == [f"{digits_run} is finished"]
    assert result.images == 359
    assert (digits_run / "model.keras").stat().st_mtime_ns == before


def test_a_folder_begun_with_another_recipe_is_refused(digits_run: Path) -> None:
    with pytest.raises(ValueError, match=r"epochs=9 \(begun with 6\)"):
        train(RECIPES["digits"].replace(epochs=9), digits_run)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    interrupted_after(1, SHORT, tmp_path)
    diverging = SHORT.replace(peak_lr=1e30)
    (tmp_path / "recipe.json").unlink()
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(FloatingPointError, match=r"finite loss\. Received: .* the last checkpoint is from step 11"),
    ):
        patch.setattr(Checkpoints, "_check_origin", lambda *args: None)  # of another recipe, which does not diverge
        train(diverging, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000011"]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"])
def test_half_precision_trains_and_leaves_the_global_policy_alone(tmp_path: Path, precision: str) -> None:
    before = keras.config.dtype_policy().name
    train(SHORT.replace(epochs=2, precision=precision, train_images=256), tmp_path)
    assert keras.config.dtype_policy().name == before
    model = Classifier.load(tmp_path).model
    assert model.get_layer("stage1_block1_conv1").compute_dtype == precision.removeprefix("mixed_")
    assert model.get_layer("logits").compute_dtype == "float32"


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart() -> None:
    recipe = Recipe.from_flat(model="resnet20", dataset="digits", epochs=1, lr_drops=(), peak_lr=0.05)
    preprocessing = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    keras.utils.set_random_seed(0)
    model = compile_network(recipe, preprocessing, classes=10, steps=80)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(16, 8, 8, 1)).astype("float32"), rng.integers(0, 10, 16)
    for _ in range(80):
        loss = model.train_on_batch(images, labels, return_dict=True)["loss"]
    assert loss < 0.2  # of 2.3 for a guess


def write_folder(root: Path, rng: np.random.Generator) -> None:
    for split, count in (("train", 6), ("test", 2)):
        for brightness, name in ((60, "dark"), (200, "light")):
            for i in range(count):
                noise = rng.normal(brightness, 20, (50 + 4 * i, 64, 3)).clip(0, 255).astype(np.uint8)
                file = root / split / name / f"{i}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(tf.io.encode_jpeg(noise).numpy())


FOLDER = Recipe.from_flat(
    model="resnet18", dataset="folder", image_size=32, shorter_side=(36, 48), test_shorter_side=36, flip=True,
    pca_lighting=0.1, epochs=3, batch_size=6, lr_drops=(), peak_lr=0.02,
)  # fmt: skip


@pytest.mark.usefixtures("short")
def test_a_folder_of_jpeg_images_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "data", np.random.default_rng(0))
    monkeypatch.chdir(tmp_path)
    result = train(FOLDER, tmp_path / "run", data_dir="data")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data_dir"] == str(tmp_path / "data")
    assert result.images == 4
    assert result.top5_error is None
    assert Classifier.load(tmp_path / "run").class_names == ("dark", "light")


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_broken_image_ends_the_run_by_its_name_or_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / "data", np.random.default_rng(0))
    broken = tmp_path / "data" / "train" / "dark" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(ValueError, match="dark/3.jpg"):
        train(FOLDER, tmp_path / "run", data_dir=tmp_path / "data")
    caplog.clear()
    one_epoch = FOLDER.replace(epochs=1)
    train(one_epoch, tmp_path / "skipped", data_dir=tmp_path / "data", skip_broken=True)
    assert caplog.messages[0].startswith("1 of 12 images are broken and skipped: ")
    assert caplog.messages[0].endswith("3.jpg")
    assert "11 images" in caplog.messages[1]


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_images_of_one_size_are_scaled_at_random_too(tmp_path: Path) -> None:
    recipe = SHORT.replace(epochs=1, image_size=12, shorter_side=(12, 18), train_images=256)
    assert train(recipe, tmp_path).images == 359
    assert Classifier.load(tmp_path).preprocessing.image_size == (12, 12)


RICH = SHORT.replace(
    epochs=3, lr_schedule="one_cycle", warmup_epochs=1, nesterov=True, clip_norm=5.0, label_smoothing=0.1,
    mixup=0.2, cutmix=1.0, erase=0.2, stochastic_depth=0.2, zero_init_residual=True,
)  # fmt: skip
"""All that a recipe can vary at once."""


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("loss", ["softmax", pytest.param("binary", marks=pytest.mark.slow)])
def test_a_recipe_with_everything_learns(tmp_path: Path, loss: str) -> None:
    recipe = RICH.replace(loss=loss)
    whole = train(recipe, tmp_path / "whole")
    with (tmp_path / "whole" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    # Validation counts right answers as the final evaluation does, whatever labels the training had.
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(1 - whole.top1_error, abs=1e-6)


# Weights to begin with ----------------------------------------------------------------------------------------------


def folded(run: Path, path: Path) -> Path:
    """Writes a run's network with its statistics folded into scale and offset, as some weights are published."""
    classifier = Classifier.load(run)
    for layer in flat_layers(classifier.model):
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            slope = gamma / np.sqrt(variance + layer.epsilon)
            unit = np.sqrt(np.float64(1.0) + layer.epsilon)
            layer.set_weights([slope * unit, beta - slope * mean, np.zeros_like(mean), np.ones_like(variance)])
    classifier.save(path)
    return path


FINE = SHORT.replace(epochs=1, peak_lr=1e-30, warmup_lr=1e-30, l2=0.0, pad_pixels=0, train_images=600, batch_size=100)
"""A recipe that hardly learns: what comes out is what went in, but for moving statistics."""


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_run_begins_with_the_weights_of_another_and_its_preprocessing(
    short_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    recipe = FINE.replace(weights=str(short_run), freeze="backbone")
    result = train(recipe, tmp_path / "run")
    for one, other in zip(weights_of(tmp_path / "run"), weights_of(short_run), strict=True):
        np.testing.assert_array_equal(one, other)
    # With batches of the same size: the last bits of the loss depend on it.
    assert result == evaluate(
        Classifier.load(short_run), open_split("digits", "test"), batch_size=recipe.data.batch_size
    )
    assert result.top1_error == json.loads((short_run / "evaluation.json").read_text())["top1_error"]
    assert Classifier.load(tmp_path / "run").preprocessing == Classifier.load(short_run).preprocessing
    assert any("600 images" in line for line in caplog.messages)
    table = next(line for line in caplog.messages if line.startswith("part")).splitlines()
    assert [row.split()[0] for row in table] == ["part", "stem", "stage1", "stage2", "stage3", "head"]
    assert table[-1].split()[1:3] == ["330", "0"]
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["network"]["weights"] == str(short_run.resolve())


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_frozen_parts_keep_weights_and_moving_statistics_bit_for_bit(short_run: Path, tmp_path: Path) -> None:
    train(FINE.replace(weights=str(short_run), freeze="stage2", peak_lr=0.01), tmp_path)
    before, after = (Classifier.load(run).model for run in (short_run, tmp_path))
    for layer in flat_layers(after):
        equal = [
            np.array_equal(a, b)
            for a, b in zip(layer.get_weights(), before.get_layer(layer.name).get_weights(), strict=True)
        ]
        if layer.name.startswith(("stem", "stage1", "stage2")):
            assert all(equal), layer.name
        elif equal:
            assert not any(equal), layer.name


@pytest.mark.usefixtures("short")
def test_other_classes_get_a_new_head_which_begins_at_zero(
    short_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path / "data", np.random.default_rng(0))
    recipe = FINE.replace(dataset="folder", weights=str(short_run), train_images=None, batch_size=6)
    caplog.clear()
    train(recipe, tmp_path / "run", data_dir=tmp_path / "data")
    assert any("keeps its initial weights" in line and "one of 10 classes" in line for line in caplog.messages)
    fresh = Classifier.load(tmp_path / "run")
    assert fresh.class_names == ("dark", "light")
    np.testing.assert_allclose(fresh.model.get_layer("logits").kernel, 0, atol=1e-25)
    kernels = [
        model.get_layer("stage3_block1_conv2").kernel for model in (fresh.model, Classifier.load(short_run).model)
    ]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_folded_statistics_are_restored_so_that_training_goes_on_from_there(
    short_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folded(short_run, tmp_path / "folded.keras")
    split = open_split("digits", "test")
    assert evaluate(Classifier.load(path), split).top1_error == evaluate(Classifier.load(short_run), split).top1_error
    caplog.clear()
    recipe = FINE.replace(model="short", weights=str(path))
    result = train(recipe, tmp_path / "run")
    assert "statistics of batch normalization are restored" in caplog.messages[0]
    assert result.top1_error < 0.2
    with (tmp_path / "run" / "history.csv").open() as file:
        restored = float(next(csv.DictReader(file))["loss"])
    # In training each batch is normalized by its own statistics: a folded network is another one then.
    preprocessing = Classifier.load(path).preprocessing
    unrestored = compile_network(recipe, preprocessing, 10, 6)
    load_weights(unrestored, path)
    batches = recipe_batches(open_split("digits", "train"), FINE, preprocessing)
    with pytest.warns(UserWarning, match="folded into scale and offset"):
        history = unrestored.fit(batches, steps_per_epoch=6, verbose=0, shuffle=False).history
    assert restored < 0.5
    assert history["loss"][0] > 2 * restored


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_run_that_began_with_weights_goes_on_from_its_checkpoint(short_run: Path, tmp_path: Path) -> None:
    recipe = SHORT.replace(weights=str(short_run), epochs=2, freeze_batch_norms=True)
    train(recipe, tmp_path / "whole")
    interrupted_after(1, recipe, tmp_path / "parts")
    train(recipe, tmp_path / "parts")
    for one, other in zip(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_that_are_missing_end_the_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no_such.safetensors, which does not exist"):
        train(SHORT.replace(weights="no_such.safetensors"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_replicas_cannot_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_keras.distributed.strategy.replicas", lambda chosen: 3)
    with pytest.raises(ValueError, match="`batch_size` that 3 replicas can share. Received: 128"):
        train(SHORT, tmp_path)


@pytest.mark.parametrize(
    ("images", "batch", "replicas", "expected"), [(359, 128, 2, 128), (257, 128, 2, 127), (3, 2, 2, 1)]
)
def test_the_last_validation_batch_leaves_no_replica_without_an_image(
    images: int, batch: int, replicas: int, expected: int
) -> None:
    if images % expected:
        assert images % expected >= replicas
    assert shared_batch(images, batch, replicas) == expected


@pytest.mark.slow
def test_resnet20_reads_handwritten_digits_to_98_per_cent(tmp_path: Path) -> None:
    result = train(RECIPES["digits"], tmp_path)
    assert result.top1_error <= 0.02


@pytest.mark.slow
def test_resnet20_learns_cifar10_from_tfds(tmp_path: Path, test_data: Path) -> None:
    recipe = RECIPES["cifar10"].replace(epochs=1, precision="mixed_bfloat16")
    result = train(recipe, tmp_path, data_dir=test_data / "tensorflow_datasets")
    assert result.images == 10_000
    assert result.top1_error < 0.65
    assert DATASETS["cifar10"].classes == 10


@pytest.mark.slow
def test_a_run_whose_every_step_is_skipped_ends_with_an_error(short: None, tmp_path: Path) -> None:
    recipe = SHORT.replace(epochs=1, peak_lr=1e30, warmup_steps=0)
    images = np.full((256, 8, 8, 1), np.nan, np.float32)
    with pytest.raises(FloatingPointError, match="none in epoch 1: all 2 steps were skipped"):
        train(
            recipe,
            tmp_path / "run",
            train_data=batches_of(images),
            test_data=batches_of(images),
            class_names=10,
            skip_broken_steps=True,
        )
    assert not (tmp_path / "run" / "result.json").exists()


def batches_of(images: np.ndarray) -> tf.data.Dataset:
    labels = np.arange(len(images)) % 10
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(128)


def image_folder(root: Path, parts: dict[str, int], classes: str = "ab") -> Path:
    """Writes gray images of 8x8 pixels, so many of each class in each part."""
    for part, count in parts.items():
        for label in classes:
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                content = tf.io.encode_png(np.full((8, 8, 1), 10 * i + 100 * (label == "b"), np.uint8)).numpy()
                (root / part / label / f"{i}.png").write_bytes(content)
    return root


@pytest.mark.parametrize(
    ("parts", "validated"),
    [
        ({"train": 8, "val": 3, "test": 2}, "4 for the test at the end; epochs are validated on 6 others"),
        ({"train": 8, "test": 2}, "4 for the test at the end; epochs are validated on the test images, too"),
    ],
)
def test_validation_images_are_for_the_epochs_and_test_images_for_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parts: dict[str, int], validated: str
) -> None:
    caplog.set_level("INFO", "resnet_keras")
    source = DataSource(data_dir=image_folder(tmp_path, parts))
    inputs = prepare_inputs(SHORT.replace(dataset="folder", batch_size=4), source)
    assert caplog.messages[0].startswith(f"folder: 2 classes (a, b); 16 images for training, {validated}")
    batches = list(inputs.data.validation(inputs.recipe, inputs.preprocessing, None))
    assert sum(len(labels) for _, labels in batches) == 2 * parts.get("val", 2)
    assert len(inputs.data.test_split) == 4


def test_images_of_one_class_are_not_trained_on(tmp_path: Path) -> None:
    source = DataSource(data_dir=image_folder(tmp_path, {"train": 4, "test": 2}, classes="a"))
    with pytest.raises(ValueError, match="at least 2 classes.*Received: 1, a"):
        prepare_inputs(SHORT.replace(dataset="folder", batch_size=4), source)
