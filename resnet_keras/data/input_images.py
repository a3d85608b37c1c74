"""Images in any form that a caller has: paths, folders, bytes, Pillow images, arrays and tensors."""

from __future__ import annotations

import logging
import os
import reprlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from resnet_keras.data.image_files import KINDS, MOST_BYTES, OnCorrupt, check_resized, check_size, image_paths
from resnet_keras.data.image_ops import crop, decode, normalize, with_channels
from resnet_keras.data.image_sizes import size_in_header
from resnet_keras.data.pillow_files import turned_upright
from resnet_keras.data.preprocessing import Preprocessing

BATCH = 32
"""Images of a batch; no more are decoded at once."""

_log = logging.getLogger(__name__)

_FORMS = (
    "a path, a folder, the bytes of an image file, a Pillow image, an array or tensor of (H, W), (H, W, C) or "
    "(N, H, W, C), or a list of these"
)


@dataclass(frozen=True, eq=False)
class InputImage:
    """One image, upright, and where it comes from.

    Attributes:
        pixels: RGB or gray, uint8 (H, W, C) or float32 of 0–255.
        path: The image file; `None` if the image did not come from one.
    """

    pixels: np.ndarray
    path: str | None = None


def input_batches(
    images: Any, preprocessing: Preprocessing, batch_size: int = BATCH, on_corrupt: OnCorrupt = "raise"
) -> Iterator[tuple[list[str | None], np.ndarray]]:
    """Yields batches of normalized images, and the path of each: float32 (≤ batch_size, *image_size, C).

    Args:
        images: See `read_images`.
        preprocessing: Size and normalization of the network's input.
        batch_size: Images in each batch; the last may have fewer.
        on_corrupt: Image files among `images` that cannot be read are an error ("raise"), or skipped with a warning.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
        ValueError: See `read_images`; or an image's sides differ too much.
    """
    paths: list[str | None] = []
    cropped: list[np.ndarray] = []
    for image in (
        _readable(images, preprocessing) if on_corrupt == "skip" else read_images(images, preprocessing.channels)
    ):
        height, width = image.pixels.shape[:2]
        check_resized(height, width, preprocessing, image.path or "an image")
        cropped.append(np.asarray(crop(image.pixels, preprocessing), np.float32))
        paths.append(image.path)
        if len(cropped) == batch_size:
            yield paths, normalize(np.stack(cropped), preprocessing).numpy()
            paths, cropped = [], []
    if cropped:
        yield paths, normalize(np.stack(cropped), preprocessing).numpy()


def _readable(images: Any, preprocessing: Preprocessing) -> Iterator[InputImage]:
    """Yields the images that can be read, and warns of the files that cannot."""
    paths = [images] if _is_path(images) else images
    if not (isinstance(paths, (list, tuple)) and all(_is_path(each) for each in paths)):
        yield from read_images(images, preprocessing.channels)
        return
    for path in image_paths(paths):
        try:
            image = _from_file(path, preprocessing.channels)
            height, width = image.pixels.shape[:2]
            check_resized(height, width, preprocessing, str(path))
        except (ValueError, OSError) as error:
            _log.warning(f"skipped: {error}")
        else:
            yield image


def read_images(images: Any, channels: int) -> Iterator[InputImage]:
    """Yields each of the images that a caller has in hand, one after the other.

    Pixels are 0–255, as in `keras.applications`: whole numbers of any type, or floats, which are not rounded. Of 16
    bits, the upper 8 count. An alpha channel is dropped; gray and color are converted to what the network has. Files
    and Pillow images are turned upright by their EXIF orientation.

    Args:
        images: A path, a folder, the bytes of an image file, a Pillow image, an array or a tensor of (H, W), (H, W, C)
            or (N, H, W, C) with 1, 3 or 4 channels; or a list or an iterator of these.
        channels: 3 for RGB, 1 for gray.

    Raises:
        FileNotFoundError: A path does not exist, or a folder contains no image.
        ValueError: A file is damaged (the message names it), an array has another shape or pixels that are not 0–255,
            an image is too large, or something is none of these.
    """
    if isinstance(images, (list, tuple)) and all(_is_path(each) for each in images):
        for path in image_paths(images):  # all are looked for before the first is read
            yield _from_file(path, channels)
        return
    if _is_single(images):
        yield from _read(images, channels)
    elif isinstance(images, Iterable) and not isinstance(images, (Mapping, Set)):
        for each in images:
            if not _is_single(each):
                raise ValueError(f"Expected in a list of images: {_FORMS}. Received: {_described(each)}")
            yield from _read(each, channels)
    else:
        raise ValueError(f"Expected images: {_FORMS}. Received: {_described(images)}")


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _is_pillow(value: Any) -> bool:
    module = sys.modules.get("PIL.Image")  # who has no Pillow has no such image
    return module is not None and isinstance(value, module.Image)


def _is_single(value: Any) -> bool:
    """Returns whether a value is an image, a folder, or an array of images."""
    return (
        _is_path(value)
        or isinstance(value, (bytes, bytearray, memoryview))
        or _is_pillow(value)
        or (hasattr(value, "__array__") and hasattr(value, "shape"))
    )


def _read(value: Any, channels: int) -> Iterator[InputImage]:
    if _is_path(value):
        for path in image_paths([value]):
            yield _from_file(path, channels)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        yield InputImage(_decoded(bytes(value), channels, "bytes of no such image"))
    elif _is_pillow(value):
        yield InputImage(_from_pillow(value, channels))
    else:
        for pixels in _from_array(value):
            yield InputImage(_converted(pixels, channels))


