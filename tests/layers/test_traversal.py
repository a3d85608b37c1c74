"""Iteration over the layers of a model."""

import keras

from resnet_keras.layers.traversal import flat_layers


def test_flat_layers_replaces_a_nested_model_by_its_layers() -> None:
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="b"), keras.layers.Dense(3, name="c")])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="a"), inner, keras.layers.ReLU(name="d")])
    assert [layer.name for layer in flat_layers(model)] == ["a", "b", "c", "d"]
