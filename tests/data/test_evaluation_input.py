"""Batches: what stands where, how it is varied, and that a run continued sees what is left."""

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.recipe_batches import recipe_batches, recipe_preprocessing
from helpers.two_devices import run_on_two_devices
from PIL import Image

from resnet_keras.data.augmentation import augment, random_crop
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.evaluation_input import (
    evaluation_batches,
    pixel_array,
    pixel_batches,
)
from resnet_keras.data.image_checks import broken_images, explain_broken_images, without
from resnet_keras.data.image_ops import crop, decode, normalize
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split
from resnet_keras.data.training_input import steps_per_epoch, training_batches
from resnet_keras.recipes.catalog import RECIPES, Recipe

IMAGES = 12
"""Images of each little split; image i is 20 * i of 255 all over."""

UNIT = Preprocessing(image_size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
PLAIN = Recipe.from_flat(model="resnet20", dataset="folder", image_size=8, batch_size=4, epochs=3)
VARIED = {
    "array": PLAIN.replace(pad_pixels=1, flip=True, pca_lighting=0.1),
    "files": PLAIN.replace(shorter_side=(8, 16), flip=True, pca_lighting=0.1),
    "records": PLAIN.replace(shorter_side=(8, 16), flip=True, pca_lighting=0.1),
}
"""A recipe with all the augmentation that a kind of split can have."""

KINDS = tuple(VARIED)
SLOW_FILES_AND_RECORDS = ("array", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("files", "records")))
SLOW_FILES = tuple(pytest.param(kind, marks=pytest.mark.slow) if kind == "files" else kind for kind in VARIED)


def scaled_crop(encoded: Any, chosen: Preprocessing, shorter_side: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
    recipe = PLAIN.replace(image_size=chosen.image_size[0], shorter_side=shorter_side)
    return random_crop(encoded, recipe.augmentation, chosen, seed)


def gradient(i: int, height: int, width: int) -> np.ndarray:
    """Returns image `i`: its mean says which it is, its slopes show how it was cropped."""
    y, x = np.mgrid[:height, :width]
    pixels = 20.0 * i + np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 10 - 5
    return np.clip(pixels, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="session")
def little_splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    names = ("cat", "dog")
    root = tmp_path_factory.mktemp("little")
    info = Dataset(source="folder", classes=2)
    arrays = ArraySplit(np.stack([gradient(i, 8, 8) for i in range(IMAGES)]), np.arange(IMAGES) % 2, names, info)
    paths = [root / f"{i:02d}.{'jpg' if i % 2 else 'png'}" for i in range(IMAGES)]
    for i, path in enumerate(paths):
        Image.fromarray(gradient(i, 16 + i, 30 - i)).save(path)
    files = FileSplit(tuple(map(str, paths)), np.arange(IMAGES) % 2, names, info)
    examples = tf.data.Dataset.from_generator(
        lambda: ({"image": gradient(i, 16 + i, 30 - i), "label": i % 2} for i in range(IMAGES)),
        output_signature={"image": tf.TensorSpec((None, None, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)},
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="little",
        version="1.0.0",
        data_dir=root,
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(encoding_format="jpeg"), "label": tfds.features.ClassLabel(names=names)}
        ),
        split_datasets={"train": examples},
        disable_shuffling=True,
    )
    return {"array": arrays, "files": files, "records": open_split("little", "train[:100%]", data_dir=root)}


def which(batch: Any) -> list[int]:
    """Returns which images stand in a batch of pixels, by their means."""
    return [round(float(image.mean()) / 20) for image in np.asarray(batch)]


def which_of_all(batches: list[tuple[np.ndarray, np.ndarray]]) -> list[int]:
    return [image for pixels, _ in batches for image in which(pixels)]


