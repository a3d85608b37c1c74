"""A folder of little images and masks, and a network for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnet_keras.networks.architecture import Architecture
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.recipes.recipe import Recipe

LITTLE = Architecture(stem="imagenet", block="basic", repeats=(1, 1, 1, 1), widths=(4, 4, 8, 8))
CLASSES = ("sky", "road", "car")
PARTS = {"train": 6, "val": 3, "test": 4}


def mask_recipe(**changes: Any) -> Recipe:
    """Returns a recipe of six steps for the network `LITTLE`, under the name "little"."""
    values = {"model": "little", "head": "fcn", "weights": None, "crop_size": (32, 48), "batch_size": 2, "epochs": 2}
    return RECIPES["segmentation"].replace(**{**values, "output_stride": 32, "lr_batch_size": None, **changes})


def write_masks(root: Path, parts: Mapping[str, int] = PARTS, *, seed: int = 0) -> Path:
    """Writes images of 40x70 pixels whose colors tell the classes, with a border that does not count."""
    rng = np.random.default_rng(seed)
    for part, count in parts.items():
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for index in range(count):
            labels = rng.integers(0, len(CLASSES), (4, 7)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
            colors = np.array([[40, 80, 220], [120, 120, 120], [220, 30, 30]])[labels]
            noisy = np.clip(colors + rng.normal(0, 10, colors.shape), 0, 255).astype(np.uint8)
            labels[:2] = 255
            Image.fromarray(noisy).save(root / part / "images" / f"{index}.png")
            Image.fromarray(labels).save(root / part / "masks" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root
