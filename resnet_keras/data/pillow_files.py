"""Image files that Pillow decodes, because TensorFlow does not or not as the files mean it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_keras.data.exif_bytes import ORIENTATION, orientation_of_tiff
from resnet_keras.data.image_files import FORMATS, KINDS, MOST_PIXELS, check_size

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_FORMATS = [name.upper() for name in FORMATS if name not in ("JPEG", "PNG")]  # no others: EPS would start a program
FAILURES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    RuntimeError,  # of the AVIF library
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for damaged files."""


def decode_with_pillow(content: bytes, channels: int) -> np.ndarray:
    """Returns the first frame of a GIF, BMP, WebP, TIFF or AVIF, upright: uint8 (H, W, channels), as Pillow has it.

    An alpha channel is dropped. Of 16 bits, the upper 8 count.

    Args:
        content: The bytes of the file.
        channels: 3 for RGB, 1 for gray.

    Raises:
        ValueError: The bytes are not such an image, are truncated, or have more than 2 x `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:  # whatever the process has set for Pillow
                raise ValueError(f"one of {image.width * image.height:,} pixels, of which {MOST_PIXELS:,} are decoded")
            image.load()
            upright = turned_upright(image)
    except FAILURES as error:
        raise ValueError(f"Expected a whole {KINDS} image. Received: {error}") from error
    if upright.mode.startswith("I"):
        upright = Image.fromarray(_upper_byte(np.asarray(upright)))
    elif upright.mode in ("P", "PA"):
        upright = upright.convert("RGBA")  # Pillow warns if it converts a palette with transparency to RGB
    elif upright.mode == "F":
        raise ValueError(f"Expected an image of 8 or 16 bits. Received: one of floats, of {upright.size} pixels")
    pixels = np.asarray(upright.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)


def turned_upright(image: Image.Image) -> Image.Image:
    """Returns a Pillow image turned by its Exif orientation, where other readers of this package find it."""
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Returns how a Pillow image has to be turned to be upright; `None` if it is."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        value = orientation_of_tiff(exif)
    else:  # of a TIFF, whose own directory it is, or of an image that the caller has made
        kinds = getattr(getattr(image, "tag_v2", None), "tagtype", {})
        value = image.getexif().get(ORIENTATION, 1) if kinds.get(ORIENTATION, 3) in (3, 4) else 1
    return _TURNS.get(value) if isinstance(value, int) else None


def size_with_pillow(content: bytes) -> tuple[int, int]:
    """Returns the height and width in the header of such a file.

    Raises:
        ValueError: The bytes are not such a file.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return image.height, image.width
    except FAILURES as error:
        raise ValueError(f"Expected a whole {KINDS} image. Received: {error}") from error


def image_header(source: str | Path | bytes, called: str) -> tuple[int, int, int]:
    """Returns the height and width of the pixels in an image file, and their Exif orientation, from its header alone.

    Args:
        source: The file: its path, or its bytes.
        called: Its name in messages.

    Raises:
        ValueError: It is no image, or has more than `MOST_PIXELS`.
    """
    try:
        opened = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(opened, formats=[name.upper() for name in FORMATS]) as image:
            size, exif = (image.height, image.width), image.info.get("exif")
            # Pillow would decode a whole PNG in search of its Exif data.
            orientation = orientation_of_tiff(exif) if isinstance(exif, bytes) else 1
            if image.format == "TIFF" and turn_of(image) is not None:
                orientation = image.getexif()[ORIENTATION]
    except FAILURES as error:
        raise ValueError(f"Expected a whole {KINDS} image. Received: {called}: {error}") from error
    check_size(*size, called)
    return *size, orientation if orientation in _TURNS else 1


def _upper_byte(pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() >= 2**16:
        raise ValueError(f"Expected pixels of 8 or 16 bits. Received: {pixels.min()} to {pixels.max()}")
    return (pixels >> 8).astype(np.uint8)
