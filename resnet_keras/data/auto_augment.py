"""RandAugment and TrivialAugment: Pillow's operations on images in TensorFlow, drawn as functions of a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import tensorflow as tf

from resnet_keras.data.image_ops import whole

# KerasCV's layers are not used. They draw from a state, so a resumed training would not repeat itself. They also differ
# from Pillow's operations, which the published recipes used: contrast keeps the mean of each channel, equalization
# skips the rarest gray level instead of the brightest, and geometric operations mix the fill color into the edge.

Fill = tuple[float, ...]  # one value, or one per channel
Interpolation = Literal["nearest", "bilinear"]
Amount = Callable[[Any, Any], Any]
"""Amount of an operation, from a strength of 0–1 and a sign of -1 or 1; `None` for operations without an amount."""
Policy = dict[str, Amount | None]
Draws = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # operation, strength and sign of N layers: (N,) each


# Operations on gray levels: an image of whole numbers and an amount -> such an image ---------------------------------


def _autocontrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    # Both axes at once would take ten times as long.
    low, high = (reduce(reduce(image, 0), 0)[:, None] for reduce in (tf.reduce_min, tf.reduce_max))
    low, high, levels = (tf.cast(x, tf.float64) for x in (low, high, tf.range(256)))  # as Pillow rounds
    scale = 255 / tf.maximum(high - low, 1)
    return _looked_up(image, tf.where(high > low, levels * scale - low * scale, levels))


def _equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    pixels = tf.transpose(tf.reshape(tf.cast(image, tf.int32), (-1, image.shape[-1])))
    counts = tf.math.bincount(pixels, minlength=256, maxlength=256, axis=-1)
    brightest = tf.gather(counts, tf.reduce_max(pixels, 1), batch_dims=1)
    step = ((tf.shape(pixels)[1] - brightest) // 255)[:, None]
    table = (step // 2 + tf.cumsum(counts, 1, exclusive=True)) // tf.maximum(step, 1)
    return _looked_up(image, tf.where(step > 0, table, tf.range(256)))


def _looked_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Replaces the gray levels of each channel by those of its row in a table, (C, 256)."""
    table = tf.cast(tf.cast(tf.clip_by_value(table, 0, 255), tf.int32), tf.float32)
    return tf.gather(tf.reshape(table, [-1]), tf.cast(image, tf.int32) + tf.range(image.shape[-1]) * 256)


def _posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    step = tf.cast(tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32)), tf.float32)
    return tf.floor(image / step) * step


def _contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    rows = tf.reduce_sum(_luminance(image, 1), (1, 2))  # each still exact in float32
    mean = tf.reduce_sum(tf.cast(rows, tf.int64)) / tf.size(image[..., 0], tf.int64)
    return _blend(tf.cast(tf.floor(mean + 0.5), tf.float32), image, factor)


def _sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    inner = image[1:-1, 1:-1]  # the outermost pixels stay as they are
    rows = image[:-2] + image[1:-1] + image[2:]
    smooth = tf.floor((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * inner) / 13 + 0.5)
    height, width = tf.unstack(tf.shape(image)[:2] - tf.shape(inner)[:2] - 1)  # 1, or 0 of an image of one pixel
    return image + tf.pad(_blend(smooth, inner, factor) - inner, [[1, height], [1, width], [0, 0]])


