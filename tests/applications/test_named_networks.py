"""The named builders: the calls written for `keras.applications`, and networks that follow their weights."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest
from helpers.shapes_only import shapes_only

from resnet_keras.applications import named_networks
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES


def test_arguments_up_to_name_are_those_of_keras_applications() -> None:
    theirs = list(inspect.signature(keras.applications.ResNet50).parameters)
    ours = inspect.signature(named_networks.ResNet50).parameters
    assert theirs[-1] == "name"
    assert [p.name for p in ours.values() if p.kind is not p.KEYWORD_ONLY] == theirs
    assert [name for name in inspect.signature(build).parameters if name in theirs] == [
        name for name in theirs if name != "weights"
    ]
    assert [p.name for p in ours.values() if p.kind is p.KEYWORD_ONLY] == [
        "shortcut",
        "zero_channels",
        "bottleneck_stride",
        "batch_norm",
        "output_stride",
        "stochastic_depth",
        "zero_init_residual",
    ]


def test_defaults_are_those_of_keras_applications_but_for_weights() -> None:
    theirs, ours = (
        inspect.signature(each).parameters for each in (keras.applications.ResNet50, named_networks.ResNet50)
    )
    for argument in ("include_top", "input_tensor", "pooling", "classes", "classifier_activation"):
        assert ours[argument].default == theirs[argument].default, argument
    assert (ours["weights"].default, theirs["weights"].default) == (None, "imagenet")


@pytest.mark.parametrize(
    "builder", [pytest.param(keras.applications.ResNet50, marks=pytest.mark.slow), named_networks.ResNet50]
)
def test_calls_written_for_keras_applications_work(builder: Any) -> None:
    with shapes_only():
        headless = builder(include_top=False, weights=None, input_shape=(64, 64, 3))
        assert headless.output_shape == (None, 2, 2, 2048)
        assert builder(include_top=False, weights=None).output_shape == (None, None, None, 2048)
        tensor = keras.Input((64, 96, 3), name="photo")
        pooled = builder(False, None, tensor, pooling="avg", name="features")
        assert pooled.inputs[0] is tensor
        assert (pooled.name, pooled.output_shape) == ("features", (None, 2048))
        assert builder(False, None, None, (64, 64, 3), "max").output_shape == (None, 2048)
        ten = builder(weights=None, classes=10, input_shape=(64, 64, 3), classifier_activation=None)
        assert ten.output_shape == (None, 10)


def test_every_row_of_the_table_has_a_builder_with_a_name_and_documentation_of_its_own() -> None:
    for name, row in ARCHITECTURES.items():
        called = name.replace("resnet", "ResNet").replace("plainnet", "PlainNet")
        builder = getattr(named_networks, called)
        assert builder.__name__ == called
        documentation = inspect.getdoc(builder)
        assert documentation is not None
        assert name.removeprefix("resnet").removeprefix("plainnet") in documentation.splitlines()[0]
        assert "{what}" not in documentation
        assert "network: A name" not in documentation
        assert "network" not in inspect.signature(builder).parameters
        assert inspect.signature(builder).parameters["classes"].default == row.classes


def test_named_builder_builds_its_network() -> None:
    with shapes_only():
        assert named_networks.PlainNet20().get_config().keys() == build("plainnet20").get_config().keys()
        assert [layer.name for layer in named_networks.ResNet32().layers if layer.weights] == [
            layer.name for layer in build("resnet32").layers if layer.weights
        ]


def test_weights_that_nobody_published_raise_before_anything_is_built() -> None:
    with pytest.raises(
        ValueError, match=r"with published weights called 'imagenet', one of resnet18, .* Received: resnet20"
    ):
        named_networks.build_with_weights("resnet20", weights="imagenet")


def test_a_mistyped_argument_or_source_of_weights_gets_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"^ResNet20\(\) got an unexpected .* 'inputshape'\. Did you mean input_shape\?$"
    ):
        named_networks.ResNet20(inputshape=(8, 8, 1))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"Received: 'imagnet'\. Did you mean imagenet\?$"):
        named_networks.ResNet50(weights="imagnet")
