"""Faster R-CNN on blood cells from ImageNet weights, in minutes on a CPU: `python benchmarks/bccd.py BCCD WEIGHTS`.

BCCD is the folder of that set in VOC's layout: 292 images for training and 72 for the test, of 640x480 pixels, with red
and white blood cells and platelets; two of its boxes have no area and are left out. WEIGHTS are those of an ImageNet
ResNet-18. The network is trained by the recipe `finetune_detector` with the changes that the command says. The table is
of the test part after the last epoch; it is printed and written to `bccd.md`, and pictures of the first test images to
the folder of `--pictures`.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image, ImageDraw

import resnet_keras
from resnet_keras import detection
from resnet_keras.runs import versions
from resnet_keras.tables import markdown_table

COLORS = {"RBC": "red", "WBC": "blue", "Platelets": "lime"}
LEAST_SCORE = 0.5
PICTURES = 3


def report(results: list[list[str]], classes: list[list[str]], arguments: argparse.Namespace, steps: int) -> str:
    """Returns the page: how it was measured, and the tables."""
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in ("tensorflow", "keras"))
    height, width = arguments.canvas
    seeds = " ".join(map(str, arguments.seeds))
    return "\n".join(
        [
            "# Faster R-CNN on BCCD",
            "",
            f"`python benchmarks/bccd.py BCCD WEIGHTS --epochs {arguments.epochs} --canvas {height} {width} "
            f"--batch-size {arguments.batch_size} --seeds {seeds}` on {os.cpu_count()} CPU cores "
            f"({platform.machine()}), {packages}: the recipe `finetune_detector` with these changes, {steps:,} steps "
            "from ImageNet weights, 72 test images. CPU seconds are those of the process: its start, its training, and "
            "its evaluation.",
            "",
            markdown_table(["seed", "AP", "AP50", "AP75", "VOC 2007 AP", "CPU s", "s"], results),
            "",
            markdown_table(["class", *(f"AP, seed {seed}" for seed in arguments.seeds)], classes),
            "",
        ]
    )


def draw(detector: detection.Detector, folder: Path, to: Path) -> None:
    """Writes the first test images with what the detector finds, beside the same with their objects."""
    to.mkdir(parents=True, exist_ok=True)
    split = detection.open_boxes(folder, "test", class_names=detector.class_names, on_corrupt="skip")
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


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """Trains, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--canvas", type=int, nargs=2, default=(256, 320))
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/bccd"), help="folder of the runs")
    parser.add_argument("--pictures", type=Path, help="folder of pictures")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("resnet_keras").setLevel(logging.INFO)
    recipe = resnet_keras.RECIPES["finetune_detector"].replace(
        weights=str(arguments.weights),
        canvas=tuple(arguments.canvas),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
    )
    rows, by_class, steps = [], {}, 0
    for seed in arguments.seeds:
        start, cpu, folder = time.perf_counter(), time.process_time(), arguments.workdir / str(seed)
        result = resnet_keras.train(recipe.replace(seed=seed), folder, data_dir=arguments.bccd, skip_broken=True)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        assert isinstance(result, detection.DetectionResult)
        numbers = [result.ap, result.ap50, result.ap75, result.voc2007_ap]
        rows.append([str(seed), *map(_percent, numbers), f"{cpu:.0f}", f"{seconds:.0f}"])
        by_class[seed] = result.class_ap
        split = detection.open_boxes(arguments.bccd, "trainval", on_corrupt="skip")
        steps = arguments.epochs * (len(split) // arguments.batch_size)
    detector = detection.Detector.load(arguments.workdir / str(arguments.seeds[0]) / "model.keras")
    classes = [[name, *(_percent(each[name]) for each in by_class.values())] for name in detector.class_names]
    page = report(rows, classes, arguments, steps)
    print(page)
    arguments.to.write_text(page, encoding="utf-8")
    if arguments.pictures is not None:
        draw(detector, arguments.bccd, arguments.pictures)


if __name__ == "__main__":
    main()
