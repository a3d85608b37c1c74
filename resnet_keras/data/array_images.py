"""Images decoded, resized and cropped by Pillow and NumPy alone, to the pixels that `image_ops` computes.

Whoever runs an exported file so needs no TensorFlow, whose import takes longer than a hundred images.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from resnet_keras.data.image_files import KINDS, MOST_BYTES, MOST_SCANS, SCAN, check_resized, check_size
from resnet_keras.data.pillow_files import FAILURES, JPEG, PNG, decode_with_pillow, size_with_pillow, turned_upright
from resnet_keras.data.preprocessing import Preprocessing

_LONGEST = 32  # times the shorter side, as in `image_ops`: longer images are rounded once
_GRAY_WEIGHTS = (9797, 19234)  # of red and green, of 2^15, as TensorFlow has libpng turn colors into gray
_RADIUS = {"bilinear": 1.0, "bicubic": 2.0}


def read_cropped(path: str | Path, preprocessing: Preprocessing) -> np.ndarray:
    """Returns an image file decoded, upright, resized and cropped: uint8 (*image_size, C).

    Raises:
        ValueError: The file is not a whole image of a known format, or is too large; the message names it.
        OSError: It cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"Expected an image file of at most {MOST_BYTES:,} bytes. Received: {path}")
    pixels = decode_array(path.read_bytes(), preprocessing.channels, str(path))
    check_resized(pixels.shape[0], pixels.shape[1], preprocessing, str(path))
    return crop_array(pixels, preprocessing)


def decode_array(content: bytes, channels: int, what: str = "bytes") -> np.ndarray:
    """Returns the image in the bytes of a file, upright: uint8 (H, W, channels), as `image_ops.decode`.

    Args:
        content: The bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.
        channels: 3 for RGB, 1 for gray.
        what: Name of the image in messages.

    Raises:
        ValueError: The bytes are not such an image, are truncated, or have more pixels or scans than are decoded.
    """
    if content.startswith(JPEG) and content.count(SCAN) > MOST_SCANS:
        raise ValueError(f"Expected a JPEG of at most {MOST_SCANS} scans. Received: {what}")
    try:
        if not content.startswith((JPEG, PNG)):
            check_size(*size_with_pillow(content), what)
            return decode_with_pillow(content, channels)
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            check_size(image.height, image.width, what)
            pixels = _jpeg(image, channels) if content.startswith(JPEG) else _png(image, channels)
    except FAILURES as error:
        if isinstance(error, ValueError) and what in str(error):
            raise
        raise ValueError(f"Expected a whole {KINDS} image. Received: {what}") from error
    return pixels


