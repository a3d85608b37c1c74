"""Several devices compute what one would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from resnet_keras.distributed import strategy as distribution


def run(script: str) -> dict:
    """Returns what a script prints last, as JSON; a new process may divide its CPU again."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


ONE_AND_TWO = """
import json
import keras
import numpy as np
from resnet_keras.distributed import strategy as distribution
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.data.evaluation_input import preprocessing_of
from resnet_keras.data.training_input import training_batches
from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.data.opening import open_split
from resnet_keras.training.model import compile_network

strategy = distribution.create_strategy(2)
ARCHITECTURES["little"] = Architecture(stem="cifar", block="basic", repeats=(1, 1, 1), widths=(4, 8, 16), shortcut="B")
digits = open_split("digits", "train")
recipe = RECIPES["digits"].replace(model="little", lr_schedule="step", batch_size=128, peak_lr=0.1, l2=0.01)
recipe = recipe.replace(epochs=1, warmup_steps=1, warmup_lr=0.05)

def trained(recipe, chosen, weights, steps):
    preprocessing = preprocessing_of(recipe.data, digits, 32)
    with distribution.scope(chosen):
        network = compile_network(recipe, preprocessing, 10, 11)
    # The statistics of a batch are those of a replica: frozen, they are the same for one and for two.
    for layer in network.layers:
        if isinstance(layer, BatchNormalization):
            layer.trainable = False
    weights = weights or network.get_weights()
    network.set_weights(weights)
    batches = training_batches(
        digits, preprocessing, recipe.augmentation, batch_size=128, epochs=1, one_hot=recipe.soft_labels
    ).take(steps)
    network.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
    return weights, network.get_weights()

found = {"replicas": [distribution.replicas(None), distribution.replicas(strategy)]}
for name, change, steps in (
    ("one step", {}, 1),
    ("three steps", {}, 3),
    ("kernels alone", {"decay_on": "kernels", "l2": 0.5, "nesterov": True}, 2),
):
    varied = recipe.replace(**change)
    keras.utils.set_random_seed(0)
    begin, one = trained(varied, None, None, steps)
    _, two = trained(varied, strategy, begin, steps)
    found[name] = {
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(one, two)),
        "moved": max(float(np.abs(a - b).max()) for a, b in zip(one, begin)),
    }
print(json.dumps(found))
"""


def test_a_step_on_two_replicas_is_the_step_on_one_device() -> None:
    found = run(ONE_AND_TWO)
    assert found["replicas"] == [1, 2]
    for name in ("one step", "three steps", "kernels alone"):
        assert found[name]["moved"] > 1e-3, name
        assert found[name]["difference"] < 1e-5, name


STARTED = """
import json
import tensorflow as tf
from resnet_keras.distributed import strategy as distribution

tf.zeros(1)
found = []
for replicas in (2, 3):
    try:
        distribution.create_strategy(replicas)
    except RuntimeError as error:
        found.append(str(error))
print(json.dumps({"errors": found, "one": distribution.create_strategy(1) is None}))
"""


def test_a_cpu_in_use_cannot_be_divided() -> None:
    found = run(STARTED)
    assert found["one"]
    for replicas, message in zip((2, 3), found["errors"], strict=True):
        assert "Expected TensorFlow not to have started" in message
        assert f"divided into {replicas}" in message
        assert "Received: 1 logical CPUs" in message


@pytest.mark.parametrize("replicas", [0, -1])
def test_fewer_than_one_replica_raises(replicas: int) -> None:
    with pytest.raises(ValueError, match=rf"at least 1 CPU replica\. Received: {replicas}"):
        distribution.create_strategy(replicas)


def test_one_replica_needs_no_strategy() -> None:
    assert distribution.create_strategy(1) is None
    assert distribution.replicas(None) == 1


@pytest.mark.parametrize("gpus", [0, 1])
def test_without_several_gpus_there_is_no_strategy(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a device"] * gpus)
    assert distribution.create_strategy() is None


def test_several_gpus_mirror_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a device"] * 4)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored over all")
    assert distribution.create_strategy() == "mirrored over all"


def test_without_a_strategy_the_scope_changes_nothing() -> None:
    with distribution.scope(None):
        assert not tf.distribute.has_strategy()


WHOLE_RUN = """
import json, sys
from pathlib import Path
from resnet_keras.cli import evaluate, train

run = Path(sys.argv[1])
flags = ["--cpu-replicas", "2", "--epochs", "2", "--batch-size", "64", "--workdir", str(run)]
assert train.main(["digits", *flags]) == 0
# In the batches of the run: rounding depends on the size of a batch on some processors.
assert evaluate.main([str(run), "--json", "--batch-size", "64"]) == 0
"""


def test_a_whole_run_on_two_replicas_ends_in_a_file_for_one(tmp_path: Path) -> None:
    """Its last validation batch is one of 39 images, which two replicas do not share evenly."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", WHOLE_RUN, str(tmp_path / "run")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "2 replicas" in ran.stdout
    evaluated = json.loads(ran.stdout.splitlines()[-1])
    assert evaluated == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    last = (tmp_path / "run" / "history.csv").read_text().splitlines()[-1]
    validated = float(last.split(",")[history_column(tmp_path / "run", "val_accuracy")])
    # The replicas' validation, weighted by images, is the evaluation on one device.
    assert evaluated["images"] == 359
    assert abs(1 - validated - evaluated["top1_error"]) < 1e-6
    assert json.loads((tmp_path / "run" / "run.json").read_text())["replicas"] == 2


def history_column(run: Path, name: str) -> int:
    return (run / "history.csv").read_text().splitlines()[0].split(",").index(name)
