"""Inputs of a serving graph: image files and pixels are checked, decoded, turned upright, resized and cropped."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.image_ops import crop, decode_jpeg_or_png
from resnet_keras.data.preprocessing import Preprocessing

MOST_PIXELS = 89_478_485
"""Largest number of pixels of an image, before and after resizing. Pillow warns from here; resizing takes 1.2 GB."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def decode_images(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns image files as the network takes them: bytes (N,) -> whole pixels in float32 (N, *image_size, C).

    Each is decoded, turned upright, resized and cropped as the classifier's preprocessing does it.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: there are no files, one is not a whole JPEG or PNG, or
            has more than `MOST_PIXELS`.
    """
    shape = (*preprocessing.image_size, preprocessing.channels)

    def one(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        number, file = numbered
        with tf.control_dependencies([_known(file, number)]):
            size = _size(tf.identity(file))
        with tf.control_dependencies([_not_too_large(size, preprocessing)]):
            image = decode_jpeg_or_png(tf.identity(file), preprocessing.channels)
        return tf.ensure_shape(tf.cast(crop(image, preprocessing), tf.float32), shape)

    with tf.control_dependencies([_some(encoded)]):
        numbers = tf.range(tf.size(encoded))
    return tf.map_fn(one, (numbers, encoded), fn_output_signature=tf.TensorSpec(shape, tf.float32))


def fit_images(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns images of the network's size unchanged, others resized and cropped: (N, H, W, C) -> float32.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: there are no images, or they have no pixels or more than
            `MOST_PIXELS`.
    """
    height, width = preprocessing.image_size
    with tf.control_dependencies([_some(pixels)]):
        pixels = tf.identity(pixels)
    if tuple(pixels.shape[1:3]) == (height, width):
        return tf.cast(pixels, tf.float32)
    size = tf.shape(pixels, tf.int64)[1:3]
    with tf.control_dependencies([_not_too_large(size, preprocessing)]):
        pixels = tf.cast(tf.identity(pixels), tf.float32)
    result = tf.cond(
        tf.reduce_all(size == (height, width)), lambda: pixels, lambda: tf.cast(crop(pixels, preprocessing), tf.float32)
    )
    return tf.ensure_shape(result, (None, height, width, preprocessing.channels))


def _some(images: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for an empty batch, before a convolution fails with a message of its own."""
    return tf.debugging.Assert(tf.shape(images)[0] > 0, ["Expected at least one image. Received an empty batch"])


def _known(file: tf.Tensor, number: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a file that is neither JPEG nor PNG."""
    # The other formats that classifiers take are decoded by Pillow, which a graph cannot hold.
    return tf.debugging.Assert(
        _begins(file, _JPEG) | _begins(file, _PNG),
        ["Expected a JPEG or PNG image. Received something else, as image number", number],
    )


def _not_too_large(size: tf.Tensor, preprocessing: Preprocessing) -> tf.Operation:
    """Returns an operation that fails for a height and width (2,) that would take too much memory."""
    shorter, longer = (tf.cast(reduce(size), tf.float64) for reduce in (tf.reduce_min, tf.reduce_max))
    side = max(preprocessing.shorter_side or 0, *preprocessing.image_size)
    resized = side * longer / tf.maximum(shorter, 1.0) * tf.maximum(shorter, side)
    return tf.debugging.Assert(
        (shorter > 0) & (shorter * longer <= MOST_PIXELS) & (resized <= MOST_PIXELS),
        [
            f"Expected images of 1 to {MOST_PIXELS} pixels, also where their shorter side is resized to {side}. "
            "Received a height and width of",
            size,
        ],
    )


def _size(file: tf.Tensor) -> tf.Tensor:
    """Returns height and width, int64 (2,), from the header of the file."""
    return tf.cond(
        _begins(file, _JPEG), lambda: tf.cast(tf.io.extract_jpeg_shape(file)[:2], tf.int64), lambda: _png_size(file)
    )


def _png_size(file: tf.Tensor) -> tf.Tensor:
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(file, 0, 24), tf.uint8), tf.int64)
    header = tf.concat([header, tf.zeros([24], tf.int64)], 0)
    width, height = (tf.reduce_sum(header[at : at + 4] * [1 << 24, 1 << 16, 1 << 8, 1]) for at in (16, 20))
    # The decoder refuses a header that is cut short.
    return tf.maximum(tf.stack([height, width]), 1)


def _begins(file: tf.Tensor, magic: bytes) -> tf.Tensor:
    # `substr` fails for a start beyond the end, but not for a length beyond it.
    return tf.strings.substr(file, 0, len(magic)) == magic
