"""What TensorBoard, W&B and MLflow show of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.short_recipes import PLAIN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.runs.saved_run import read_run
from resnet_keras.training.data import unnormalized
from resnet_keras.training.trainer import train

RECIPE = PLAIN.replace(model="resnet8", train_images=128)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged") / "run"
    train(RECIPE, folder)
    return folder


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


@pytest.mark.slow
def test_tensorboard_has_the_recipe_as_hyperparameters(run: Path) -> None:
    found = events(run / "tensorboard")
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values.keys() == RECIPE.flat().keys()
    assert values["model"].string_value == "resnet8"
    assert values["batch_size"].number_value == 64
    assert values["nesterov"].bool_value is False
    assert values["train_sizes"].string_value == "()"
    experiment = HParamsPluginData.FromString(
        found.SummaryMetadata("_hparams_/experiment").plugin_data.content
    ).experiment
    # Each metric is one that Keras's callback writes beside it.
    for metric in experiment.metric_infos:
        assert metric.name.tag in events(run / "tensorboard" / metric.name.group).Tags()["tensors"]
    assert [metric.name.group for metric in experiment.metric_infos].count("validation") == 2


def test_tensorboard_has_images_of_the_first_batch(run: Path) -> None:
    (event,) = events(run / "tensorboard").Tensors("first batch")
    width, height, *pictures = event.tensor_proto.string_val
    assert (int(width), int(height), len(pictures)) == (64, 64, 8)  # enlarged eightfold
    for picture in pictures:
        pixels = tf.io.decode_png(picture).numpy()
        np.testing.assert_array_equal(pixels, pixels[::8, ::8].repeat(8, 0).repeat(8, 1))
        assert np.ptp(pixels) > 100


def test_normalization_and_the_order_of_channels_are_undone() -> None:
    preprocessing = Preprocessing(image_size=(1, 1), channels=3, mean=(1.0, 2.0, 3.0), std=(2.0, 2.0, 4.0))
    images = np.array([[[[5.0, 10.0, 300.0]]]], np.float32)
    assert unnormalized(images, preprocessing).tolist() == [[[[11, 22, 255]]]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its database
def test_mlflow_logs_a_run_by_its_own_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("digits", artifact_location=(tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as started:
        mlflow.log_params(RECIPE.flat())
        train(RECIPE, tmp_path / "run", callbacks=[mlflow.keras.MlflowCallback()])
    client = mlflow.MlflowClient()
    assert client.get_run(started.info.run_id).data.params["model"] == "resnet8"
    history = read_run(tmp_path / "run").history
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        logged = client.get_metric_history(started.info.run_id, name)
        assert [(metric.step, metric.value) for metric in logged] == [
            (i, pytest.approx(row[name])) for i, row in enumerate(history)
        ]


def test_wandb_logs_a_run_by_its_own_callback_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    keras_callbacks = pytest.importorskip("wandb.integration.keras")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb.init(project="digits", config=RECIPE.flat(), dir=tmp_path) as started:
        train(RECIPE, tmp_path / "run", callbacks=[keras_callbacks.WandbMetricsLogger()])
        summary = dict(started.summary)
        assert started.config["model"] == "resnet8"
    last = read_run(tmp_path / "run").history[-1]
    assert summary["epoch/epoch"] == 1
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert summary[f"epoch/{name}"] == pytest.approx(last[name]), json.dumps(summary)
