"""What blocked memory layouts would bring: `python benchmarks/blocked_layouts.py --torch PYTHON`.

The convolutions of a network alone, as inference computes them, in float32: by TensorFlow, which has channels last, and
by PyTorch, whose oneDNN can have both channels last and its own blocks of channels (nChw16c). Packing the weights is
not counted. All take turns. Nothing else should run. The table is printed and written to `blocked_layouts.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import tensorflow as tf
from layouts_torch import WAYS
from training_step import asking, timed

from resnet_keras.distributed import cores
from resnet_keras.networks import build
from resnet_keras.runs import versions
from resnet_keras.tables import markdown_table

Turn = Callable[[], float]
"""Computes the convolutions some times; returns the seconds."""


def convolutions(network: str) -> list[dict[str, Any]]:
    """Returns the shapes of a network's convolutions: of the padded input, without the batch, and of the kernel."""
    found = []
    for layer in build(network).layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width, channels = layer.input.shape[1:]
            pad = 0 if layer.padding == "valid" else layer.kernel_size[0] // 2
            sides = [height + 2 * pad, width + 2 * pad]
            found.append({"input": [*sides, channels], "kernel": list(layer.kernel.shape), "strides": layer.strides[0]})
    return found


def by_tensorflow(shapes: list[dict[str, Any]], batch: int, steps: int) -> Turn:
    """Returns the turn of TensorFlow: a graph with constant kernels, one convolution after the other."""
    images = [tf.random.normal((batch, *shape["input"])) for shape in shapes]
    kernels = [tf.constant(tf.random.normal(shape["kernel"]).numpy()) for shape in shapes]

    @tf.function(autograph=False)
    def compute() -> Any:
        done: list[Any] = []  # returned, as TensorFlow does not compute what is not
        for shape, image, kernel in zip(shapes, images, kernels, strict=True):
            with tf.control_dependencies(done[-1:]):
                done.append(tf.nn.conv2d(image, kernel, shape["strides"], "VALID"))
        return done

    def run() -> None:
        for _ in range(steps):
            compute()

    run()
    return lambda: timed(run)[0]


def by_torch(python: str, shapes: list[dict[str, Any]], batch: int, steps: int) -> dict[str, Turn]:
    """Returns the turns of PyTorch, which run in a process of another interpreter."""
    ask = asking(python, "layouts_torch.py")
    begun = ask(json.dumps({"shapes": shapes, "batch": batch, "steps": steps}))
    assert begun == "ready", begun
    return {f"PyTorch, {way}": lambda way=way: ask(way) for way in WAYS}


def measured(network: str, python: str, batch: int, arguments: argparse.Namespace) -> list[list[str]]:
    """Returns a row for each contestant."""
    shapes = convolutions(network)
    steps = max(1, arguments.images // batch)
    turns = {"TensorFlow, channels last": by_tensorflow(shapes, batch, steps), **by_torch(python, shapes, batch, steps)}
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(arguments.rounds):
        for name in list(turns)[:: 1 if turn % 2 else -1]:
            times[name].append(turns[name]())
    blocked = times[f"PyTorch, {WAYS[-1]}"]
    rows = []
    for name, mine in times.items():
        ratio = median(theirs / best for theirs, best in zip(mine, blocked, strict=True))
        rows.append([network, str(batch), name, f"{1000 * median(mine) / batch / steps:.1f}", f"{ratio:.2f}x"])
    return rows


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", required=True, help="a Python interpreter that has PyTorch")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--images", type=int, default=32, help="in a turn")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rows = []
    for batch in arguments.batches:
        rows += measured(arguments.network, arguments.torch, batch, arguments)
    heads = ["network", "batch", "convolutions by", "ms per image", "blocked layouts are 1"]
    page = "\n".join(
        [
            "# Blocked layouts",
            "",
            f"`python benchmarks/blocked_layouts.py` on {cores()} CPU cores ({platform.machine()}), TensorFlow "
            f"{versions()['tensorflow']}; the convolutions of inference alone, float32, medians of {arguments.rounds} "
            "turns.",
            "",
            markdown_table(heads, rows, text=("convolutions by",)),
            "",
        ]
    )
    print(page)
    Path(__file__).with_name("blocked_layouts.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
