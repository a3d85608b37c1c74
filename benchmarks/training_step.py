"""Training step beside its limit: `python benchmarks/training_step.py [--torch PYTHON]`.

The contestants take turns of a few steps each: the network of this package, twice, to show how far equals differ; the
same with option A's subsampling by average pooling and by slices, which compute the same; its convolutions alone,
forward and backward, which no step can be faster than; and PyTorch with channels last, eager and by `torch.compile`, in
a process of its own. TensorFlow uses oneDNN, as in the program `resnet`; without it, set TF_ENABLE_ONEDNN_OPTS=0.
Nothing else should run. The table is printed and written to `training_step.md`, or `training_step_without_onednn.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.distributed import cores
from resnet_keras.networks import ARCHITECTURES, build
from resnet_keras.tables import markdown_table

ONEDNN = os.environ["TF_ENABLE_ONEDNN_OPTS"] != "0"
NETWORKS = {"resnet20": (128, 16), "resnet50": (16, 4)}
"""Batch size, and steps in a turn."""

Turn = Callable[[], "tuple[float, float] | str"]
"""Runs some steps; returns their seconds and CPU seconds, or the reason for which it cannot."""


class Slice(keras.layers.Layer):
    """Each second row and column, by a slice."""

    def call(self, inputs: Any) -> Any:
        """Returns (N, H, W, C) -> (N, H/2, W/2, C)."""
        return inputs[:, ::2, ::2]


def subsampled_by(model: keras.Model, make: Callable[[str], keras.layers.Layer]) -> keras.Model:
    """Returns a copy of a network with other layers in place of those that subsample a shortcut."""

    def swapped(layer: Any) -> Any:
        if layer.name.endswith("_shortcut_stride"):
            return make(layer.name)
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=swapped)
    copy.set_weights(model.get_weights())
    return copy


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of wall time and of CPU that a call takes."""
    start, used = time.perf_counter(), sum(os.times()[:2])
    run()
    return time.perf_counter() - start, sum(os.times()[:2]) - used


def training(model: keras.Model, images: tf.Tensor, steps: int) -> Turn:
    """Returns a function that trains a network for some steps."""
    labels = tf.zeros((len(images),), tf.int32)
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    optimizer.build(model.trainable_variables)

    def run() -> None:
        for _ in range(steps):
            loss = model.train_on_batch(images, labels)
        assert np.isfinite(loss)

    return lambda: timed(run)


def convolutions(model: keras.Model, batch: int, steps: int) -> tuple[Turn, float]:
    """Returns a function that computes a network's convolutions, forward and backward; and the operations of a step."""
    calls: list[Callable[[], Any]] = []
    operations = 0.0
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for index, layer in enumerate(layers):
        shape, kernel = (batch, *layer.input.shape[1:]), tf.random.normal(layer.kernel.shape)
        images, gradient = tf.random.normal(shape), tf.random.normal((batch, *layer.output.shape[1:]))
        how = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
        backward = {**how, "out_backprop": gradient}
        sizes = {"filter_sizes": tuple(kernel.shape)}
        calls.append(partial(tf.raw_ops.Conv2D, input=images, filter=kernel, **how))
        calls.append(partial(tf.raw_ops.Conv2DBackpropFilter, input=images, **sizes, **backward))
        if index:  # the gradient of the pixels is not needed
            calls.append(partial(tf.raw_ops.Conv2DBackpropInput, input_sizes=shape, filter=kernel, **backward))
        multiplied = np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
        operations += 2.0 * batch * multiplied * (3 if index else 2)

    def run() -> None:
        for _ in range(steps):
            for call in calls:
                call()

    return (lambda: timed(run)), operations


def asking(python: str, script: str, *arguments: str) -> Callable[[str], Any]:
    """Starts a script beside this one in another interpreter; returns a function that it answers, a line for a line."""
    command = [python, str(Path(__file__).with_name(script)), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(line: str) -> Any:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline() or '"the process has ended"')

    return ask


def torch_process(python: str, network: str, batch: int, steps: int) -> dict[str, Turn]:
    """Returns the turns of PyTorch, which run in a process of another interpreter."""
    ask = asking(python, "torch_step.py", network, str(batch), str(steps))
    return {f"PyTorch, {way}": lambda way=way: ask(way) for way in ("eager", "compiled")}


def contestants(network: str, python: str | None, steps: int) -> tuple[dict[str, Turn], float]:
    """Returns the turns by name, and the operations of a step."""
    batch = NETWORKS[network][0]
    side = ARCHITECTURES[network].image_size
    images, model = tf.random.normal((batch, side, side, 3)), build(network)
    alone, operations = convolutions(model, batch, steps)
    copies = {"ours": model, "ours, again": keras.models.clone_model(model)}
    if any(layer.name.endswith("_shortcut_stride") for layer in model.layers):
        pool = keras.layers.AveragePooling2D
        copies["option A by average pooling"] = subsampled_by(model, lambda name: pool(1, strides=2, name=name))
        copies["option A by slices"] = subsampled_by(model, lambda name: Slice(name=name))
    turns = {name: training(copy, images, steps) for name, copy in copies.items()}
    turns["convolutions alone"] = alone
    return turns | (torch_process(python, network, batch, steps) if python else {}), operations


def measured(network: str, python: str | None, rounds: int, steps: int) -> list[list[str]]:
    """Returns a row for each contestant."""
    turns, operations = contestants(network, python, steps)
    batch = NETWORKS[network][0]
    times: dict[str, list[Any]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        for name in list(turns)[:: 1 if turn % 2 else -1]:
            taken = turns[name]()
            if turn or isinstance(taken, str):  # the first turn traces and compiles
                times[name].append(taken)
    rows = []
    for name, mine in times.items():
        if reasons := [each for each in mine if isinstance(each, str)]:
            rows.append([network, name, "", "", "", "", reasons[0]])
            continue
        wall, cpu = (median(each) for each in zip(*mine, strict=True))
        ratio = median(ours / theirs for (ours, _), (theirs, _) in zip(times["ours"], mine, strict=True))
        cpu_ratio = median(ours / theirs for (_, ours), (_, theirs) in zip(times["ours"], mine, strict=True))
        rate = operations * steps / wall / 1e9
        cells = [f"{batch * steps / wall:.1f}", f"{1000 * cpu / batch / steps:.2f}", f"{rate:.0f}"]
        rows.append([network, name, *cells, f"{ratio:.2f}x", f"{cpu_ratio:.2f}x"])
    return rows


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="in a turn")
    parser.add_argument("--torch", help="a Python interpreter that has PyTorch")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        rows += measured(name, arguments.torch, arguments.rounds, arguments.steps or NETWORKS[name][1])
    heads = ["network", "contestant", "images/s", "CPU ms per image", "GFLOP/s", "speed, ours is 1", "by CPU time"]
    table = markdown_table(heads, rows, text=("contestant",))
    print(table)
    told = (
        f"Written by `python benchmarks/training_step.py` on {cores()} CPU cores, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}; medians of {arguments.rounds} turns, float32, oneDNN "
        f"{'on' if ONEDNN else 'off'}. GFLOP/s count the convolutions. The share of the limit that a step reaches is "
        "the reciprocal of the ratio of the convolutions alone."
    )
    page = f"# Training step, beside its limit\n\n{told}\n\n{table}\n"
    name = "training_step.md" if ONEDNN else "training_step_without_onednn.md"
    Path(__file__).with_name(name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
