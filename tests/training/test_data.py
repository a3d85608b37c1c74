"""Splits as the data of a run: what they pass on of a recipe."""

import keras
import numpy as np
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.datasets import dataset
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit
from resnet_keras.data.training_input import training_batches
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.data import SplitData
from resnet_keras.training.image_size_phases import Phase

GRAY = Preprocessing(image_size=(4, 6), channels=1, mean=(100.0,), std=(50.0,))
RECIPE = RECIPES["digits"].replace(
    batch_size=4, epochs=2, seed=3, carry_over=True, pad_pixels=0, flip=True, test_flip=True
)


def split(count: int, classes: int) -> ArraySplit:
    images = np.random.default_rng(count).integers(0, 256, (count, 4, 6, 1), np.uint8)
    return ArraySplit(images, np.arange(count) % classes, tuple("abcdefghij"[:classes]), dataset("digits"))


def test_training_batches_are_those_of_the_recipes_numbers() -> None:
    data = SplitData(split(10, 10), split(10, 10), soft_labels=True)
    assert data.steps(RECIPE) == 3
    found = list(data.batches(RECIPE, GRAY, Phase(0, 5, 3, None), None, deterministic=True).as_numpy_iterator())
    expected = training_batches(
        data.train_split,
        GRAY,
        RECIPE.augmentation,
        batch_size=4,
        epochs=2,
        seed=3,
        one_hot=True,
        last_step=5,
        carry_over=True,
    )
    assert len(found) == 5
    for own, other in zip(found, expected.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(own[0], other[0])
        np.testing.assert_array_equal(own[1], other[1])
    order = np.concatenate([labels for _, labels in found]).argmax(1)
    # No image is left out: the third batch has two images of the second epoch.
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))


def test_the_test_images_are_mirrored_too_where_the_recipe_says_so() -> None:
    model = keras.Sequential([keras.Input((4, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    kernel = np.random.default_rng(0).normal(size=(24, 3))
    model.set_weights([kernel, np.zeros(3)])
    data = SplitData(split(10, 3), split(5, 3), soft_labels=False)
    found = data.evaluate(Classifier(model, GRAY, data.class_names), RECIPE)
    images = (data.test_split.images - 100.0) / 50.0
    scores = [np.exp(view.reshape(5, 24) @ kernel) for view in (images, images[:, :, ::-1])]
    probabilities = np.mean([each / each.sum(1, keepdims=True) for each in scores], 0)
    expected = -np.log(probabilities[np.arange(5), data.test_split.labels]).mean()
    assert (found.images, found.loss) == (5, pytest.approx(expected, rel=1e-4))