def batches_of(split: Split, recipe: Recipe, **options: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(recipe_batches(split, recipe, UNIT, **options).as_numpy_iterator())


@pytest.fixture(scope="module")
def varied_runs(little_splits: dict[str, Split]) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """All batches of a run with all augmentation, for each kind of split."""
    tf.random.set_seed(12_345)
    return {kind: batches_of(little_splits[kind], VARIED[kind]) for kind in KINDS}


def assert_same(found: list[tuple[np.ndarray, np.ndarray]], wanted: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert len(found) == len(wanted)
    for (pixels, labels), (wanted_pixels, wanted_labels) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(labels, wanted_labels)
        np.testing.assert_array_equal(pixels, wanted_pixels)  # bit by bit


# Order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_every_epoch_is_another_permutation_of_the_images(little_splits: dict[str, Split], kind: str) -> None:
    batches = batches_of(little_splits[kind], PLAIN)
    assert len(batches) == 9
    assert all(pixels.shape == (4, 8, 8, 3) and labels.shape == (4,) for pixels, labels in batches)
    assert all(pixels.dtype == np.float32 and labels.dtype == np.int64 for pixels, labels in batches)
    for pixels, labels in batches:
        assert [i % 2 for i in which(pixels)] == labels.tolist()
    epochs = [which_of_all(batches[i : i + 3]) for i in (0, 3, 6)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(IMAGES))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(epoch != sorted(epoch) for epoch in epochs)


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_images_that_fill_no_batch_are_others_in_another_epoch(little_splits: dict[str, Split], kind: str) -> None:
    recipe = PLAIN.replace(batch_size=5, epochs=8)
    batches = batches_of(little_splits[kind], recipe)
    assert len(batches) == 16
    left_out = []
    for i in range(0, 16, 2):
        seen = which(batches[i][0]) + which(batches[i + 1][0])
        assert len(set(seen)) == 10
        left_out.append(frozenset(range(IMAGES)) - set(seen))
    assert len(set(left_out)) > 2


def test_every_digit_comes_once_in_each_epoch() -> None:
    digits = open_split("digits", "train")
    recipe = RECIPES["digits"].replace(batch_size=719, epochs=2, pad_pixels=0)
    pixels_of = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    batches = [pixels.astype(np.uint8) for pixels, _ in recipe_batches(digits, recipe, pixels_of).as_numpy_iterator()]
    assert len(batches) == 4
    epochs = [[image.tobytes() for batch in batches[i : i + 2] for image in batch] for i in (0, 2)]
    assert isinstance(digits, ArraySplit)
    there = sorted(image.tobytes() for image in digits.images)
    assert sorted(epochs[0]) == sorted(epochs[1]) == there
    assert np.mean([one == other for one, other in zip(*epochs, strict=True)]) < 0.02


@pytest.mark.parametrize("kind", SLOW_FILES_AND_RECORDS)
def test_the_recipes_seed_alone_decides_the_batches(
    little_splits: dict[str, Split], varied_runs: dict[str, list[tuple[np.ndarray, np.ndarray]]], kind: str
) -> None:
    recipe, once = VARIED[kind], varied_runs[kind]
    for global_seed in (0, 1):
        tf.random.set_seed(global_seed)  # what `keras.utils.set_random_seed` does before a run
        assert_same(batches_of(little_splits[kind], recipe), once)
    other = batches_of(little_splits[kind], recipe.replace(seed=1))
    assert any((pixels != others).any() for (pixels, _), (others, _) in zip(once, other, strict=True))
    orders, others_orders = ([which(pixels) for pixels, _ in run] for run in (once, other))
    assert orders != others_orders


@pytest.mark.parametrize("kind", SLOW_FILES)
@pytest.mark.parametrize(
    "first_step",
    [
        1,
        pytest.param(3, marks=pytest.mark.slow),
        5,
        pytest.param(8, marks=pytest.mark.slow),
        pytest.param(9, marks=pytest.mark.slow),
    ],
)
def test_a_run_continued_sees_exactly_the_batches_that_are_left(
    little_splits: dict[str, Split],
    varied_runs: dict[str, list[tuple[np.ndarray, np.ndarray]]],
    kind: str,
    first_step: int,
) -> None:
    assert len(varied_runs[kind]) == 9
    left = batches_of(little_splits[kind], VARIED[kind], first_step=first_step)
    assert_same(left, varied_runs[kind][first_step:])


@pytest.mark.parametrize("kind", SLOW_FILES_AND_RECORDS)
def test_a_run_whose_last_images_fill_no_batch_is_continued_exactly(little_splits: dict[str, Split], kind: str) -> None:
    recipe = VARIED[kind].replace(batch_size=5)
    whole = batches_of(little_splits[kind], recipe)
    assert len(whole) == 6
    assert_same(batches_of(little_splits[kind], recipe, first_step=3), whole[3:])


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_batches_in_no_fixed_order_hold_the_same_images(little_splits: dict[str, Split], kind: str) -> None:
    for deterministic in (True, False):
        batches = recipe_batches(little_splits[kind], PLAIN.replace(epochs=1), UNIT, deterministic=deterministic)
        options = batches.options()
        # Several workers share the images, not the files.
        assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.DATA
        assert options.deterministic == deterministic
    assert sorted(which_of_all(list(batches.as_numpy_iterator()))) == list(range(IMAGES))


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_a_batch_larger_than_the_split_raises(little_splits: dict[str, Split], kind: str) -> None:
    split = little_splits[kind]
    assert steps_per_epoch(split, IMAGES) == 1
    assert steps_per_epoch(split, 5) == 2
    with pytest.raises(ValueError, match=r"`batch_size` to be at most 12.*Received: 13"):
        steps_per_epoch(split, IMAGES + 1)
    with pytest.raises(ValueError, match=r"`batch_size` to be at most 12.*Received: 13"):
        recipe_batches(split, PLAIN.replace(batch_size=IMAGES + 1), UNIT)


# Augmentation ------------------------------------------------------------------------------------------------------


def seed(step: int) -> tf.Tensor:
    return tf.constant([0, step], tf.int64)


def test_padding_and_cropping_shifts_an_image_by_every_offset_equally_often() -> None:
    pad, count = 2, 5000
    image = np.random.default_rng(0).integers(1, 256, (8, 8, 3), np.uint8)
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    shifts = {padded[y : y + 8, x : x + 8].tobytes(): (y, x) for y, x in product(range(5), range(5))}
    assert len(shifts) == 25
    recipe = PLAIN.replace(pad_pixels=pad)
    found = (
        augment(tf.constant(np.repeat(image[None], count, 0)), recipe.augmentation, UNIT, seed(0))
        .numpy()
        .astype(np.uint8)
    )
    times = Counter(shifts[one.tobytes()] for one in found)  # a KeyError is no shift at all
    assert set(times) == set(shifts.values())
    expected = count / 25
    chi_square = sum((times[shift] - expected) ** 2 / expected for shift in times)
    assert chi_square < 51.2  # of 24 degrees of freedom: 0.1 % of fair draws lie above


def test_padding_has_the_mean_color() -> None:
    mean = Preprocessing(image_size=(8, 8), channels=3, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0))
    gray = tf.fill((50, 8, 8, 3), 255.0)
    found = augment(gray, PLAIN.replace(pad_pixels=4).augmentation, mean, seed(0)).numpy()
    inside = (255 - np.array(mean.mean)) / np.array(mean.std)
    is_padding = (found == 0).all(-1)
    assert 0.1 < is_padding.mean() < 0.9
    np.testing.assert_allclose(found[~is_padding], np.broadcast_to(inside, found.shape)[~is_padding], rtol=1e-5)


def test_half_the_images_are_mirrored() -> None:
    count = 4000
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    found = augment(
        tf.constant(np.repeat(image[None], count, 0)), PLAIN.replace(flip=True).augmentation, UNIT, seed(3)
    ).numpy()
    mirrored = (found == image[:, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(mirrored, ~(found == image).all((1, 2, 3)))
    assert mirrored.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(count))


def test_color_noise_lies_along_the_principal_colors_of_imagenet() -> None:
    # AlexNet, section 4.1: [p1 p2 p3][a1 l1, a2 l2, a3 l3], a of standard deviation 0.1; pixels 0–1.
    axes = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    covariance = axes @ np.diag(np.array([0.2175, 0.0188, 0.0045]) ** 2) @ axes.T * (0.1 * 255) ** 2
    std = (58.0, 57.0, 56.0)
    chosen = Preprocessing(image_size=(2, 2), channels=3, mean=(120.0, 110.0, 100.0), std=std)
    count = 40_000
    pixels = tf.fill((count, 2, 2, 3), 50.0)
    found = augment(pixels, PLAIN.replace(pca_lighting=0.1).augmentation, chosen, seed(0)).numpy()
    assert np.ptp(found, axis=(1, 2)).max() == 0  # one shift for all of an image
    shift = (found[:, 0, 0] - normalize(pixels, chosen).numpy()[0, 0, 0]) * std
    np.testing.assert_allclose(shift.mean(0), 0, atol=4 * np.sqrt(covariance.max() / count))
    np.testing.assert_allclose(np.cov(shift.T), covariance, rtol=0.05)
    np.testing.assert_allclose(shift.std(0), np.sqrt(np.diag(covariance)), rtol=0.02)
    assert shift.std(0) == pytest.approx([3.17, 3.22, 3.25], abs=0.1)  # levels of gray


def test_a_bgr_network_sees_the_same_colors_varied_alike() -> None:
    mean, std = (120.0, 110.0, 100.0), (58.0, 57.0, 56.0)
    rgb = Preprocessing(image_size=(8, 8), channels=3, mean=mean, std=std)
    bgr = replace(rgb, mean=mean[::-1], std=std[::-1], channel_order="bgr")
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), np.uint8))
    for recipe in (PLAIN.replace(pca_lighting=0.1), VARIED["array"]):
        wanted = augment(pixels, recipe.augmentation, rgb, seed(0)).numpy()
        np.testing.assert_allclose(
            augment(pixels, recipe.augmentation, bgr, seed(0)).numpy()[..., ::-1], wanted, atol=1e-5
        )
        assert np.abs(wanted - normalize(pixels, rgb)).mean() > 0.02


