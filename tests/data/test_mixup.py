"""Mixed images and soft labels, against slow NumPy versions."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.data.augmentation import augment, random_crop_of
from resnet_keras.data.mixup import mix_images
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.recipes.catalog import Recipe

PLAIN = Recipe.from_flat(model="resnet20", dataset="cifar10")
UNIT = Preprocessing(image_size=(16, 16), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def seed(step: int) -> tf.Tensor:
    return tf.constant([7, step], tf.int64)


def numbered(count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Images of which image i is i + 1 all over, and labels i % 5."""
    values = np.arange(1, count + 1, dtype=np.float32)[:, None, None, None]
    return tf.constant(np.broadcast_to(values, (count, 16, 16, 3))), tf.constant(np.arange(count) % 5)


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[labels]


def test_mixed_up_images_and_labels_have_the_same_proportions() -> None:
    images, labels = numbered(9)
    found, targets = mix_images(images, labels, 5, PLAIN.replace(mixup=0.8).augmentation, seed(0))
    own = np.arange(1, 10, dtype=np.float32)
    values = found.numpy()[:, 0, 0, 0]
    assert np.ptp(found.numpy(), axis=(1, 2, 3)).max() < 1e-5
    for i in (0, 1, 2, 3, 5, 6, 7, 8):  # the middle one is its own partner
        share = (values[i] - own[::-1][i]) / (own[i] - own[::-1][i])
        assert 0 <= share <= 1
        expected = share * one_hot(labels.numpy())[i] + (1 - share) * one_hot(labels.numpy())[::-1][i]
        np.testing.assert_allclose(targets[i], expected, atol=1e-5)


def test_cut_images_hold_a_rectangle_of_another_and_labels_its_part_of_the_pixels() -> None:
    images, labels = numbered(8)
    seen = set()
    for step in range(20):
        found, targets = mix_images(images, labels, 5, PLAIN.replace(cutmix=1.0).augmentation, seed(step))
        for i, (image, target) in enumerate(zip(found.numpy()[..., 0], targets.numpy(), strict=True)):
            partner = 8 - i
            assert set(np.unique(image)) <= {i + 1.0, float(partner)}
            cut = image == partner
            rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
            if cut.any():  # one rectangle
                assert cut.sum() == len(rows) * len(columns)
                assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
            share = 1 - cut.mean()
            seen.add(round(float(share), 3))
            expected = share * one_hot(labels.numpy())[i] + (1 - share) * one_hot(labels.numpy())[7 - i]
            np.testing.assert_allclose(target, expected, atol=1e-5)
    assert len(seen) > 50


def test_with_both_each_batch_is_of_one_kind_and_about_half_of_each() -> None:
    images, labels = numbered(8)
    recipe = PLAIN.replace(mixup=0.8, cutmix=1.0)
    kinds = [
        np.ptp(mix_images(images, labels, 5, recipe.augmentation, seed(step))[0].numpy(), axis=(1, 2, 3)).max() > 1e-4
        for step in range(80)
    ]
    assert 25 < sum(kinds) < 55


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_drawn_from_a_beta_distribution(alpha: float) -> None:
    images, labels = numbered(4000)
    found, _ = mix_images(images[:, :1, :1], labels, 5, PLAIN.replace(mixup=alpha).augmentation, seed(3))
    own = np.arange(1, 4001, dtype=np.float64)
    share = (found.numpy()[:, 0, 0, 0] - own[::-1]) / (own - own[::-1])
    assert share.mean() == pytest.approx(0.5, abs=0.03)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_labels_are_smoothed_over_all_classes() -> None:
    images, labels = numbered(6)
    same, targets = mix_images(images, labels, 5, PLAIN.replace(label_smoothing=0.1).augmentation, seed(0))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_allclose(targets, 0.9 * one_hot(labels.numpy()) + 0.02, atol=1e-6)


@pytest.mark.parametrize(
    "fields", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1}]
)
def test_labels_sum_to_one_and_a_seed_decides_all(fields: dict[str, float]) -> None:
    images, labels = numbered(16)
    recipe = PLAIN.replace(**fields)
    one, again, other = (mix_images(images, labels, 5, recipe.augmentation, seed(step)) for step in (1, 1, 2))
    np.testing.assert_allclose(one[1].numpy().sum(1), 1, atol=1e-5)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one[1].numpy() != other[1].numpy()).any()


def test_erased_rectangles_have_2_to_33_per_cent_and_come_as_often_as_the_recipe_says() -> None:
    images = tf.ones((400, 64, 64, 3))
    chosen = replace(UNIT, image_size=(64, 64))
    found = augment(images, PLAIN.replace(image_size=64, erase=0.25).augmentation, chosen, seed(0)).numpy()
    erased = 1 - found.mean(axis=(1, 2, 3))
    assert 0.17 < (erased > 0).mean() < 0.33
    parts = erased[erased > 0]
    assert 0.01 < parts.min() < 0.08
    assert 0.25 < parts.max() < 0.35
    for image in found[erased > 0][:20, :, :, 0]:
        gone = image == 0
        assert gone.sum() == gone.any(1).sum() * gone.any(0).sum()


def test_crops_of_random_area_have_the_areas_and_aspects_of_the_recipe() -> None:
    y, x = np.mgrid[:100, :140].astype(np.float32)
    image = tf.constant(np.stack([x, y, x], -1))
    recipe = PLAIN.replace(image_size=32, crop_area=(0.3, 0.8))
    chosen = replace(UNIT, image_size=(32, 32))
    areas, aspects = [], []
    for step in range(200):
        found = random_crop_of(image, recipe.augmentation, chosen, seed(step)).numpy()
        # Of slopes of one gray level a pixel, the range gives the extent.
        width, height = (np.ptp(found[..., axis]) * 32 / 31 for axis in (0, 1))
        areas.append(width * height / 14_000)
        aspects.append(width / height)
    assert 0.27 < min(areas) < 0.36
    assert 0.7 < max(areas) < 0.85
    assert 0.70 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < 1.40
