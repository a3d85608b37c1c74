"""Localization on two small sets, on a CPU: `python benchmarks/localization.py BCCD WEIGHTS`.

The first set are digits: those of the package, each enlarged to 20 to 40 pixels and put at a random place of 64x64 dark
noise, 10 classes. The second are the white cells of BCCD, the folder of that set in VOC's layout: its images with
white cells, whose other objects are left out; one class, so that its errors are those of the boxes alone. WEIGHTS are
those of an ImageNet ResNet-18, in a file of torchvision's names. The recipe is `localization` with the changes below.

The table is of the test parts after the last epoch; it is printed and written to `localization.md`, and the first test
images with their boxes to the folder of `--pictures`. A finished run in `--workdir` is not repeated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from timed_runs import PICTURES, machine, parse, parser, percent, publish, train

import resnet_keras
from resnet_keras import detection
from resnet_keras.tables import markdown_table

SIDE, SIDES = 64, (20, 40)
CHANGES: dict[str, dict[str, Any]] = {
    "digits": {"image_size": SIDE, "epochs": 8, "freeze": "stage1", "flip": False},
    "white cells": {"image_size": 96, "epochs": 12, "freeze": "stage1"},
}
XML = """<annotation><size><width>{side}</width><height>{side}</height><depth>3</depth></size><object>
<name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>
</object></annotation>
"""


def write_digits(folder: Path, counts: dict[str, int]) -> Path:
    """Writes digits at random places of dark noise, in VOC's layout."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for part, count in counts.items():
        split = resnet_keras.open_split("digits", part)
        names = [f"{part}{index:04d}" for index in range(count)]
        for name, pixels, label in zip(names, split.images, split.labels, strict=False):
            side = int(random.integers(*SIDES))
            left, top = (int(edge) for edge in random.integers(0, SIDE - side, 2))
            image = random.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
            digit = np.asarray(Image.fromarray(pixels[..., 0].astype(np.uint8)).resize((side, side)))
            place = image[top : top + side, left : left + side]
            place[:] = np.maximum(place, digit[..., None])
            Image.fromarray(image).save(folder / "JPEGImages" / f"{name}.png")
            edges = {"left": left + 1, "top": top + 1, "right": left + side, "bottom": top + side}
            text = XML.format(side=SIDE, name=split.class_names[label], **edges)
            (folder / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names), encoding="utf-8")
    return folder


def white_cells(folder: Path, bccd: Path) -> Path:
    """Makes a folder of BCCD's files whose only class are white cells."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Annotations", "JPEGImages", "ImageSets"):
        if not (folder / name).exists():
            (folder / name).symlink_to((bccd / name).absolute())
    (folder / "classes.txt").write_text("WBC\n", encoding="utf-8")
    return folder


def draw(run: Path, data: Path, to: Path) -> None:
    """Writes the first test images with the box of their most probable class."""
    localizer = detection.Localizer.load(run)
    names = localizer.class_names
    split = detection.open_boxes(data, "test", class_names=names, on_corrupt="skip")
    for example in detection.one_class_images(split, on_corrupt="skip").examples[:PICTURES]:
        ((pixels, found),) = localizer.localizations(example.image, top_k=1)
        detection.write_boxes(to / str(example.identity), pixels, found, names)


def main() -> None:
    """Trains, prints, and writes the page."""
    flags = parser(__doc__, "bccd", Path(__file__))
    flags.add_argument("--digits", type=int, nargs=2, default=(800, 300), help="images for training and test")
    arguments = parse(flags)
    train_count, test_count = arguments.digits
    sets = {
        "digits": write_digits(arguments.workdir / "digits", {"train": train_count, "test": test_count}),
        "white cells": white_cells(arguments.workdir / "white_cells", arguments.bccd),
    }
    rows = []
    for name, data in sets.items():
        for seed in arguments.seeds:
            recipe = resnet_keras.RECIPES["localization"].replace(
                weights=str(arguments.weights), seed=seed, **CHANGES[name]
            )
            folder = arguments.workdir / f"{data.name}_{seed}"
            run = train(recipe, folder, data_dir=data, skip_broken=True, validate_epochs=recipe.schedule.epochs)
            result = run.result
            errors = (
                *(result.localization_top5_error, result.localization_top1_error, result.given_class_error),
                *(result.top1_error, result.mean_iou),
            )
            rows.append([name, str(seed), str(result.images), *map(percent, errors), *run.times])
            if arguments.pictures is not None and seed == arguments.seeds[0]:
                draw(folder, data, arguments.pictures / data.name)
    heads = [
        *("set", "seed", "test images", "top-5 localization error, %", "top-1, %", "with the class given, %"),
        *("class error, %", "mean IoU, %", "CPU s", "s"),
    ]
    changes = "; ".join(f"{name}: {', '.join(f'{k} {v}' for k, v in each.items())}" for name, each in CHANGES.items())
    page = [
        "# Localization",
        "",
        f"`python benchmarks/localization.py BCCD WEIGHTS --digits {train_count} {test_count} --seeds "
        f"{' '.join(map(str, arguments.seeds))}` {machine()}: the recipe `localization` from ImageNet weights of "
        f"ResNet-18 ({changes}). CPU seconds are those of the training and its evaluation.",
        "",
        markdown_table(heads, rows),
        "",
    ]
    publish("\n".join(page), arguments.to)


if __name__ == "__main__":
    main()