def test_color_noise_leaves_gray_images_alone() -> None:
    gray = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    pixels = tf.fill((5, 8, 8, 1), 50.0)
    np.testing.assert_array_equal(augment(pixels, PLAIN.replace(pca_lighting=0.1).augmentation, gray, seed(0)), pixels)


def test_without_augmentation_pixels_are_normalized_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(augment(tf.constant(pixels), PLAIN.augmentation, UNIT, seed(0)), pixels)


def test_augmentation_is_the_same_eagerly_and_inside_tf_data() -> None:
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8))
    recipe = VARIED["array"]
    steps = tf.data.Dataset.range(3).map(
        lambda step: augment(pixels, recipe.augmentation, UNIT, tf.stack([tf.constant(0, tf.int64), step]))
    )
    for step, mapped in enumerate(steps):
        np.testing.assert_allclose(mapped, augment(pixels, recipe.augmentation, UNIT, seed(step)), rtol=1e-5, atol=1e-3)
    assert (
        augment(pixels, recipe.augmentation, UNIT, seed(0)).numpy()
        != augment(pixels, recipe.augmentation, UNIT, seed(1)).numpy()
    ).any()


# Crops of a random scale -------------------------------------------------------------------------------------------

HEIGHT, WIDTH = 240, 330
CROP = Preprocessing(image_size=(64, 64), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def ramps() -> np.ndarray:
    """Returns an image whose red says the column, whose green says the row, and whose blue is a random landscape."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    noise = Image.fromarray(np.random.default_rng(0).uniform(0, 255, (12, 16)).astype(np.float32))
    blue = np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.stack([(x + 0.5) * 255 / WIDTH, (y + 0.5) * 255 / HEIGHT, blue.clip(0, 255)], -1).round().astype(np.uint8)


def encode(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(ramps()).save(file, kind, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}))
    return file.getvalue()


def window(crop: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Returns top, left, height and width of the crop in the image, in pixels, as green and red have them."""
    crop = crop - (decoded.mean((0, 1)) - ramps().mean((0, 1)))  # a decoder may be off by a level of gray
    ends = []
    for channel, other_axis, length in ((1, 1, HEIGHT), (0, 0, WIDTH)):
        places = crop[..., channel].mean(other_axis) * length / 255
        centers = np.arange(len(places)) + 0.5
        slope, intercept = np.polyfit(centers[4:-4], places[4:-4], 1)  # a resize bends a ramp at its ends
        ends.append((intercept, slope * len(places)))
    (top, height), (left, width) = ends
    return np.array([top, left, height, width])


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("shorter_side", [(64, 64), (64, 120), (230, 300)])
def test_a_crop_of_a_random_scale_is_the_slow_one(kind: str, shorter_side: tuple[int, int]) -> None:
    encoded = tf.constant(encode(kind))
    decoded = decode(encoded, CROP.channels).numpy()
    whole = Image.fromarray(decoded)
    differences = []
    for step in range(12):
        found = scaled_crop(encoded, CROP, shorter_side, seed(step)).numpy()
        assert (found.shape, found.dtype) == ((64, 64, 3), np.float32)
        place = window(found, decoded)
        top, left, height, width = (max(0, round(length)) for length in place)
        np.testing.assert_allclose(place, [top, left, height, width], atol=0.45)  # whole pixels of the image
        assert height == width
        # The shorter side that the image must have had, as far as the rounding of the window tells.
        assert shorter_side[0] <= round(HEIGHT * 64 / (height - 0.5))
        assert round(HEIGHT * 64 / (height + 0.5)) <= shorter_side[1]
        # Pillow resizes the whole image and gives this part of the result.
        box = (left, top, min(left + width, WIDTH), min(top + height, HEIGHT))
        slow = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR, box=box)).astype(np.float32)
        differences.append(np.abs(found - slow).mean())
    # Measured: 0.39, of which Pillow's rounding makes about 0.25, and 0.51 where a JPEG is decoded at half its size; a
    # window one pixel off would make 1.7 and more.
    assert max(differences) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_scales_and_corners_of_crops_fill_their_ranges(kind: str) -> None:
    encoded = tf.constant(encode(kind))
    decoded = decode(encoded, CROP.channels).numpy()
    crops = tf.data.Dataset.range(200).map(  # traced once, not computed eagerly 200 times
        lambda step: scaled_crop(encoded, CROP, (80, 160), tf.stack([tf.constant(0, tf.int64), step]))
    )
    places = [window(found, decoded) for found in crops.as_numpy_iterator()]
    top, left, height, width = np.transpose(places)
    side = HEIGHT * 64 / height
    assert 79 < side.min() < 84
    assert 156 < side.max() < 161.5
    assert side.mean() == pytest.approx(120, abs=4 * 23.4 / np.sqrt(200))
    down, across = top / (HEIGHT - height), left / (WIDTH - width)  # 0–1, uniformly
    for place in (down, across):
        assert -0.02 < place.min() < 0.05
        assert 0.95 < place.max() < 1.02
        assert place.mean() == pytest.approx(0.5, abs=4 * 0.289 / np.sqrt(200))
    assert abs(np.corrcoef(down, across)[0, 1]) < 0.25
    assert abs(np.corrcoef(down, side)[0, 1]) < 0.25


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_crop_of_a_random_scale_is_the_same_eagerly_and_inside_tf_data(kind: str) -> None:
    encoded = tf.constant(encode(kind))
    steps = tf.data.Dataset.range(5).map(
        lambda step: scaled_crop(encoded, CROP, (64, 120), tf.stack([tf.constant(0, tf.int64), step]))
    )
    assert steps.element_spec.shape == (64, 64, 3)
    for step, mapped in enumerate(steps):
        np.testing.assert_allclose(mapped, scaled_crop(encoded, CROP, (64, 120), seed(step)), atol=1e-3)


