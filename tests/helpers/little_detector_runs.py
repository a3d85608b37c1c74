"""A little set of images with boxes, and a recipe that trains on it in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.box_folders import VocFolder
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe

RECIPE: Recipe = RECIPES["finetune_detector"].replace(
    weights=None,
    freeze=None,
    canvas=(64, 64),
    pyramid_channels=8,
    box_units=16,
    anchor_sizes=(12, 24, 32, 48, 64),
    train_proposals=40,
    test_proposals=20,
    sampled_anchors=32,
    sampled_regions=16,
    epochs=2,
    batch_size=2,
    warmup_steps=0,
)
"""ResNet-18 from random weights on images of 64x64."""


def write_shapes(folder: Path, train: int = 6, test: int = 3) -> Path:
    """Writes images with up to two bright rectangles, red and green, in VOC's layout."""
    random, voc = np.random.default_rng(0), VocFolder(folder)
    for index in range(train + test):
        pixels = random.integers(0, 60, (64, 64, 3)).astype(np.uint8)
        boxes = []
        for number in range(index % 3):
            left, top = random.integers(0, 30, 2)
            right, bottom = left + random.integers(14, 30), top + random.integers(14, 30)
            pixels[top:bottom, left:right, number] = 255
            boxes.append((("red", "green")[number], left + 1, top + 1, right, bottom))
        part = "train" if index < train else "test"
        voc.add(f"{part}{index}", boxes, size=(64, 64), part=part)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{part}{index}.jpg", quality=95)
    return folder
