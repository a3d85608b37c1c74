"""Inputs of a serving graph: image files and pixels are checked, decoded, turned upright, resized and cropped."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.image_limits import few_scans, header_size
from resnet_keras.data.image_ops import crop, decode_jpeg_or_png
from resnet_keras.data.preprocessing import Preprocessing

MOST_PIXELS = 89_478_485
"""Largest number of pixels of an image, before and after resizing. Pillow warns from here; resizing takes 1.2 GB."""

MOST_PIXELS_OF_REQUEST = 4 * MOST_PIXELS
"""Most pixels of all files in a request, before or while resizing: 29 photographs of 12 megapixels."""

MOST_IMAGES = 256
"""Most image files in a request."""

_AT_ONCE = 10

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def decode_images(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns image files as the network takes them: bytes (N,) -> whole pixels in float32 (N, *image_size, C).

    Each is decoded, turned upright, resized and cropped as the classifier's preprocessing does it. Images of together
    at most `MOST_PIXELS` are decoded at the same time, others one after the other.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: there are no files or more than `MOST_IMAGES`; one is not a
            whole JPEG or PNG, has more than `MOST_PIXELS`, or more than 100 scans; or all have more than
            `MOST_PIXELS_OF_REQUEST`.
    """
    shape = (*preprocessing.image_size, preprocessing.channels)

    def pixels(numbered: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        number, file = numbered
        with tf.control_dependencies([_known(file, number)]):
            size = header_size(tf.identity(file))
        with tf.control_dependencies([_not_too_large(size, preprocessing), few_scans(file)]):
            return tf.reduce_max(_pixels(tf.identity(size), preprocessing))

    # As a call of its own: it occurs in both ways of decoding.
    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def image(file: tf.Tensor) -> tf.Tensor:
        decoded = decode_jpeg_or_png(file, preprocessing.channels)
        return tf.ensure_shape(tf.cast(crop(decoded, preprocessing), tf.float32), shape)

    def images(at_once: int) -> tf.Tensor:
        return tf.map_fn(
            image, encoded, parallel_iterations=at_once, fn_output_signature=tf.TensorSpec(shape, tf.float32)
        )

    with tf.control_dependencies([_some(encoded), _few(encoded)]):
        numbers = tf.range(tf.size(encoded))
    total = tf.reduce_sum(tf.map_fn(pixels, (numbers, encoded), fn_output_signature=tf.float64))
    with tf.control_dependencies([together(total)]):
        small = total <= MOST_PIXELS
    return tf.ensure_shape(tf.cond(small, lambda: images(_AT_ONCE), lambda: images(1)), (None, *shape))


def fit_images(pixels: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns images of the network's size unchanged, others resized and cropped: (N, H, W, C) -> float32.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs: there are no images, or they have no pixels, more than
            `MOST_PIXELS`, or some that are not finite.
    """
    height, width = preprocessing.image_size
    with tf.control_dependencies([_some(pixels), *([_finite(pixels)] if pixels.dtype.is_floating else [])]):
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


def _finite(pixels: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for pixels that are NaN or infinite, which a network classifies, too."""
    return tf.debugging.Assert(
        tf.reduce_all(tf.math.is_finite(pixels)), ["Expected finite pixels. Received NaN or infinity among them"]
    )


def _few(files: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a request of so many files that the network would run out of memory."""
    return tf.debugging.Assert(
        tf.size(files) <= MOST_IMAGES, [f"Expected at most {MOST_IMAGES} images in a request. Received", tf.size(files)]
    )


def together(total: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a request whose images take too much time together."""
    return tf.debugging.Assert(
        total <= MOST_PIXELS_OF_REQUEST,
        [
            f"Expected images of together at most {MOST_PIXELS_OF_REQUEST} pixels, also where they are resized; send "
            "some of them in the next request. Received",
            tf.cast(total, tf.int64),
        ],
    )


def _pixels(size: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns the pixels of an image of a height and width (2,), and those while it is resized: float64 (2,)."""
    shorter, longer = (tf.cast(reduce(size), tf.float64) for reduce in (tf.reduce_min, tf.reduce_max))
    side = max(preprocessing.shorter_side or 0, *preprocessing.image_size)
    resized = side * longer / tf.maximum(shorter, 1.0) * tf.maximum(shorter, side)
    return tf.stack([shorter * longer, resized])


def _not_too_large(size: tf.Tensor, preprocessing: Preprocessing) -> tf.Operation:
    """Returns an operation that fails for a height and width (2,) that would take too much memory."""
    side = max(preprocessing.shorter_side or 0, *preprocessing.image_size)
    return tf.debugging.Assert(
        (tf.reduce_min(size) > 0) & tf.reduce_all(_pixels(size, preprocessing) <= MOST_PIXELS),
        [
            f"Expected images of 1 to {MOST_PIXELS} pixels, also where their shorter side is resized to {side}. "
            "Received a height and width of",
            size,
        ],
    )


def _begins(file: tf.Tensor, magic: bytes) -> tf.Tensor:
    # `substr` fails for a start beyond the end, but not for a length beyond it.
    return tf.strings.substr(file, 0, len(magic)) == magic
