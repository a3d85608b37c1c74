"""Decoding, resizing, cropping and normalizing, against Pillow, torchvision's geometry and NumPy."""

import io
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.data.image_ops import (
    center,
    crop,
    decode,
    normalize,
    resize,
    scaled_size,
    whole,
    window,
    with_channels,
)
from resnet_keras.data.preprocessing import Interpolation, Preprocessing

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LEAST_EQUAL = {"bilinear": 0.995, "bicubic": 0.996}
"""Which part of a random image's pixels must be Pillow's own; the others are a level off, rarely two.

Measured at worst: 0.9959 and 0.9967. The others are sums of a half, which Pillow's fixed point may round the other way.
The lengths are mostly primes, because between 90 and 45 pixels there would be many such sums.
"""


PHOTOGRAPH = tf.TensorSpec((None, None, 3), tf.uint8)


def preprocessing(**fields: Any) -> Preprocessing:
    return Preprocessing(**{"image_size": (64, 64), "channels": 3, "mean": MEAN, "std": STD, **fields})


GREY = preprocessing(channels=1, mean=(100,), std=(50,))


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Returns a random image of broad and of fine structure, (H, W, C), as a photograph has them."""
    rng = np.random.default_rng(seed)
    planes = []
    for _ in range(channels):
        plane = np.zeros((height, width))
        for cells, weight in ((6, 0.6), (25, 0.3), (90, 0.1)):
            noise = Image.fromarray(rng.uniform(0, 255, (cells, cells)).astype(np.float32))
            plane += weight * np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
        planes.append(plane)
    return np.clip(np.stack(planes, -1), 0, 255).round().astype(np.uint8)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def black_and_white(height: int, width: int) -> np.ndarray:
    """Returns an image of nothing but extremes, which a cubic overshoots in either direction."""
    return np.random.default_rng(0).integers(0, 2, (height, width, 3), np.uint8) * 255


RANDOM = [*product((smooth, noise), FILTERS), (black_and_white, "bicubic")]


def torchvision_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns what `torchvision.transforms.Resize(side)` makes of a height and a width."""
    long = int(side * max(size) / min(size))
    return (side, long) if size[0] <= size[1] else (long, side)


def torchvision_corner(size: tuple[int, int], cropped: tuple[int, int]) -> tuple[int, int]:
    """Returns where `torchvision.transforms.CenterCrop` begins."""
    return round((size[0] - cropped[0]) / 2.0), round((size[1] - cropped[1]) / 2.0)


