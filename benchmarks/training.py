"""Training speed of our networks and their peers, in one run: `python benchmarks/training.py`.

Each network trains by `model.fit` on the same batches: with our batch normalization, with Keras's, and, if there is
one, as `keras.applications` builds it. The variants take turns of a few steps each, so that other load on the machine
affects all of them; a ratio is the median over the turns. The table is printed and written to `training.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program `resnet` does

import keras
import tensorflow as tf

from resnet_keras.distributed import cores
from resnet_keras.layers import BatchNormalization
from resnet_keras.networks import ARCHITECTURES, build
from resnet_keras.runs import versions

POLICIES = ("float32", "mixed_bfloat16")
NETWORKS = {"resnet20": (128, 16), "resnet50": (32, 3)}
"""Batch size, and steps in a turn."""


def with_keras_batch_norm(model: keras.Model) -> keras.Model:
    """Returns the same network with Keras's own batch normalization."""

    def swapped(layer: Any) -> Any:
        kind = keras.layers.BatchNormalization if isinstance(layer, BatchNormalization) else layer.__class__
        return kind.from_config(layer.get_config()) if isinstance(layer, keras.layers.Layer) else layer

    return keras.models.clone_model(model, clone_function=swapped)


def variants(name: str) -> dict[str, Callable[[], keras.Model]]:
    """Returns the builders to compare, ours first."""
    found: dict[str, Callable[[], keras.Model]] = {
        "ours": lambda: build(name),
        "Keras's batch normalization": lambda: with_keras_batch_norm(build(name)),
    }
    if name == "resnet50":
        found["keras.applications"] = lambda: keras.applications.ResNet50(weights=None)
    return found


class Clock(keras.callbacks.Callback):
    """Times the steps of a `fit` except the first, which may build a graph and always starts the input."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Clears the times of earlier steps."""
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the end of a step."""
        self.ends.append(time.perf_counter())

    @property
    def step(self) -> float:
        """Seconds per step."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def compare(name: str, policy: str, turns: int) -> list[tuple[str, float, float]]:
    """Returns images/s of each variant and the speed of ours relative to it: medians over the turns."""
    batch, steps = NETWORKS[name]
    keras.config.set_dtype_policy(policy)
    models = {variant: builder() for variant, builder in variants(name).items()}
    side = ARCHITECTURES[name].image_size
    data = tf.data.Dataset.from_tensors((tf.random.uniform((batch, side, side, 3)), tf.zeros((batch,), tf.int32)))
    data = data.repeat()
    for model in models.values():
        model.compile(keras.optimizers.SGD(0.001, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(data, steps_per_epoch=2, verbose=0, shuffle=False)
    times: dict[str, list[float]] = {variant: [] for variant in models}
    clock = Clock()
    for _ in range(turns):
        for variant, model in models.items():
            model.fit(data, steps_per_epoch=steps + 1, verbose=0, shuffle=False, callbacks=[clock])
            times[variant].append(clock.step)
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session()
    return [
        (variant, batch / median(mine), median(other / ours for other, ours in zip(mine, times["ours"], strict=True)))
        for variant, mine in times.items()
    ]


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    devices = [gpu.name for gpu in tf.config.list_physical_devices("GPU")] or [f"{cores()} CPU cores"]
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "keras", "commit")}
    lines = [
        "# Training speed, side by side",
        "",
        f"`python benchmarks/training.py` on {', '.join(devices)} ({platform.machine()}), "
        + ", ".join(f"{key} {value}" for key, value in made.items())
        + f"; medians over {arguments.turns} turns.",
        "",
        "| network | batch | precision | batch normalization | images/s | ours is faster by |",
        "|---|---:|---|---|---:|---:|",
    ]
    print("\n".join(lines))
    for name in arguments.networks:
        for policy in POLICIES:
            for variant, rate, ratio in compare(name, policy, arguments.turns):
                faster = "" if variant == "ours" else f"{ratio:.2f}x"
                lines.append(f"| {name} | {NETWORKS[name][0]} | {policy} | {variant} | {rate:.1f} | {faster} |")
                print(lines[-1], flush=True)
    arguments.to.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
