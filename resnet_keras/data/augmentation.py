"""Augmentation of training images (arXiv:1512.03385, §3.4 and §4.2), as functions of a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from resnet_keras.data.exif import orientation, turn, turned_window
from resnet_keras.data.image_limits import header_size, within_limits
from resnet_keras.data.image_ops import KERNELS, by_rows, decode, normalize
from resnet_keras.data.preprocessing import Interpolation, Preprocessing
from resnet_keras.data.settings import Augmentation

# Principal components of ImageNet's RGB values on the scale 0–1: eigenvalues' roots and eigenvectors (AlexNet §4.1,
# the numbers of fb.resnet.torch).
_COLOR_STD = (0.2175, 0.0188, 0.0045)
_COLOR_AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

_JPEG_RATIOS = (1, 2, 4, 8)  # reductions that a JPEG decoder offers


@dataclass(frozen=True)
class BatchRows:
    """Some rows of a batch. What is drawn for them is drawn for the whole batch, so that it is the same without others.

    Attributes:
        batch_size: Rows of the whole batch.
        rows: Indices of these rows, ascending.
    """

    batch_size: int
    rows: tuple[int, ...]

    def of(self, drawn: tf.Tensor) -> tf.Tensor:
        """Returns the rows of what is drawn for a batch, (batch_size, ...)."""
        return tf.gather(drawn, self.rows)


def augment(
    pixels: tf.Tensor,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    mirrored: tf.Tensor | None = None,
    *,
    finished: bool = False,
    part: BatchRows | None = None,
) -> tf.Tensor:
    """Returns a normalized and augmented batch: padded and cropped (§4.2), mirrored, recolored (§3.4), erased.

    Args:
        pixels: Pixels 0–255 of any type, (N, H, W, C).
        augmentation: Its padding, flip, lighting noise and erasing apply.
        preprocessing: Size and normalization of the network's input. Padding is the mean color, 0 when normalized.
        seed: Two integers; equal seeds give equal results.
        mirrored: Images to mirror, bool (N,); drawn at random if `None`.
        finished: Whether the images come from `normalize_and_mirror`, so that neither is to be done, nor padding.
        part: The rows that `pixels` and `mirrored` are of a batch; `None` if they are a batch.

    Returns:
        Float32 (N, *image_size, C).
    """
    images = pixels if finished else normalize(pixels, preprocessing)
    count = tf.shape(images)[0] if part is None else part.batch_size
    of_part = tf.identity if part is None else part.of
    crop_seed, _, color_seed = tf.unstack(tf.random.split(seed, 3))
    if augmentation.pad_pixels and not finished:
        rows, columns = preprocessing.image_size
        pad = augmentation.pad_pixels
        images = tf.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        corners = of_part(tf.random.stateless_uniform((count, 2), crop_seed, 0, 2 * pad + 1, tf.int32))
        images = tf.gather(images, corners[:, :1] + tf.range(rows), axis=1, batch_dims=1)
        images = tf.gather(images, corners[:, 1:] + tf.range(columns), axis=2, batch_dims=1)
    if augmentation.flip and not finished:
        mirrored = of_part(draw_mirrored(count, seed)) if mirrored is None else mirrored
        # A stepped slice, a condition that is broadcast, and four dimensions would take several times as long.
        flat = tf.reshape(images, (-1, images.shape[2], images.shape[3]))
        images = tf.compat.v1.where(mirrored, tf.reshape(tf.reverse(flat, [1]), tf.shape(images)), images)
    if augmentation.pca_lighting and preprocessing.channels == 3:
        amounts = of_part(tf.random.stateless_normal((count, 3), color_seed, stddev=augmentation.pca_lighting))
        shift = 255.0 * tf.matmul(amounts * _COLOR_STD, _COLOR_AXES, transpose_b=True)
        shift = shift[:, ::-1] if preprocessing.channel_order == "bgr" else shift
        images = by_rows(tf.add, images, (shift / preprocessing.std)[:, None, :])
    if augmentation.erase:
        places = of_part(_drawn_rectangles(count, augmentation.erase, tf.random.fold_in(seed, 1)))
        top, left, height, width = tf.unstack(places, axis=1)
        erased = rectangle(top, left, height, width, preprocessing.image_size)
        images = tf.where(tf.broadcast_to(erased, tf.shape(images)), tf.zeros_like(images), images)
    return images


def draw_mirrored(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns which images of a batch `augment` mirrors by the seed of the batch: bool (count,)."""
    return tf.random.stateless_uniform((count,), tf.random.split(seed, 3)[1]) < 0.5