def pillow_resize(pixels: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Returns the image resized by Pillow, first each row, then each column.

    At once it would be the same, but for images more than twice as high as wide: since Pillow 13, it starts with the
    columns where it drops more than two rows for a column.
    """
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    for step in ((size[1], image.height), (size[1], size[0])):
        image = image.resize(step, FILTERS[interpolation])
    return np.asarray(image).reshape(*size, pixels.shape[-1])


def pillow_crop(pixels: np.ndarray, chosen: Preprocessing, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns the center of the image resized by Pillow, both as torchvision has them; of another size if given."""
    if size is None:
        assert chosen.shorter_side is not None
        size = torchvision_size(pixels.shape[:2], chosen.shorter_side)
    top, left = torchvision_corner(size, chosen.image_size)
    resized = pillow_resize(pixels, size, chosen.interpolation)
    return resized[top : top + chosen.image_size[0], left : left + chosen.image_size[1]]


def equal_part(found: tf.Tensor, wanted: np.ndarray) -> float:
    """Returns which part of all pixels are the same, after checking that none is off by more than two levels."""
    assert found.shape == wanted.shape
    assert found.dtype == tf.float32
    difference = np.abs(found.numpy() - wanted.astype(np.float32))
    assert difference.max() <= 2
    return float((difference == 0).mean())


# Cropping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "interpolation"), RANDOM)
@pytest.mark.parametrize(
    ("height", "width", "side", "size"),
    [
        (331, 449, 256, (224, 224)),  # a little smaller
        (373, 499, 235, (224, 224)),  # corners between two pixels
        (401, 307, 72, (64, 64)),  # much smaller, where the antialiasing counts
        (301, 203, 64, (64, 64)),  # the shorter side as long as the crop
        (53, 37, 79, (64, 64)),  # larger
        (37, 51, 235, (224, 224)),  # much larger
        (120, 64, 64, (64, 64)),  # the right scale already
        (307, 401, 100, (60, 90)),  # a crop that is no square
        (43, 31, 101, (90, 60)),  # likewise, larger
        (503, 97, 71, (64, 64)),  # a tower
        (97, 503, 71, (64, 64)),  # a panorama
    ],
)
def test_a_crop_is_that_of_pillow_and_torchvision(
    image: Callable[..., np.ndarray], height: int, width: int, side: int, size: tuple[int, int], interpolation: str
) -> None:
    chosen = preprocessing(image_size=size, shorter_side=side, interpolation=interpolation)
    pixels = image(height, width)
    assert equal_part(crop(tf.constant(pixels), chosen), pillow_crop(pixels, chosen)) >= LEAST_EQUAL[interpolation]


@pytest.fixture
def photographs(test_data: Path) -> list[Path]:
    files = sorted((test_data / "photos").glob("*/*.JPEG"))
    assert len(files) >= 100
    return files


def test_a_crop_of_a_photograph_is_that_of_pillow_and_torchvision(photographs: list[Path]) -> None:
    least = {"bilinear": 0.997, "bicubic": 0.9995}  # measured: 0.9982 and 0.9997, at a scale of 235 / 441 only 0.976
    equal: dict[tuple[int, str], list[float]] = {kind: [] for kind in product((235, 256), least)}
    crops = {}
    for side, interpolation in equal:
        chosen = preprocessing(image_size=(224, 224), shorter_side=side, interpolation=interpolation)
        crops[side, interpolation] = tf.function(partial(crop, preprocessing=chosen), input_signature=[PHOTOGRAPH])
    for file in photographs[::2]:
        with Image.open(file) as image:
            colors = image.convert("RGB")
        for (side, interpolation), parts in equal.items():
            height, width = torchvision_size((colors.height, colors.width), side)
            top, left = torchvision_corner((height, width), (224, 224))
            wanted = colors.resize((width, height), FILTERS[interpolation]).crop((left, top, left + 224, top + 224))
            parts.append(equal_part(crops[side, interpolation](np.asarray(colors)), np.asarray(wanted)))
    for (side, interpolation), parts in equal.items():
        assert np.mean(parts) >= least[interpolation], (side, interpolation)


@pytest.mark.parametrize("interpolation", FILTERS)
def test_a_gray_image_is_cropped_like_a_colored_one(interpolation: str) -> None:
    chosen = Preprocessing(**{**GREY.to_json(), "shorter_side": 71, "interpolation": interpolation})
    pixels = smooth(101, 83, channels=1)
    assert equal_part(crop(tf.constant(pixels), chosen), pillow_crop(pixels, chosen)) >= LEAST_EQUAL[interpolation]


@pytest.mark.parametrize(
    ("height", "width", "size", "scaled"),
    [
        (300, 400, (64, 64), (64, 85)),
        (400, 300, (60, 90), (120, 90)),
        (400, 300, (90, 60), (90, 68)),  # 67.5
        (50, 37, (64, 64), (86, 64)),
        (63, 64, (64, 64), (64, 65)),
        (301, 203, (301, 200), (301, 203)),
    ],
)
def test_without_a_shorter_side_an_image_just_fills_the_crop(
    height: int, width: int, size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    chosen, pixels = preprocessing(image_size=size), smooth(height, width)
    np.testing.assert_array_equal(scaled_size(tf.constant([height, width]), chosen), scaled)
    found = crop(tf.constant(pixels), chosen)
    assert equal_part(found, pillow_crop(pixels, chosen, scaled)) >= LEAST_EQUAL["bilinear"]


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (64, 48)])
def test_an_image_of_the_right_size_passes_unchanged(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    np.testing.assert_array_equal(crop(tf.constant(pixels), preprocessing(image_size=size)), pixels)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("shorter_side", [None, 64, 72])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (63, 64), (64, 1000)])
def test_a_crop_has_its_size_and_color_whatever_the_image(
    height: int, width: int, shorter_side: int | None, interpolation: str
) -> None:
    chosen = preprocessing(shorter_side=shorter_side, interpolation=interpolation)
    found = crop(tf.fill((height, width, 3), tf.constant(77, tf.uint8)), chosen)
    np.testing.assert_array_equal(found, np.full((64, 64, 3), 77))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("shorter_side", [None, 72])
