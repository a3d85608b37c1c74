"""Training on the caller's own images and with the caller's own callbacks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.little_runs import killed_after
from helpers.messages import interrupt, on_message

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.opening import open_split
from resnet_keras.data.splits import ArraySplit
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.recipe import Recipe
from resnet_keras.runs.folder import RunFolder, dataset_of
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training.own_batches import BatchData
from resnet_keras.training.own_data import OwnData
from resnet_keras.training.trainer import train

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        row = Architecture(stem="cifar", block="basic", repeats=(1,), widths=(4,), shortcut="B")
        patch.setitem(ARCHITECTURES, "little", row)
        patch.setattr(RunFolder, "write_curves", lambda folder, history: None)
        yield


@pytest.fixture(scope="module")
def recipe(little: None) -> Recipe:
    return Recipe.from_flat(
        model="little", dataset="cifar10", epochs=2, batch_size=16, flip=True, label_smoothing=0.1, peak_lr=0.05
    )


def arrays(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    split = open_split("digits", part)
    assert isinstance(split, ArraySplit)
    return split.images[:count], split.labels[:count]


TRAIN, TEST = arrays("train", 16 * STEPS), arrays("test", 24)


def weights_of(run: Path) -> list[np.ndarray]:
    return Classifier.load(run).model.get_weights()


def interrupted_at(saves: int, recipe: Recipe, folder: Path, **options: Any) -> None:
    """Trains until a number of checkpoints, of each step, are written, and is interrupted there."""
    killed_after(saves, recipe, folder, checkpoint_steps=1, **options)


def assert_same(one: Path, other: Path) -> None:
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


class Calls(keras.callbacks.Callback):
    """The hooks that were called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.batches: list[int] = []
        self.rates: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Notes the call and checks the parameters."""
        assert (self.params["epochs"], self.params["steps"]) == (2, STEPS)
        self.names.append("train begin")

    def on_train_end(self, logs: Any = None) -> None:
        """Notes the call and checks the logs."""
        assert "val_loss" in logs
        self.names.append("train end")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the call."""
        self.names.append(f"epoch {epoch}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes the call and checks the logs."""
        assert logs.keys() == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
        self.rates.append(logs["learning_rate"])
        self.names.append(f"epoch {epoch} end")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the batch."""
        self.batches.append(batch)

    def on_test_end(self, logs: Any = None) -> None:
        """Notes the call."""
        self.names.append("tested")


def test_arrays_go_through_the_recipe_and_resume_bit_for_bit(recipe: Recipe, tmp_path: Path) -> None:
    own = {"train_data": TRAIN, "test_data": TEST, "class_names": [f"digit {i}" for i in range(10)]}
    calls = Calls()
    result = train(recipe, tmp_path / "whole", callbacks=[calls], **own)
    assert result.images == 24
    assert calls.names == [
        *("train begin", "epoch 0", "tested", "epoch 0 end", "epoch 1", "tested", "epoch 1 end", "train end"),
    ]  # fmt: skip
    assert calls.batches == [*range(STEPS), *range(STEPS)]
    rates = read_run(tmp_path / "whole").column("learning_rate")
    assert calls.rates == rates == pytest.approx([0.005, 0.00005])  # of the last steps of epochs, before the rates drop
    classifier = Classifier.load(tmp_path / "whole")
    assert classifier.class_names[3] == "digit 3"
    assert classifier.preprocessing.mean == (round(float(TRAIN[0].mean()), 2),)
    assert classifier.preprocessing.image_size == (8, 8)
    # Mid-epoch; the caller's callbacks start again there and learn the epoch.
    interrupted_at(2, recipe, tmp_path / "parts", **own)
    resumed = Calls()
    columns = {**own, "train_data": (TRAIN[0], TRAIN[1][:, None])}  # labels (N, 1), as keras.datasets has them
    assert train(recipe, tmp_path / "parts", callbacks=[resumed], **columns) == result
    assert resumed.names == calls.names
    assert resumed.batches == [2, 3, *range(STEPS)]
    assert_same(tmp_path / "whole", tmp_path / "parts")
    # Other images are another run, whether it is finished or not.
    other = TRAIN[0].copy()
    other[5, 3, 3] ^= 1
    with pytest.raises(ValueError, match=r"Expected the recipe that .* Received: train_data=\w+ \(begun with \w+\)"):
        train(recipe, tmp_path / "parts", **{**own, "train_data": (other, TRAIN[1])})
    run = read_run(tmp_path / "parts")
    assert run.recipe.data.dataset == "arrays"
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["own_data"]["class_names"][0] == "digit 0"
    with pytest.raises(ValueError, match="a run on its caller's own images"):
        dataset_of(tmp_path / "parts", None, None)


@pytest.mark.slow
def test_floats_are_pixels_too(recipe: Recipe, tmp_path: Path) -> None:
    one_epoch = recipe.replace(epochs=1)
    for name, images in (("integers", TRAIN[0]), ("floats", TRAIN[0].astype(np.float64))):
        train(one_epoch, tmp_path / name, train_data=(images, TRAIN[1]), test_data=TEST, class_names=10)
    assert_same(tmp_path / "integers", tmp_path / "floats")


def batches(pair: tuple[np.ndarray, np.ndarray], size: int = 16) -> tf.data.Dataset:
    images, labels = pair
    return tf.data.Dataset.from_tensor_slices((images.astype(np.float32) / 255, labels)).batch(size)


@pytest.mark.slow
def test_batches_are_used_as_they_are_and_resume_after_those_that_were_seen(recipe: Recipe, tmp_path: Path) -> None:
    own = {"train_data": batches(TRAIN), "test_data": batches(TEST), "class_names": 10}
    result = train(recipe, tmp_path / "whole", **own)
    assert result.images == 24
    run = read_run(tmp_path / "whole")
    assert run.recipe.data.dataset == "tf.data"
    assert not run.recipe.augmentation.flip  # what is recorded is what happened
    classifier = Classifier.load(tmp_path / "whole")
    assert classifier.preprocessing.mean == (0.0,)
    probabilities = classifier.probabilities_of_inputs(TEST[0].astype(np.float32) / 255)
    assert (probabilities.argmax(1) != TEST[1]).mean() == pytest.approx(result.top1_error)
    with (tmp_path / "whole" / "history.csv").open() as file:
        header, *_, last = (line.strip().split(",") for line in file)
    assert float(dict(zip(header, last, strict=True))["val_accuracy"]) == pytest.approx(1 - result.top1_error, abs=1e-6)
    interrupted_at(3, recipe, tmp_path / "parts", **own)
    assert train(recipe, tmp_path / "parts", **own) == result
    assert_same(tmp_path / "whole", tmp_path / "parts")
    with pytest.raises(ValueError, match=r"steps_per_epoch=2 \(begun with 4\)"):
        train(recipe, tmp_path / "parts", **own, steps_per_epoch=2)


@pytest.mark.slow
def test_endless_batches_have_as_many_steps_as_asked_for(recipe: Recipe, tmp_path: Path) -> None:
    images, labels = TRAIN
    soft = tf.data.Dataset.from_tensor_slices((images.astype(np.float32), np.eye(10, dtype=np.float32)[labels]))
    test = tf.data.Dataset.from_tensor_slices((TEST[0].astype(np.float32), np.eye(10, dtype=np.float32)[TEST[1]]))
    result = train(
        recipe, tmp_path, train_data=soft.repeat().batch(16), test_data=test.batch(8).repeat(), steps_per_epoch=3,
        test_steps=2,
    )  # fmt: skip
    assert result.images == 16
    assert Classifier.load(tmp_path).class_names == tuple("0123456789")
    assert len(read_run(tmp_path).history) == 2


@pytest.mark.slow
def test_batches_that_are_missing_and_labels_outside_the_classes_end_the_run(recipe: Recipe, tmp_path: Path) -> None:
    unknown = batches(TRAIN).filter(lambda images, labels: True)
    with pytest.raises(ValueError, match="Expected as many batches as `steps_per_epoch`.* contained only 4"):
        train(recipe, tmp_path / "few", train_data=unknown, test_data=batches(TEST), class_names=10, steps_per_epoch=5)
    with pytest.raises(ValueError, match="Expected labels of a tf.data.Dataset from 0 to 4. Received: others"):
        train(recipe, tmp_path / "labels", train_data=batches(TRAIN), test_data=batches(TEST), class_names=5)


@pytest.mark.slow
def test_a_callback_may_stop_the_run_which_is_then_finished(
    recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    class StopAtOnce(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 1

    own = {"train_data": TRAIN, "test_data": TEST}
    assert train(recipe, tmp_path / "epoch", callbacks=[Stop()], **own).images == 24
    assert len(read_run(tmp_path / "epoch").history) == 1
    assert "a callback stopped training after epoch 1" in caplog.messages
    assert train(recipe, tmp_path / "step", callbacks=[StopAtOnce()], **own).images == 24
    assert read_run(tmp_path / "step").history == []
    assert "a callback stopped training after step 2 of epoch 1" in caplog.messages
    with pytest.raises(KeyboardInterrupt), on_message("epoch 1/", interrupt):
        train(recipe, tmp_path / "parts", **own)
    assert train(recipe, tmp_path / "parts", callbacks=[Stop()], **own).images == 24
    assert len(read_run(tmp_path / "parts").history) == 2


@pytest.mark.slow
def test_what_a_callback_restores_at_the_end_of_a_run_of_averages_is_its_result(recipe: Recipe, tmp_path: Path) -> None:
    """The best epoch by a measure that falls is the first: its averages, which validation measured."""

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["falling"] = -epoch
            kept.append(self.model.get_weights())

    kept: list[list[np.ndarray]] = []
    best = keras.callbacks.EarlyStopping("falling", mode="max", patience=5, restore_best_weights=True)
    own = {"train_data": TRAIN, "test_data": TEST, "class_names": 10}
    train(recipe.replace(ema=0.9), tmp_path / "best", callbacks=[Keep(), best], **own)
    train(recipe.replace(ema=0.9), tmp_path / "last", **own)
    for name, epoch in (("best", 0), ("last", 1)):
        for saved, seen in zip(weights_of(tmp_path / name), kept[epoch], strict=True):
            np.testing.assert_array_equal(saved, seen)


X, Y = TRAIN
ENDLESS = batches(TRAIN).repeat()
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"test": None}, "both `train_data` and `test_data`.* Received: tuple and NoneType"),
    ({"test": batches(TEST)}, "both `train_data` and `test_data`"),
    ({"steps_per_epoch": 3}, "`steps_per_epoch` with a tf.data.Dataset alone, and None with arrays. Rec.* 3"),
    ({"train": [X, Y, Y]}, r"`train_data` as \(images, labels\).*Received: list"),
    ({"train": (X[..., 0], Y)}, r"images \(N, H, W, 1 or 3\) in `train_data`.*\(64, 8, 8\); images\[..., None\] adds"),
    ({"train": (X[:0], Y[:0])}, r"images \(N, H, W, 1 or 3\).*\(0, 8, 8, 1\)"),
    ({"train": (X.astype(np.int64), Y)}, "uint8 or floats from 0 to 255 in `train_data`. Received: int64"),
    ({"train": (X / 255, Y)}, "pixels from 0 to 255.*floats from 0 to 1; multiply by 255"),
    ({"train": (X - 128.0, Y)}, "pixels from 0 to 255.*floats from -128 to 127"),
    ({"test": (TEST[0] * np.float32("nan"), TEST[1])}, "pixels from 0 to 255 in `test_data`.*nan"),
    ({"train": (X, Y[:9])}, r"64 integer labels \(N,\) in `train_data`.*\(9,\)"),
    ({"train": (X, np.eye(10)[Y])}, r"64 integer labels.*labels.argmax\(1\)"),
    ({"train": (X, Y.astype(np.float32))}, "64 integer labels.*float32"),
    ({"train": (X, Y - 1)}, r"labels from 0 to 8 in `train_data`. Received: -1 for image \d+"),
    ({"class_names": 5}, r"labels from 0 to 4 in `train_data`. Received: \d for image \d+ \(\d+ images in all\)"),
    ({"class_names": ["a", "a"]}, "names of at least 2 classes, all different"),
    ({"test": (np.repeat(TEST[0], 3, 3), TEST[1])}, "1 channels in `test_data`, as in `train_data`. Received: 3"),
]
WRONG_BATCHES: list[tuple[dict[str, Any], str]] = [
    ({"train": batches(TRAIN).take(0)}, "batches in `train_data`. Received: an empty"),
    ({"train": batches(TRAIN).filter(lambda x, y: False)}, "batches in `train_data`. Received: an empty"),
    ({"train": ENDLESS}, "`steps_per_epoch` with an endless `train_data`"),
    ({"test": ENDLESS}, "`test_steps` with an endless `test_data`"),
    ({"train": batches(TRAIN).filter(lambda x, y: True)}, "`steps_per_epoch`, because the number of batches"),
    ({"steps_per_epoch": 5}, "at least 5 batches in `train_data`, its `steps_per_epoch`. Received: 4"),
    ({"train": batches(TRAIN, 8)}, r"batches of 16 images.*Received: 8; recipe.replace\(batch_size=8\)"),
    ({"train": batches(TRAIN).map(lambda x, y: x)}, r"batches \(images, labels\) in `train_data`"),
    ({"train": batches(TRAIN).map(lambda x, y: (tf.cast(x, tf.uint8), y))}, "floats .*Received: uint8"),
    ({"train": batches(TRAIN).map(lambda x, y: (x[0], y))}, r"floats \(N, H, W, 1 or 3\)"),
    ({"train": batches(TRAIN).map(lambda x, y: (x, tf.cast(y, tf.float32)))}, "labels in `train_data` as integers"),
    ({"test": batches(TEST).map(lambda x, y: (x[:, 1:], y))}, r"images of shape \('N', 8, 8, 1\) in `test_data`"),
    ({"class_names": None}, "`class_names`, or their number"),
]


def test_each_mistake_is_an_error_of_its_own(recipe: Recipe) -> None:
    for kind, wrong in (((TRAIN, TEST), WRONG), ((batches(TRAIN), batches(TEST)), WRONG_BATCHES)):
        for changes, message in wrong:
            names = 10 if kind[0] is not TRAIN else None
            with pytest.raises(ValueError, match=message):
                own = OwnData(**{"train": kind[0], "test": kind[1], "class_names": names, **changes})
                own.open(own.recipe(recipe))
    own = OwnData(batches(TRAIN), batches(TEST), 10)
    for changes in ({"train_sizes": (8,)}, {"train_images": 9}):
        with pytest.raises(ValueError, match=f"Expected no {next(iter(changes))} with a tf.data.Dataset"):
            own.recipe(recipe.replace(**changes))
    data = own.open(own.recipe(recipe))
    assert isinstance(data, BatchData)
    assert (data.epoch_steps, data.image_shape, data.soft_labels) == (STEPS, (8, 8, 1), False)
    assert data.images(20, data.preprocessing).shape == (20, 8, 8, 1)