def _luminance(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Returns the luminance, rounded as by Pillow: (H, W, C) -> (H, W, channels), all the same."""
    if image.shape[-1] == 1:
        return image
    weights = tf.constant([[19595.0], [38470.0], [7471.0]])  # the sums, up to 2^24, are exact in float32
    return tf.floor((tf.tensordot(image, tf.tile(weights, (1, channels)), 1) + 32768) / 65536)


def _blend(degenerate: tf.Tensor | float, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.floor(tf.clip_by_value(degenerate + factor * (image - degenerate), 0.0, 255.0))


# Operations that move pixels: an amount and the image's height and width -> coefficients a, ..., f of Pillow's affine
# transform, by which (x, y) shows what was at (ax + by + c, dx + ey + f), as corners of pixels are counted ------------


def _rotate(degrees: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tuple[Any, ...]:
    cos, sin = tf.cos(degrees * (math.pi / 180)), tf.sin(degrees * (math.pi / 180))
    return cos, -sin, (width - cos * width + sin * height) / 2, sin, cos, (height - sin * width - cos * height) / 2


_LEVELS: dict[str, Callable[..., tf.Tensor]] = {
    "Identity": lambda image, _: tf.identity(image),
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda image, _: 255 - image,
    "Posterize": _posterize,
    # With a factor of 0 or 1 these two take a fifth of the time that they would with a choice.
    "Solarize": lambda image, threshold: image + tf.cast(image >= threshold, tf.float32) * (255 - 2 * image),
    "SolarizeAdd": lambda image, added: image + tf.cast(image < 128, tf.float32) * added,
    "Color": lambda image, factor: _blend(_luminance(image, image.shape[-1]), image, factor),
    "Contrast": _contrast,
    "Brightness": partial(_blend, 0.0),
    "Sharpness": _sharpness,
}
_MOVES: dict[str, Callable[..., tuple[Any, ...]]] = {
    "Rotate": _rotate,
    "ShearX": lambda slope, *_: (1, slope, 0, 0, 1, 0),
    "ShearY": lambda slope, *_: (1, 0, 0, slope, 1, 0),
    "TranslateX": lambda pixels, *_: (1, 0, pixels, 0, 1, 0),
    "TranslateY": lambda pixels, *_: (1, 0, 0, 0, 1, pixels),
    "TranslateXRel": lambda part, _, width: (1, 0, part * width, 0, 1, 0),
    "TranslateYRel": lambda part, height, _: (1, 0, 0, 0, 1, part * height),
}


def _around(middle: float, most: float) -> Amount:
    return lambda strength, sign: middle + sign * most * strength


RAND_AUGMENT: Policy = {
    **dict.fromkeys(("AutoContrast", "Equalize", "Invert")),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), _around(1, 0.9)),
    "Posterize": lambda strength, _: 4 - tf.floor(4 * strength),  # bits that are kept
    "Solarize": lambda strength, _: 256 - tf.floor(256 * strength),  # the lowest gray level inverted
    "SolarizeAdd": lambda strength, _: tf.floor(110 * strength),  # gray levels
    "Rotate": _around(0, 30),  # degrees
    **dict.fromkeys(("ShearX", "ShearY"), _around(0, 0.3)),
    **dict.fromkeys(("TranslateXRel", "TranslateYRel"), _around(0, 0.45)),  # of the image's width or height
}
TRIVIAL_AUGMENT: Policy = {
    **dict.fromkeys(("Identity", "AutoContrast", "Equalize")),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), _around(1, 0.99)),
    "Posterize": lambda strength, _: 8 - tf.round(6 * strength),
    "Solarize": lambda strength, _: 255 - tf.floor(255 * strength),
    "Rotate": _around(0, 135),
    **dict.fromkeys(("ShearX", "ShearY"), _around(0, 0.99)),
    **dict.fromkeys(("TranslateX", "TranslateY"), lambda strength, sign: sign * tf.floor(32 * strength)),  # pixels
}


def rand_augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    layers: int,
    magnitude: float,
    magnitude_std: float = 0.0,
    fill: Fill = (128.0,),
    interpolation: Interpolation = "bilinear",
) -> tf.Tensor:
    """Varies an image by operations of about one strength: RandAugment (arXiv:1909.13719).

    It is timm's `rand-m{magnitude}-mstd{magnitude_std}-inc1-n{layers}`: m7-mstd0.5-n2 in A1 and A2 of "ResNet strikes
    back" (arXiv:2110.00476, Table 2), m6-mstd0.5-n2 in A3. Each layer chooses one of `RAND_AUGMENT`, all equally
    likely, and leaves it out half the time. timm draws between bilinear and bicubic, too; here it is one for all.

    Args:
        image: RGB or gray pixels 0–255 of any type, (H, W, C); they are rounded to whole numbers first.
        seed: Two integers; equal seeds give equal results.
        layers: How many operations are chosen, one applied to the result of the other.
        magnitude: How strong they are, 0–10.
        magnitude_std: Standard deviation of each operation's magnitude, which is clipped to 0–10.
        fill: Pixels from outside of the image, for all channels or for each; in timm the mean color.
        interpolation: That of the operations that move pixels.

    Returns:
        Whole numbers of 0–255, float32 (H, W, C).
    """
    received = (layers, magnitude, magnitude_std)
    if layers < 1 or not 0 <= magnitude <= 10 or magnitude_std < 0:
        raise ValueError(f"Expected `layers` >= 1, `magnitude` 0 to 10, `magnitude_std` >= 0. Received: {received}")
    draws = rand_augment_draws(seed, layers, magnitude, magnitude_std)
    return _augmented(image, {**RAND_AUGMENT, "Identity": None}, draws, fill, interpolation)


def trivial_augment(
    image: tf.Tensor, seed: tf.Tensor, *, fill: Fill = (128.0,), interpolation: Interpolation = "nearest"
) -> tf.Tensor:
    """Applies one random operation of random strength: TrivialAugment, wide (arXiv:2103.10158), as in torchvision.

    It draws one of `TRIVIAL_AUGMENT` and one of 31 strengths. torchvision's default fill is black. Pixels,
    arguments and result are those of `rand_augment`.
    """
    return _augmented(image, TRIVIAL_AUGMENT, trivial_augment_draws(seed), fill, interpolation)


def rand_augment_draws(seed: tf.Tensor, layers: int, magnitude: float, magnitude_std: float) -> Draws:
    """Returns the draws of `rand_augment`; the number `len(RAND_AUGMENT)` stands for a skipped operation."""
    seed, noise_seed = tf.unstack(tf.random.split(seed))
    choice, keep, side = tf.unstack(tf.random.stateless_uniform((3, layers), seed))
    number = tf.where(keep < 0.5, tf.cast(choice * len(RAND_AUGMENT), tf.int32), len(RAND_AUGMENT))
    noise = tf.random.stateless_normal((layers,), noise_seed, stddev=magnitude_std)
    return number, tf.clip_by_value(magnitude + noise, 0.0, 10.0) / 10, tf.where(side < 0.5, -1.0, 1.0)


def trivial_augment_draws(seed: tf.Tensor) -> Draws:
    """Returns the draws of `trivial_augment`, for one layer."""
    choice, strength, side = tf.unstack(tf.random.stateless_uniform((3, 1), seed))
    number = tf.cast(choice * len(TRIVIAL_AUGMENT), tf.int32)
    return number, tf.floor(strength * 31) / 30, tf.where(side < 0.5, -1.0, 1.0)


def _augmented(image: tf.Tensor, policy: Policy, draws: Draws, fill: Fill, interpolation: Interpolation) -> tf.Tensor:
    result = whole(tf.cast(image, tf.float32))
    shape = result.shape
    if shape.rank != 3 or shape[-1] not in (1, 3) or len(fill) not in (1, shape[-1]):
        raise ValueError(f"Expected (H, W, 1 or 3) and a `fill` of 1 or C values. Received: {shape} and {fill}")
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"Expected an `interpolation` nearest or bilinear. Received: {interpolation}")
    for number, *drawn in zip(*map(tf.unstack, draws), strict=True):
        branches = [partial(operation(name, policy[name], fill, interpolation), result, *drawn) for name in policy]
        result = tf.ensure_shape(tf.switch_case(number, branches), shape)
    return result


@cache
def operation(name: str, amount: Amount | None, fill: Fill, interpolation: Interpolation) -> Callable[..., tf.Tensor]:
    """Returns an operation as a function of an image of whole numbers, float32 (H, W, C), a strength and a sign.

    Operations on gray levels equal Pillow's, bit for bit. In geometric operations about one value in 1,000 differs by
    rounding: by one gray level if bilinear; if nearest, it is the value of the neighboring pixel.
    """

    def apply(image: tf.Tensor, strength: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
        drawn = strength if amount is None else amount(strength, sign)
        if name in _LEVELS:
            return _LEVELS[name](image, drawn)
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        a, b, c, d, e, f = _MOVES[name](drawn, height, width)
        c, f = c + (a + b - 1) / 2, f + (d + e - 1) / 2  # as centers of pixels are counted
        color = whole(tf.constant(fill, tf.float32))
        result = tf.raw_ops.ImageProjectiveTransformV3(
            images=(image - color)[None],  # because the kernel has a single fill value
            transforms=tf.stack([a, b, c, d, e, f, 0.0, 0.0])[None],
            output_shape=tf.shape(image)[:2],
            fill_value=0.0,
            interpolation=interpolation.upper(),
            fill_mode="CONSTANT" if interpolation == "nearest" else "NEAREST",
        )[0]
        if interpolation == "bilinear":
            # Pillow mixes no fill into the edge and rounds down; 0.001 keeps an inexact 100 from becoming 99.
            x, y = tf.range(width), tf.range(height)[:, None]
            x, y = a * x + (b * y + c), d * x + (e * y + f)
            inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
            result = tf.floor(result + 0.001) * tf.cast(inside, tf.float32)[..., None]
        return result + color

    # Operations that are not drawn cost nothing as separate functions; inlined, small images would take twice the time.
    return tf.function(apply, autograph=False, experimental_attributes={"_noinline": True})
