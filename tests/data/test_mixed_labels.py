"""Labels of mixed images that count each class that is there to a fifth as whole (arXiv:2110.00476, section 2)."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.data.mixup import mix_images
from resnet_keras.recipes.catalog import Recipe

PARTS = Recipe.from_flat(model="resnet20", dataset="cifar10", loss="binary")
CLASSES = 5
MIXES: list[dict[str, Any]] = [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 1.0}]


def mixed(recipe: Recipe, step: int = 0, count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(step)
    images = tf.constant(rng.normal(size=(count, 8, 8, 3)).astype(np.float32))
    labels = tf.constant(rng.integers(0, CLASSES, count))
    found, targets = mix_images(images, labels, CLASSES, recipe.augmentation, tf.constant([7, step], tf.int64))
    return found.numpy(), targets.numpy()


@pytest.mark.parametrize("fields", MIXES)
def test_every_class_of_more_than_a_fifth_has_a_full_label(fields: dict[str, float]) -> None:
    numbers = set()
    for step in range(4):
        images, parts = mixed(PARTS.replace(**fields), step)
        same, whole = mixed(PARTS.replace(mixed_labels="whole", **fields), step)
        np.testing.assert_array_equal(same, images)
        np.testing.assert_array_equal(whole, (parts > 0.2).astype(np.float32))
        assert whole.dtype == np.float32
        numbers |= set(whole.sum(1))
    assert numbers == {1.0, 2.0}


@pytest.mark.parametrize("fields", MIXES)
def test_full_labels_are_smoothed_last(fields: dict[str, float]) -> None:
    _, whole = mixed(PARTS.replace(mixed_labels="whole", **fields))
    _, smoothed = mixed(PARTS.replace(mixed_labels="whole", label_smoothing=0.1, **fields))
    np.testing.assert_allclose(smoothed, 0.9 * whole + 0.1 / CLASSES, atol=1e-6)


def test_an_image_mixed_with_itself_or_its_class_has_that_class_alone() -> None:
    recipe = PARTS.replace(mixup=1.0, mixed_labels="whole")
    images = tf.zeros((9, 4, 4, 3))
    _, targets = mix_images(images, tf.fill((9,), 3), CLASSES, recipe.augmentation, tf.constant([0, 0], tf.int64))
    np.testing.assert_array_equal(targets, np.eye(CLASSES)[[3] * 9])


def test_without_mixing_labels_are_full() -> None:
    (_, parts), (_, whole) = mixed(PARTS), mixed(PARTS.replace(mixed_labels="whole"))
    np.testing.assert_array_equal(parts, whole)
    assert set(np.unique(whole)) == {0.0, 1.0}
