"""The network of a recipe: its options, and the loss that it is compiled with."""

import keras
import numpy as np
import pytest

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training import model as module

ROW = Architecture(stem="cifar", block="bottleneck", repeats=(1, 1), widths=(2, 3), shortcut="B")
GRAY = Preprocessing(image_size=(6, 6), channels=1, mean=(0.0,), std=(1.0,))
RECIPE = RECIPES["digits"].replace(model="resnet20", epochs=2, batch_size=4)


def test_a_network_has_all_options_of_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "little", ROW)
    recipe = RECIPE.replace(
        model="little",
        shortcut="A",
        zero_channels="both_sides",
        bottleneck_stride="3x3",
        batch_norm="synchronized",
        stochastic_depth=0.3,
        zero_init_residual=True,
    )
    found = module.build_network(recipe, GRAY, classes=5)
    same = build(recipe.architecture, input_shape=(6, 6, 1), classes=5, classifier_activation=None)
    assert [layer.name for layer in found.layers[1:]] == [layer.name for layer in same.layers[1:]]
    assert found.count_params() == same.count_params()
    assert "stage2_block1_projection" not in {layer.name for layer in found.layers}
    # From 2 to 8 channels, and from 8 to 12.
    zeros = [found.get_layer(f"stage{stage}_block1_shortcut_zeros").padding for stage in (1, 2)]
    assert zeros == [((0, 0), (3, 3)), ((0, 0), (2, 2))]
    strides = [found.get_layer(f"stage2_block1_conv{number}").strides for number in (1, 2, 3)]
    assert strides == [(1, 1), (2, 2), (1, 1)]
    norms = [layer for layer in found.layers if isinstance(layer, BatchNormalization)]
    assert [layer.synchronized for layer in norms] == [True] * 7
    assert [found.get_layer(f"stage{stage}_block1_drop").rate for stage in (1, 2)] == [0.15, 0.3]
    gammas = {layer.name: set(layer.gamma.numpy().tolist()) for layer in norms}
    assert [name for name, values in gammas.items() if values == {0}] == [
        "stage1_block1_conv3_bn",
        "stage2_block1_conv3_bn",
    ]


@pytest.mark.parametrize(
    ("changes", "soft"), [({"loss": "binary"}, True), ({"label_smoothing": 0.1}, True), ({}, False)]
)
def test_a_network_is_compiled_with_its_recipes_loss(
    monkeypatch: pytest.MonkeyPatch, changes: dict, soft: bool
) -> None:
    little = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    monkeypatch.setattr(module, "build_network", lambda *args, **options: little)
    model = module.compile_network(RECIPE.replace(**changes), GRAY, classes=3, steps=2)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (4, 3)), rng.uniform(0, 1, (4, 3)) if soft else np.array([2, 0, 1, 1])
    if "loss" in changes:
        expected = np.mean(np.log1p(np.exp(logits)) - labels * logits)
    else:
        log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected = -np.mean((labels * log_softmax).sum(1) if soft else log_softmax[np.arange(4), labels])
    assert float(model.loss(labels, logits.astype(np.float32))) == pytest.approx(expected, rel=1e-5)
