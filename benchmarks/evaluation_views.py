"""Evaluation of several views beside the bare network: `python benchmarks/evaluation_views.py --photos DIR`.

`evaluate` reads, crops, computes, and counts, one batch while the next is read; the bare network only computes the same
views, which are in memory, in batches of the same size. Ten crops, and the full image at the paper's five scales. A
third contestant shares each batch between two logical CPUs. They take turns in one process. The table is printed and
written to `evaluation_views.md`, that of full images alone to `evaluation_views_full.md`. For full images, most of them
alone in their batch, the program leaves oneDNN off where TensorFlow does: set TF_ENABLE_ONEDNN_OPTS=0.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program `resnet` does

import numpy as np
import tensorflow as tf

import resnet_keras
from resnet_keras.data import stratified_sample
from resnet_keras.distributed import cores, create_strategy
from resnet_keras.evaluation import Views, predict_split
from resnet_keras.surgery import clone_for_any_size
from resnet_keras.tables import markdown_table

PREPROCESSING = resnet_keras.Preprocessing(
    image_size=(224, 224), channels=3, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4), shorter_side=256
)
PROTOCOLS = {"ten": ("ten crops", Views(crops="ten")), "full": ("full images, five scales", Views(crops="full"))}
DEVICES = ("CPU:0", "CPU:1")


def bare(classifier: resnet_keras.Classifier, split: Any, views: Views, batch: int) -> Callable[[], None]:
    """Returns a function that computes the views of a split, which are cropped and normalized now."""
    preprocessing, held = classifier.preprocessing, defaultdict(list)
    for path in split.paths:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        for side in views.sides(preprocessing):
            found = views.of(image, preprocessing, side).numpy()
            held[found.shape[1:]].append(found)
    arrays = [np.concatenate(each) for each in held.values()]

    def compute() -> None:
        model = clone_for_any_size(classifier.model) if views.crops == "full" else classifier.model
        for images in arrays:
            for first in range(0, len(images), batch):
                model.predict_on_batch(images[first : first + batch])

    return compute


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds of wall time and of CPU that a call takes."""
    start, used = time.perf_counter(), sum(os.times()[:2])
    function()
    return time.perf_counter() - start, sum(os.times()[:2]) - used


def main() -> None:
    """Prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of images by class")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--crops", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--batch", type=int, default=40, help="views in a batch")
    args = parser.parse_args()
    create_strategy(len(DEVICES))  # divides the CPU; a network uses the first part unless it is told of both
    split = resnet_keras.open_split("folder", "all", data_dir=args.photos)
    split = stratified_sample(split, args.images)
    model = resnet_keras.build(args.network, classes=len(split.class_names), classifier_activation=None)
    classifier = resnet_keras.Classifier(model, PREPROCESSING, tuple(split.class_names))
    rows, notes = [], []
    for name, views in (PROTOCOLS[crops] for crops in args.crops):
        found: dict[str, Any] = {}

        def evaluated(key: str, *devices: str, views: Views = views, found: dict[str, Any] = found) -> None:
            found[key] = predict_split(classifier, split, views=views, batch_size=args.batch, devices=devices)

        contestants = {
            "bare network": bare(classifier, split, views, args.batch),
            "`evaluate`": lambda: evaluated("one"),
            "`evaluate`, two logical CPUs": lambda: evaluated("two", *DEVICES),
        }
        times: dict[str, list[tuple[float, float]]] = {key: [] for key in contestants}
        for turn in range(args.rounds + 1):  # the first turn traces and allocates
            for key in list(contestants)[:: 1 if turn % 2 else -1]:
                taken = seconds(contestants[key])
                if turn:
                    times[key].append(taken)
        for key, mine in times.items():
            beside = zip(mine, times["bare network"], strict=True)
            ratios = [[a / b for a, b in zip(*pair, strict=True)] for pair in beside]
            cells = [median(each) / len(split) for each in zip(*mine, strict=True)]
            rows.append(
                [name, key, *(f"{1000 * cell:.0f}" for cell in cells)]
                + [f"{median(each):.2f}x" for each in zip(*ratios, strict=True)]
            )
        one, two = found["one"], found["two"]
        same = np.array_equal(one.predicted, two.predicted) and one.evaluation.top1_error == two.evaluation.top1_error
        notes.append(f"{name}: predictions of one and two CPUs are {'equal' if same else 'not equal'}")
    heads = ["views", args.network, "ms per image", "CPU ms per image", "time, to the bare network", "CPU, to it"]
    table = markdown_table(heads, rows, text=("views", args.network))
    print(table, *notes, sep="\n")
    onednn = "off" if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0" else "on"
    told = (
        f"Written by `python benchmarks/evaluation_views.py --crops {' '.join(args.crops)}` on {cores()} CPU cores, "
        f"oneDNN {onednn}: {len(split)} photographs, {args.batch} views in a batch, medians of {args.rounds} turns. "
        f"{'; '.join(notes)}."
    )
    page = f"# Evaluation of several views\n\n{told}\n\n{table}\n"
    suffix = "_full.md" if args.crops == ["full"] else ".md"
    Path(__file__).with_name(Path(__file__).stem + suffix).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
