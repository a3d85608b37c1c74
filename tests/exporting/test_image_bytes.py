"""What comes into a serving graph: decoded as Pillow has it, refused with a reason, and never the end of the server."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import jpeg_of_scans, png_of_hidden_size
from PIL import Image

from resnet_keras.data.image_ops import crop, decode
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting import image_bytes
from resnet_keras.exporting.image_bytes import (
    MOST_IMAGES,
    MOST_PIXELS,
    MOST_PIXELS_OF_REQUEST,
    decode_images,
    fit_images,
)
from resnet_keras.runs.process_memory import peak_memory

SIZE = (24, 32)
RGB = Preprocessing(image_size=SIZE, channels=3, mean=(0, 0, 0), std=(1, 1, 1))
GREY = Preprocessing(image_size=SIZE, channels=1, mean=(0,), std=(1,))
CROPPED = Preprocessing(
    image_size=SIZE, channels=3, mean=(0, 0, 0), std=(1, 1, 1), shorter_side=40, interpolation="bicubic"
)
FILES = tf.TensorSpec((None,), tf.string)


@tf.function(input_signature=[FILES], autograph=False)
def colors(files: tf.Tensor) -> tf.Tensor:
    return decode_images(files, RGB)


@tf.function(input_signature=[FILES], autograph=False)
def grays(files: tf.Tensor) -> tf.Tensor:
    return decode_images(files, GREY)


@tf.function(input_signature=[FILES], autograph=False)
def cropped(files: tf.Tensor) -> tf.Tensor:
    return decode_images(files, CROPPED)


@tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
def fitted_bytes(pixels: tf.Tensor) -> tf.Tensor:
    return fit_images(pixels, CROPPED)


@tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)], autograph=False)
def fitted_floats(pixels: tf.Tensor) -> tf.Tensor:
    return fit_images(pixels, CROPPED)


@tf.function(input_signature=[tf.TensorSpec((None, *SIZE, 3), tf.uint8)], autograph=False)
def fitted_fixed(pixels: tf.Tensor) -> tf.Tensor:
    return fit_images(pixels, CROPPED)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def photo(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a) * np.cos(columns / b) for a, b in ((3, 5), (7, 2), (4, 9))]
    return Image.fromarray((127.5 + 127 * np.stack(waves, -1)).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(file: bytes, mode: str = "RGB") -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert(mode), np.float32)
    return pixels if mode == "RGB" else pixels[..., None]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, lines: bytes = b"", *, depth: int = 8, color: int = 2, interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def interlaced(pixels: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = (pixels[top::down, left::right] for top, left, down, right in passes)
    lines = b"".join(b"\0" + line.tobytes() for part in parts for line in part)
    return png(pixels.shape[1], pixels.shape[0], lines, interlaced=1)


PHOTO = photo(*SIZE)
NOISE = Image.fromarray(noise(*SIZE, 3))
ALPHA = Image.fromarray(noise(*SIZE, 4))
SAME_AS_PILLOW = {
    "JPEG": encoded(NOISE, "JPEG", quality=90),
    "JPEG, colors at full size": encoded(NOISE, "JPEG", subsampling=0),
    "JPEG, progressive": encoded(NOISE, "JPEG", progressive=True),
    "JPEG, gray": encoded(NOISE.convert("L"), "JPEG"),
    "PNG": encoded(NOISE, "PNG"),
    "PNG, alpha": encoded(ALPHA, "PNG"),
    "PNG, gray": encoded(NOISE.convert("L"), "PNG"),
    "PNG, gray and alpha": encoded(ALPHA.convert("LA"), "PNG"),
    "PNG, palette": encoded(NOISE.quantize(200), "PNG"),
    "PNG, palette of 16": encoded(NOISE.quantize(16), "PNG", bits=4),
    "PNG, palette with a transparent color": encoded(NOISE.quantize(200), "PNG", transparency=7),
    "PNG, 1 bit": encoded(NOISE.convert("1"), "PNG"),
    "PNG, interlaced": interlaced(noise(*SIZE, 3)),
}


@pytest.mark.parametrize("name", SAME_AS_PILLOW)
def test_an_image_has_pillows_pixels(name: str) -> None:
    file = SAME_AS_PILLOW[name]
    (found,) = colors([file])
    np.testing.assert_array_equal(found, by_pillow(file))
    np.testing.assert_array_equal(found, decode(tf.constant(file), 3))


def test_the_files_are_what_their_names_say() -> None:
    opened = {name: Image.open(io.BytesIO(file)) for name, file in SAME_AS_PILLOW.items()}
    assert {image.size for image in opened.values()} == {SIZE[::-1]}
    modes = {"alpha": "RGBA", "gray": "L", "gray and alpha": "LA", "palette": "P", "1 bit": "1"}
    assert {name: opened[f"PNG, {name}"].mode for name in modes} == modes
    assert opened["JPEG, progressive"].info["progressive"]
    assert opened["PNG, interlaced"].info["interlace"] == 1


def test_sixteen_bits_are_reduced_to_the_upper_eight() -> None:
    values = np.random.default_rng(1).integers(0, 1 << 16, (*SIZE, 3)).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    (found,) = colors([png(SIZE[1], SIZE[0], lines, depth=16)])
    np.testing.assert_array_equal(found, values >> 8)


def test_the_four_inks_of_a_jpeg_become_colors_as_in_pillow() -> None:
    inks = Image.frombytes("CMYK", SIZE[::-1], noise(*SIZE, 4).tobytes())
    file = encoded(inks, "JPEG", quality=95)
    (found,) = colors([file])
    np.testing.assert_allclose(found, by_pillow(file), atol=2)


@pytest.mark.parametrize("name", SAME_AS_PILLOW)
def test_gray_is_pillows_gray(name: str) -> None:
    (found,) = grays([SAME_AS_PILLOW[name]])
    # Of a color JPEG the brightness is taken as it is stored; Pillow goes by red, green and blue, each clipped.
    atol = 16 if name.startswith("JPEG") and "gray" not in name else 1
    expected = by_pillow(SAME_AS_PILLOW[name], "L")
    np.testing.assert_allclose(found, expected, atol=atol)
    assert np.abs(found - expected).mean() < 1


def test_one_pixel_is_enough() -> None:
    pixel = Image.new("RGB", (1, 1), (200, 30, 77))
    for form in ("PNG", "JPEG"):
        file = encoded(pixel, form)
        (found,) = colors([file])
        np.testing.assert_array_equal(found, np.broadcast_to(by_pillow(file), (*SIZE, 3)), err_msg=form)


def test_images_of_any_size_are_resized_and_cropped_as_outside_the_graph() -> None:
    for size in ((24, 32), (40, 40), (33, 71), (90, 41), (5, 300), (300, 5), (1, 1)):
        for form in ("PNG", "JPEG"):
            file = encoded(photo(*size), form)
            image = decode(tf.constant(file), 3)
            np.testing.assert_array_equal(cropped([file])[0], crop(image, CROPPED), err_msg=f"{form} {size}")
            np.testing.assert_array_equal(colors([file])[0], crop(image, RGB), err_msg=f"{form} {size}")


def test_a_photograph_is_put_upright_before_it_is_cropped() -> None:
    about = Image.Exif()
    about[0x0112] = 6
    lying, held = encoded(photo(30, 90), "JPEG", exif=about), encoded(photo(30, 90), "JPEG")
    upright = tf.image.rot90(decode(tf.constant(held), 3), 3)
    np.testing.assert_array_equal(cropped([lying])[0], crop(upright, CROPPED))


def test_the_images_of_a_batch_stay_in_order() -> None:
    files = list(SAME_AS_PILLOW.values())
    np.testing.assert_array_equal(colors(files), np.stack([by_pillow(file) for file in files]))


def refused(function: Callable[[list], tf.Tensor], files: list[bytes], reason: str) -> None:
    """Checks that a request is refused with a reason, in little memory, and that the next one succeeds."""
    before = peak_memory()
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        function(tf.constant(files, tf.string))
    assert peak_memory() - before < 64 << 20
    good = SAME_AS_PILLOW["PNG"]
    np.testing.assert_array_equal(colors([good])[0], by_pillow(good))


def jpeg_of(width: int, height: int) -> bytes:
    file = SAME_AS_PILLOW["JPEG"]
    frame = file.index(b"\xff\xc0")
    return file[: frame + 5] + struct.pack(">HH", height, width) + file[frame + 9 :]


@pytest.mark.parametrize(
    ("file", "size"),
    [
        (png(100_000, 100_000), "100000 100000"),
        (png(9_460, 9_460), "9460 9460"),
        (png((1 << 31) - 1, (1 << 31) - 1), "2147483647 2147483647"),
        (png((1 << 32) - 1, (1 << 32) - 1), "4294967295 4294967295"),
        (png((1 << 32) - 1, 1), "1 4294967295"),
        (png(1, 100_000), "100000 1"),
        (png(100_000, 1), "1 100000"),
        (png(3_000_000, 24), "24 3000000"),
        (jpeg_of(60_000, 50_000), "50000 60000"),
    ],
)
def test_a_header_that_claims_too_many_pixels_is_refused_before_there_is_room_for_them(file: bytes, size: str) -> None:
    reason = (
        rf"Expected images of 1 to {MOST_PIXELS} pixels.*resized to 32\. Received a height and width of\] \[{size}\]"
    )
    refused(colors, [file], reason)


def test_the_limit_counts_the_pixels_after_resizing_too() -> None:
    shape = (60_000, 1)
    long = encoded(Image.new("RGB", shape), "PNG")
    refused(cropped, [long], r"shorter side is resized to 40\. Received a height and width of\] \[1 60000\]")
    within = encoded(Image.new("RGB", (3_000, 2), (9, 9, 9)), "PNG")
    assert np.all(colors([within]) == 9)


def test_what_is_just_within_the_limit_comes_to_the_decoder() -> None:
    refused(colors, [png(9_459, 9_459)], "Invalid PNG")


@pytest.mark.parametrize("file", [png(0, 10), png(10, 0), jpeg_of(0, 0), jpeg_of(65_535, 65_535)])
def test_sizes_that_no_image_has_are_refused(file: bytes) -> None:
    refused(colors, [file], "Invalid PNG|Invalid JPEG")


def test_a_png_that_hides_its_size_is_refused() -> None:
    refused(colors, [png_of_hidden_size(9_000, 9_000)], "Invalid PNG. Expected IHDR as its first chunk")


def test_a_jpeg_of_many_scans_is_refused() -> None:
    refused(colors, [jpeg_of_scans(101)], "Expected a JPEG of at most 100 scans")


def test_a_request_of_many_large_images_is_refused_before_there_is_room_for_one() -> None:
    refused(colors, [png(9_459, 9_459)] * 5, r"together at most 357913940 pixels.*Received\] \[447363405\]")
    refused(colors, [png(1, 100)] * 257, r"Expected at most 256 images in a request\. Received\] \[257\]")
    assert MOST_PIXELS_OF_REQUEST == 4 * MOST_PIXELS
    assert MOST_IMAGES == 256


def test_images_that_are_decoded_one_after_the_other_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_bytes, "MOST_PIXELS", 1366 * 2)
    monkeypatch.setattr(image_bytes, "MOST_PIXELS_OF_REQUEST", 1366 * 4)
    limited = tf.function(lambda files: decode_images(files, RGB), input_signature=[FILES], autograph=False)
    for count in (2, 3, 4):
        files = [SAME_AS_PILLOW["PNG"], SAME_AS_PILLOW["JPEG"]] * 2
        np.testing.assert_array_equal(limited(files[:count]), np.stack([by_pillow(file) for file in files[:count]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="together at most 5464 pixels"):
        limited([SAME_AS_PILLOW["PNG"]] * 5)


NO_IMAGE = r"Expected a JPEG or PNG image\. Received something else, as image number\] \[{}\]"


def test_what_is_no_image_is_refused_by_its_number() -> None:
    good = SAME_AS_PILLOW["PNG"]
    for file in (b"", b"hello", b"\0" * 100, b"\xff\xd8", b"\x89PNG", good[1:]):
        refused(colors, [file], NO_IMAGE.format(0))
    refused(colors, [good, good, b"hello", good], NO_IMAGE.format(2))


def test_other_formats_are_refused_as_no_image() -> None:
    for form in ("GIF", "BMP", "TIFF", "PPM"):
        refused(colors, [encoded(NOISE, form)], NO_IMAGE.format(0))


def test_no_images_at_all_are_refused() -> None:
    refused(colors, [], r"Expected at least one image\. Received an empty batch")


@pytest.mark.parametrize("name", ["PNG", "PNG, interlaced", "JPEG", "JPEG, progressive"])
def test_a_file_cut_short_is_refused(name: str) -> None:
    file = SAME_AS_PILLOW[name]
    ends = {*range(8, 64, 5), len(file) // 3, len(file) // 2, len(file) - 20, len(file) - 2}
    reason = f"Invalid {name.split(',')[0]}"
    for end in sorted(ends):
        refused(colors, [file[:end]], reason)
    refused(colors, [file, file[: len(file) // 2]], reason)


def test_damaged_files_are_classified_or_refused() -> None:
    classified = 0
    files = [SAME_AS_PILLOW[name] for name in ("JPEG", "JPEG, progressive", "PNG, palette", "PNG, interlaced")]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        file = bytearray(files[seed % len(files)])
        for place in rng.integers(0, len(file), rng.integers(1, 10)):
            file[place] = rng.integers(256)
        try:
            assert colors([bytes(file)]).shape == (1, *SIZE, 3)
            classified += 1
        except tf.errors.InvalidArgumentError:
            pass
    assert 20 < classified < 180
    assert colors([files[0]]).shape == (1, *SIZE, 3)


def test_pixels_of_the_networks_size_stay_as_they_are() -> None:
    pixels = noise(3, *SIZE, 3)
    np.testing.assert_array_equal(fitted_bytes(pixels), pixels.astype(np.float32))
    np.testing.assert_array_equal(fitted_fixed(pixels), pixels.astype(np.float32))
    floats = np.random.default_rng(2).normal(100, 200, (3, *SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(fitted_floats(floats), floats)


def test_pixels_of_other_sizes_are_resized_and_cropped_as_outside_the_graph() -> None:
    for size in ((40, 40), (33, 71), (90, 41), SIZE[::-1], (1, 1), (2, 300)):
        pixels = noise(2, *size, 3)
        expected = crop(tf.constant(pixels), CROPPED)
        np.testing.assert_array_equal(fitted_bytes(pixels), expected, err_msg=str(size))
        np.testing.assert_array_equal(fitted_floats(pixels.astype(np.float32)), expected, err_msg=str(size))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [SIZE, (40, 33)])
def test_pixels_that_are_not_finite_are_an_error_of_their_request(size: tuple[int, int], value: float) -> None:
    pixels = np.zeros((2, *size, 3), np.float32)
    pixels[1, 3, 4, 2] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected finite pixels. Received NaN or infinity"):
        fitted_floats(pixels)
    assert np.isfinite(fitted_floats(np.zeros_like(pixels))).all()


@pytest.mark.parametrize("function", [fitted_bytes, fitted_floats, fitted_fixed])
def test_an_empty_batch_of_pixels_is_refused(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    dtype = function.input_signature[0].dtype
    for size in (SIZE,) if function is fitted_fixed else (SIZE, (5, 5)):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Expected at least one image. Received an empty batch"
        ):
            function(tf.zeros((0, *size, 3), dtype))
    assert function(tf.zeros((1, *SIZE, 3), dtype)).shape == (1, *SIZE, 3)


@pytest.mark.parametrize("function", [fitted_bytes, fitted_floats])
@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (1, 1, 60_000, 3), (1, 60_000, 1, 3)])
def test_pixels_of_no_size_or_too_large_are_refused_before_there_is_room_for_them(
    shape: tuple[int, ...], function: Callable[[tf.Tensor], tf.Tensor]
) -> None:
    dtype = function.input_signature[0].dtype
    before = peak_memory()
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"Expected images of 1 to .*\[{shape[1]} {shape[2]}\]"):
        function(tf.zeros(shape, dtype))
    assert peak_memory() - before < 64 << 20
    assert function(tf.zeros((1, *SIZE, 3), dtype)).shape == (1, *SIZE, 3)


def test_the_networks_shape_is_known() -> None:
    for function in (colors, cropped, fitted_bytes, fitted_floats, fitted_fixed):
        assert function.get_concrete_function().structured_outputs.shape.as_list() == [None, *SIZE, 3]
    assert grays.get_concrete_function().structured_outputs.shape.as_list() == [None, *SIZE, 1]
