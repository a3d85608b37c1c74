"""Memory and time of training with and without rematerialization: `python benchmarks/memory.py`.

Each network trains a few steps by `model.fit`, as in `resnet train`, in a process of its own, whose peak memory is
measured. The table is printed and written to `memory.md`. ResNet-1202 takes several minutes, most of them to trace its
graph; `--networks resnet110` skips it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from resnet_keras.distributed import cores
from resnet_keras.networks import build
from resnet_keras.runs import peak_memory, versions
from resnet_keras.training import MomentumSGD, groups, rematerialize

NETWORKS = {"resnet110": (128, 8), "resnet1202": (32, 3)}
"""Batch size, and steps after the first."""
CLASSES, SIDE = 10, 32


class Clock(keras.callbacks.Callback):
    """Records the end of each step, and the CPU time until then."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [(perf_counter(), process_time())]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records the end of a step."""
        self.ends.append((perf_counter(), process_time()))

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Seconds and CPU seconds of all cores, for each step."""
        return [(end - start, after - before) for (start, before), (end, after) in pairwise(self.ends)]


def peak() -> float:
    """Returns the peak memory of this process, in GiB."""
    return peak_memory() / 2**30


def measured(name: str, batch: int, steps: int, rematerialized: bool) -> dict[str, Any]:
    """Trains a network in this process; returns memory in GiB and times in seconds."""
    keras.utils.set_random_seed(0)
    model = build(name, classes=CLASSES, input_shape=(SIDE, SIDE, 3), classifier_activation=None)
    model.compile(
        MomentumSGD(learning_rate=0.01, momentum=0.9, l2=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    one = (tf.random.uniform((batch, SIDE, SIDE, 3)), tf.range(batch) % CLASSES)
    clock, before = Clock(), peak()
    with rematerialize(model) if rematerialized else nullcontext():
        history = model.fit(
            tf.data.Dataset.from_tensors(one).repeat(),
            steps_per_epoch=steps + 1,
            shuffle=False,
            verbose=0,
            callbacks=[clock],
        ).history
    (first, _), *rest = clock.steps
    return {
        "before": before,
        "peak": peak(),
        "first": first,
        "step": median(seconds for seconds, _ in rest),
        "work": median(work for _, work in rest),
        "loss": history["loss"][-1],
        "groups": len(groups(model)[0]) if rematerialized else None,
    }


def in_a_process(name: str, batch: int, steps: int, rematerialized: bool) -> dict[str, Any]:
    """Returns the result of `measured` from a new process.

    Raises:
        SystemExit: The process failed, for example because it ran out of memory.
    """
    command = [sys.executable, __file__, "--measure", name, str(batch), str(steps), str(int(rematerialized))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Expected {name} to train with a batch of {batch}. Received: exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, batch: int, rematerialized: bool, found: dict[str, Any]) -> str:
    """Returns a line of the table."""
    how = f"rematerialized, {found['groups']} groups" if rematerialized else "kept"
    return (
        f"| {name} | {batch} | {how} | {found['peak']:.2f} | {found['peak'] - found['before']:.2f} | "
        f"{found['work']:.1f} | {found['step']:.1f} | {found['first']:.0f} | {found['loss']:.6f} |"
    )


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    parser.add_argument(
        "--measure", nargs=4, metavar=("NETWORK", "BATCH", "STEPS", "REMATERIALIZED"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.measure:
        name, *numbers = arguments.measure
        batch, steps, rematerialized = map(int, numbers)
        print(json.dumps(measured(name, batch, steps, bool(rematerialized))))
        return
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "keras")}
    lines = [
        "# Memory of training, with activations kept and with rematerialization",
        "",
        f"`python benchmarks/memory.py` on {cores()} CPU cores ({platform.machine()}), "
        + ", ".join(f"{key} {value}" for key, value in made.items())
        + "; float32, each in a process of its own. Memory is the peak of the process, and the part of it since the "
        "first step, which includes the graph. Times are medians of the steps after the first; other load on the "
        "machine changes the sum over all cores less.",
        "",
        "| network | batch | activations | GiB | GiB since the first step | s per step, sum over cores | s per step | "
        "s of the first | mean loss |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for name in arguments.networks:
        batch, steps = NETWORKS[name]
        for rematerialized in (False, True):
            lines.append(row(name, batch, rematerialized, in_a_process(name, batch, steps, rematerialized)))
            print(lines[-1], flush=True)
    arguments.to.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
