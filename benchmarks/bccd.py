"""Faster R-CNN on blood cells from ImageNet weights, in minutes on a CPU: `python benchmarks/bccd.py BCCD WEIGHTS`.

BCCD is the folder of that set in VOC's layout: 292 images for training and 72 for the test, of 640x480 pixels, with red
and white blood cells and platelets; two of its boxes have no area and are left out. WEIGHTS are those of an ImageNet
ResNet-18, in a file of torchvision's names. The network is trained by the recipe `finetune_detector` with the changes
that the command says.

torchvision's Faster R-CNN of the same shapes is trained beside it, in a process of its own: from the same weights of
the backbone, with the same frozen parts, numbers of anchors and regions, steps, images in a step, learning rates,
decay, and mirrored images. Its own are the first values of the new layers and the order of the images. `--torch PYTHON`
names an interpreter that has torchvision and safetensors; without them the table says so.

The table is of the test part after the last epoch; it is printed and written to `bccd.md`, and pictures of the first
test images to the folder of `--pictures`. A finished run in `--workdir` is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from detection_peer import PEER, has_peer, network_settings
from PIL import Image, ImageDraw
from timed_runs import PICTURES, machine, parse, parser, percent, publish, train

import resnet_keras
from resnet_keras import detection
from resnet_keras.tables import markdown_table
from resnet_keras.training import learning_rate_schedule

COLORS = {"RBC": "red", "WBC": "blue", "Platelets": "lime"}
LEAST_SCORE = 0.5
Result = detection.DetectionResult


def recipe_of(arguments: argparse.Namespace) -> resnet_keras.Recipe:
    """Returns the recipe of all seeds."""
    return resnet_keras.RECIPES["finetune_detector"].replace(
        weights=str(arguments.weights),
        canvas=tuple(arguments.canvas),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
    )


def peer_settings(
    recipe: resnet_keras.Recipe, train_split: detection.BoxSplit, test_split: detection.BoxSplit
) -> dict[str, Any]:
    """Returns what torchvision's network and its training need to know."""
    steps = len(train_split) // recipe.data.batch_size
    rates = learning_rate_schedule(recipe, steps)
    sides = {(example.height, example.width) for example in test_split.examples}
    assert len(sides) == 1, sides  # all of one size: then the canvas has one image size
    return {
        **network_settings(recipe, sides.pop(), len(train_split.class_names)),
        "weights": str(Path(str(recipe.network.weights)).absolute()),
        "rates": [float(rates(step)) for step in range(recipe.schedule.epochs * steps)],
        "train": _examples(train_split),
        "test": _examples(test_split),
    }


def train_peer(settings: dict[str, Any], split: detection.BoxSplit, python: str, folder: Path) -> dict[str, Any]:
    """Trains torchvision's network, unless the folder has its result; returns the result and the CPU seconds."""
    paths = [folder / f"torchvision_{settings['seed']}{kind}.json" for kind in ("", "_found")]
    same = all(path.exists() for path in paths) and json.loads(paths[0].read_text(encoding="utf-8")) == settings
    if not same:
        folder.mkdir(parents=True, exist_ok=True)
        paths[1].unlink(missing_ok=True)
        paths[0].write_text(json.dumps(settings), encoding="utf-8")
        subprocess.run([python, str(PEER), "train", *map(str, paths)], check=True)
    answer = json.loads(paths[1].read_text(encoding="utf-8"))
    found = [
        detection.FoundBoxes(
            np.array(each["boxes"], np.float64).reshape(-1, 4), np.array(each["scores"]), np.array(each["labels"]) - 1
        )
        for each in answer["found"]
    ]
    return {**answer, "result": detection.measure_detections(split, found)}


def row(name: str, seed: int, result: Result, times: list[str]) -> list[str]:
    """Returns a row of the table."""
    numbers = [result.ap, result.ap50, result.ap75, result.voc2007_ap]
    return [name, str(seed), *map(percent, numbers), *times]


