"""Speed of the training input without a network, and of a simple pipeline: `python benchmarks/input.py --photos DIR`.

For each recipe, the stages of its input and the simple pipelines take turns, so that other load on the machine affects
all of them; rates and ratios are medians over the turns. Recipes for CIFAR read `--cifar`, the folder of TensorFlow
Datasets; those for digits read the package's digits; all others read `--photos`, a folder of class folders. The tables
are printed and written to `input.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from resnet_keras.data import input_speed
from resnet_keras.distributed import cores
from resnet_keras.recipes import RECIPES
from resnet_keras.runs import versions

NAMES = (
    "imagenet",
    "imagenet_torchvision",
    "finetune",
    "cifar10",
    "cifar10_modern",
)
PHOTO_BATCH = 32


def section(name: str, arguments: argparse.Namespace) -> str:
    """Returns the heading and the table of a recipe."""
    recipe = RECIPES[name]
    if recipe.data.dataset in ("folder", "imagenet2012"):
        recipe, data_dir = recipe.replace(dataset="folder", batch_size=PHOTO_BATCH), arguments.photos
    else:
        data_dir = arguments.cifar
    split = input_speed.training_images(recipe.data, data_dir=data_dir)
    stages = input_speed.measure(
        split,
        input_speed.first_preprocessing(recipe.data, split, recipe.architecture.image_size),
        recipe.augmentation,
        batch_size=recipe.data.batch_size,
        one_hot=recipe.soft_labels,
        seconds=arguments.seconds,
        turns=arguments.turns,
    )
    what = "photographs" if recipe.data.dataset == "folder" else f"images of {recipe.data.dataset}"
    return f"## {name}\n\n{len(split):,} {what}, batches of {recipe.data.batch_size}.\n\n{input_speed.table(stages)}"


def main() -> None:
    """Measures, prints, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=NAMES, metavar="RECIPE")
    parser.add_argument("--photos", type=Path, help="folder of class folders with photographs")
    parser.add_argument("--cifar", type=Path, help="folder of TensorFlow Datasets")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "commit")}
    parts = [
        "# Training input, without a network",
        f"`python benchmarks/input.py` on {cores()} CPU cores ({platform.machine()}), "
        + ", ".join(f"{key} {value}" for key, value in made.items())
        + f"; medians over {arguments.turns} turns of {arguments.seconds:g} s. Each stage includes those above "
        "it. Decoding complete images is measured for comparison only: a crop is decoded instead. The simple pipeline "
        "decodes the complete image and then resizes, crops, mirrors, and normalizes it in one parallel `map`, with "
        "`tf.image.resize` as it is and with antialiasing, as ours; see `resnet_keras.data.input_speed`. CPU time is "
        "that of all cores; other programs disturb it less.",
    ]
    print("\n\n".join(parts))
    for name in arguments.recipes:
        parts.append(section(name, arguments))
        print(f"\n{parts[-1]}", flush=True)
    arguments.to.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
