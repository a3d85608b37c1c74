"""RandAugment and TrivialAugment: their operations against Pillow, their amounts and draws against the papers."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from resnet_keras.data.auto_augment import (
    RAND_AUGMENT,
    TRIVIAL_AUGMENT,
    operation,
    rand_augment,
    rand_augment_draws,
    trivial_augment,
    trivial_augment_draws,
)

POLICIES = {"rand": RAND_AUGMENT, "trivial": TRIVIAL_AUGMENT}
FACTORS = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}
MOVES = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel"}
OPERATIONS = [(policy, name) for policy in POLICIES for name in POLICIES[policy]]
STILL = [(policy, name) for policy, name in OPERATIONS if name not in MOVES]
MOVING = [(policy, name) for policy, name in OPERATIONS if name in MOVES]
FILL = (124.0, 116.0, 104.0)
HEIGHT, WIDTH = 57, 63


def noise(low: int, high: int) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high + 1, (HEIGHT, WIDTH, 3), np.uint8)


def gradient() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * x, 255 - 4 * y, x + y], -1).astype(np.uint8)


def constant() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (77, 150, 31), np.uint8)


IMAGES = {
    "noise": noise(0, 255),
    "pale noise": noise(60, 160),
    "one dark channel": noise(0, 255) // np.array([1, 9, 1], np.uint8),
    "gradient": gradient(),
    "constant": constant(),
    "gray noise": noise(20, 230)[..., :1],
    "gray constant": constant()[..., :1],
}


def seed(step: int) -> tf.Tensor:
    return tf.constant([7, step], tf.int64)


def amount_of(policy: str, name: str, strength: float, sign: float = 1.0) -> float:
    amount = POLICIES[policy][name]
    assert amount is not None
    return float(amount(tf.constant(strength), tf.constant(sign)))


def varied(
    policy: str, name: str, pixels: np.ndarray, strength: float, sign: float = 1.0, interpolation: Any = "nearest"
) -> np.ndarray:
    """Returns the image after one operation of a policy."""
    apply = operation(name, POLICIES[policy][name], FILL[: pixels.shape[-1]], interpolation)
    return apply(tf.constant(pixels, tf.float32), tf.constant(strength), tf.constant(sign)).numpy()


def pillow(name: str, pixels: np.ndarray, amount: float, resample: Image.Resampling) -> np.ndarray:
    """Returns the image after one operation of Pillow's."""
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    fill: Any = tuple(map(int, FILL)) if pixels.shape[-1] == 3 else int(FILL[0])
    if name in FACTORS:
        found = FACTORS[name](image).enhance(amount)
    elif name == "AutoContrast":
        found = ImageOps.autocontrast(image)
    elif name == "Equalize":
        found = ImageOps.equalize(image)
    elif name == "Invert":
        found = ImageOps.invert(image)
    elif name == "Posterize":  # Pillow keeps one bit or more
        found = ImageOps.posterize(image, int(amount)) if amount else image.point(lambda level: 0)
    elif name == "Solarize":
        found = ImageOps.solarize(image, int(amount))
    elif name == "SolarizeAdd":
        found = image.point(lambda level: level + amount if level < 128 else level)
    elif name == "Rotate":
        found = image.rotate(amount, resample, fillcolor=fill)
    elif name == "Identity":
        found = image
    else:
        places = {"Sh": {"X": 1, "Y": 3}, "Tr": {"X": 2, "Y": 5}}
        axis = "X" if "X" in name else "Y"
        coefficients = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
        side = {"X": image.width, "Y": image.height}[axis] if name.endswith("Rel") else 1
        coefficients[places[name[:2]][axis]] = amount * side
        found = image.transform(image.size, Image.Transform.AFFINE, coefficients, resample, fillcolor=fill)
    return np.asarray(found, np.float32).reshape(pixels.shape)


# Operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(("policy", "name"), STILL)
def test_an_operation_on_gray_levels_is_pillows_in_every_bit(policy: str, name: str, image: str) -> None:
    strengths = (0.0, 0.3, 0.5, 0.7, 1.0) if POLICIES[policy][name] else (0.5,)
    for strength in strengths:
        for sign in (-1.0, 1.0):
            amount = amount_of(policy, name, strength, sign) if POLICIES[policy][name] else 0.0
            found = varied(policy, name, IMAGES[image], strength, sign)
            wanted = pillow(name, IMAGES[image], amount, Image.Resampling.NEAREST)
            np.testing.assert_array_equal(found, wanted, f"{strength} {sign}")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 3), (16, 15)])
