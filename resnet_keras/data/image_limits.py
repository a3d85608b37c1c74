"""Limits of a JPEG or PNG, checked in TensorFlow before it is decoded: what its header claims, and its scans."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.image_files import MOST_PIXELS, MOST_SCANS, SCAN

_FIRST_CHUNK = b"\0\0\0\rIHDR"


def within_limits(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of a JPEG or PNG unchanged.

    Raises:
        tf.errors.InvalidArgumentError: When they are computed: its header is damaged, or it has more than `MOST_PIXELS`
            or `MOST_SCANS`.
    """
    size = header_size(encoded)
    small = tf.debugging.Assert(
        tf.reduce_prod(size) <= MOST_PIXELS,
        [f"Expected an image of at most {MOST_PIXELS} pixels. Received a height and width of", size],
    )
    with tf.control_dependencies([small, few_scans(encoded)]):
        return tf.identity(encoded)


def header_size(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the height and width that the header of a JPEG or PNG claims: bytes -> int64 (2,).

    Raises:
        tf.errors.InvalidArgumentError: When they are computed: the header is damaged.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64),
        lambda: _png_size(encoded),
    )


def few_scans(encoded: tf.Tensor) -> tf.Operation:
    """Returns an operation that fails for a JPEG of more than `MOST_SCANS`; each takes the time of an image."""
    parts = tf.raw_ops.StringSplitV2(input=tf.reshape(encoded, (1,)), sep=SCAN, maxsplit=MOST_SCANS + 1).shape[1]
    return tf.debugging.Assert(
        ~tf.io.is_jpeg(encoded) | (parts <= MOST_SCANS + 1),
        [f"Expected a JPEG of at most {MOST_SCANS} scans. Received one of more"],
    )


def _png_size(encoded: tf.Tensor) -> tf.Tensor:
    # The decoder passes over unknown chunks before the header, where other numbers could stand in its place.
    first = tf.debugging.Assert(
        tf.strings.substr(encoded, tf.minimum(tf.strings.length(encoded), 8), 8) == _FIRST_CHUNK,
        ["Invalid PNG. Expected IHDR as its first chunk"],
    )
    with tf.control_dependencies([first]):
        sides = tf.strings.join([tf.strings.substr(encoded, 16, 8), tf.constant(b"\0" * 8)])
    sides = tf.io.decode_raw(tf.strings.substr(sides, 0, 8), tf.int32, little_endian=False)
    # The decoder refuses sides of zero and a header that is cut short.
    return tf.maximum(tf.cast(tf.bitcast(sides, tf.uint32), tf.int64)[::-1], 1)
