"""What training varies about its images (arXiv:1512.03385, §3.4 and §4.2), as functions of a seed."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.images import decode, normalize
from resnet_keras.preprocessing import Preprocessing
from resnet_keras.recipes import Recipe

# Principal components of ImageNet's RGB values on the scale 0–1: eigenvalues' roots and eigenvectors (AlexNet §4.1,
# the numbers of fb.resnet.torch).
_COLOR_STD = (0.2175, 0.0188, 0.0045)
_COLOR_AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def augment(pixels: tf.Tensor, recipe: Recipe, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
    """Normalises a batch (N, H, W, C) of pixels and varies it: padded and cropped (§4.2), mirrored, recoloured (§3.4).

    The padding is 0 after normalisation, the mean colour. `seed` holds two integers; equal seeds give equal results.
    """
    images = normalize(pixels, preprocessing)
    count = tf.shape(images)[0]
    crop_seed, flip_seed, color_seed = tf.unstack(tf.random.split(seed, 3))
    if recipe.pad_pixels:
        height, width = preprocessing.image_size
        pad = recipe.pad_pixels
        images = tf.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        corners = tf.random.stateless_uniform((count, 2), crop_seed, 0, 2 * pad + 1, tf.int32)
        images = tf.gather(images, corners[:, :1] + tf.range(height), axis=1, batch_dims=1)
        images = tf.gather(images, corners[:, 1:] + tf.range(width), axis=2, batch_dims=1)
    if recipe.flip:
        mirrored = tf.random.stateless_uniform((count, 1, 1, 1), flip_seed) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1, :], images)
    if recipe.color_noise and preprocessing.channels == 3:
        amounts = tf.random.stateless_normal((count, 3), color_seed, stddev=recipe.color_noise)
        shift = 255.0 * tf.matmul(amounts * _COLOR_STD, _COLOR_AXES, transpose_b=True)
        shift = shift[:, ::-1] if preprocessing.channel_order == "bgr" else shift
        images += (shift / preprocessing.std)[:, None, None, :]
    return images


def scaled_crop(
    encoded: tf.Tensor, preprocessing: Preprocessing, shorter_side: tuple[int, int], seed: tf.Tensor
) -> tf.Tensor:
    """Decodes a random crop of a randomly scaled image (§3.4): bytes -> float32 (*image_size, C), pixels 0–255.

    Cropping what was scaled is scaling what was cropped, so of a JPEG only the crop is ever decoded. Unlike a test
    image's, its pixels are not rounded to whole numbers.
    """

    def from_jpeg() -> tf.Tensor:
        where = _scaled_window(tf.io.extract_jpeg_shape(encoded)[:2], preprocessing, shorter_side, seed)
        image = tf.io.decode_and_crop_jpeg(
            encoded, where, channels=preprocessing.channels, dct_method="INTEGER_ACCURATE"
        )
        return tf.image.resize(image, preprocessing.image_size, preprocessing.interpolation, antialias=True)

    def from_other() -> tf.Tensor:
        return scaled_crop_of(decode(encoded, preprocessing.channels), preprocessing, shorter_side, seed)

    image = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
    image.set_shape((*preprocessing.image_size, preprocessing.channels))
    return image


def scaled_crop_of(
    image: tf.Tensor, preprocessing: Preprocessing, shorter_side: tuple[int, int], seed: tf.Tensor
) -> tf.Tensor:
    """Returns a random crop of a randomly scaled image (§3.4): (H, W, C) -> float32 (*image_size, C), pixels 0–255."""
    top, left, height, width = tf.unstack(_scaled_window(tf.shape(image)[:2], preprocessing, shorter_side, seed))
    image = image[top : top + height, left : left + width]
    return tf.image.resize(image, preprocessing.image_size, preprocessing.interpolation, antialias=True)


def _scaled_window(
    size: tf.Tensor, preprocessing: Preprocessing, shorter_side: tuple[int, int], seed: tf.Tensor
) -> tf.Tensor:
    """Returns upper left corner and extent of what becomes the crop of an image of `size`, int32 (4,)."""
    side_seed, corner_seed = tf.unstack(tf.random.split(seed, 2))
    side = tf.random.stateless_uniform((), side_seed, shorter_side[0], shorter_side[1] + 1, tf.int32)
    scale = tf.cast(tf.reduce_min(size), tf.float32) / tf.cast(side, tf.float32)
    crop = tf.constant(preprocessing.image_size, tf.float32)
    extent = tf.clip_by_value(tf.cast(tf.round(crop * scale), tf.int32), 1, size)
    space = tf.cast(size - extent + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform((2,), corner_seed) * space, tf.int32)
    return tf.concat([tf.minimum(corner, size - extent), extent], 0)
