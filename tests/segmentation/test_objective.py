"""Loss and metrics of segmentation networks."""

import keras
import numpy as np
import pytest

from resnet_keras.segmentation.objective import (
    MaskCrossEntropy,
    MaskMeanIoU,
    PixelAccuracy,
    joined,
    without_auxiliary,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, (2, 4, 5))
LABELS[0, :2] = 255
LOGITS = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)


def cross_entropy(logits: np.ndarray) -> float:
    """The mean over the pixels that count, from the definition."""
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return float(np.mean([-np.log(probabilities[at][LABELS[at]]) for at in zip(*np.where(LABELS != 255), strict=True)]))


def test_the_loss_is_the_mean_of_the_pixels_that_count() -> None:
    loss = MaskCrossEntropy(3)(LABELS, LOGITS)
    assert float(loss) == pytest.approx(cross_entropy(LOGITS), rel=1e-5)
    of_keras = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)(LABELS, LOGITS)
    assert float(loss) == pytest.approx(float(of_keras), rel=1e-5)


def test_the_loss_of_an_auxiliary_head_is_weighted() -> None:
    others = RNG.normal(size=LOGITS.shape).astype(np.float32)
    both = MaskCrossEntropy(3, auxiliary=0.4)(LABELS, np.concatenate([LOGITS, others], -1))
    assert float(both) == pytest.approx(cross_entropy(LOGITS) + 0.4 * cross_entropy(others), rel=1e-5)


def test_a_batch_without_pixels_that_count_has_no_loss() -> None:
    assert float(MaskCrossEntropy(3)(np.full_like(LABELS, 255), LOGITS)) == 0
    assert float(MaskCrossEntropy(3)(LABELS[:0], LOGITS[:0])) == 0  # as of a replica without an image


def test_metrics_are_of_the_first_logits_and_of_the_pixels_that_count() -> None:
    predicted, counts = LOGITS.argmax(-1), LABELS != 255
    ious = [
        ((predicted == i) & (i == LABELS)).sum() / (((predicted == i) & counts) | (i == LABELS)).sum() for i in range(3)
    ]
    outputs = np.concatenate([LOGITS, -LOGITS], -1)
    for metric, expected in (
        (MaskMeanIoU(3), np.mean(ious)),
        (PixelAccuracy(3), (predicted == LABELS)[counts].mean()),
    ):
        metric.update_state(LABELS, outputs)
        assert float(metric.result()) == pytest.approx(float(expected), rel=1e-6)
    assert float(PixelAccuracy(3).result()) == 0


def test_an_auxiliary_head_joins_the_output_and_leaves_it() -> None:
    pixels = keras.Input((2, 2, 1))
    heads = {name: keras.layers.Conv2D(3, 1, name=name)(pixels) for name in ("logits", "auxiliary_logits")}
    network = keras.Model(pixels, heads)
    images = RNG.normal(size=(1, 2, 2, 1)).astype(np.float32)
    both = joined(network)
    np.testing.assert_array_equal(np.asarray(both(images))[..., 3:], np.asarray(network(images)["auxiliary_logits"]))
    alone = without_auxiliary(both)
    np.testing.assert_array_equal(np.asarray(alone(images)), np.asarray(network(images)["logits"]))
    assert joined(alone) is alone is without_auxiliary(alone)
