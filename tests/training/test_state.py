"""The state of a run: what its start does to stem and classifier, and the averages that its own training step keeps."""

import keras
import numpy as np
import pytest

from resnet_keras.data.datasets import dataset
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import ArraySplit
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training import state as module
from resnet_keras.training.data import SplitData
from resnet_keras.training.ema import WeightAverage
from resnet_keras.training.inputs import TrainingInputs
from resnet_keras.training.state import TrainingState
from resnet_keras.training.whitening import whiten
from resnet_keras.weights.imported import ImportedWeights

GRAY = Preprocessing(image_size=(5, 5), channels=1, mean=(100.0,), std=(50.0,))
RECIPE = RECIPES["digits"].replace(batch_size=4, whiten_stem=True, ema=0.25, seed=7)


def state_of_stem_and_logits() -> TrainingState:
    """Returns a state whose network has a stem of six filters, with an average of decay 0.25."""
    stem = keras.layers.Conv2D(6, 2, use_bias=False, name="stem_conv")
    model = keras.Sequential([keras.Input((5, 5, 1)), stem, keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return TrainingState(model, None, WeightAverage(model, RECIPE.optimization.ema), None)


def test_a_run_begins_with_a_whitened_stem_of_the_recipes_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5, 1), np.uint8)
    split = ArraySplit(images, np.arange(20) % 3, ("a", "b", "c"), dataset("digits"))
    state, same = state_of_stem_and_logits(), state_of_stem_and_logits()
    state.initialize(TrainingInputs(RECIPE, SplitData(split, split, False), GRAY, 5, None))
    kernel = state.model.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_array_equal(kernel[..., 3:], -kernel[..., :3])
    assert state.average is not None
    np.testing.assert_array_equal(state.average.averages[0].numpy(), kernel)
    normalized = (images - 100.0) / 50.0
    whiten(same.model, normalized, seed=7)
    np.testing.assert_allclose(kernel, same.model.get_layer("stem_conv").kernel.numpy(), rtol=1e-4)
    # The filters make patches of the images uncorrelated and of variance 1.
    patches = np.lib.stride_tricks.sliding_window_view(normalized[..., 0], (2, 2), axis=(1, 2)).reshape(-1, 4)
    np.testing.assert_allclose(np.cov(patches @ kernel.reshape(4, 6)[:, :3], rowvar=False), np.eye(3), atol=0.05)


def test_the_training_step_of_a_run_averages_the_weights() -> None:
    state, rng = state_of_stem_and_logits(), np.random.default_rng(1)
    model, seen = state.model, []
    with state.training_step(RECIPE):
        for _ in range(2):
            images, labels = rng.normal(size=(4, 5, 5, 1)).astype(np.float32), rng.integers(0, 3, 4)
            model.train_step((images, labels))
            seen.append(model.get_weights())
    assert state.average is not None
    for average, first, second in zip(state.average.averages, *seen, strict=True):
        assert np.abs(first - second).max() > 1e-3
        np.testing.assert_allclose(average.numpy(), 0.25 * first + 0.75 * second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_a_new_classifier_is_fitted_to_mirrored_images_too_where_the_recipe_mirrors(
    monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    split = ArraySplit(np.zeros((3, 5, 5, 1), np.uint8), np.arange(3), ("a", "b", "c"), dataset("digits"))
    weights = ImportedWeights("other", "keras", {}, {})
    recipe, seen = RECIPE.replace(whiten_stem=False, fit_head=True, flip=flip), []
    monkeypatch.setattr(module, "fit_head", lambda model, batches, *, mirrored: seen.append(mirrored) or len(split))
    state_of_stem_and_logits().initialize(TrainingInputs(recipe, SplitData(split, split, False), GRAY, 1, weights))
    assert seen == [flip]