def _from_file(path: Path, channels: int) -> InputImage:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"Expected an image file of at most {MOST_BYTES:,} bytes. Received: {path}")
    return InputImage(_decoded(path.read_bytes(), channels, str(path)), str(path))


def _decoded(content: bytes, channels: int, what: str) -> np.ndarray:
    check_size(*size_in_header(content, what), what)
    try:
        return decode(tf.constant(content), channels).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"Expected a whole {KINDS} image. Received: {what}") from error


def _from_pillow(image: Any, channels: int) -> np.ndarray:
    what = f"a Pillow image of mode {image.mode}"
    check_size(image.height, image.width, what)
    try:
        upright = turned_upright(image)
        if upright.mode.startswith("I;16"):
            pixels = _upper_byte(np.asarray(upright))[..., None]
        elif upright.mode in ("I", "F"):
            (pixels,) = _from_array(_narrowed(np.asarray(upright)))
        else:
            # Through RGBA, because Pillow warns if it converts a palette with transparency to RGB.
            modes = {"1": "L", "L": "L", "LA": "L", "La": "L", "P": "RGBA", "PA": "RGBA"}
            pixels = np.asarray(upright.convert(modes.get(upright.mode, "RGB")))
    except (
        OSError,
        SyntaxError,
        RuntimeError,
        EOFError,
    ) as error:  # which Pillow raises for files that it reads only now
        raise ValueError(f"Expected a whole image. Received: {what}: {error}") from error
    return _converted(pixels if pixels.ndim == 3 else pixels[..., None], channels)


def _from_array(value: Any) -> Iterator[np.ndarray]:
    """Yields each image (H, W, C) of an array, as uint8 or float32 of 0–255."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor of another device, or one with a gradient
        raise ValueError(f"Expected an array that NumPy can read. Received: {_described(value)}: {error}") from error
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    batch = _as_batch(array)
    check_size(batch.shape[1], batch.shape[2], f"an array of shape {array.shape}")
    if batch.size:
        convert = _conversion(batch)
        for image in batch:
            yield convert(image)


def _as_batch(array: np.ndarray) -> np.ndarray:
    """Returns an array of one or several images as (N, H, W, C)."""
    shape = array.shape
    if array.ndim == 2:
        return array[None, :, :, None]
    if array.ndim in (3, 4) and shape[-1] in (1, 3, 4):
        return array if array.ndim == 4 else array[None]
    hint = ""
    if array.ndim in (3, 4) and shape[-3] in (1, 3, 4):
        hint = "; move the channels to the last axis, e.g. by np.moveaxis(images, -3, -1)"
    elif array.ndim == 3:
        hint = "; gray images in a batch need an axis of channels: images[..., None]"
    raise ValueError(
        f"Expected an array of (H, W), (H, W, C) or (N, H, W, C) with 1, 3 or 4 channels. Received: shape {shape}{hint}"
    )


def _conversion(batch: np.ndarray) -> Any:
    """Returns the function that makes the pixels of a batch uint8 or float32, after checking their range."""
    kind = batch.dtype.kind
    if kind not in "uif":
        raise ValueError(f"Expected pixels of 0–255. Received: {batch.dtype.name}")
    low, high = batch.min(), batch.max()
    received = f"{batch.dtype.name} from {low} to {high}"
    if kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(f"Expected finite pixels. Received: {received}")
        if low < 0:
            raise ValueError(
                "Expected pixels of 0–255, not normalized: the classifier does that itself. If they are normalized, "
                f"call `logits_of_inputs` or `probabilities_of_inputs`. Received: {received}"
            )
        if 0 < high <= 1:
            raise ValueError(
                f"Expected float pixels of 0–255, as in keras.applications; of 0–1, multiply by 255. "
                f"Received: {received}"
            )
        if high <= 255:
            return lambda image: image.astype(np.float32)
    if batch.dtype == np.uint8:
        return lambda image: image
    if batch.dtype == np.uint16 and high > 255:
        return _upper_byte
    if batch.dtype == np.uint16 and high > 0:
        raise ValueError(
            "Expected pixels of 16 bits in uint16. If they are of 8 bits, call images.astype('uint8'). "
            f"Received: {received}"
        )
    if kind != "f" and low >= 0 and high <= 255:
        return lambda image: image.astype(np.uint8)
    raise ValueError(f"Expected pixels of 0–255, or uint16. Received: {received}")


def _narrowed(pixels: np.ndarray) -> np.ndarray:
    """Returns int32 pixels of 16 bits as uint16: some versions of Pillow open such gray PNGs as int32."""
    wide = pixels.dtype == np.int32 and pixels.min() >= 0 and 255 < pixels.max() < 2**16
    return pixels.astype(np.uint16) if wide else pixels


def _upper_byte(pixels: np.ndarray) -> np.ndarray:
    """Returns the upper 8 of 16 bits, as decoders of PNG do."""
    return (pixels >> 8).astype(np.uint8)


def _converted(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Returns an image with the network's number of channels, without alpha: (H, W, 1, 3 or 4) -> (H, W, channels)."""
    pixels = pixels[..., :3]
    return pixels if pixels.shape[-1] == channels else with_channels(tf.constant(pixels), channels).numpy()


def _described(value: Any) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}"
