"""Images in any form: what is read of each, and what is refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.data.image_files import MOST_PIXELS, image_paths
from resnet_keras.data.image_ops import crop, normalize
from resnet_keras.data.image_sizes import size_in_header
from resnet_keras.data.input_images import input_batches, read_images
from resnet_keras.data.preprocessing import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GRAY = PIXELS[..., :1]
RGB = Preprocessing(image_size=(4, 4), channels=3, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0), shorter_side=5)


def png(pixels: np.ndarray) -> bytes:
    return tf.io.encode_png(pixels).numpy()


def pixels_of(images: Any, channels: int = 3) -> list[np.ndarray]:
    return [image.pixels for image in read_images(images, channels)]


def test_every_form_of_one_image_gives_the_same_pixels(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(PIXELS))
    forms = (
        str(tmp_path / "x.png"),
        tmp_path / "x.png",
        tmp_path,
        [tmp_path],
        png(PIXELS),
        bytearray(png(PIXELS)),
        Image.fromarray(PIXELS),
        Image.open(tmp_path / "x.png"),
        PIXELS,
        PIXELS[None],
        np.dstack([PIXELS, GRAY]),
        Image.fromarray(PIXELS).convert("RGBA"),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16) * 256 + 99,
        PIXELS.astype(np.float64),
        tf.constant(PIXELS),
        tf.cast(PIXELS, tf.bfloat16),
        keras.ops.convert_to_tensor(PIXELS),
        iter([PIXELS]),
        tf.data.Dataset.from_tensors(PIXELS),
    )
    for form in forms:
        (found,) = pixels_of(form)
        expected = tf.cast(PIXELS, tf.bfloat16) if found.dtype == np.float32 and "bfloat16" in str(form) else PIXELS
        np.testing.assert_array_equal(found, np.asarray(expected, found.dtype))


def test_several_images_come_in_order_and_files_keep_their_paths(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / f"{name}.png").write_bytes(png(PIXELS[::-1] if name == "a" else PIXELS))
    found = list(read_images([PIXELS, tmp_path, np.stack([GRAY, GRAY + 1])], 3))
    assert [image.path for image in found] == [None, str(tmp_path / "a.png"), str(tmp_path / "b.png"), None, None]
    np.testing.assert_array_equal(found[1].pixels, PIXELS[::-1])
    np.testing.assert_array_equal(found[4].pixels, np.repeat(GRAY + 1, 3, axis=-1))
    assert list(read_images([], 3)) == []
    assert list(read_images(np.zeros((0, 5, 7, 3), np.uint8), 3)) == []


def test_gray_palette_one_bit_and_sixteen_bits_are_converted() -> None:
    gray = GRAY[..., 0]
    repeated = np.repeat(GRAY, 3, axis=-1)
    for form in (gray, GRAY, Image.fromarray(gray), Image.merge("LA", [Image.fromarray(gray)] * 2), png(GRAY)):
        np.testing.assert_array_equal(pixels_of(form)[0], repeated)
        np.testing.assert_array_equal(pixels_of(form, 1)[0], GRAY)
    wide = gray.astype(np.uint16) * 256 + 77
    for form in (wide, png(wide[..., None]), Image.open(io.BytesIO(png(wide[..., None]))), Image.fromarray(wide)):
        np.testing.assert_array_equal(pixels_of(form, 1)[0], GRAY)
    np.testing.assert_array_equal(pixels_of(Image.fromarray(wide.astype(np.int32)), 1)[0], GRAY)
    palette = Image.fromarray(PIXELS).quantize(8)
    palette.info["transparency"] = b"\0\1"
    np.testing.assert_array_equal(pixels_of(palette)[0], np.asarray(Image.fromarray(PIXELS).quantize(8).convert("RGB")))
    np.testing.assert_array_equal(pixels_of(Image.fromarray(gray > 99), 1)[0][..., 0], np.where(gray > 99, 255, 0))


def test_color_becomes_gray_by_the_weights_of_bt_601() -> None:
    expected = PIXELS @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(pixels_of(PIXELS.astype(np.float32), 1)[0][..., 0], expected, rtol=1e-5)
    assert np.abs(pixels_of(png(PIXELS), 1)[0][..., 0].astype(float) - expected).max() <= 1


def test_a_photograph_on_its_side_is_turned_in_a_file_and_in_pillow() -> None:
    smooth = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None] * 15, (16, 24, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(smooth)).save(file, "JPEG", exif=exif, quality=95)
    for form in (file.getvalue(), Image.open(file)):
        (found,) = pixels_of(form)
        assert found.shape == (24, 16, 3)
        assert found[0, 0, 0] > found[0, -1, 0]


def test_batches_are_cropped_and_normalized_in_their_order() -> None:
    images = [PIXELS, PIXELS[:, ::-1], np.full((9, 6, 3), 7, np.uint8)]
    found = list(input_batches(images, RGB, batch_size=2))
    assert [len(paths) for paths, _ in found] == [2, 1]
    expected = [normalize(crop(tf.constant(image), RGB), RGB).numpy() for image in images]
    np.testing.assert_array_equal(np.concatenate([inputs for _, inputs in found]), expected)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((3, 8, 9), np.uint8), "move the channels to the last axis"),
        (np.zeros((2, 8, 9), np.uint8), r"need an axis of channels: images\[..., None\]"),
        (np.zeros((8, 9, 2), np.uint8), r"Received: shape \(8, 9, 2\)"),
        (np.zeros(5), r"Received: shape \(5,\)"),
        (np.float32(3), r"Received: shape \(\)"),
        (np.zeros((4, 0, 3), np.uint8), "an image with pixels"),
        (PIXELS / 127.5 - 1, "not normalized: the classifier does that itself"),
        (PIXELS / 255, "of 0–1, multiply by 255"),
        (PIXELS * 300.0, "Expected pixels of 0–255, or uint16. Received: float64 from"),
        (np.where(PIXELS > 9, np.nan, 1.0), "Expected finite pixels"),
        (PIXELS.astype(np.int32) - 200, "Received: int32 from -"),
        (PIXELS.astype(np.uint16), r"images.astype\('uint8'\)"),
        (PIXELS > 5, "Expected pixels of 0–255. Received: bool"),
        (PIXELS.astype(str), "Received: str"),
        (PIXELS.astype(object), "Received: object"),
        (3, "Received: int 3"),
        (None, "Received: NoneType None"),
        ({"a": PIXELS}, "Received: dict"),
        ([[PIXELS]], "Expected in a list of images: .* Received: list"),
        (
            b"no image",
            "Expected a whole JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF image. Received: bytes of no such image",
        ),
        (png(PIXELS)[:60], "Expected a whole JPEG"),
        (b"\xff\xd8\xff", "Expected a whole JPEG"),
        (b"BM", "Expected a whole JPEG"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused_with_a_sentence(images: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(read_images(images, 3))


def test_headers_state_the_size() -> None:
    for suffix in ("JPEG", "PNG", "GIF", "BMP"):
        file = io.BytesIO()
        Image.fromarray(PIXELS).save(file, suffix)
        assert size_in_header(file.getvalue(), "x") == (5, 7)


def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    parts = [header, b"IDAT" + rows, b"IEND"]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )
    with pytest.raises(ValueError, match=r"at most 178,956,970 pixels; reduce it first. .* of 60,000x60,000"):
        list(read_images(bomb, 3))
    assert MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    flat = np.broadcast_to(np.uint8(0), (20000, 20000, 3))
    with pytest.raises(ValueError, match="of 20,000x20,000"):
        list(read_images(flat, 3))
    with pytest.raises(ValueError, match=r"sides differ less: with a shorter side of 5 pixels .* of 1x9,000,000"):
        list(input_batches(np.zeros((1, 9_000_000, 1), np.uint8), RGB))


def test_a_pillow_image_cut_short_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg")
    cut = (tmp_path / "x.jpg").read_bytes()[:900]
    with pytest.raises(ValueError, match="Expected a whole image. Received: a Pillow image of mode RGB"):
        list(read_images(Image.open(io.BytesIO(cut)), 3))


def test_missing_paths_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png, which does not exist"):
        image_paths([tmp_path / "nowhere.png"])
    with pytest.raises(FileNotFoundError, match="Expected images"):
        image_paths([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(read_images(["nowhere.png"], 3))


@pytest.mark.parametrize("size", [(3, 200), (200, 3), (1, 33)])
def test_a_long_image_is_cropped_like_any_other(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    ((_, inputs),) = input_batches([image, png(image)], RGB)
    np.testing.assert_allclose(inputs, np.broadcast_to([40.0, 70 / 3, 15.0], (2, 4, 4, 3)), rtol=1e-6)
