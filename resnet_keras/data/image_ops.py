"""Image operations of a `Preprocessing` in TensorFlow: decode, resize, crop, normalize."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import tensorflow as tf

from resnet_keras.data.exif import orientation, turn
from resnet_keras.data.image_limits import within_limits
from resnet_keras.data.pillow_files import PNG, decode_with_pillow
from resnet_keras.data.preprocessing import Preprocessing

KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
"""The kernels of `tf.image.resize`, antialiased."""

_LONGEST = 32  # times the shorter side; longer images are resized only in part


def normalize(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns (pixels - mean) / std: RGB 0–255 of any type (..., C) -> float32 (..., C) in the network's order."""
    pixels = tf.cast(pixels, tf.float32)
    if preprocessing.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    centered = by_rows(tf.subtract, pixels, tf.constant(preprocessing.mean))
    return by_rows(tf.divide, centered, tf.constant(preprocessing.std))


def by_rows(operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], images: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns operation(images, values), bit for bit: (..., W, C) and, per channel, (C,) or of each image (N, 1, C).

    TensorFlow's kernels take more than twice as long on pixels of few channels as on whole rows.
    """
    if images.shape.rank < 2:
        return operation(images, values)
    shape = tf.shape(images)
    rows = tf.reshape(images, tf.concat([shape[:-2], [-1]], 0))
    result = operation(rows, tf.tile(values, [1] * (values.shape.rank - 1) + [shape[-2]]))
    return tf.ensure_shape(tf.reshape(result, shape), images.shape)


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes an image file and turns it upright by its Exif orientation: bytes -> uint8 (H, W, channels).

    JPEG and PNG are decoded by TensorFlow, GIF (first frame), BMP, WebP, TIFF and AVIF by Pillow, because TensorFlow
    reads no TIFF or AVIF, the palette of a BMP as gray levels, and of WebP only what has as many channels as are asked
    for. So a graph with `decode` cannot be saved; see `decode_jpeg_or_png`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not such an image, are truncated, or have more than
            `image_files.MOST_PIXELS` or, in a JPEG, `MOST_SCANS`.
    """

    def by_pillow() -> tf.Tensor:
        if tf.executing_eagerly():  # where `numpy_function` would cut off the zeros at the end of the bytes
            return tf.constant(_by_pillow(tf.convert_to_tensor(encoded).numpy(), channels))
        decoded = tf.numpy_function(
            lambda content: decode_with_pillow(content, channels), [encoded], tf.uint8, stateful=False
        )
        return tf.ensure_shape(decoded, (None, None, channels))

    in_graph = tf.io.is_jpeg(encoded) | (tf.strings.substr(encoded, 0, len(PNG)) == PNG)
    image = tf.cond(in_graph, lambda: _upright_jpeg_or_png(within_limits(encoded), channels, saveable=False), by_pillow)
    image.set_shape((None, None, channels))
    return image


def _by_pillow(content: bytes, channels: int) -> np.ndarray:
    try:
        return decode_with_pillow(content, channels)
    except ValueError as error:
        raise tf.errors.InvalidArgumentError(None, None, str(error)) from error