@pytest.mark.slow
def test_every_corner_is_as_frequent_as_the_others() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 11, 3), np.uint8)
    encoded = tf.io.encode_png(pixels)
    corners = {pixels[:, left : left + 8].tobytes(): left for left in range(4)}
    count = 800
    crops = tf.data.Dataset.range(count).map(
        lambda step: scaled_crop(encoded, UNIT, (8, 8), tf.stack([tf.constant(0, tf.int64), step]))
    )
    times = Counter(corners[crop.astype(np.uint8).tobytes()] for crop in crops.as_numpy_iterator())
    chi_square = sum((times[left] - count / 4) ** 2 / (count / 4) for left in range(4))
    assert chi_square < 16.3  # of 3 degrees of freedom: 0.1 % of fair draws lie above


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3, 200), (200, 3)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_smaller_than_the_crop_is_enlarged(size: tuple[int, int], kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", size, (10, 100, 200)).save(file, kind)
    for step in range(5):
        found = scaled_crop(tf.constant(file.getvalue()), CROP, (64, 80), seed(step)).numpy()
        np.testing.assert_allclose(found, np.broadcast_to([10, 100, 200], (64, 64, 3)), atol=2)


def test_a_cmyk_jpeg_is_cropped_in_its_colors() -> None:
    file = io.BytesIO()
    Image.new("RGB", (100, 80), (30, 100, 200)).convert("CMYK").save(file, "JPEG", quality=95)
    wanted = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGB"))[0, 0]
    found = scaled_crop(tf.constant(file.getvalue()), CROP, (64, 80), seed(0)).numpy()
    np.testing.assert_allclose(found, np.broadcast_to(wanted, found.shape), atol=2)


def test_a_gray_jpeg_is_cropped_to_three_channels_or_one() -> None:
    file = io.BytesIO()
    Image.new("L", (100, 80), 120).save(file, "JPEG")
    gray = Preprocessing(image_size=(64, 64), channels=1, mean=(0.0,), std=(1.0,))
    for chosen in (CROP, gray):
        found = scaled_crop(tf.constant(file.getvalue()), chosen, (64, 80), seed(0)).numpy()
        np.testing.assert_allclose(found, np.full((64, 64, chosen.channels), 120), atol=1)


@pytest.mark.parametrize("kind", ["array", "files"])
def test_crops_of_an_image_differ_from_epoch_to_epoch(little_splits: dict[str, Split], kind: str) -> None:
    recipe = PLAIN.replace(shorter_side=(8, 16))
    one: dict[int, np.ndarray] = {}
    other: dict[int, np.ndarray] = {}
    for i, (pixels, _) in enumerate(batches_of(little_splits[kind], recipe)[:6]):
        (one if i < 3 else other).update(zip(which(pixels), pixels, strict=True))
    assert sum((one[i] != other[i]).any() for i in range(2, IMAGES)) >= 8


# Evaluation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SLOW_FILES)
@pytest.mark.parametrize("batch_size", [5, 12, 100])
def test_evaluation_sees_every_image_once_in_order(little_splits: dict[str, Split], kind: str, batch_size: int) -> None:
    repeatable = evaluation_batches(little_splits[kind], UNIT, batch_size)
    batches = list(repeatable.as_numpy_iterator())
    assert_same(list(repeatable.as_numpy_iterator()), batches)
    sizes = [len(labels) for _, labels in batches]
    assert sizes == {5: [5, 5, 2], 12: [12], 100: [12]}[batch_size]
    assert which_of_all(batches) == list(range(IMAGES))
    assert np.concatenate([labels for _, labels in batches]).tolist() == [i % 2 for i in range(IMAGES)]
    assert all(pixels.shape[1:] == (8, 8, 3) and pixels.dtype == np.float32 for pixels, _ in batches)
    assert all(labels.dtype == np.int64 for _, labels in batches)


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_evaluation_normalizes_the_pixels(little_splits: dict[str, Split], kind: str) -> None:
    chosen = Preprocessing(image_size=(8, 8), channels=3, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0))
    plain = np.concatenate([pixels for pixels, _ in pixel_batches(little_splits[kind], chosen, 5).as_numpy_iterator()])
    found = np.concatenate(
        [images for images, _ in evaluation_batches(little_splits[kind], chosen, 5).as_numpy_iterator()]
    )
    np.testing.assert_allclose(found, (plain - np.array(chosen.mean)) / np.array(chosen.std), atol=1e-4)


