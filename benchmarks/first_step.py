"""First step of `model.fit`, as it is and with the optimizer built before: `python benchmarks/first_step.py`.

Keras makes the optimizer's variables inside the first trace of the training step, and so traces it a second time. Each
case runs in a process of its own, in turns; small images, batches of two. The table is printed and written to
`first_step.md`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

FIRST_STEP = """
import os, resource, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import resnet_keras

name, before = sys.argv[1:]
if name.startswith("keras.applications."):
    model = getattr(keras.applications, name.rpartition(".")[2])(weights=None, input_shape=(64, 64, 3), classes=10)
else:
    model = resnet_keras.build(name, input_shape=(64, 64, 3), classes=10)


def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


start = seconds()
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
if before == "yes":
    model.optimizer.build(model.trainable_variables)
model.fit(np.zeros((2, 64, 64, 3), np.float32), np.zeros(2), batch_size=2, verbose=0)
print(seconds() - start)
"""


def main() -> None:
    """Prints the table and writes it."""
    from resnet_keras.tables import markdown_table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "keras.applications.ResNet50"])
    parser.add_argument("--rounds", type=int, default=1, help="turns of each case, about 20 CPU seconds each")
    args = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {(name, way): [] for name in args.networks for way in ("no", "yes")}
    for turn in range(args.rounds):
        for name, way in list(found)[:: 1 if turn % 2 else -1]:
            command = [sys.executable, "-c", FIRST_STEP, name, way]
            printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[name, way].append(float(printed.splitlines()[-1]))
            print(f"{name}, optimizer built before: {way}, {found[name, way][-1]:.1f} CPU s", flush=True)
    rows = []
    for name in args.networks:
        plain, built = (statistics.median(found[name, way]) for way in ("no", "yes"))
        rows.append([name, f"{plain:.1f}", f"{built:.1f}", f"{plain / built:.2f}x"])
    table = markdown_table(["network", "`fit` alone, CPU s", "optimizer built before, CPU s", "ratio"], rows)
    print(table)
    told = f"Written by `python benchmarks/first_step.py`: images of 64 pixels, batch 2; medians, turns: {args.rounds}."
    Path(__file__).with_suffix(".md").write_text(f"# First step of `fit`\n\n{told}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
