"""A little set of images with one object each, and a recipe that trains on it in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.box_folders import VocFolder
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe

RECIPE: Recipe = RECIPES["localization"].replace(
    weights=None, image_size=64, freeze_batch_norms=False, epochs=2, batch_size=4, batch_fraction=None, warmup_epochs=0
)


def write_squares(folder: Path, train: int = 12, test: int = 4) -> Path:
    """Writes images with one bright rectangle, red or green, in VOC's layout."""
    random, voc = np.random.default_rng(0), VocFolder(folder)
    for index in range(train + test):
        pixels = random.integers(0, 60, (64, 64, 3)).astype(np.uint8)
        left, top = random.integers(0, 30, 2)
        right, bottom = left + random.integers(14, 30), top + random.integers(14, 30)
        pixels[top:bottom, left:right, index % 2] = 255
        part = "train" if index < train else "test"
        voc.add(
            f"{part}{index}",
            [(("red", "green")[index % 2], left + 1, top + 1, right, bottom)],
            size=(64, 64),
            part=part,
        )
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{part}{index}.jpg", quality=95)
    return folder
