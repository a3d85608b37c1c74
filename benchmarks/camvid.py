"""U-Net on CamVid from pretrained and from random weights: `python benchmarks/camvid.py CAMVID WEIGHTS`.

CAMVID is a folder of train, val, and test parts, each with images and masks of 11 classes and 11 for pixels that do not
count. WEIGHTS are those of an ImageNet ResNet-18. Both networks are trained by the recipe `segmentation` with the
changes that the command says; the table is of the test part after the last epoch, at full resolution. It is printed and
written to `camvid.md`, and pictures of some test images to the folder of `--pictures`. A finished run in `--workdir` is
not repeated.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from timed_runs import PICTURES, TimedRun, machine, parse, parser, percent, publish, train

import resnet_keras
from resnet_keras import segmentation
from resnet_keras.tables import markdown_table

CLASSES = (*("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),)
VOID = len(CLASSES)
STARTS = ("ImageNet", "random")


def recipe_of(arguments: argparse.Namespace) -> resnet_keras.Recipe:
    """Returns the recipe of all runs, without weights and seed."""
    return resnet_keras.RECIPES["segmentation"].replace(
        model="resnet18",
        head="unet",
        weights=None,
        ignored_label=VOID,
        crop_size=tuple(arguments.size),
        random_scale=(0.75, 1.5),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        lr_batch_size=arguments.batch_size,
        peak_lr=arguments.peak_lr,
    )


def report(runs: dict[tuple[str, int], TimedRun], arguments: argparse.Namespace) -> str:
    """Returns the page: how it was measured, the measures, and the classes."""
    height, width = arguments.size
    seeds = " ".join(map(str, arguments.seeds))
    rows = [
        [start, str(seed), percent(run.result.mean_iou, 2), percent(run.result.pixel_accuracy, 2), *run.times]
        for (start, seed), run in runs.items()
    ]
    by_class = [list(run.result.class_iou.values()) for run in runs.values()]
    classes = [[name, *(percent(each[i]) for each in by_class)] for i, name in enumerate(CLASSES)]
    return "\n".join(
        [
            "# U-Net on CamVid",
            "",
            f"`python benchmarks/camvid.py CAMVID WEIGHTS --epochs {arguments.epochs} --size {height} {width} "
            f"--batch-size {arguments.batch_size} --peak-lr {arguments.peak_lr} --seeds {seeds}` {machine()}: the "
            f"recipe `segmentation` with these changes; every second image of CamVid, at {height}x{width} pixels, "
            "measured at 360x480 after the last epoch. CPU seconds are those of the training and its evaluation.",
            "",
            markdown_table(["initial weights", "seed", "mean IoU, %", "pixel accuracy, %", "CPU s", "s"], rows),
            "",
            markdown_table(["class, IoU in %", *(f"{start}, seed {seed}" for start, seed in runs)], classes),
            "",
        ]
    )


def draw(run: TimedRun, folder: Path, to: Path, name: str) -> None:
    """Writes some test images with the masks of a network beside the true ones."""
    segmenter = segmentation.Segmenter.load(run.folder)
    part = segmentation.open_masks(folder, "test", class_names=CLASSES, ignored=VOID)
    to.mkdir(parents=True, exist_ok=True)
    for image, mask in list(zip(part.images, part.masks, strict=True))[:: len(part) // PICTURES][:PICTURES]:
        assert isinstance(image, Path) and isinstance(mask, Path)
        ((pixels, predicted),) = segmenter.masks(image)
        shown = [
            segmentation.draw_mask(pixels, each, len(CLASSES)) for each in (predicted, segmentation.read_mask(mask))
        ]
        Image.fromarray(np.concatenate([pixels.astype(np.uint8), *shown], 1)).save(to / f"{image.stem}_{name}.png")


def main() -> None:
    """Trains, prints, and writes the page."""
    flags = parser(__doc__, "camvid", Path(__file__))
    flags.add_argument("--epochs", type=int, default=15)
    flags.add_argument("--size", type=int, nargs=2, default=(160, 224))
    flags.add_argument("--batch-size", type=int, default=4)
    flags.add_argument("--peak-lr", type=float, default=0.02)
    flags.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS, help="initial weights")
    arguments = parse(flags)
    recipe, runs = recipe_of(arguments), {}
    for start in arguments.starts:
        for seed in arguments.seeds:
            own = recipe.replace(seed=seed, weights=str(arguments.weights) if start == "ImageNet" else None)
            folder = arguments.workdir / f"{start.lower()}_{seed}"
            runs[start, seed] = train(own, folder, data_dir=arguments.camvid, validate_epochs=arguments.epochs)
    publish(report(runs, arguments), arguments.to)
    if arguments.pictures:
        for (start, seed), run in runs.items():
            draw(run, arguments.camvid, arguments.pictures, f"{start.lower()}_{seed}")


if __name__ == "__main__":
    main()