@pytest.mark.parametrize("kind", SLOW_FILES)
@pytest.mark.parametrize("shorter_side", [None, 8, 12])
def test_evaluation_crops_as_the_preprocessing_does(
    little_splits: dict[str, Split], kind: str, shorter_side: int | None
) -> None:
    split, chosen = little_splits[kind], replace(UNIT, shorter_side=shorter_side)
    if isinstance(split, ArraySplit):
        originals = list(split.images)
    elif isinstance(split, FileSplit):
        originals = [decode(tf.io.read_file(path), chosen.channels).numpy() for path in split.paths]
    else:
        originals = [decode(encoded, chosen.channels).numpy() for encoded, _ in split.records()]
    (found,) = [pixels for pixels, _ in evaluation_batches(split, chosen, 100).as_numpy_iterator()]
    wanted = [crop(tf.constant(original), chosen).numpy() for original in originals]
    np.testing.assert_array_equal(found, np.stack(wanted))


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_an_array_of_pixels_holds_all_images_as_whole_numbers(little_splits: dict[str, Split], kind: str) -> None:
    chosen = replace(UNIT, image_size=(6, 6))
    pixels, labels = pixel_array(little_splits[kind], chosen)
    assert (pixels.shape, pixels.dtype) == ((IMAGES, 6, 6, 3), np.uint8)
    assert which(pixels) == list(range(IMAGES))
    assert labels.tolist() == [i % 2 for i in range(IMAGES)]
    ((wanted, _),) = pixel_batches(little_splits[kind], chosen, IMAGES).as_numpy_iterator()
    np.testing.assert_array_equal(pixels, wanted)


