"""Size of an image from the header of its file."""

from __future__ import annotations

import struct

import tensorflow as tf

from resnet_keras.data.image_files import KINDS, MOST_SCANS, SCAN
from resnet_keras.data.pillow_files import JPEG, PNG, size_with_pillow


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
