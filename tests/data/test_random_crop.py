"""Random crops of JPEGs, decoded smaller where they are to be much reduced."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.data import augmentation
from resnet_keras.data.augmentation import random_crop, random_crop_of
from resnet_keras.data.image_ops import decode
from resnet_keras.data.preprocessing import Interpolation, Preprocessing
from resnet_keras.recipes.recipe import Recipe

RECIPE = Recipe.from_flat(model="resnet20", dataset="folder", image_size=64)
RECIPES = {"shorter_side": RECIPE.replace(shorter_side=(64, 120)), "crop_area": RECIPE.replace(crop_area=(0.08, 1.0))}
DECODE = tf.io.decode_and_crop_jpeg


def preprocessing(size: int = 64, channels: int = 3, interpolation: Interpolation = "bilinear") -> Preprocessing:
    return Preprocessing(
        image_size=(size, size),
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        interpolation=interpolation,
    )


def encode(height: int, width: int, kind: str = "JPEG", mode: str = "RGB") -> tf.Tensor:
    """Returns a random landscape with some fine structure."""
    rng = np.random.default_rng(height * 10_000 + width)
    coarse, fine = (
        np.asarray(Image.fromarray(rng.integers(0, 256, size, np.uint8)).resize((width, height)), np.float32)
        for size in ((7, 9, 3), (40, 50, 3))
    )
    file = io.BytesIO()
    Image.fromarray(np.uint8(0.8 * coarse + 0.2 * fine)).convert(mode).save(
        file, kind, **({"quality": 95} if kind == "JPEG" else {})
    )
    return tf.constant(file.getvalue())


def seed(step: int) -> tf.Tensor:
    return tf.constant([0, step], tf.int64)


def in_full(encoded: tf.Tensor, recipe: Recipe, chosen: Preprocessing, step: int) -> tuple[np.ndarray, int]:
    """Returns the crop decoded at its full size, and by how much its window can be reduced."""
    window = augmentation._window(tf.io.extract_jpeg_shape(encoded)[:2], recipe.augmentation, chosen, seed(step))
    image = DECODE(encoded, window, channels=chosen.channels, dct_method="INTEGER_ACCURATE")
    crop = tf.image.resize(image, chosen.image_size, chosen.interpolation, antialias=True)
    return crop.numpy(), int(min(window[2:] // chosen.image_size))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tf.Tensor]]:
    """What has been decoded, and at which ratio."""
    made: list[tuple[int, tf.Tensor]] = []

    def noted(*args: Any, ratio: int, **options: Any) -> tf.Tensor:
        made.append((ratio, DECODE(*args, ratio=ratio, **options)))
        return made[-1][1]

    monkeypatch.setattr(tf.io, "decode_and_crop_jpeg", noted)
    return made


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("by", RECIPES)
@pytest.mark.parametrize(
    ("size", "mode", "channels"), [((120, 90), "RGB", 3), ((60, 127), "RGB", 3), ((70, 80), "L", 1)]
)
def test_a_crop_reduced_by_less_than_2_is_decoded_in_full_bit_for_bit(
    size: tuple[int, int], mode: str, channels: int, by: str, interpolation: Interpolation
) -> None:
    encoded, chosen = encode(*size, mode=mode), preprocessing(channels=channels, interpolation=interpolation)
    for step in range(8):
        wanted, reduction = in_full(encoded, RECIPES[by], chosen, step)
        assert reduction < 2
        np.testing.assert_array_equal(random_crop(encoded, RECIPES[by].augmentation, chosen, seed(step)), wanted)


@pytest.mark.parametrize("by", RECIPES)
@pytest.mark.parametrize("size", [(170, 190), (330, 300), (517, 389), (1029, 771)])
def test_a_crop_is_decoded_as_small_as_it_can_be_without_being_enlarged(
    size: tuple[int, int], by: str, decoded: list[tuple[int, tf.Tensor]]
) -> None:
    encoded, chosen = encode(*size), preprocessing()
    for step in range(8):
        wanted, reduction = in_full(encoded, RECIPES[by], chosen, step)
        found = random_crop(encoded, RECIPES[by].augmentation, chosen, seed(step))
        ratio, image = decoded[-1]
        assert ratio == max(ratio for ratio in (1, 2, 4, 8) if ratio <= max(reduction, 1))
        if ratio > 1:
            assert min(image.shape[:2]) >= 64
            # Measured: 2.2 at most, where the image is decoded at just the size of the result: no resize blurs it.
            assert np.abs(found - wanted).mean() < 2.5
        else:
            np.testing.assert_array_equal(found, wanted)
    assert len(decoded) == 8
    assert max(ratio for ratio, _ in decoded) == {170: 2, 330: 4, 517: 4, 1029: 8}[size[0]]


@pytest.mark.parametrize("rest", range(8))
def test_an_image_of_odd_size_is_seen_to_its_last_pixel(rest: int) -> None:
    chosen, everything = preprocessing(size=16), RECIPE.replace(crop_area=(1.0, 1.0), image_size=None)
    size = height, width = 128 + rest, 144 + rest
    y, x = np.mgrid[:height, :width] + 0.5
    file = io.BytesIO()
    Image.fromarray(np.stack([y, x, 0 * x], -1).astype(np.uint8)).save(file, "JPEG", quality=98, subsampling=0)
    found = random_crop(tf.constant(file.getvalue()), everything.augmentation, chosen, seed(0)).numpy() + 0.5
    for channel, length in enumerate(size):
        places = found[..., channel].mean(1 - channel)
        slope, begin = np.polyfit(np.arange(16) + 0.5, places, 1, w=[0, 0, *[1] * 12, 0, 0])  # a resize bends its ends
        assert begin == pytest.approx(0, abs=0.45)
        assert begin + 16 * slope == pytest.approx(length, abs=0.45)


def test_a_smaller_crop_is_the_same_eagerly_and_inside_tf_data() -> None:
    encoded, chosen = encode(401, 533), preprocessing()
    steps = tf.data.Dataset.range(5).map(
        lambda step: random_crop(
            encoded, RECIPES["crop_area"].augmentation, chosen, tf.stack([tf.constant(0, tf.int64), step])
        )
    )
    assert steps.element_spec == tf.TensorSpec((64, 64, 3))
    for step, mapped in enumerate(steps):
        np.testing.assert_allclose(
            mapped, random_crop(encoded, RECIPES["crop_area"].augmentation, chosen, seed(step)), atol=1e-3
        )


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("L", 3), ("RGB", 1), ("CMYK", 3)])
def test_gray_and_cmyk_are_decoded_smaller_too(mode: str, channels: int, decoded: list[tuple[int, tf.Tensor]]) -> None:
    encoded, chosen = encode(300, 400, mode=mode), preprocessing(channels=channels)
    recipe = RECIPE.replace(shorter_side=(64, 70))
    found = random_crop(encoded, recipe.augmentation, chosen, seed(0))
    assert decoded[-1][0] == 4
    assert found.shape == (64, 64, channels)
    assert np.abs(found - in_full(encoded, recipe, chosen, 0)[0]).mean() < 1.2


def test_what_is_no_jpeg_is_decoded_in_full(decoded: list[tuple[int, tf.Tensor]]) -> None:
    encoded, chosen = encode(300, 400, "PNG"), preprocessing()
    found = random_crop(encoded, RECIPES["crop_area"].augmentation, chosen, seed(0))
    wanted = random_crop_of(decode(encoded, 3), RECIPES["crop_area"].augmentation, chosen, seed(0))
    np.testing.assert_array_equal(found, wanted)
    assert not decoded


@pytest.mark.parametrize("value", [2, 3, 6, 8])
@pytest.mark.parametrize("by", RECIPES)
def test_a_crop_of_a_turned_jpeg_is_that_of_the_upright_image(by: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    file = io.BytesIO()
    Image.open(io.BytesIO(encode(90, 120).numpy())).save(file, "JPEG", quality=95, exif=exif.tobytes(), subsampling=0)
    encoded = tf.constant(file.getvalue())
    chosen = replace(preprocessing(), image_size=(64, 48))
    for step in range(4):
        found = random_crop(encoded, RECIPES[by].augmentation, chosen, seed(step))
        wanted = random_crop_of(decode(encoded, 3), RECIPES[by].augmentation, chosen, seed(step))
        np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_half_a_jpeg_raises() -> None:
    half = tf.constant(encode(600, 800).numpy()[:2000])
    with pytest.raises(tf.errors.InvalidArgumentError):
        random_crop(half, RECIPES["shorter_side"].augmentation, preprocessing(), seed(0))


@pytest.mark.parametrize(("size", "difference"), [(224, 1.6), (160, 2.0), (128, 1.9)])
def test_smaller_crops_of_photographs_are_those_of_the_full_image_within_two_gray_levels(
    test_data: Path, size: int, difference: float
) -> None:
    recipe, chosen = RECIPE.replace(crop_area=(0.08, 1.0), image_size=None), preprocessing(size)
    differences = []
    for step, path in enumerate(sorted((test_data / "photos").glob("*/*.JPEG"))):
        encoded = tf.io.read_file(str(path))
        window = augmentation._window(tf.io.extract_jpeg_shape(encoded)[:2], recipe.augmentation, chosen, seed(step))
        if min(window[2:] // chosen.image_size) >= 2:
            found = random_crop(encoded, recipe.augmentation, chosen, seed(step))
            differences.append(np.abs(found - in_full(encoded, recipe, chosen, step)[0]).mean())
    assert differences
    assert np.mean(differences) < difference  # measured: see `random_crop`