def test_images_in_memory_that_are_no_squares_are_cropped_not_squeezed() -> None:
    images = np.stack([ramps()[:64, :96], ramps()[100:164, 50:146]])
    split = ArraySplit(images, np.array([0, 1]), ("cat", "dog"), Dataset(source="tfds"))
    ((found, _),) = pixel_batches(split, CROP, 2).as_numpy_iterator()
    wanted = np.stack([crop(tf.constant(image), CROP).numpy() for image in images])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("channels", "wanted"), [(1, 3), (3, 1)])
def test_images_in_memory_get_the_channels_of_the_network(channels: int, wanted: int) -> None:
    images = np.full((4, 8, 8, channels), 60, np.uint8)
    split = ArraySplit(images, np.zeros(4, np.int64), ("cat", "dog"), Dataset(source="tfds"))
    chosen = Preprocessing(image_size=(8, 8), channels=wanted, mean=(0.0,) * wanted, std=(1.0,) * wanted)
    for batches in (evaluation_batches(split, chosen, 4), recipe_batches(split, PLAIN, chosen).take(1)):
        ((found, _),) = batches.as_numpy_iterator()
        np.testing.assert_allclose(found, np.full((4, 8, 8, wanted), 60), atol=1)


def test_the_preprocessing_of_a_recipe_has_its_size_and_the_colors_of_the_data() -> None:
    info = Dataset(source="tfds", image_size=32, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    split = ArraySplit(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64), ("cat", "dog"), info)
    own = RECIPES["imagenet"].replace(shorter_side=None, test_shorter_side=None)
    found = recipe_preprocessing(own, split)
    assert (found.image_size, found.channels, found.shorter_side) == ((32, 32), 3, None)
    assert (found.mean, found.std) == (info.mean, info.std)
    assert recipe_preprocessing(own.replace(image_size=64), split).image_size == (64, 64)
    varied = replace(split, info=replace(info, image_size=None))
    assert recipe_preprocessing(own, varied).image_size == (224, 224)
    assert recipe_preprocessing(RECIPES["imagenet"], varied).shorter_side == 256


