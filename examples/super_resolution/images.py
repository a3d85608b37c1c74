"""Photographs for training and test: found, opened, reduced, and cut into pairs of patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_keras.data import IMAGE_SUFFIXES, Preprocessing, decode, files_below, options, resize

PATCHES_OF_IMAGE = 4
"""Patches that are cut from each decoded image. They are in one batch, together with patches of other images."""

_BICUBIC = Preprocessing(image_size=(1, 1), channels=3, mean=(0,) * 3, std=(1,) * 3, interpolation="bicubic")
_NAMED = 5


def find_images(folder: Path) -> list[Path]:
    """Returns the JPEG and PNG files in a folder, at any depth, sorted.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no image in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder of images. Received: {folder}, which does not exist")
    found = files_below(folder)
    if not found:
        raise ValueError(f"Expected images ({', '.join(IMAGE_SUFFIXES)}) in the folder. Received: {folder}, with none")
    return found


def sizes(paths: Sequence[Path]) -> np.ndarray:
    """Returns height and width of each image, int32 (N, 2). It decodes all of them.

    Raises:
        ValueError: Some are broken; the message names them.
    """

    def size(index: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
        extent = tf.shape(decode(tf.io.read_file(path), 3))[:2]
        return tf.concat([[tf.cast(index, tf.int32)], extent], 0)

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    rows = names.enumerate().map(size, tf.data.AUTOTUNE).ignore_errors().as_numpy_iterator()
    found = {int(index): extent for index, *extent in rows}
    broken = [str(path) for index, path in enumerate(paths) if index not in found]
    if broken:
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise ValueError(f"Expected whole images. Received: {', '.join(broken[:_NAMED])}{more}")
    return np.array([found[index] for index in range(len(paths))], np.int32)


def photographs_of(folder: Path, smallest: int) -> list[Path]:
    """Returns the images in a folder whose sides have at least `smallest` pixels; prints the number of the others.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: No image is large enough, or some are broken.
    """
    paths = find_images(folder)
    large = [path for path, size in zip(paths, sizes(paths), strict=True) if size.min() >= smallest]
    if not large:
        raise ValueError(f"Expected photographs of at least {smallest} x {smallest} pixels. Received: none in {folder}")
    if len(large) < len(paths):
        print(f"{len(paths) - len(large)} of {len(paths)} photographs are smaller than a patch and skipped")
    return large


def open_images(folder: Path, smallest: int) -> dict[str, np.ndarray]:
    """Returns the images of a folder by their file names: uint8 (H, W, 3). Gray images become RGB.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no image in it, or one is broken or has a side of less than `smallest` pixels.
    """
    paths = find_images(folder)
    for path, extent in zip(paths, sizes(paths), strict=True):
        if extent.min() < smallest:
            raise ValueError(
                f"Expected images of at least {smallest} x {smallest} pixels. "
                f"Received: {path}, of {extent[1]} x {extent[0]}"
            )
    return {str(path.relative_to(folder)): decode(tf.io.read_file(str(path)), 3).numpy() for path in paths}


def pair(image: tf.Tensor, scale: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns an image reduced by `scale`, and the image itself: (H, W, 3) -> uint8 (h, w, 3), (H', W', 3).

    Sides are first cut to a multiple of `scale`. The small image is that of Pillow's antialiased bicubic filter, which
    replaces MATLAB's `imresize`: the kernel is the same, but Pillow also rounds to whole pixels after the rows, and
    treats borders differently.
    """
    small = tf.shape(image)[:2] // scale
    large = image[: small[0] * scale, : small[1] * scale]
    return tf.cast(resize(large, small, _BICUBIC), tf.uint8), large


def bicubic(small: tf.Tensor, scale: int) -> tf.Tensor:
    """Returns an image enlarged by Pillow's bicubic filter: uint8 (h, w, 3) -> (scale h, scale w, 3)."""
    return tf.cast(resize(small, scale * tf.shape(small)[:2], _BICUBIC), tf.uint8)


def patches(
    paths: Sequence[Path], *, scale: int, side: int, batch_size: int, seed: int, first_step: int, last_step: int
) -> tf.data.Dataset:
    """Returns the batches of a range of steps: small patches, and the same patches large.

    The patches of a batch, and how they are mirrored and turned, depend on the seed and the step alone, so that a
    resumed run gets the batches that remain.

    Args:
        paths: Photographs, whose sides are at least `scale * side`.
        scale: Factor of the enlargement.
        side: Height and width of a small patch.
        batch_size: Patches in a batch, a multiple of `PATCHES_OF_IMAGE`.
        seed: Seed of the patches.
        first_step: First step, counted from 0.
        last_step: Step after the last one.

    Returns:
        A data set of float32 (batch, side, side, 3) and (batch, scale side, scale side, 3), pixels 0–255.
    """
    names, images = tf.constant([str(path) for path in paths]), len(paths)
    visits = batch_size // PATCHES_OF_IMAGE  # of images, in a batch

    def of_visit(visit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.random.experimental.index_shuffle(
            visit % images, seed=tf.stack([tf.cast(seed, tf.int64), visit // images]), max_index=images - 1
        )
        small, large = pair(decode(tf.io.read_file(names[chosen]), 3), scale)
        drawn = tf.random.stateless_uniform((PATCHES_OF_IMAGE, 5), tf.stack([tf.cast(seed, tf.int64), visit]))
        free = tf.cast(tf.shape(small)[:2] - side + 1, tf.float32)
        cut = [(tf.cast(row[:2] * free, tf.int32), row[2:] < 0.5) for row in tf.unstack(drawn)]
        return (
            tf.stack([_patch(small, corner, side, turns) for corner, turns in cut]),
            tf.stack([_patch(large, corner * scale, side * scale, turns) for corner, turns in cut]),
        )

    found = tf.data.Dataset.range(first_step * visits, last_step * visits).map(of_visit, tf.data.AUTOTUNE)
    batches = found.unbatch().batch(batch_size, drop_remainder=True)
    floats = batches.map(lambda small, large: (tf.cast(small, tf.float32), tf.cast(large, tf.float32)))
    return floats.with_options(options(deterministic=True)).prefetch(tf.data.AUTOTUNE)


def _patch(image: tf.Tensor, corner: tf.Tensor, side: int, turns: tf.Tensor) -> tf.Tensor:
    """Returns a square of an image, in one of its eight symmetries: mirrored, flipped, transposed."""
    patch = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    patch = tf.where(turns[0], patch[:, ::-1], patch)
    patch = tf.where(turns[1], patch[::-1], patch)
    patch = tf.where(turns[2], tf.transpose(patch, (1, 0, 2)), patch)
    return tf.ensure_shape(patch, (side, side, 3))
