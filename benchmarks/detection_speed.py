"""Speed of Faster R-CNN on the CPU, beside torchvision: `python benchmarks/detection_speed.py --torch PYTHON`.

Two networks: that of the recipe `finetune_detector` (ResNet-18, a pyramid of 128 channels), and torchvision's
`fasterrcnn_resnet50_fpn` for 20 classes. torchvision draws the weights, and ours loads them; so both are the same
network, and the page says how far their detections are apart. A prediction takes one image of 240x320 pixels, from its
pixels to its boxes. A step of training takes two of them, with SGD, momentum, decay, and frozen parts as the recipes
have them; ours runs by `fit`, torchvision's by a loop, each on the same batch again and again.

Each library has a process of its own; they take turns, so that other load on the machine affects both. Times are the
CPU seconds of the process, per image; a ratio is the median over the turns. PyTorch's threads sleep while they wait for
each other (OMP_WAIT_POLICY), or on a busy machine most of its CPU seconds would be waiting. The table is printed and
written to `detection_speed.md`. PYTHON is an interpreter with torchvision and safetensors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program `resnet` does

import numpy as np
import tensorflow as tf
from detection_peer import PEER, has_peer, network_settings
from timed_runs import machine, publish

import resnet_keras
from resnet_keras import detection, surgery
from resnet_keras.tables import markdown_table
from resnet_keras.training import create_optimizer

IMAGE_SIZE = (240, 320)
CANVAS = (256, 320)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RATE = 1e-5  # the same batch again and again, and no learning away of what there is to suppress
NETWORKS = {
    "ResNet-18, 128 channels": ("finetune_detector", 3),
    "ResNet-50": ("coco_frcnn_fpn", 20),
}
WAYS = ("predict", "train")


def recipe_of(name: str) -> resnet_keras.Recipe:
    """Returns a recipe on the canvas of all, with two images in a step."""
    return resnet_keras.RECIPES[name].replace(canvas=CANVAS, fit=None, batch_size=2)


def scene(classes: int, size: int) -> tuple[np.ndarray, list[Any], list[Any]]:
    """Returns images of random rectangles, uint8 (size, *IMAGE_SIZE, 3), and their boxes and labels from 1."""
    noise = np.random.default_rng(0)
    images = noise.integers(0, 60, (size, *IMAGE_SIZE, 3), np.uint8)
    boxes, labels = [], []
    for image in images:
        height, width = IMAGE_SIZE
        corner = np.stack([noise.integers(0, width - 100, 12), noise.integers(0, height - 100, 12)], 1)
        own = np.concatenate([corner, corner + noise.integers(20, 100, (12, 2))], 1)
        for left, top, right, bottom in own:
            image[top:bottom, left:right] += noise.integers(30, 190, 3).astype(np.uint8)
        boxes.append(own.tolist())
        labels.append(noise.integers(1, classes + 1, 12).tolist())
    return images, boxes, labels


class Ours:
    """The network of this package with torchvision's weights, and its two turns."""

    def __init__(self, recipe: resnet_keras.Recipe, settings: dict[str, Any]) -> None:
        row = detection.DETECTORS["fpn"].replace(
            channels=settings["channels"],
            box_units=settings["box_units"],
            anchor_sizes=tuple((size,) for size in settings["anchor_sizes"]),
            proposals=tuple(settings["proposals"]),
        )
        model = detection.FasterRCNN(
            recipe.network.model,
            settings["classes"],
            detector=row,
            input_shape=(*CANVAS, 3),
            weights=settings["weights_to"],
        )
        preprocessing = resnet_keras.Preprocessing(image_size=CANVAS, channels=3, mean=MEAN, std=STD)
        names = tuple(str(label) for label in range(settings["classes"]))
        self.detector, self.steps = detection.Detector(model, preprocessing, names), settings["steps"]
        self.images, boxes, labels = (np.load(settings["images"]), settings["boxes"], settings["labels"])
        rules = detection.SamplingRules(anchors=settings["sampled_anchors"], regions=settings["sampled_regions"])
        self.training = detection.training_network(model, CANVAS, most_boxes=len(boxes[0]), rules=rules)
        surgery.freeze(self.training, recipe.network.freeze, batch_norms=True)
        self.training.compile(create_optimizer(recipe.optimization, RATE), detection.DetectorLoss())
        canvas = np.zeros((len(boxes), *CANVAS, 3), np.float32)
        normalized = (self.images - np.array(MEAN)) / STD
        canvas[:, : IMAGE_SIZE[0], : IMAGE_SIZE[1]] = normalized
        inputs = {
            "images": canvas,
            "boxes": np.array(boxes, np.float32),
            "labels": np.array(labels, np.int32),
            "sizes": np.array([IMAGE_SIZE] * len(boxes), np.int32),
        }
        batch = tf.data.Dataset.from_tensors((inputs, inputs["labels"]))
        self.batches = batch.cache().repeat()

    def turn(self, way: str) -> list[float]:
        """Runs the steps of a turn, and returns the CPU seconds and seconds."""
        start, cpu = time.perf_counter(), time.process_time()
        if way == "train":
            self.training.fit(self.batches, steps_per_epoch=self.steps, verbose=0, shuffle=False)
        else:
            for _ in range(self.steps):
                self.detector.predict(self.images[0])
        return [time.process_time() - cpu, time.perf_counter() - start]