@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Contrast", "Sharpness"])
def test_an_operation_on_a_tiny_image_is_pillows_in_every_bit(name: str, size: tuple[int, int]) -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(1).integers(0, 256, (*size, channels), np.uint8)
        amount = amount_of("rand", name, 0.7) if RAND_AUGMENT[name] else 0.0
        wanted = pillow(name, pixels, amount, Image.Resampling.NEAREST)
        np.testing.assert_array_equal(varied("rand", name, pixels, 0.7), wanted)


def test_every_range_of_gray_levels_is_stretched_as_by_pillow() -> None:
    for low, high in [(0, 1), (3, 5), (7, 92), (100, 202), (0, 254), (1, 255), (17, 221)]:
        pixels = np.arange(low, high + 1, dtype=np.uint8)[None, :, None]
        wanted = pillow("AutoContrast", pixels, 0, Image.Resampling.NEAREST)
        np.testing.assert_array_equal(varied("rand", "AutoContrast", pixels, 0.5), wanted)


def test_a_luminance_of_a_half_is_rounded_as_by_pillow() -> None:
    colors = np.indices((256, 256, 32), np.int32).reshape(3, -1).T
    remainder = colors @ np.array([19595, 38470, 7471], np.int32) % 65536
    halves = colors[np.abs(remainder - 32768) <= 1].astype(np.uint8)[None]
    assert halves.size > 100
    wanted = pillow("Color", halves, amount_of("rand", "Color", 1.0, -1.0), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(varied("rand", "Color", halves, 1.0, -1.0), wanted)


# The rest lies where a coordinate is a half but for its rounding. Measured at worst: 0.9888 for a rotation in 64 × 64.
@pytest.mark.parametrize("image", ["noise", "gradient", "constant", "gray noise"])
@pytest.mark.parametrize(("policy", "name"), MOVING)
def test_a_move_to_the_nearest_pixel_is_pillows(policy: str, name: str, image: str) -> None:
    for strength in (0.0, 0.1, 7 / 30, 0.7, 29 / 30):
        for sign in (-1.0, 1.0):
            amount = amount_of(policy, name, strength, sign)
            found = varied(policy, name, IMAGES[image], strength, sign)
            wanted = pillow(name, IMAGES[image], amount, Image.Resampling.NEAREST)
            assert (found == wanted).mean() >= (0.985 if name == "Rotate" else 0.998), (strength, sign)


@pytest.mark.parametrize("image", ["noise", "gradient", "constant", "gray noise"])
@pytest.mark.parametrize(("policy", "name"), MOVING)
def test_a_move_between_pixels_is_pillows_but_for_a_gray_level(policy: str, name: str, image: str) -> None:
    for strength in (0.0, 0.13, 0.37, 0.71, 0.97):
        for sign in (-1.0, 1.0):
            amount = amount_of(policy, name, strength, sign)
            found = varied(policy, name, IMAGES[image], strength, sign, "bilinear")
            wanted = pillow(name, IMAGES[image], amount, Image.Resampling.BILINEAR)
            assert np.abs(found - wanted).max() <= 1, (strength, sign)
            assert (found == wanted).mean() >= 0.95, (strength, sign)


@pytest.mark.parametrize("image", ["noise", "gray noise"])
@pytest.mark.parametrize(("policy", "name"), OPERATIONS)
def test_every_operation_changes_an_image_and_keeps_integer_pixels(policy: str, name: str, image: str) -> None:
    pixels = np.clip(IMAGES[image], 20, 200)  # so that there is something to stretch
    found = varied(policy, name, pixels, 0.7, interpolation="bilinear")
    unchanged = {"Identity"} | ({"Color"} if pixels.shape[-1] == 1 else set())
    assert (found != pixels).any() == (name not in unchanged)
    assert (found.dtype, found.shape) == (np.float32, pixels.shape)
    np.testing.assert_array_equal(found, np.clip(found.round(), 0, 255))


# Amounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "amounts"),
    [  # at magnitude 0, 5, 6, 7 and 10
        ("Rotate", (0, 15, 18, 21, 30)),
        ("Posterize", (4, 2, 2, 2, 0)),
        ("Solarize", (256, 128, 103, 77, 0)),
        ("SolarizeAdd", (0, 55, 66, 77, 110)),
        ("ShearX", (0, 0.15, 0.18, 0.21, 0.3)),
        ("ShearY", (0, 0.15, 0.18, 0.21, 0.3)),
        ("TranslateXRel", (0, 0.225, 0.27, 0.315, 0.45)),
        ("TranslateYRel", (0, 0.225, 0.27, 0.315, 0.45)),
        *((name, (1, 1.45, 1.54, 1.63, 1.9)) for name in FACTORS),
    ],
)
def test_the_amounts_of_rand_augment_are_timms(name: str, amounts: tuple[float, ...]) -> None:
    found = [amount_of("rand", name, magnitude / 10) for magnitude in (0, 5, 6, 7, 10)]
    np.testing.assert_allclose(found, amounts, rtol=1e-6)
    negated = [amount_of("rand", name, magnitude / 10, -1.0) for magnitude in (0, 5, 6, 7, 10)]
    if name in FACTORS:
        np.testing.assert_allclose(negated, 2 - np.array(amounts), rtol=1e-5)
    elif name in MOVES:
        np.testing.assert_allclose(negated, -np.array(amounts), rtol=1e-6)
    else:
        assert negated == found


