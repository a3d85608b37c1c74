"""Several devices compute what one would."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from helpers.two_devices import run_on_two_devices

from resnet_keras.distributed import strategy as distribution

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
ARCHITECTURES["little"] = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="B")
digits = open_split("digits", "train")
recipe = RECIPES["digits"].replace(model="little", lr_schedule="step", batch_size=128, peak_lr=0.1, l2=0.01)
recipe = recipe.replace(epochs=1, warmup_steps=1, warmup_lr=0.05)

def trained(recipe, chosen, weights, *parts):
    # Returns the weights before training, and after each part of it, a number of steps.
    preprocessing = preprocessing_of(recipe.data, digits, 32)
    with distribution.scope(chosen):
        network = compile_network(recipe, preprocessing, 10, 11)
    # The statistics of a batch are those of a replica: frozen, they are the same for one and for two.
    for layer in network.layers:
        if isinstance(layer, BatchNormalization):
            layer.trainable = False
    states = [weights or network.get_weights()]
    network.set_weights(states[0])
    batches = training_batches(
        digits, preprocessing, recipe.augmentation, batch_size=128, epochs=1, one_hot=recipe.soft_labels
    )
    for steps in parts:
        network.fit(batches.take(steps), steps_per_epoch=steps, verbose=0, shuffle=False)
        batches = batches.skip(steps)
        states.append(network.get_weights())
    return states

found = {"replicas": [distribution.replicas(None), distribution.replicas(strategy)]}
for names, change, parts in (
    (["one step", "three steps"], {}, [1, 2]),
    (["kernels alone"], {"decay_on": "kernels", "l2": 0.5, "nesterov": True}, [2]),
    (["muon"], {"optimizer": "muon", "kernel_rate": 0.5, "nesterov": True}, [2]),
):
    varied = recipe.replace(**change)
    keras.utils.set_random_seed(0)
    begin, *ones = trained(varied, None, None, *parts)
    _, *twos = trained(varied, strategy, begin, *parts)
    for name, one, two in zip(names, ones, twos):
        found[name] = {
            "difference": max(float(np.abs(a - b).max()) for a, b in zip(one, two)),
            "moved": max(float(np.abs(a - b).max()) for a, b in zip(one, begin)),
        }
print(json.dumps(found))
"""


def test_a_step_on_two_replicas_is_the_step_on_one_device() -> None:
    found = json.loads(run_on_two_devices(ONE_AND_TWO))
    assert found["replicas"] == [1, 2]
    for name in ("one step", "three steps", "kernels alone", "muon"):
        assert found[name]["moved"] > 1e-3, name
        assert found[name]["difference"] < 1e-5, name


def test_a_cpu_in_use_cannot_be_divided() -> None:
    tf.zeros(1)
    for replicas in (2, 3):
        with pytest.raises(RuntimeError) as raised:
            distribution.create_strategy(replicas)
        message = str(raised.value)
        assert "Expected TensorFlow not to have started" in message
        assert f"divided into {replicas}" in message
        assert "Received: 1 logical CPUs" in message
    assert distribution.create_strategy(1) is None


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
    asked: list[object] = []
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda devices: asked.append(devices) or "mirrored over all")
    distribution._mirrored.cache_clear()
    assert distribution.create_strategy() == distribution.create_strategy() == "mirrored over all"
    distribution._mirrored.cache_clear()
    assert asked == [None]  # all GPUs, once for a process


TWO_RUNS = """
import json, sys
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.trainer import train

found = []
for width in (2, 3):
    ARCHITECTURES["narrow"] = Architecture(stem="cifar", block="basic", repeats=(1,), widths=(width,), shortcut="A")
    recipe = RECIPES["digits"].replace(model="narrow", epochs=1, batch_size=512)
    found.append(train(recipe, f"{sys.argv[1]}/{width}", cpu_replicas=2).images)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_process_trains_one_network_on_two_devices_after_another(tmp_path: Path) -> None:
    assert json.loads(run_on_two_devices(TWO_RUNS, tmp_path).splitlines()[-1]) == [359, 359]


def test_without_a_strategy_the_scope_changes_nothing() -> None:
    with distribution.scope(None):
        assert not tf.distribute.has_strategy()


WHOLE_RUN = """
import json, sys
from pathlib import Path
from resnet_keras.cli import evaluate, train
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES

ARCHITECTURES["little"] = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(8, 16), shortcut="A")
run = Path(sys.argv[1])
flags = ["--model", "little", "--cpu-replicas", "2", "--epochs", "2", "--batch-size", "64", "--workdir", str(run)]
assert train.main(["digits", *flags]) == 0
# In the batches of the run: rounding depends on the size of a batch on some processors.
assert evaluate.main([str(run), "--json", "--batch-size", "64"]) == 0
"""


def test_a_complete_run_on_two_replicas_ends_in_a_file_for_one(tmp_path: Path) -> None:
    """Its last validation batch is one of 39 images, which two replicas do not share evenly."""
    printed = run_on_two_devices(WHOLE_RUN, tmp_path / "run")
    assert "2 replicas" in printed
    evaluated = json.loads(printed.splitlines()[-1])
    assert evaluated == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    last = (tmp_path / "run" / "history.csv").read_text().splitlines()[-1]
    validated = float(last.split(",")[history_column(tmp_path / "run", "val_accuracy")])
    # The replicas' validation, weighted by images, is the evaluation on one device.
    assert evaluated["images"] == 359
    assert abs(1 - validated - evaluated["top1_error"]) < 1e-6
    assert json.loads((tmp_path / "run" / "run.json").read_text())["replicas"] == 2


def history_column(run: Path, name: str) -> int:
    return (run / "history.csv").read_text().splitlines()[0].split(",").index(name)