def test_a_crop_of_a_batch_is_that_of_each_image(shorter_side: int | None, interpolation: str) -> None:
    chosen = preprocessing(shorter_side=shorter_side, interpolation=interpolation)
    batch = tf.constant(np.stack([smooth(90, 77, seed=seed) for seed in range(4)]))
    found = crop(batch, chosen)
    assert found.shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(found, [crop(image, chosen) for image in batch])


@pytest.mark.parametrize("dtype", ["int32", "float16", "float32", "float64"])
def test_a_crop_takes_pixels_of_any_type(dtype: str) -> None:
    chosen, pixels = preprocessing(shorter_side=72), noise(120, 90)
    wanted = crop(tf.constant(pixels), chosen)
    assert wanted.dtype == tf.float32
    np.testing.assert_array_equal(crop(tf.constant(pixels.astype(dtype)), chosen), wanted)


# Geometry ----------------------------------------------------------------------------------------------------------

LENGTHS = (1, 37, 63, 64, 65, 199, 224, 255, 256, 257, 299, 333, 375, 500, 501, 1023)


@pytest.mark.parametrize(("side", "crop_side"), [(256, 224), (232, 224), (235, 224), (365, 320), (64, 64), (73, 64)])
def test_size_and_corner_are_torchvisions(side: int, crop_side: int) -> None:
    chosen = preprocessing(image_size=(crop_side, crop_side), shorter_side=side)
    signature = [tf.TensorSpec((2,), tf.int32)]  # traced once for all sizes
    scaled_of = tf.function(lambda size: scaled_size(size, chosen), input_signature=signature)
    center_of = tf.function(lambda size: center(size, chosen.image_size), input_signature=signature)
    for size in product(LENGTHS, LENGTHS):
        scaled = tuple(scaled_of(tf.constant(size)).numpy().tolist())
        assert scaled == torchvision_size(size, side), size
        corner = tuple(center_of(tf.constant(scaled)).numpy().tolist())
        assert corner == torchvision_corner(scaled, chosen.image_size), size


def test_the_longer_side_is_rounded_down() -> None:
    chosen = preprocessing(image_size=(224, 224), shorter_side=256)
    sizes = {(375, 500): (256, 341), (500, 375): (341, 256), (333, 500): (256, 384), (500, 499): (256, 256)}
    for size, wanted in sizes.items():  # 341.3, 384.4 and 256.5
        assert tuple(scaled_size(tf.constant(size), chosen).numpy()) == wanted


def test_of_two_pixels_in_the_center_the_even_one_is_the_corner() -> None:
    corners = [center(tf.constant([64 + margin, 64]), (64, 64)).numpy().tolist() for margin in range(8)]
    assert corners == [[0, 0], [0, 0], [1, 0], [2, 0], [2, 0], [2, 0], [3, 0], [4, 0]]


def test_another_shorter_side_can_be_asked_for() -> None:
    for shorter_side in (None, 72):
        chosen = preprocessing(shorter_side=shorter_side)
        assert tuple(scaled_size(tf.constant([90, 121]), chosen, shorter_side=100).numpy()) == (100, 134)


# Resizing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image", "interpolation"), RANDOM)
@pytest.mark.parametrize("size", [(97, 131), (31, 211), (211, 31), (53, 40), (101, 83), (59, 83), (101, 43)])
def test_an_image_is_resized_as_by_pillow(
    image: Callable[..., np.ndarray], size: tuple[int, int], interpolation: str
) -> None:
    pixels = image(101, 83)
    found = resize(tf.constant(pixels), tf.constant(size), preprocessing(interpolation=interpolation))
    assert equal_part(found, pillow_resize(pixels, size, interpolation)) >= LEAST_EQUAL[interpolation]