@contextmanager
def torchvision(python: str, settings: dict[str, Any], folder: Path) -> Iterator[Callable[[str | None], Any]]:
    """Yields what asks torchvision's process for a turn; without one, it returns the first answer."""
    file = folder / "settings.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    command = [python, str(PEER), "turns", str(file)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True, bufsize=1)
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(way: str | None) -> Any:
        if way is not None:
            stdin.write(f"{way}\n")
        answer = stdout.readline()
        assert answer, "torchvision's process has ended"
        return json.loads(answer)

    try:
        yield ask
    finally:
        stdin.close()
        process.wait()


def compare(title: str, arguments: argparse.Namespace) -> tuple[list[list[str]], str]:
    """Returns the rows of a network, and the differences and versions in words."""
    name, classes = NETWORKS[title]
    recipe = recipe_of(name)
    images, boxes, labels = scene(classes, recipe.data.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        settings = network_settings(recipe, IMAGE_SIZE, classes) | {
            "images": str(Path(folder) / "images.npy"),
            "weights_to": str(Path(folder) / "weights.safetensors"),
            "boxes": boxes,
            "labels": labels,
            "steps": arguments.steps,
            "rates": [RATE],
        }
        with torchvision(arguments.torch, settings, Path(folder)) as ask:
            first = ask(None)
            ours = Ours(recipe, settings)
            (found,) = ours.detector.predict(images[0])
            seconds: dict[str, list[tuple[list[float], list[float]]]] = {way: [] for way in WAYS}
            for turn in range(arguments.turns + 1):
                for way in WAYS:
                    pair = (ours.turn(way), ask(way))
                    if turn:  # the first one traces and allocates
                        seconds[way].append(pair)
    rows = []
    for way, taken in seconds.items():
        per_image = arguments.steps * (recipe.data.batch_size if way == "train" else 1)
        own, peer = ([each[side][0] / per_image for each in taken] for side in (0, 1))
        wall, peer_wall = (median(each[side][1] / per_image for each in taken) for side in (0, 1))
        ratio = median(a / b for a, b in zip(own, peer, strict=True))
        cells = [f"{median(own):.3f}", f"{median(peer):.3f}", f"{ratio:.2f}", f"{wall:.3f}", f"{peer_wall:.3f}"]
        rows.append([title, "inference" if way == "predict" else "training step", *cells])
    return rows, f"{title}: {_difference(found, first)}. "


def _difference(found: detection.FoundBoxes, other: dict[str, Any]) -> str:
    boxes = np.array(other["boxes"]).reshape(-1, 4)
    if len(found.boxes) != len(boxes):
        return f"{len(found.boxes)} detections here, {len(boxes)} in torchvision"
    # Of the nearest box, because scores of random weights are nearly equal, and rounding decides their order.
    apart = np.abs(found.boxes[:, None] - boxes).max(-1).min(-1, initial=np.inf).max(initial=0.0)
    scores = np.abs(found.scores - np.array(other["scores"])).max(initial=0.0)
    return f"{len(boxes)} detections in each, edges at most {apart:.1g} px and scores {scores:.1g} apart"


def main() -> None:
    """Measures, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=sys.executable, help="interpreter with torchvision")
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    if not has_peer(arguments.torch):
        sys.exit(f"{arguments.torch} has no torchvision, or no safetensors; --torch names another interpreter")
    rows: list[list[str]] = []
    words = ""
    for title in arguments.networks:
        own, said = compare(title, arguments)
        rows.extend(own)
        words += said
    heads = ["network", "", "CPU s per image", "torchvision", "ratio", "s per image", "torchvision's"]
    page = [
        "# Speed of Faster R-CNN",
        "",
        f"`python benchmarks/detection_speed.py --steps {arguments.steps} --turns {arguments.turns}` {machine()}: "
        f"images of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} on a canvas of {CANVAS[0]}x{CANVAS[1]}, one in inference, two in a "
        "step. Medians over the turns; a ratio is the median of the ratios of the turns, below 1 where ours is faster. "
        "With the same weights, before "
        f"training: {words}",
        "",
        markdown_table(heads, rows),
        "",
    ]
    publish("\n".join(page), arguments.to)


if __name__ == "__main__":
    main()