BIN = np.arange(31)


@pytest.mark.parametrize(
    ("name", "amounts"),
    [
        ("ShearX", 0.99 * BIN / 30),
        ("ShearY", 0.99 * BIN / 30),
        ("TranslateX", 32 * BIN // 30),
        ("TranslateY", 32 * BIN // 30),
        ("Rotate", 4.5 * BIN),
        ("Posterize", 8 - np.round(BIN / 5)),
        ("Solarize", np.ceil(255 - 8.5 * BIN)),
        *((name, 1 + 0.99 * BIN / 30) for name in FACTORS),
    ],
)
def test_the_amounts_of_trivial_augment_are_the_papers(name: str, amounts: np.ndarray) -> None:
    strengths = BIN.astype(np.float32) / np.float32(30)
    np.testing.assert_allclose([amount_of("trivial", name, strength) for strength in strengths], amounts, rtol=1e-6)
    negated = np.array([amount_of("trivial", name, strength, -1.0) for strength in strengths])
    expected = 2 - amounts if name in FACTORS else -amounts if name in MOVES else amounts
    np.testing.assert_allclose(negated, expected, rtol=1e-5)


def test_the_policies_have_the_operations_of_the_papers() -> None:
    assert len(RAND_AUGMENT) == 15
    assert len(TRIVIAL_AUGMENT) == 14
    assert set(RAND_AUGMENT) - set(TRIVIAL_AUGMENT) == {"Invert", "SolarizeAdd", "TranslateXRel", "TranslateYRel"}


def test_a_magnitude_of_0_changes_only_by_operations_of_one_strength_and_posterization() -> None:
    pixels = np.clip(IMAGES["noise"], 20, 200)
    changed = {name for name in RAND_AUGMENT if (varied("rand", name, pixels, 0.0) != pixels).any()}
    assert changed == {"AutoContrast", "Equalize", "Invert", "Posterize"}


def test_a_magnitude_of_10_keeps_no_bit_and_inverts_all() -> None:
    pixels = IMAGES["noise"]
    assert (varied("rand", "Posterize", pixels, 1.0) == 0).all()
    np.testing.assert_array_equal(varied("rand", "Solarize", pixels, 1.0), 255.0 - pixels)


# Draws -------------------------------------------------------------------------------------------------------------


def drawn(count: int, *arguments: Any) -> list[np.ndarray]:
    """Returns what `count` seeds draw, for RandAugment if there are arguments: each (count, layers)."""

    @tf.function
    def draw_all() -> tuple[tf.Tensor, ...]:
        seeds = tf.stack([tf.fill((count,), 7), tf.range(count)], 1)
        draw = (lambda one: rand_augment_draws(one, *arguments)) if arguments else trivial_augment_draws
        return tf.map_fn(draw, seeds, fn_output_signature=(tf.int32, tf.float32, tf.float32))

    return [x.numpy() for x in draw_all()]


def assert_uniform(found: np.ndarray, kinds: int) -> None:
    """Checks that no kind is more frequent than another, by a chi-square that chance exceeds once in 10,000 times."""
    counts = np.bincount(found.ravel(), minlength=kinds)
    assert len(counts) == kinds
    expected = found.size / kinds
    degrees = kinds - 1
    assert ((counts - expected) ** 2 / expected).sum() < degrees + 3.72 * np.sqrt(2 * degrees) + 8


def test_rand_augment_draws_each_operation_equally_often_and_skips_half() -> None:
    number, strength, sign = drawn(3000, 2, 7.0, 0.5)
    assert number.shape == strength.shape == sign.shape == (3000, 2)
    left_out = number == len(RAND_AUGMENT)
    assert 0.47 < left_out.mean() < 0.53
    assert_uniform(number[~left_out], 15)
    assert set(np.unique(sign)) == {-1, 1}
    assert abs(sign.mean()) < 0.04
    assert strength.mean() == pytest.approx(0.7, abs=0.002)
    assert strength.std() == pytest.approx(0.05, rel=0.05)
    for one in (number, strength, sign, left_out):  # the layers are independent
        assert abs(np.corrcoef(one[:, 0], one[:, 1])[0, 1]) < 0.07
    for one in (strength, sign):  # nor in one layer of the other draws
        assert abs(np.corrcoef(number.ravel(), one.ravel())[0, 1]) < 0.05


def test_trivial_augment_draws_each_operation_and_strength_equally_often() -> None:
    number, strength, sign = drawn(3000)
    assert number.shape == strength.shape == sign.shape == (3000, 1)
    assert_uniform(number, 14)
    bins = np.rint(strength * 30).astype(int)
    np.testing.assert_allclose(strength, bins / 30, rtol=1e-6)
    assert_uniform(bins, 31)
    assert abs(sign.mean()) < 0.06
    assert abs(np.corrcoef(number.ravel(), strength.ravel())[0, 1]) < 0.06


@pytest.mark.parametrize(("magnitude", "std"), [(0.0, 0.0), (6.0, 0.0), (10.0, 0.0)])
def test_without_deviation_all_magnitudes_are_the_same(magnitude: float, std: float) -> None:
    np.testing.assert_allclose(drawn(20, 3, magnitude, std)[1], magnitude / 10, rtol=1e-6)


@pytest.mark.parametrize(("magnitude", "end"), [(0.0, 0.0), (10.0, 1.0)])
def test_magnitudes_are_clipped_to_10(magnitude: float, end: float) -> None:
    strength = drawn(500, 2, magnitude, 2.0)[1]
    assert strength.min() >= 0
    assert strength.max() <= 1
    assert 0.4 < (strength == end).mean() < 0.6


# Policies ----------------------------------------------------------------------------------------------------------


def test_rand_augment_applies_what_it_draws_one_after_the_other() -> None:
    names, seen = [*RAND_AUGMENT, "Identity"], set()
    policy = tf.function(
        lambda image, seed: rand_augment(image, seed, layers=3, magnitude=8, magnitude_std=1, fill=FILL),
        autograph=False,
    )
    for step in range(60):
        wanted = tf.constant(IMAGES["noise"], tf.float32)
        for number, strength, sign in zip(*rand_augment_draws(seed(step), 3, 8, 1), strict=True):
            name = names[int(number)]
            wanted = operation(name, RAND_AUGMENT.get(name), FILL, "bilinear")(wanted, strength, sign)
            seen.add(name)
        # In a graph, coordinates may be rounded otherwise.
        assert (policy(IMAGES["noise"], seed(step)).numpy() == wanted.numpy()).mean() > 0.999
    assert seen == set(names)


def test_trivial_augment_does_to_an_image_what_pillow_does() -> None:
    names, seen = list(TRIVIAL_AUGMENT), set()
    policy = tf.function(lambda image, seed: trivial_augment(image, seed, fill=FILL), autograph=False)
    for step in range(80):
        number, strength, sign = (x.numpy().item() for x in trivial_augment_draws(seed(step)))
        name = names[number]
        amount = amount_of("trivial", name, strength, sign) if TRIVIAL_AUGMENT[name] else 0.0
        wanted = pillow(name, IMAGES["noise"], amount, Image.Resampling.NEAREST)
        equal = (policy(IMAGES["noise"], seed(step)).numpy() == wanted).mean()
        assert equal == 1 or (name in MOVES and equal > 0.985), (name, strength, sign)
        seen.add(name)
    assert seen == set(names)


def rand(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return rand_augment(image, seed, layers=2, magnitude=7, magnitude_std=0.5)


@pytest.mark.parametrize(("policy", "channels"), [pytest.param(rand, 3, marks=pytest.mark.slow), (trivial_augment, 1)])
def test_a_seed_decides_all_in_a_dataset_of_images_of_any_size(policy: Any, channels: int) -> None:
    sizes = [(5, 9), (32, 32), (57, 63)] * 12
    images = tf.data.Dataset.from_generator(
        lambda: (IMAGES["noise"][:height, :width, :channels] for height, width in sizes),
        output_signature=tf.TensorSpec((None, None, channels), tf.uint8),
    )

    signature = [images.element_spec, tf.TensorSpec((2,), tf.int64)]
    traced = tf.function(policy, input_signature=signature, autograph=False)  # once for both runs

    def run(workers: int) -> list[np.ndarray]:
        numbered = images.enumerate().map(lambda step, image: traced(image, tf.stack([7, step])), workers)
        assert numbered.element_spec == tf.TensorSpec((None, None, channels), tf.float32)
        return list(numbered.as_numpy_iterator())

    one, again = run(1), run(4)
    for size, a, b in zip(sizes, one, again, strict=True):
        assert a.shape == (*size, channels)
        np.testing.assert_array_equal(a, b)
    assert len({image.tobytes() for image in one[2::3]}) > 6  # of the same image


@pytest.mark.parametrize("policy", [rand, trivial_augment])
def test_a_dataset_keeps_a_size_that_is_known(policy: Any) -> None:
    images = tf.data.Dataset.from_tensors(IMAGES["noise"]).map(lambda image: policy(image, seed(0)))
    assert images.element_spec == tf.TensorSpec((HEIGHT, WIDTH, 3), tf.float32)


@pytest.mark.parametrize("policy", [rand, trivial_augment])
def test_pixels_are_rounded_first(policy: Any) -> None:
    pixels = IMAGES["noise"].astype(np.float32)
    shifted = pixels + np.random.default_rng(0).uniform(-0.49, 0.49, pixels.shape).astype(np.float32)
    for step in range(4):
        np.testing.assert_array_equal(policy(shifted, seed(step)), policy(pixels, seed(step)))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill", [(10.0, 200.0, 99.6), (30.0,)])
def test_the_fill_comes_in_from_outside(fill: tuple[float, ...], interpolation: Any) -> None:
    image = tf.fill((20, 20, 3), 77.0)
    part = operation("TranslateXRel", RAND_AUGMENT["TranslateXRel"], fill, interpolation)
    found = part(image, tf.constant(1.0), tf.constant(1.0)).numpy()
    wanted = np.full((20, 20, 3), 77.0)
    wanted[:, 11:] = np.round(fill)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("policy", [rand, trivial_augment])
def test_an_image_without_a_fill_of_its_own_gets_gray(policy: Any) -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    levels = [set(np.unique(policy(image, seed(step)))) for step in range(60)]
    assert {128.0, 200.0} in levels


@pytest.mark.parametrize(
    "fields", [{"layers": 0}, {"magnitude": -0.1}, {"magnitude": 10.5}, {"magnitude_std": -1.0}], ids=str
)
def test_a_number_out_of_range_raises(fields: dict[str, Any]) -> None:
    given: dict[str, Any] = {"layers": 2, "magnitude": 7.0, **fields}
    with pytest.raises(ValueError, match="Expected `layers` >= 1, .*Received: "):
        rand_augment(IMAGES["noise"], seed(0), **given)


@pytest.mark.parametrize(
    ("shape", "fill"),
    [((8, 8, 4), (0.0,)), ((2, 8, 8, 3), (0.0,)), ((8, 8, 3), (1.0, 2.0)), ((8, 8, 1), (1.0, 2.0, 3.0))],
)
def test_an_image_or_a_fill_of_a_wrong_shape_raises(shape: tuple[int, ...], fill: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Expected .* Received: "):
        trivial_augment(tf.zeros(shape), seed(0), fill=fill)


def test_an_unknown_interpolation_raises() -> None:
    unknown: Any = "bicubic"
    with pytest.raises(ValueError, match="Expected an `interpolation` .* Received: bicubic"):
        trivial_augment(IMAGES["noise"], seed(0), interpolation=unknown)