@pytest.mark.parametrize("interpolation", FILTERS)
def test_some_columns_of_a_resized_image_are_those_of_the_full_image(interpolation: str) -> None:
    chosen, pixels, size = (
        preprocessing(interpolation=interpolation),
        tf.constant(noise(90, 77)),
        tf.constant([64, 101]),
    )
    all_columns = resize(pixels, size, chosen)
    for first in (0, 1, 37):
        found = resize(pixels, size, chosen, columns=(tf.constant(first), 64))
        np.testing.assert_array_equal(found, all_columns[:, first : first + 64])


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("corner", [(0, 0), (0, 38), (7, 0), (7, 38), (3, 19)])
def test_a_window_is_a_part_of_the_resized_image(corner: tuple[int, int], interpolation: str) -> None:
    chosen, pixels, size = (
        preprocessing(interpolation=interpolation),
        tf.constant(noise(90, 77)),
        tf.constant([71, 102]),
    )
    found = window(pixels, size, tf.constant(corner), chosen)
    wanted = resize(pixels, size, chosen)[corner[0] : corner[0] + 64, corner[1] : corner[1] + 64]
    np.testing.assert_array_equal(found, wanted)


def test_whole_pixels_are_the_nearest_and_halves_go_up() -> None:
    pixels = [-300.0, -0.6, -0.4, 0.0, 0.49, 0.5, 1.5, 2.5, 126.51, 254.49, 254.5, 255.4, 255.6, 1000.0]
    np.testing.assert_array_equal(whole(tf.constant(pixels)), [0, 0, 0, 0, 0, 1, 2, 3, 127, 254, 255, 255, 255, 255])


# Normalizing -------------------------------------------------------------------------------------------------------


def test_normalize_subtracts_the_mean_and_divides_by_the_std_of_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    found = normalize(tf.constant(pixels), preprocessing())
    assert found.dtype == tf.float32
    wanted = (pixels.astype(np.float64) - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_normalize_takes_pixels_of_any_type(dtype: str) -> None:
    pixels = np.array([[[0, 128, 255]]], dtype)
    found = normalize(tf.constant(pixels), preprocessing(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0)))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, [[[-5, 27, 45]]])


def test_mean_and_std_of_a_bgr_network_are_in_its_order() -> None:
    chosen = preprocessing(mean=(10, 20, 30), std=(1, 2, 5), channel_order="bgr")
    np.testing.assert_allclose(normalize(tf.constant([[[50, 100, 200]]], tf.uint8), chosen), [[[190, 40, 4]]])


def test_bgr_normalization_is_that_of_caffe() -> None:
    pixels = noise(9, 8)
    caffe = preprocessing(mean=(103.939, 116.779, 123.68), std=(1, 1, 1), channel_order="bgr")
    wanted = keras.applications.imagenet_utils.preprocess_input(pixels.astype(np.float32), mode="caffe")
    np.testing.assert_allclose(normalize(tf.constant(pixels), caffe), wanted, atol=1e-4)


def test_pixels_are_rgb_until_they_are_normalized() -> None:
    pixels = tf.constant(noise(90, 77))
    np.testing.assert_array_equal(crop(pixels, preprocessing(channel_order="bgr")), crop(pixels, preprocessing()))