def test_weights_keep_the_preprocessing_that_they_were_trained_with() -> None:
    info = Dataset(source="tfds", image_size=32, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    split = ArraySplit(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.int64), ("cat", "dog"), info)
    trained = Preprocessing(
        image_size=(224, 224), channels=3, mean=(9.0, 8.0, 7.0), std=(1.0, 1.0, 1.0), shorter_side=256,
        interpolation="bicubic", channel_order="bgr",
    )  # fmt: skip
    assert recipe_preprocessing(RECIPES["finetune"], split, trained) == trained
    smaller = RECIPES["finetune"].replace(image_size=128)
    assert recipe_preprocessing(smaller, split, trained) == trained.at(128)
    assert trained.at(128).shorter_side == 146
    own = smaller.replace(test_shorter_side=150)
    assert recipe_preprocessing(own, split, trained).shorter_side == 150


# Broken images -----------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_files(tmp_path: Path) -> FileSplit:
    """Returns ten images, of which numbers 2, 5 and 9 are no whole images."""
    file = io.BytesIO()
    Image.fromarray(ramps()).save(file, "JPEG")
    for i in range(10):
        Image.fromarray(ramps()).save(tmp_path / f"{i}.jpg")
    (tmp_path / "2.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    (tmp_path / "5.jpg").write_text("no image at all")
    (tmp_path / "9.jpg").write_bytes(b"")
    paths = tuple(str(tmp_path / f"{i}.jpg") for i in range(10))
    return FileSplit(paths, np.arange(10) % 2, ("cat", "dog"), Dataset(source="folder", classes=2))


def test_broken_images_are_found_exactly(broken_files: FileSplit, little_splits: dict[str, Split]) -> None:
    assert broken_images(broken_files) == [2, 5, 9]
    for kind in KINDS:
        assert broken_images(little_splits[kind]) == []


def test_an_image_of_no_class_counts_as_broken(little_splits: dict[str, Split]) -> None:
    fewer = replace(little_splits["records"], class_names=("cat",))
    found = broken_images(fewer)
    labels = [int(label) for _, label in little_splits["records"].records()]
    assert found == [i for i, label in enumerate(labels) if label == 1]
    whole = without(fewer, found)
    assert sum(len(labels) for _, labels in evaluation_batches(whole, UNIT, 4)) == len(labels) - len(found)
    with pytest.raises(ValueError, match="Received: image"), explain_broken_images(fewer):
        list(evaluation_batches(fewer, UNIT, 4))


def test_broken_images_are_left_out_with_their_labels(broken_files: FileSplit) -> None:
    whole = without(broken_files, broken_images(broken_files))
    assert isinstance(whole, FileSplit)
    assert len(whole) == 7
    assert [Path(path).stem for path in whole.paths] == list("0134678")
    assert whole.labels.tolist() == [0, 1, 1, 0, 0, 1, 0]
    assert sum(len(labels) for _, labels in evaluation_batches(whole, CROP, 4)) == 7
    assert broken_images(whole) == []


def test_records_can_be_left_out(little_splits: dict[str, Split]) -> None:
    fewer = without(little_splits["records"], [0, 3, 11])
    assert isinstance(fewer, RecordSplit)
    assert len(fewer) == 9
    (pixels, labels), *others = evaluation_batches(fewer, UNIT, 100).as_numpy_iterator()
    assert not others
    assert which(pixels) == [1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert labels.tolist() == [i % 2 for i in which(pixels)]
    (epoch,) = batches_of(fewer, PLAIN.replace(batch_size=9, epochs=1))
    assert sorted(which(epoch[0])) == [1, 2, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("kind", ["files", "records"])
def test_images_can_be_left_out_twice(little_splits: dict[str, Split], kind: str) -> None:
    fewer = without(without(little_splits[kind], [0, 3]), [0, 9])  # by then images 1 and 11
    assert len(fewer) == 8
    (pixels, _), *_ = evaluation_batches(fewer, UNIT, 100).as_numpy_iterator()
    assert which(pixels) == [2, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("kind", ["files", "records"])
def test_images_can_be_left_out_of_a_sample(little_splits: dict[str, Split], kind: str) -> None:
    fewer = stratified_sample(little_splits[kind], 6)
    ((pixels, _),) = evaluation_batches(fewer, UNIT, 100).as_numpy_iterator()
    rest = without(fewer, [0, 4])
    assert len(rest) == 4
    ((others, _),) = evaluation_batches(rest, UNIT, 100).as_numpy_iterator()
    assert which(others) == [image for place, image in enumerate(which(pixels)) if place not in (0, 4)]


@pytest.mark.parametrize("kind", SLOW_FILES)
def test_without_any_to_leave_out_a_split_stays_as_it_is(little_splits: dict[str, Split], kind: str) -> None:
    assert without(little_splits[kind], []) is little_splits[kind]


def evaluated(split: FileSplit) -> None:
    for _ in evaluation_batches(split, CROP, 4):
        pass


def trained(split: FileSplit) -> None:
    for _ in recipe_batches(split, PLAIN.replace(image_size=64, shorter_side=None), CROP):
        pass


@pytest.mark.parametrize("use", [evaluated, trained])
def test_a_broken_image_stops_with_an_error_that_names_all_of_them(
    broken_files: FileSplit, use: Callable[[FileSplit], None]
) -> None:
    with (
        pytest.raises(ValueError, match=r"Received: [^,]*2\.jpg, [^,]*5\.jpg, [^,]*9\.jpg$") as caught,
        explain_broken_images(broken_files),
    ):
        use(broken_files)
    assert isinstance(caught.value.__cause__, tf.errors.InvalidArgumentError)


def test_of_many_broken_images_five_are_named(broken_files: FileSplit) -> None:
    for path in broken_files.paths:
        Path(path).write_bytes(b"")
    with pytest.raises(ValueError, match=r"4\.jpg and 5 more$"), explain_broken_images(broken_files):
        evaluated(broken_files)


def test_another_error_passes_through_unchanged(little_splits: dict[str, Split]) -> None:
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="something else"),
        explain_broken_images(*little_splits.values()),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "something else")


@pytest.mark.parametrize("use", [evaluation_batches, training_batches])
def test_a_record_with_a_label_outside_the_classes_stops_and_says_so(
    little_splits: dict[str, Split], use: Callable[..., tf.data.Dataset]
) -> None:
    fewer = replace(little_splits["records"], class_names=("cat",))
    batches = evaluation_batches(fewer, UNIT, 4) if use is evaluation_batches else recipe_batches(fewer, PLAIN, UNIT)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(?s)labels from 0 to 0 in little/train\[:100%\]\. Received.*\b1\b"
    ):
        list(batches)


# Several devices ---------------------------------------------------------------------------------------------------

TWO_REPLICAS = """
import json
import numpy as np
from resnet_keras.distributed import strategy as distribution
from resnet_keras.data.datasets import Dataset
from resnet_keras.data.evaluation_input import evaluation_batches
from resnet_keras.data.training_input import training_batches
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit

devices = distribution.create_strategy(2)
images = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 8, 8, 1))
split = ArraySplit(images, np.arange(20), tuple(map(str, range(20))), Dataset(source="package", channels=1))
preprocessing = Preprocessing(image_size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
found = {}
for name, batches in (
    ("training", training_batches(split, preprocessing, batch_size=8, epochs=2)),
    ("evaluation", evaluation_batches(split, preprocessing, 8)),
):
    found[name] = [labels.numpy().tolist() for _, labels in batches]
    found[name + "_shared"] = [
        [part.numpy().tolist() for part in devices.experimental_local_results(labels)]
        for _, labels in devices.experimental_distribute_dataset(batches)
    ]
print(json.dumps(found))
"""


def test_two_replicas_share_each_batch_by_halves() -> None:
    found = json.loads(run_on_two_devices(TWO_REPLICAS))
    assert [len(batch) for batch in found["training"]] == [8] * 4
    assert found["evaluation"] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    for name in ("training", "evaluation"):
        assert len(found[name + "_shared"]) == len(found[name])
        for halves, batch in zip(found[name + "_shared"], found[name], strict=True):
            assert [len(half) for half in halves] == [len(batch) // 2] * 2
            assert halves[0] + halves[1] == batch