def decode_jpeg_or_png(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG or PNG and turns it upright, with operations of TensorFlow alone; see `decode`.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not such an image, or are truncated. There is no limit of pixels.
    """
    return _upright_jpeg_or_png(encoded, channels, saveable=True)


def _upright_jpeg_or_png(encoded: tf.Tensor, channels: int, *, saveable: bool) -> tf.Tensor:
    # The accurate transform equals Pillow's, bit for bit, in the same time; TensorFlow's default differs by up to 20
    # gray levels.
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=channels, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(encoded, channels=channels),
    )
    image.set_shape((None, None, channels))
    return turn(image, orientation(encoded, saveable=saveable))


def with_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns images converted to gray or RGB: (..., H, W, C) -> (..., H, W, channels)."""
    if images.shape[-1] == channels:
        return images
    return tf.image.grayscale_to_rgb(images) if channels == 3 else tf.image.rgb_to_grayscale(images)


def crop(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Resizes the shorter side and takes the center: (H, W, C) -> float32 (*image_size, C), or (N, H, W, C) likewise.

    Pixels are whole numbers of 0–255, as in Pillow. Without `shorter_side`, an image of the right size is returned
    unchanged, in its own type, and any other is scaled to just cover `image_size`.
    """
    if preprocessing.shorter_side is None and tuple(image.shape[-3:-1]) == preprocessing.image_size:
        return image
    size = scaled_size(tf.shape(image)[-3:-1], preprocessing)
    return window(image, size, center(size, preprocessing.image_size), preprocessing)


def scaled_size(size: tf.Tensor, preprocessing: Preprocessing, shorter_side: int | None = None) -> tf.Tensor:
    """Returns the height and width that an image of `size` is resized to before it is cropped.

    The longer side is rounded down to a whole pixel, as by torchvision, timm and transformers.

    Args:
        size: Height and width, int32 (2,).
        preprocessing: Its `shorter_side` and `image_size` apply.
        shorter_side: Replaces that of `preprocessing`.
    """
    side = shorter_side or preprocessing.shorter_side
    if side is not None:
        return tf.maximum(side * size // tf.reduce_min(size), 1)
    scale = tf.reduce_max(tf.constant(preprocessing.image_size) / size)
    return tf.maximum(tf.cast(tf.round(tf.cast(size, scale.dtype) * scale), tf.int32), preprocessing.image_size)


def center(size: tf.Tensor, cropped: tuple[int, int]) -> tf.Tensor:
    """Returns the upper left corner of the central crop, int32 (2,); of half a pixel, the even one, as torchvision."""
    return tf.cast(tf.round(tf.cast(size - tf.constant(cropped), tf.float32) / 2), tf.int32)


def window(image: tf.Tensor, size: tf.Tensor, corner: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns the crop of `image_size` at `corner` of the image resized to `size`, whole pixels in float32."""
    height, width = preprocessing.image_size
    image = tf.convert_to_tensor(image)

    def usual() -> tf.Tensor:
        resized = resize(image, size, preprocessing, columns=(corner[1], width))
        return resized[..., corner[0] : corner[0] + height, :, :]

    sides = tf.shape(image)[-3:-1]
    long = tf.reduce_max(sides) > _LONGEST * tf.reduce_min(sides)

    def of_long() -> tf.Tensor:
        images = tf.cast(image if image.shape.rank == 4 else image[None], tf.float32)
        result = _window_of_long(preprocessing)(images, size, corner)
        return result if image.shape.rank == 4 else result[0]

    cropped = tf.cond(long, of_long, usual)
    cropped.set_shape((*image.shape[:-3], height, width, preprocessing.channels))
    return cropped


@lru_cache(maxsize=64)
def _window_of_long(preprocessing: Preprocessing) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the function of `_resized_window`, which is traced once and not for each pipeline."""
    signature = [
        tf.TensorSpec((None, None, None, preprocessing.channels), tf.float32),
        *[tf.TensorSpec((2,), tf.int32)] * 2,
    ]
    return tf.function(partial(_resized_window, preprocessing), input_signature=signature, autograph=False)


def _resized_window(preprocessing: Preprocessing, images: tf.Tensor, size: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
    """Returns the same window, rounded once, without the rest of a resized image of thousands of times its pixels."""
    sides = tf.shape(images)[1:3]
    scale, translation = tf.cast(size / sides, tf.float32), -tf.cast(corner, tf.float32)
    length = tf.constant(preprocessing.image_size)
    # The kernel begins with the rows, which have to be along the longer side. With a slice of stride -1, TensorFlow
    # would log an error when it optimizes the graph of images of one known size.
    wide = sides[1] > sides[0]
    images = tf.cond(wide, lambda: tf.transpose(images, (0, 2, 1, 3)), lambda: images)
    scale, translation, length = (tf.where(wide, tf.reverse(each, [0]), each) for each in (scale, translation, length))
    result = tf.raw_ops.ScaleAndTranslate(
        images=images,
        size=length,
        scale=scale,
        translation=translation,
        kernel_type=KERNELS[preprocessing.interpolation],
        antialias=True,
    )
    return whole(tf.cond(wide, lambda: tf.transpose(result, (0, 2, 1, 3)), lambda: result))


def resize(
    image: tf.Tensor, size: tf.Tensor, preprocessing: Preprocessing, columns: tuple[tf.Tensor, int] | None = None
) -> tf.Tensor:
    """Resizes as Pillow does, antialiased: (H, W, C) or (N, H, W, C) -> whole pixels in float32 (..., *size, C).

    First each row, then each column, and after both the values are rounded to whole numbers of 0–255. On 125
    photographs reduced to a shorter side of 256, one value in 840 (bilinear) or in 9,400 (bicubic) differs from
    Pillow's, mostly by one, because of its fixed-point sums. Without the rounding between, as in `tf.image.resize` and
    in torchvision on tensors, one in six would differ. Pillow 13 and later begin with the columns if an image is much
    higher than wide; then more values differ.

    Args:
        image: Pixels of any type.
        size: Height and width, int32 (2,).
        preprocessing: Its interpolation applies.
        columns: The first column and the number of columns to keep of the result; all if `None`.
    """
    method = preprocessing.interpolation
    image = whole(tf.image.resize(image, tf.stack([tf.shape(image)[-3], size[1]]), method, antialias=True))
    if columns is not None:
        image = image[..., columns[0] : columns[0] + columns[1], :]
    return whole(tf.image.resize(image, tf.stack([size[0], tf.shape(image)[-2]]), method, antialias=True))


def stretched(image: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns a whole image at the network's size, whatever its sides: (..., H, W, C) -> (..., *image_size, C).

    Pixels are whole numbers of 0–255 in float32.
    """
    return whole(tf.image.resize(image, preprocessing.image_size, preprocessing.interpolation, antialias=True))


def whole(pixels: tf.Tensor) -> tf.Tensor:
    """Returns pixels as the nearest whole numbers of 0–255, halves up."""
    return tf.clip_by_value(tf.floor(pixels + 0.5), 0.0, 255.0)
