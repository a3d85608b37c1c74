"""Batches of images and masks for training and evaluation, by `tf.data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import tensorflow as tf

from resnet_keras.data.evaluation_input import CACHE_BYTES, options
from resnet_keras.data.image_checks import naming_broken_images
from resnet_keras.data.image_files import KINDS
from resnet_keras.data.image_ops import decode, normalize, stretched, whole
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import row_positions
from resnet_keras.segmentation.mask_files import MaskSplit, read_mask


def mask_batches(
    split: MaskSplit,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    epochs: int = 1,
    seed: int = 0,
    first_step: int = 0,
    scale: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    deterministic: bool = True,
    rows: range | None = None,
) -> tf.data.Dataset:
    """Returns the training batches of some epochs: shuffled, randomly scaled, cropped, and mirrored.

    A scale of 1 resizes a whole image to `preprocessing.image_size`, from larger ones a window of that size is taken,
    smaller ones are padded with the mean color and the ignored label. Image and mask have the same window. Order and
    augmentation are functions of `seed` and the step alone: from `first_step` on, batches are those of a run that
    started at 0. Images that fill no batch are left out of an epoch.

    Args:
        split: Images with masks.
        preprocessing: Size and normalization of the network's input; its shorter side does not apply.
        batch_size: Images in each batch.
        epochs: Passes over the images.
        seed: Seed of order and augmentation.
        first_step: Step to begin with.
        scale: Range of the random scale; (1, 1) for none.
        flip: Whether half of the images are mirrored.
        deterministic: Whether batches keep this order even if that means waiting for an image.
        rows: Rows of each batch that are returned; all if `None`. Others are not read.

    Returns:
        A data set of float32 (batch, *image_size, C) and int32 (batch, *image_size).

    Raises:
        ValueError: The split fills no batch, or `scale` is no range above 0.
    """
    steps = len(split) // batch_size
    if not steps:
        raise ValueError(f"Expected `batch_size` of at most {len(split)}, the images. Received: {batch_size}")
    if not 0 < scale[0] <= scale[1]:
        raise ValueError(f"Expected `scale` to be a rising range above 0. Received: {scale}")
    images, masks = (_strings(files) for files in (split.images, split.masks))
    last = tf.constant(len(split) - 1, tf.int64)

    def augmented(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, place = position // (steps * batch_size), position % (steps * batch_size)
        order = tf.stack([tf.cast(seed, tf.int64), epoch])
        chosen = tf.random.experimental.index_shuffle(place, seed=order, max_index=last)
        image, mask = _decoded(split, images[chosen], masks[chosen], preprocessing.channels)
        return _augmented(image, mask, split, preprocessing, tf.stack([order[0], position]), scale, flip)

    own = range(batch_size) if rows is None else rows
    positions = row_positions(batch_size, own, first_step, epochs * steps)
    pairs = mapped(positions, augmented).batch(len(own), drop_remainder=True)
    return pairs.with_options(options(deterministic=deterministic)).prefetch(tf.data.AUTOTUNE)


def resized_batches(split: MaskSplit, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image once, in order, with its mask, both resized as a whole to the network's size.

    Args:
        split: Images with masks.
        preprocessing: Size and normalization of the network's input; its shorter side does not apply.
        batch_size: Images in each batch; the last may have fewer.

    Returns:
        A data set of float32 (≤ batch_size, *image_size, C) and int32 (≤ batch_size, *image_size).
    """
    height, width = preprocessing.image_size

    def resized(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = _decoded(split, image, mask, preprocessing.channels)
        labels = tf.image.resize(labels[..., None], (height, width), "nearest")[..., 0]
        return normalize(stretched(pixels, preprocessing), preprocessing), tf.cast(labels, tf.int32)

    files = tf.data.Dataset.from_tensor_slices((_strings(split.images), _strings(split.masks)))
    batches = mapped(files, resized).batch(batch_size)
    if len(split) * height * width * (preprocessing.channels + 1) * 4 <= CACHE_BYTES:
        batches = batches.cache()
    return batches.with_options(options(deterministic=True)).prefetch(tf.data.AUTOTUNE)


def whole_images(split: MaskSplit, preprocessing: Preprocessing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields every image, resized as a whole to the network's size and normalized, and its mask at full size.

    Args:
        split: Images with masks.
        preprocessing: Size and normalization of the network's input; its shorter side does not apply.

    Raises:
        ValueError: An image or a mask does not decode; the message names it.
    """

    def resized(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = _decoded(split, image, mask, preprocessing.channels)
        return normalize(stretched(pixels, preprocessing), preprocessing), labels

    files = tf.data.Dataset.from_tensor_slices((_strings(split.images), _strings(split.masks)))
    pairs = mapped(files, resized).with_options(options(deterministic=True)).prefetch(2)
    with explain_broken_files(split):
        yield from pairs.as_numpy_iterator()


def explain_broken_files(*splits: MaskSplit) -> AbstractContextManager[None]:
    """Turns TensorFlow's error of a file that does not decode into one that names images and masks.

    Raises:
        ValueError: An image or a mask of `splits` is broken; the message names all that are.
    """
    return naming_broken_images(broken_files, splits, f"Expected whole images ({KINDS}) and masks (PNG)")


def broken_files(split: MaskSplit) -> list[str]:
    """Returns the names of the images and masks of a split that do not decode, after trying them all."""
    found = []
    for place in range(len(split)):
        image, mask = split.images[place], split.masks[place]
        try:
            decode(image if isinstance(image, bytes) else tf.io.read_file(str(image)), 3)
        except tf.errors.OpError:
            found.append(f"image {place}" if isinstance(image, bytes) else str(image))
        try:
            read_mask(mask)
        except (OSError, ValueError):
            found.append(f"mask {place}" if isinstance(mask, bytes) else str(mask))
    return found


def _strings(files: Sequence[Path] | Sequence[bytes]) -> tf.Tensor:
    return tf.constant([each if isinstance(each, bytes) else str(each) for each in files])


def _decoded(split: MaskSplit, image: tf.Tensor, mask: tf.Tensor, channels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the pixels of an image, uint8 (H, W, channels), and the labels of its mask, uint8 (H, W)."""
    in_memory = isinstance(split.masks[0], bytes)
    pixels = decode(image if in_memory else tf.io.read_file(image), channels)
    # Pillow, because TensorFlow reads the colors of a palette instead of its indices.
    read = read_mask if in_memory else lambda name: read_mask(name.decode())
    labels = tf.numpy_function(read, [mask], tf.uint8, stateful=False)
    return pixels, tf.ensure_shape(labels, (None, None))


def _augmented(
    image: tf.Tensor,
    mask: tf.Tensor,
    split: MaskSplit,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    scale: tuple[float, float],
    flip: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    scale_seed, corner_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))
    target = tf.constant(preprocessing.image_size)
    factor = (
        tf.random.stateless_uniform((), scale_seed, *scale)
        if scale[0] < scale[1]
        else tf.constant(scale[0], tf.float32)
    )
    size = tf.maximum(tf.cast(tf.round(tf.cast(target, tf.float32) * factor), tf.int32), 1)
    pixels = tf.image.resize(image, size, preprocessing.interpolation, antialias=True)
    pixels = normalize(whole(pixels), preprocessing)
    labels = tf.image.resize(mask[..., None], size, "nearest")[..., 0]
    # The window's corner in the image, below 0 where the image is smaller and stands somewhere inside.
    space = tf.cast(size - target, tf.float32)
    drawn = tf.random.stateless_uniform((2,), corner_seed)
    corner = tf.cast(tf.math.floor(drawn * (space + tf.where(space >= 0, 1.0, 0.0))), tf.int32)
    before, begin = tf.maximum(-corner, 0), tf.maximum(corner, 0)
    extent = tf.minimum(size - begin, target - before)
    after = target - before - extent
    inside = tf.stack([before, after], 1)
    height, width = tf.unstack(extent)
    pixels = pixels[begin[0] : begin[0] + height, begin[1] : begin[1] + width]
    labels = labels[begin[0] : begin[0] + height, begin[1] : begin[1] + width]
    pixels = tf.pad(pixels, tf.concat([inside, [[0, 0]]], 0))  # 0 is the mean color
    labels = tf.pad(tf.cast(labels, tf.int32), inside, constant_values=split.ignored)
    if flip:
        mirrored = tf.random.stateless_uniform((), flip_seed) < 0.5
        pixels = tf.cond(mirrored, lambda: pixels[:, ::-1], lambda: pixels)
        labels = tf.cond(mirrored, lambda: labels[:, ::-1], lambda: labels)
    pixels = tf.ensure_shape(pixels, (*preprocessing.image_size, preprocessing.channels))
    return pixels, tf.ensure_shape(labels, preprocessing.image_size)