# Inside tf.data ----------------------------------------------------------------------------------------------------


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("encode", [jpeg, pytest.param(png, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "fields", [{}, {"shorter_side": 72}, {"shorter_side": 72, "interpolation": "bicubic", "channel_order": "bgr"}]
)
def test_pixels_are_the_same_eagerly_and_inside_tf_data(
    encode: Callable[[Image.Image], bytes], fields: dict[str, Any]
) -> None:
    chosen = preprocessing(**fields)
    encoded = encode(Image.fromarray(smooth(150, 110)))

    def through(content: tf.Tensor) -> tf.Tensor:
        return normalize(crop(decode(content, chosen.channels), chosen), chosen)

    (mapped,) = tf.data.Dataset.from_tensors(encoded).map(through)
    eager = through(tf.constant(encoded))
    assert mapped.dtype == eager.dtype == tf.float32
    assert mapped.shape == (64, 64, 3)
    np.testing.assert_allclose(mapped, eager, atol=1e-5)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("shorter_side", [None, 64, 72])
@pytest.mark.parametrize("shape", [(64, 64, 3), (90, 70, 3), (2, 64, 64, 3), (2, 50, 70, 3)])
def test_a_crop_is_the_same_eagerly_and_inside_tf_data(
    shape: tuple[int, ...], shorter_side: int | None, interpolation: str
) -> None:
    chosen = preprocessing(shorter_side=shorter_side, interpolation=interpolation)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    (mapped,) = tf.data.Dataset.from_tensors(pixels).map(lambda image: crop(image, chosen))
    np.testing.assert_array_equal(mapped, crop(pixels, chosen))


def test_images_of_many_sizes_go_through_one_graph() -> None:
    chosen = preprocessing(shorter_side=72)
    images = [smooth(height, width) for height, width in ((90, 77), (50, 81), (64, 64), (300, 72))]
    encoded = tf.data.Dataset.from_tensor_slices([png(Image.fromarray(image)) for image in images])
    mapped = encoded.map(lambda content: crop(decode(content, chosen.channels), chosen)).as_numpy_iterator()
    for found, image in zip(mapped, images, strict=True):
        np.testing.assert_array_equal(found, crop(tf.constant(image), chosen))


@pytest.mark.parametrize("chosen", [preprocessing(), preprocessing(shorter_side=72), GREY])
def test_tf_data_knows_the_shape_of_a_crop(chosen: Preprocessing) -> None:
    encoded = tf.data.Dataset.from_tensors(png(Image.new("RGB", (9, 8))))
    decoded = encoded.map(lambda content: decode(content, chosen.channels))
    assert decoded.element_spec.shape == (None, None, chosen.channels)
    assert decoded.map(lambda image: crop(image, chosen)).element_spec.shape == (64, 64, chosen.channels)


# Decoding ----------------------------------------------------------------------------------------------------------


def test_a_photograph_is_decoded_as_by_pillow(photographs: list[Path]) -> None:
    for file in photographs[::12]:
        with Image.open(file) as image:
            wanted = np.asarray(image.convert("RGB"))
        # In every bit. TensorFlow's default is off by 1.2 on average, 21 at most.
        np.testing.assert_array_equal(decode(tf.io.read_file(str(file)), 3), wanted, file.name)


def test_a_jpeg_is_decoded_as_by_pillow() -> None:
    encoded = jpeg(Image.fromarray(smooth(60, 80)))
    np.testing.assert_array_equal(decode(encoded, 3), Image.open(io.BytesIO(encoded)))


def test_a_gray_jpeg_is_spread_over_three_channels() -> None:
    encoded = jpeg(Image.fromarray(smooth(60, 80, channels=1)[..., 0]))
    wanted = np.asarray(Image.open(io.BytesIO(encoded)))[..., None]
    np.testing.assert_array_equal(decode(encoded, 3), np.repeat(wanted, 3, -1))
    np.testing.assert_array_equal(decode(encoded, 1), wanted)


def test_a_gray_png_is_decoded_exactly_to_one_channel_or_three() -> None:
    pixels = smooth(60, 80, channels=1)
    encoded = png(Image.fromarray(pixels[..., 0]))
    np.testing.assert_array_equal(decode(encoded, 3), np.repeat(pixels, 3, -1))
    np.testing.assert_array_equal(decode(encoded, 1), pixels)


def test_a_colored_image_becomes_its_luminance_where_one_channel_is_asked_for() -> None:
    pixels = smooth(60, 80)
    found = decode(png(Image.fromarray(pixels)), 1).numpy()
    luminance = pixels @ np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
    assert found.shape == (60, 80, 1)
    assert np.abs(found[..., 0] - luminance).mean() < 1  # measured: 0.51; libpng rounds down


def test_the_alpha_of_a_png_is_left_out() -> None:
    pixels = smooth(60, 80, channels=4)
    np.testing.assert_array_equal(decode(png(Image.fromarray(pixels, "RGBA")), 3), pixels[..., :3])


def test_a_gray_png_with_alpha_is_decoded_to_three_channels() -> None:
    pixels = smooth(60, 80, channels=2)
    found = decode(png(Image.fromarray(pixels, "LA")), 3)
    np.testing.assert_array_equal(found, np.repeat(pixels[..., :1], 3, -1))


def test_a_png_with_a_palette_is_decoded_to_its_colors() -> None:
    image = Image.fromarray(smooth(60, 80)).quantize(50)
    np.testing.assert_array_equal(decode(png(image), 3), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_of_16_bits_is_decoded_to_its_upper_8(channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (60, 80, channels), np.uint16)
    found = decode(tf.io.encode_png(deep), 3)
    assert found.dtype == tf.uint8
    np.testing.assert_allclose(found.numpy().astype(int), np.broadcast_to(deep // 256, (60, 80, 3)), atol=1)


def test_a_cmyk_jpeg_has_pillows_colors() -> None:
    encoded = jpeg(Image.fromarray(smooth(60, 80)).convert("CMYK"))
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.mode == "CMYK"
        wanted = np.asarray(image.convert("RGB")).astype(int)
    found = decode(encoded, 3).numpy()
    assert found.shape == (60, 80, 3)
    assert np.abs(found - wanted).mean() < 2  # measured: 1.27


@pytest.mark.parametrize("kind", ["GIF", "BMP"])
def test_a_gif_and_a_bmp_are_images_too(kind: str) -> None:
    image = Image.fromarray(smooth(60, 80)).quantize(50).convert("RGB")
    file = io.BytesIO()
    image.save(file, kind)
    found = decode(file.getvalue(), 3)
    assert found.shape == (60, 80, 3)
    assert np.abs(found.numpy() - np.asarray(image).astype(int)).mean() < 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        jpeg(Image.fromarray(smooth(60, 80)))[:700],
        png(Image.fromarray(smooth(60, 80)))[:700],
    ],
    ids=["empty", "text", "half a jpeg", "half a png"],
)
def test_an_incomplete_image_raises(content: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(content, 3)


# Channels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 80), (2, 60, 80)])
def test_gray_images_become_colors_and_colors_gray(shape: tuple[int, ...]) -> None:
    gray, colors = (np.random.default_rng(0).integers(0, 256, (*shape, n), np.uint8) for n in (1, 3))
    np.testing.assert_array_equal(with_channels(tf.constant(gray), 3), np.repeat(gray, 3, -1))
    luminance = colors @ np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
    found = with_channels(tf.constant(colors), 1)
    assert (found.shape, found.dtype) == ((*shape, 1), tf.uint8)
    np.testing.assert_allclose(found[..., 0], luminance, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_the_right_channels_stay_as_they_are(channels: int) -> None:
    images = tf.zeros((60, 80, channels), tf.uint8)
    assert with_channels(images, channels) is images


# Long images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(200, 5), (5, 200), (3, 100)])
def test_the_window_of_a_long_image_is_that_of_the_whole_resized_image(
    size: tuple[int, int], interpolation: Interpolation
) -> None:
    # Of little contrast: between its two steps `resize` cuts off what bicubic weights add above white.
    image = np.random.default_rng(0).integers(96, 160, (*size, 3), dtype=np.uint8)
    chosen = Preprocessing(
        image_size=(24, 20), channels=3, mean=(0,) * 3, std=(1,) * 3, shorter_side=30, interpolation=interpolation
    )
    scaled = scaled_size(tf.constant(size), chosen)
    whole_image = resize(tf.constant(image), scaled, chosen)
    top, left = center(scaled, chosen.image_size).numpy()
    found = crop(tf.constant(image), chosen)
    assert np.abs(found - whole_image[top : top + 24, left : left + 20]).max() <= 1  # which is rounded twice


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
def test_a_line_of_pixels_takes_no_gigabytes(size: tuple[int, int]) -> None:
    resource = pytest.importorskip("resource")
    chosen = Preprocessing(image_size=(224, 224), channels=3, mean=(0,) * 3, std=(1,) * 3, shorter_side=256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert crop(tf.zeros((*size, 3), tf.uint8), chosen).shape == (224, 224, 3)  # of 256 x 5,120,000: 16 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
