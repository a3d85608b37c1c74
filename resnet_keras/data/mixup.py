"""MixUp, CutMix and label smoothing of training batches, as functions of a seed."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from resnet_keras.data.augmentation import BatchRows, rectangle
from resnet_keras.data.settings import Augmentation

WHOLE_FROM = 0.2
"""Part of a mixed image above which its class has the label 1, if `mixed_labels` is "whole" (arXiv:2110.00476)."""


def mix_images(
    images: tf.Tensor,
    labels: tf.Tensor,
    classes: int,
    augmentation: Augmentation,
    seed: tf.Tensor,
    part: BatchRows | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes images with others of their batch, and returns soft labels.

    MixUp (arXiv:1710.09412, Eqn. 1) adds two images, CutMix (arXiv:1905.04899, Eqn. 1 and 2) cuts a patch of one into
    the other; each image has its own proportion, and the partner of the image at row i is
    that at row -1 - i. Labels are mixed, then smoothed (arXiv:1512.00567, §7).

    Args:
        images: Float32 (N, H, W, C).
        labels: Classes (N,).
        classes: Number of classes.
        augmentation: Its `mixup`, `cutmix`, `mixed_labels` and `label_smoothing` apply.
        seed: Two integers; equal seeds give equal results.
        part: The rows that the images are of a batch, with the partner of each; `None` if they are a batch.

    Returns:
        Images, and float32 (N, classes), of sum 1 unless `mixed_labels` is "whole".
    """
    kind_seed, share_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    hot = tf.one_hot(labels, classes)
    if augmentation.mixup and augmentation.cutmix:
        images, shares = tf.cond(
            tf.random.stateless_uniform((), kind_seed) < 0.5,
            lambda: _mixed_up(images, augmentation.mixup, share_seed, part),
            lambda: _cut(images, augmentation.cutmix, share_seed, place_seed, part),
        )
    elif augmentation.mixup:
        images, shares = _mixed_up(images, augmentation.mixup, share_seed, part)
    elif augmentation.cutmix:
        images, shares = _cut(images, augmentation.cutmix, share_seed, place_seed, part)
    else:
        return images, hot * (1 - augmentation.label_smoothing) + augmentation.label_smoothing / classes
    shares = shares[:, None]
    mixed = shares * hot + (1 - shares) * hot[::-1]
    if augmentation.mixed_labels == "whole":
        mixed = tf.cast(mixed > WHOLE_FROM, tf.float32)
    return images, mixed * (1 - augmentation.label_smoothing) + augmentation.label_smoothing / classes


def _mixed_up(images: tf.Tensor, alpha: float, seed: tf.Tensor, part: BatchRows | None) -> tuple[tf.Tensor, tf.Tensor]:
    count, of_part = _draws(images, part)
    shares = of_part(_beta(count, alpha, seed))
    weights = shares[:, None, None, None]
    return weights * images + (1 - weights) * tf.reverse(images, [0]), shares


def _cut(
    images: tf.Tensor, alpha: float, share_seed: tf.Tensor, place_seed: tf.Tensor, part: BatchRows | None
) -> tuple[tf.Tensor, tf.Tensor]:
    count, of_part = _draws(images, part)
    side = of_part(tf.sqrt(1 - _beta(count, alpha, share_seed)))
    center = of_part(tf.random.stateless_uniform((count, 2), place_seed))
    patch = rectangle(center[:, 0] - side / 2, center[:, 1] - side / 2, side, side, tuple(images.shape[1:3]))
    # The patch is clipped at the border of the image: the share is counted in pixels.
    shares = 1 - tf.reduce_mean(tf.cast(patch, tf.float32), axis=(1, 2, 3))
    # With its full shape: a broadcast condition takes several times as long, and so does a stepped slice.
    return tf.where(tf.broadcast_to(patch, tf.shape(images)), tf.reverse(images, [0]), images), shares


def _draws(images: tf.Tensor, part: BatchRows | None) -> tuple[tf.Tensor | int, Callable[[tf.Tensor], tf.Tensor]]:
    """Returns the number of rows that are drawn for, and a function that takes those of the images."""
    return (tf.shape(images)[0], tf.identity) if part is None else (part.batch_size, part.of)


def _beta(count: tf.Tensor, alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """Returns draws of Beta(alpha, alpha), float32 (count,)."""
    one, other = tf.unstack(tf.random.stateless_gamma((2, count), seed, alpha))
    return one / tf.maximum(one + other, 1e-30)
