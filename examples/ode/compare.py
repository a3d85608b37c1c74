"""Trains a residual network and the ODE networks beside it: `python compare.py digits --seeds 3`.

Each ends in six residual blocks of 64 channels, or in what takes their place. With `--sweep dopri5`, also what the
solvers make of that network's trained block: how far from its exact solution they end, after how many evaluations of F.
Both tables are printed as Markdown, and after each run what is known so far is written as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import resnet_keras
from resnet_keras import files
from resnet_keras.data import evaluation_batches, preprocessing_of, steps_per_epoch, training_batches
from resnet_keras.networks import head
from resnet_keras.tables import markdown_table
from resnet_keras.training import create_optimizer, learning_rate_schedule

WIDTHS = {"digits": (32, 64), "cifar10": (16, 32, 64)}  # the last stage sees 4x4 and 8x8 pixels
RECIPES = {
    "digits": resnet_keras.RECIPES["digits"].replace(epochs=10),
    "cifar10": resnet_keras.RECIPES["cifar10"].replace(
        epochs=6,
        batch_size=32,
        train_images=2000,
        lr_schedule="cosine",
        peak_lr=0.05,
        warmup_steps=40,
    ),
}
TEST_IMAGES = 2000  # at most
RESIDUAL = "residual"  # six residual blocks
OWN_WEIGHTS = "own_weights"  # six blocks of one step of Euler: x + F(x, 0)
TOLERANCE = {"rtol": 1e-2, "atol": 1e-2}
BLOCKS: dict[str, dict[str, Any]] = {
    "euler": {"solver": "euler", "steps": 6},
    "rk4": {"solver": "rk4", "steps": 2},
    "dopri5": TOLERANCE,
    "dopri5_adjoint": {**TOLERANCE, "gradient": "adjoint"},
}
"""What one ODE block takes their place with."""

SWEEP: tuple[dict[str, Any], ...] = (
    *({"solver": "euler", "steps": steps} for steps in (1, 2, 6, 24, 96)),
    *({"solver": "rk4", "steps": steps} for steps in (1, 2, 6, 24)),
    *({"solver": "dopri5", "rtol": 10.0**-i, "atol": 10.0**-i} for i in (1, 2, 3, 4, 5)),
)
SWEEP_IMAGES = 100
REFERENCE = {"solver": "dopri5", "rtol": 1e-7, "atol": 1e-7, "max_steps": 10_000, "dtype": "float64"}


@dataclass
class Run:
    """What came of training one network with one seed."""

    network: str
    seed: int
    parameters: int
    test_error: float
    seconds_per_epoch: float
    forward: float | None = None
    backward: float | None = None


def network(name: str, widths: tuple[int, ...], input_shape: tuple[int, int, int]) -> keras.Model:
    """Returns a network for ten classes: one block for each width, six more or their substitute, and the classifier."""
    stages = len(widths)
    trunk = resnet_keras.Architecture(stem="cifar", block="basic", repeats=(1,) * stages, widths=widths)
    if name == RESIDUAL:
        deep = replace(trunk, repeats=(1,) * (stages - 1) + (7,))
        return resnet_keras.build(deep, input_shape=input_shape, classifier_activation=None)
    images = resnet_keras.build(trunk, include_top=False, input_shape=input_shape)
    x = images.output
    if name == OWN_WEIGHTS:
        for i in range(6):
            x = resnet_keras.networks.ODEBlock("euler", steps=1, name=f"block{i + 1}")(x)
    else:
        x = resnet_keras.networks.ODEBlock(**BLOCKS[name], name="ode")(x)
    x = keras.layers.ReLU()(keras.layers.GroupNormalization(32, epsilon=1e-5, name="norm")(x))
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    return keras.Model(images.input, head(x, 10, None))


class EpochTimes(keras.callbacks.Callback):
    """Seconds of each epoch; the first one traces the graph, too."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begins to measure."""
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes how long it took."""
        self.seconds.append(time.perf_counter() - self.begin)


def train(
    name: str, dataset: str, seed: int, data_dir: Path | None = None, **changes: Any
) -> tuple[Run, keras.Model, tf.data.Dataset]:
    """Trains one network by `fit`; returns what came of it, the network and its test batches."""
    recipe = RECIPES[dataset].replace(seed=seed, **changes)
    split = resnet_keras.open_split(dataset, "train", data_dir=data_dir)
    split = resnet_keras.data.stratified_sample(split, recipe.data.train_images or len(split))
    preprocessing = preprocessing_of(recipe.data, split, recipe.architecture.image_size)
    tested = resnet_keras.data.stratified_sample(
        resnet_keras.open_split(dataset, "test", data_dir=data_dir), TEST_IMAGES
    )
    test = evaluation_batches(tested, preprocessing, 256)
    steps = steps_per_epoch(split, recipe.data.batch_size)
    keras.utils.set_random_seed(seed)
    model = network(name, WIDTHS[dataset], (*preprocessing.image_size, preprocessing.channels))
    model.compile(
        create_optimizer(recipe.optimization, learning_rate_schedule(recipe, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    times = EpochTimes()
    batches = training_batches(
        split,
        preprocessing,
        recipe.augmentation,
        batch_size=recipe.data.batch_size,
        epochs=recipe.schedule.epochs,
        seed=recipe.seed,
    )
    fitted = model.fit(
        batches,
        epochs=recipe.schedule.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[times],
        verbose=0,
    )
    error = 1 - model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    counts = [fitted.history.get(column, [None])[-1] for column in ("ode_evaluations", "ode_backward_evaluations")]
    run = Run(name, seed, model.count_params(), error, statistics.median(times.seconds), *counts)
    return run, model, test


def sweep(model: keras.Model, images: np.ndarray) -> list[dict[str, Any]]:
    """Returns how far each solver of `SWEEP` ends from the exact solution of a trained block, in parts of its size."""
    trained = model.get_layer("ode")
    maps = keras.Model(model.input, trained.input).predict(images, verbose=0)
    after = keras.Sequential(model.layers[model.layers.index(trained) + 1 :])

    def solved(arguments: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
        block = resnet_keras.networks.ODEBlock(**arguments)
        block.build(maps.shape)
        block.set_weights(trained.get_weights())
        outputs, evaluations = tf.function(block.solve)(tf.constant(maps, block.compute_dtype))
        outputs = outputs.numpy()
        return outputs, after.predict(outputs.astype("float32"), verbose=0).argmax(axis=1), int(evaluations)

    exact, classes, _ = solved(REFERENCE)
    rows = []
    for arguments in SWEEP:
        outputs, answers, evaluations = solved(arguments)
        difference = float(np.sqrt(np.mean((outputs - exact) ** 2) / np.mean(exact**2)))
        others = int((answers != classes).sum())
        rows.append({**arguments, "evaluations": evaluations, "error": difference, "other_answers": others})
    return rows


def table(runs: Iterable[Run]) -> str:
    """Returns a line for each network, over its seeds."""
    head = ("network", "parameters", "test error, %", "evaluations of F, forward", "backward", "seconds per epoch")
    rows = []
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.network, []).append(run)
    for name, group in groups.items():
        errors = [100 * run.test_error for run in group]
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        forward, backward = (
            "–" if not getattr(group[0], field) else f"{statistics.mean(getattr(run, field) for run in group):.1f}"
            for field in ("forward", "backward")
        )
        seconds = statistics.mean(run.seconds_per_epoch for run in group)
        cells = [name, f"{group[0].parameters:,}", f"{statistics.mean(errors):.2f}{spread}", forward, backward]
        rows.append([*cells, f"{seconds:.1f}"])
    return markdown_table(head, rows)


def sweep_table(rows: list[dict[str, Any]]) -> str:
    """Returns the sweep as Markdown."""
    lines = []
    for row in rows:
        setting = f"{row['steps']} steps" if "steps" in row else f"tolerance {row['rtol']:.0e}"
        cells = [f"{row['solver']}, {setting}", row["evaluations"], f"{row['error']:.1e}", row["other_answers"]]
        lines.append(cells)
    return markdown_table(("solver", "evaluations of F", "error of the solution", "other answers"), lines)


def main() -> None:
    """Trains, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=WIDTHS)
    parser.add_argument("--data-dir", type=Path, help="of TensorFlow Datasets, for cifar10")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int)
    networks = (RESIDUAL, OWN_WEIGHTS, *BLOCKS)
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--sweep", choices=BLOCKS, help="the network whose block the solvers are tried on")
    parser.add_argument("--output", type=Path, default=Path("ode.json"))
    arguments = parser.parse_args()
    changes = {"epochs": arguments.epochs} if arguments.epochs else {}
    runs: list[Run] = []
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for name in arguments.networks:
            run, model, test = train(name, arguments.dataset, seed, arguments.data_dir, **changes)
            runs.append(run)
            print(run, flush=True)
            if name == arguments.sweep and not rows:
                rows = sweep(model, next(iter(test.as_numpy_iterator()))[0][:SWEEP_IMAGES])
            files.write_text(arguments.output, json.dumps({"runs": [asdict(run) for run in runs], "sweep": rows}))
    print(table(runs), *([sweep_table(rows)] if rows else []), sep="\n\n")


if __name__ == "__main__":
    main()
