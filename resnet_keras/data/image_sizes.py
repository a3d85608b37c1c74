"""Size of an image from the header of its file, and limits of what is decoded and resized."""

from __future__ import annotations

import struct

import tensorflow as tf

from resnet_keras.data.image_files import KINDS, MOST_PIXELS, MOST_SCANS
from resnet_keras.data.image_limits import SCAN
from resnet_keras.data.pillow_files import JPEG, PNG, size_with_pillow
from resnet_keras.data.preprocessing import Preprocessing


def size_in_header(encoded: bytes, what: str) -> tuple[int, int]:
    """Returns the height and width that the header of an image file states, without decoding the image.

    Args:
        encoded: The bytes of a file.
        what: Name of the image in messages.

    Raises:
        ValueError: The bytes are not such a file, its header is damaged, or a JPEG has more than `MOST_SCANS`.
    """
    damaged = ValueError(f"Expected a whole {KINDS} image. Received: {what}")
    try:
        if encoded.startswith(JPEG):
            height, width, _ = map(int, tf.io.extract_jpeg_shape(encoded).numpy())
        elif encoded.startswith(PNG):
            if encoded[12:16] != b"IHDR":  # decoders pass over unknown chunks before it
                raise damaged
            width, height = struct.unpack_from(">II", encoded, 16)
        else:
            height, width = size_with_pillow(encoded)
    except (struct.error, tf.errors.InvalidArgumentError, ValueError) as error:
        raise damaged from error
    if encoded.startswith(JPEG) and encoded.count(SCAN) > MOST_SCANS:
        raise ValueError(f"Expected a JPEG of at most {MOST_SCANS} scans. Received: {what}")
    return height, width


def check_size(height: int, width: int, what: str) -> None:
    """Checks that an image is not too large to decode.

    Raises:
        ValueError: It has more than `MOST_PIXELS`, or none.
    """
    if height < 1 or width < 1:
        raise ValueError(f"Expected an image with pixels. Received: {what}, of {height}x{width}")
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"Expected an image of at most {MOST_PIXELS:,} pixels; reduce it first. "
            f"Received: {what}, of {height:,}x{width:,}"
        )


def check_resized(height: int, width: int, preprocessing: Preprocessing, what: str) -> None:
    """Checks that an image does not become too large when its shorter side is resized.

    Raises:
        ValueError: One of its sides is so much longer than the other that it does.
    """
    side = preprocessing.shorter_side or max(preprocessing.image_size)
    longest = side * max(height, width) // min(height, width)
    # Rows are resized first: the largest image on the way is as high as the image and as wide as the result.
    if longest * max(side, min(height, width)) > MOST_PIXELS:
        raise ValueError(
            f"Expected an image whose sides differ less: with a shorter side of {side} pixels it would have more than "
            f"{MOST_PIXELS:,}; crop it first. Received: {what}, of {height:,}x{width:,}"
        )