def normalize_and_mirror(image: tf.Tensor, preprocessing: Preprocessing, mirrored: tf.Tensor | None) -> tf.Tensor:
    """Returns one image as `augment` begins with it, bit for bit: (H, W, C) -> float32 (H, W, C).

    An image fits the cache of a core, and a batch does not. Only images that are mirrored are reversed.

    Args:
        image: Pixels 0–255 of any type.
        preprocessing: Its normalization applies.
        mirrored: Whether to mirror it, bool (); `None` if no images are.
    """
    image = normalize(image, preprocessing)
    return image if mirrored is None else tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def _drawn_rectangles(count: int | tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Returns top, left, height and width of the erased part of each image, as fractions of its sides, float32 (N, 4).

    It has 2 to 33 % of the image's area, or none.
    """
    which, area_seed, aspect_seed, corner_seed = tf.unstack(tf.random.split(seed, 4))
    area = tf.random.stateless_uniform((count,), area_seed, 0.02, 0.33)
    aspect = tf.exp(tf.random.stateless_uniform((count,), aspect_seed, -math.log(3.3), math.log(3.3)))
    height = tf.minimum(tf.sqrt(area * aspect), 1.0)
    width = tf.minimum(tf.sqrt(area / aspect), 1.0)
    corner = tf.random.stateless_uniform((count, 2), corner_seed)
    # Of the shape with which it was always drawn, on which the numbers depend.
    chosen = tf.random.stateless_uniform((count, 1, 1, 1), which)[:, 0, 0, 0] < probability
    begin = [corner[:, 0] * (1 - height), corner[:, 1] * (1 - width)]
    return tf.stack([*begin, tf.where(chosen, height, 0.0), width], 1)


def rectangle(top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns the pixels inside rectangles given as fractions of the image: four (N,) -> bool (N, H, W, 1)."""
    rows = (tf.range(size[0], dtype=tf.float32) + 0.5) / size[0]
    columns = (tf.range(size[1], dtype=tf.float32) + 0.5) / size[1]
    inside_rows = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[..., None]


def random_crop(
    encoded: tf.Tensor, augmentation: Augmentation, preprocessing: Preprocessing, seed: tf.Tensor
) -> tf.Tensor:
    """Decodes a random crop of the upright image: bytes -> float32 (*image_size, C), pixels 0–255.

    See `random_crop_of` for the crop.

    Only the crop of a JPEG is decoded. If the crop is reduced by 2, 4 or 8 or more, it is decoded at half, a quarter or
    an eighth of its size, as by Pillow's `draft`, and then resized. On 125 photographs such crops differ from fully
    decoded ones by 1.2 gray levels on average at 224 pixels, 1.8 at 160 and 1.7 at 128; all others are bit-identical.
    """

    def from_jpeg() -> tf.Tensor:
        stored = tf.cast(header_size(within_limits(encoded)), tf.int32)
        turned = orientation(encoded)
        size = tf.where(turned >= 5, stored[::-1], stored)
        upright = _window(size, augmentation, preprocessing, seed)
        corner, extent = turned_window(upright[:2], upright[2:], size, turned)
        where = tf.concat([corner, extent], 0)
        lengths = tf.where(turned >= 5, preprocessing.image_size[::-1], preprocessing.image_size)
        reduction = tf.reduce_min(extent // lengths)
        chosen = tf.reduce_sum(tf.cast(reduction >= _JPEG_RATIOS[1:], tf.int32))
        ratio = tf.gather(_JPEG_RATIOS, chosen)
        first = where[:2] // ratio
        last = -(-(where[:2] + where[2:]) // ratio)
        window = tf.concat([first, last - first], 0)
        # Only the decoder's call is repeated for each ratio: the ratio is an attribute of the operation.
        image = tf.switch_case(chosen, [partial(decode_window, window, ratio) for ratio in _JPEG_RATIOS])
        begin, extent = where[:2] / ratio - tf.cast(first, tf.float64), where[2:] / ratio
        return turn(_resized_part(image, begin, extent, lengths, preprocessing.interpolation), turned)

    def decode_window(window: tf.Tensor, ratio: int) -> tf.Tensor:
        return tf.io.decode_and_crop_jpeg(
            encoded, window, channels=preprocessing.channels, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    def from_other() -> tf.Tensor:
        return random_crop_of(decode(encoded, preprocessing.channels), augmentation, preprocessing, seed)

    image = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
    image.set_shape((*preprocessing.image_size, preprocessing.channels))
    return image


def _resized_part(
    image: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor, lengths: tf.Tensor, interpolation: Interpolation
) -> tf.Tensor:
    """Resizes a part of an image: (H, W, C) -> float32 (*lengths, C).

    It equals `tf.image.resize` with `antialias`, bit for bit, in half of the time: TensorFlow's kernels are slow for
    pixels of few channels. So a whole row is passed as one pixel, and transposed as a matrix, without the channels as a
    third dimension; while the columns are rows, the channels of a pixel lie apart.
    """
    width, channels = tf.shape(image)[1], image.shape[-1]
    rows = _resized_rows(tf.reshape(image, (tf.shape(image)[0], -1)), begin[0], extent[0], lengths[0], interpolation)
    columns = tf.reshape(tf.transpose(rows), (width, -1))
    columns = _resized_rows(columns, begin[1], extent[1], lengths[1], interpolation)
    rows = tf.transpose(tf.reshape(columns, (-1, lengths[0])))
    return tf.reshape(rows, (lengths[0], lengths[1], channels))


def _resized_rows(
    rows: tf.Tensor, begin: tf.Tensor, extent: tf.Tensor, length: tf.Tensor, interpolation: Interpolation
) -> tf.Tensor:
    """Returns `length` rows, interpolated between those from `begin` on: (N, M) -> float32 (length, M)."""
    scale = tf.cast(length, tf.float32) / tf.cast(extent, tf.float32)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=rows[None, :, None],
        size=(length, 1),
        scale=tf.stack([scale, 1.0]),
        translation=tf.stack([-scale * tf.cast(begin, tf.float32), 0.0]),
        kernel_type=KERNELS[interpolation],
        antialias=True,
    )
    return resized[0, :, 0]


def random_crop_of(
    image: tf.Tensor, augmentation: Augmentation, preprocessing: Preprocessing, seed: tf.Tensor
) -> tf.Tensor:
    """Returns a random crop of an image: (H, W, C) -> float32 (*image_size, C), pixels 0–255.

    With `shorter_side` it is a crop of the randomly scaled image (§3.4), computed by cropping before scaling. With
    `crop_area` it has a random area and aspect ratio (arXiv:1409.4842, §6). Unlike a test image's, its pixels are not
    rounded to whole numbers.
    """
    top, left, height, width = tf.unstack(_window(tf.shape(image)[:2], augmentation, preprocessing, seed))
    image = image[top : top + height, left : left + width]
    return tf.image.resize(image, preprocessing.image_size, preprocessing.interpolation, antialias=True)


def _window(size: tf.Tensor, augmentation: Augmentation, preprocessing: Preprocessing, seed: tf.Tensor) -> tf.Tensor:
    """Returns the upper left corner and the extent of the crop in an image of `size`, int32 (4,)."""
    if augmentation.crop_area is not None:
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([size, [1]], 0),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=augmentation.crop_area,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], extent[:2]], 0)
    if augmentation.shorter_side is None:
        raise ValueError("Expected an augmentation with `shorter_side` or `crop_area`. Received: neither")
    side_seed, corner_seed = tf.unstack(tf.random.split(seed, 2))
    shortest, longest = augmentation.shorter_side
    side = tf.random.stateless_uniform((), side_seed, shortest, longest + 1, tf.int32)
    scale = tf.cast(tf.reduce_min(size), tf.float32) / tf.cast(side, tf.float32)
    crop = tf.constant(preprocessing.image_size, tf.float32)
    extent = tf.clip_by_value(tf.cast(tf.round(crop * scale), tf.int32), 1, size)
    space = tf.cast(size - extent + 1, tf.float32)
    corner = tf.cast(tf.random.stateless_uniform((2,), corner_seed) * space, tf.int32)
    return tf.concat([tf.minimum(corner, size - extent), extent], 0)