def crop_array(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resizes the shorter side and takes the center, as `image_ops.crop`: uint8 (H, W, C) -> uint8 (*image_size, C)."""
    sides = pixels.shape[:2]
    if preprocessing.shorter_side is None and sides == preprocessing.image_size:
        return pixels
    size = _scaled_size(sides, preprocessing)
    corner = [round((whole - part) / 2) for whole, part in zip(size, preprocessing.image_size, strict=True)]
    method = preprocessing.interpolation
    long = max(sides) > _LONGEST * min(sides)
    rows, columns = (
        _Spans(*each, method, moved=long) for each in zip(sides, size, corner, preprocessing.image_size, strict=True)
    )
    across = pixels.transpose(1, 0, 2)  # columns first
    if not long:
        result = _whole(rows(_whole(columns(across)).transpose(1, 0, 2)))
    elif sides[1] > sides[0]:  # the longer side first, and no rounding between
        result = _whole(rows(columns(across).transpose(1, 0, 2)))
    else:
        result = _whole(columns(rows(pixels).transpose(1, 0, 2)).transpose(1, 0, 2))
    return result.astype(np.uint8)


def _jpeg(image: Image.Image, channels: int) -> np.ndarray:
    if channels == 1:
        image.draft("L", None)  # the luminance as it is stored
    image.load()
    if image.mode != "CMYK":
        return _array(turned_upright(image).convert("RGB" if channels == 3 else "L"), channels)
    if channels == 1:
        raise ValueError("an image in CMYK has no luminance")
    # Pillow has inverted the inks, whether Adobe's marker says that they are or not.
    pillows = np.asarray(turned_upright(image)).astype(np.int64)
    inks = 255 - pillows if "adobe" in image.info else pillows
    return (inks[..., :3] * inks[..., 3:] // 255).astype(np.uint8)


def _png(image: Image.Image, channels: int) -> np.ndarray:
    image.load()
    upright = turned_upright(image)
    if upright.mode.startswith("I"):
        return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[..., None], channels, axis=-1)
    if upright.mode in ("1", "L", "LA"):
        return _array(upright.convert("L").convert("RGB" if channels == 3 else "L"), channels)
    if upright.mode == "P":
        upright = upright.convert("RGBA")  # Pillow warns if it converts a palette with transparency to RGB
    colors = _array(upright.convert("RGB"), 3)
    if channels == 3:
        return colors
    red, green, blue = (colors[..., i].astype(np.int32) for i in range(3))
    of_red, of_green = _GRAY_WEIGHTS
    gray = (of_red * red + of_green * green + (2**15 - of_red - of_green) * blue) >> 15
    return np.where((red == green) & (red == blue), red, gray).astype(np.uint8)[..., None]


def _array(image: Image.Image, channels: int) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, channels)


def _scaled_size(sides: tuple[int, ...], preprocessing: Preprocessing) -> tuple[int, int]:
    """Returns the height and width that an image is resized to before it is cropped; see `image_ops.scaled_size`."""
    height, width = sides
    if (side := preprocessing.shorter_side) is not None:
        return tuple(max(side * each // min(height, width), 1) for each in (height, width))  # type: ignore[return-value]
    scale = max(part / whole for part, whole in zip(preprocessing.image_size, sides, strict=True))
    return tuple(  # type: ignore[return-value]
        max(round(whole * scale), part) for part, whole in zip(preprocessing.image_size, sides, strict=True)
    )


class _Spans:
    """The weights of TensorFlow's `ScaleAndTranslate` along one side, in its float32 arithmetic.

    Args:
        length: Pixels of the side.
        scaled: Pixels of the resized side.
        first: The first pixel to keep of the resized side.
        kept: How many to keep.
        method: Interpolation, antialiased.
        moved: Whether the first pixel to keep is a translation, not a crop, which rounds otherwise.
    """

    def __init__(self, length: int, scaled: int, first: int, kept: int, method: str, *, moved: bool) -> None:
        one, half = np.float32(1), np.float32(0.5)
        inverse = one / (np.float32(scaled) / np.float32(length))
        wide = max(inverse, one)
        radius = np.float32(_RADIUS[method]) * wide
        numbers = np.arange(kept).astype(np.float32) + np.float32(0 if moved else first) + half
        centers = numbers * inverse + inverse * np.float32(first if moved else 0)
        starts = np.clip(np.ceil(centers - radius - half).astype(np.int64), 0, length - 1)
        ends = np.clip(np.floor(centers + radius - half).astype(np.int64), 0, length - 1) + 1
        places = starts[:, None] + np.arange((ends - starts).max())
        weights = _kernel(np.abs((places.astype(np.float32) + half - centers[:, None]) * (one / wide)), method)
        weights[places >= ends[:, None]] = 0
        total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]  # one after the other
        self.places, self.weights = np.minimum(places, length - 1), weights * (one / total)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the weighted sums along the first axis: (length, ...) -> float32 (kept, ...)."""
        result = np.zeros((len(self.places), *pixels.shape[1:]), np.float32)
        for number in range(self.places.shape[1]):
            taken = pixels[self.places[:, number]].astype(np.float32)
            taken *= self.weights[:, number].reshape(-1, *[1] * (pixels.ndim - 1))
            result += taken
        return result


def _kernel(distances: np.ndarray, method: str) -> np.ndarray:
    x = distances
    if method == "bilinear":
        return np.where(x < 1, 1 - x, 0).astype(np.float32)
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0)).astype(np.float32)


def _whole(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels as the nearest whole numbers of 0-255, halves up."""
    return np.clip(np.floor(pixels + np.float32(0.5)), 0, 255)