def report(
    rows: list[list[str]], classes: list[list[str]], heads: list[str], arguments: argparse.Namespace, words: str
) -> str:
    """Returns the page: how it was measured, and the tables."""
    height, width = arguments.canvas
    seeds = " ".join(map(str, arguments.seeds))
    return "\n".join(
        [
            "# Faster R-CNN on BCCD",
            "",
            f"`python benchmarks/bccd.py BCCD WEIGHTS --epochs {arguments.epochs} --canvas {height} {width} "
            f"--batch-size {arguments.batch_size} --seeds {seeds}` {machine()}: the recipe `finetune_detector` with "
            f"these changes. {words} CPU seconds are those of the training and its evaluation.",
            "",
            markdown_table(["network", "seed", "AP", "AP50", "AP75", "VOC 2007 AP", "CPU s", "s"], rows),
            "",
            markdown_table(["class, AP in %", *heads], classes),
            "",
        ]
    )


def draw(detector: detection.Detector, split: detection.BoxSplit, to: Path) -> None:
    """Writes the first test images with what the detector finds, beside the same with their objects."""
    to.mkdir(parents=True, exist_ok=True)
    for example in split.examples[:PICTURES]:
        ((pixels, found),) = detector.detections(example.image)
        sure = found.scores >= LEAST_SCORE
        pairs = ((found.boxes[sure], found.labels[sure]), (example.boxes, example.labels))
        shown = []
        for boxes, labels in pairs:
            picture = Image.fromarray(pixels.astype(np.uint8))
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
                color = COLORS.get(detector.class_names[label], "yellow")
                ImageDraw.Draw(picture).rectangle(box, outline=color, width=3)
            shown.append(np.asarray(picture))
        Image.fromarray(np.concatenate(shown, 1)).save(to / f"{example.identity}.png")


def _examples(split: detection.BoxSplit) -> list[dict[str, Any]]:
    return [
        {
            "image": str(example.image.absolute()),
            "boxes": example.boxes[example.trained].tolist(),
            "labels": example.labels[example.trained].tolist(),
        }
        for example in split.examples
    ]


def main() -> None:
    """Trains, prints, and writes the page."""
    flags = parser(__doc__, "bccd", Path(__file__))
    flags.add_argument("--epochs", type=int, default=3)
    flags.add_argument("--canvas", type=int, nargs=2, default=(256, 320))
    flags.add_argument("--batch-size", type=int, default=2)
    flags.add_argument("--torch", default=sys.executable, help="interpreter with torchvision")
    flags.add_argument("--torch-seeds", type=int, nargs="*", default=[0], help="seeds of torchvision's training")
    arguments = parse(flags)
    recipe, folder = recipe_of(arguments), arguments.workdir
    trainval = detection.open_boxes(arguments.bccd, "trainval", on_corrupt="skip")
    test = detection.open_boxes(arguments.bccd, "test", class_names=trainval.class_names, on_corrupt="skip")
    steps = arguments.epochs * (len(trainval) // arguments.batch_size)
    words = f"{steps:,} steps from ImageNet weights, {len(test)} test images."
    rows, results = [], {}
    peers = arguments.torch_seeds if has_peer(arguments.torch) else []
    if not peers:
        words += " torchvision was not trained: it is not installed, or no seed was asked for."
    for seed in peers:
        answer = train_peer(peer_settings(recipe.replace(seed=seed), trainval, test), test, arguments.torch, folder)
        name = f"torchvision {answer['versions']['torchvision'].partition('+')[0]}"
        rows.append(row(name, seed, answer["result"], [f"{answer['cpu_seconds']:.0f}", f"{answer['seconds']:.0f}"]))
        results[f"torchvision, seed {seed}"] = answer["result"].class_ap
    ours = {}
    for seed in arguments.seeds:
        own = recipe.replace(seed=seed)
        run = train(
            own, folder / str(seed), data_dir=arguments.bccd, skip_broken=True, validate_epochs=arguments.epochs
        )
        ours[f"seed {seed}"] = run.result.class_ap
        rows.insert(len(ours) - 1, row("`FasterRCNN`", seed, run.result, run.times))
    results = ours | results
    classes = [[name, *(percent(each[name]) for each in results.values())] for name in test.class_names]
    publish(report(rows, classes, list(results), arguments, words), arguments.to)
    if arguments.pictures is not None:
        draw(detection.Detector.load(folder / str(arguments.seeds[0])), test, arguments.pictures)


if __name__ == "__main__":
    main()
