"""Images without labels for an export: those of a folder, or noise."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras.data.image_files import OnCorrupt, image_paths
from resnet_keras.data.input_images import input_batches
from resnet_keras.data.preprocessing import Preprocessing

NOISE = "noise"
"""Name of images that are made up, where others have the name of their folder."""

_log = logging.getLogger(__name__)
_NOISE_IMAGES = 256
_COARSEST = 4  # blocks of the coarsest noise along a side


def folder_pixels(
    folder: str | Path, preprocessing: Preprocessing, counts: tuple[int, int], on_corrupt: OnCorrupt = "raise"
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two samples of the images below a folder, as the network sees them before normalization.

    They have no image in common if there are two.

    Args:
        folder: A folder, or an image file.
        preprocessing: Size and channels.
        counts: Largest number of images of each sample; 0 for an empty one.
        on_corrupt: See `input_batches`.

    Returns:
        Pixels, uint8 (N, H, W, C) each.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        ValueError: An image is broken, or all are.
    """
    paths = image_paths([folder])
    parts = [paths[0::2], paths[1::2] or paths] if all(counts) else [paths, paths]
    chosen = [_spread(part, count) for part, count in zip(parts, counts, strict=True)]
    channels = preprocessing.channels
    plain = replace(preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels, channel_order="rgb")
    first, second = (_pixels(part, plain, on_corrupt) for part in chosen)
    if not len(first):
        raise ValueError(f"Expected images below a folder. Received: {folder}, where all are broken")
    return first, second


def spread_images(images: Any, count: int) -> tuple[Any, int | None]:
    """Returns the images to compare artifacts on: of files and folders at most `count`, spread evenly; logs how many.

    Args:
        images: See `read_images`.
        count: Largest number of files.

    Returns:
        The files, and how many there are. Images that are not all paths come back as they are, with `None`.

    Raises:
        FileNotFoundError: There is no such file or folder, or no image in it.
    """
    named = [images] if isinstance(images, (str, os.PathLike)) else images
    if not (isinstance(named, (list, tuple)) and named and all(isinstance(each, (str, os.PathLike)) for each in named)):
        return images, None
    paths = image_paths(named)
    chosen = _spread(paths, count)
    if len(chosen) < len(paths):
        _log.info(f"artifacts are compared on {len(chosen):,} of {len(paths):,} images, spread evenly")
    return chosen, len(paths)


def noise_pixels(preprocessing: Preprocessing, count: int) -> np.ndarray:
    """Returns images of noise, uint8 (N, H, W, C): blocks of random colors of several sizes, laid over each other.

    Args:
        preprocessing: Size and channels.
        count: Number of images; at most 256 are made.
    """
    height, width = preprocessing.image_size
    rng = np.random.default_rng(0)
    images = np.zeros((min(count, _NOISE_IMAGES), height, width, preprocessing.channels))
    blocks, total = _COARSEST, 0.0
    while blocks <= 2 * max(height, width):
        rows, columns = np.arange(height) * blocks // height, np.arange(width) * blocks // width
        colors = rng.uniform(0, 255, (len(images), blocks, blocks, preprocessing.channels))
        images += colors[:, rows][:, :, columns] / blocks  # the finer, the fainter, as in photographs
        total, blocks = total + 1 / blocks, 2 * blocks
    images = images / total
    contrast = rng.uniform(1, 2, (len(images), 1, 1, 1))
    return np.rint(np.clip(127.5 + contrast * (images - 127.5), 0, 255)).astype(np.uint8)


def _spread(paths: list[Path], count: int) -> list[Path]:
    """Returns at most `count` of the paths, equally far apart: a folder often has its classes in order."""
    return [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]


def _pixels(paths: list[Path], plain: Preprocessing, on_corrupt: OnCorrupt) -> np.ndarray:
    empty = np.zeros((0, *plain.image_size, plain.channels), np.uint8)
    if not paths:
        return empty
    batches = input_batches([str(path) for path in paths], plain, on_corrupt=on_corrupt)
    return np.concatenate([empty, *(np.rint(images).clip(0, 255).astype(np.uint8) for _, images in batches)])
