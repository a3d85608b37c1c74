"""The conventions that a configuration shows and weights do not."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from helpers.foreign_weights import SMALL, network
from helpers.shapes_only import shapes_only

from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.conventions import Conventions
from resnet_keras.weights.model_conventions import conventions_of_config, conventions_of_model

BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(4, 6))


def summary(conventions: Conventions) -> tuple[str | None, str | None, float | None]:
    return conventions.bottleneck_stride, conventions.zero_channels, conventions.epsilon


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (SMALL, {}, (None, "end", 1e-5)),
        (SMALL, {"zero_channels": "both_sides"}, (None, "both_sides", 1e-5)),
        (SMALL, {"shortcut": "B"}, (None, None, 1e-5)),
        ("plainnet20", {}, (None, None, 1e-5)),
        (BOTTLENECK, {}, ("1x1", None, 1e-5)),
        (BOTTLENECK, {"bottleneck_stride": "3x3"}, ("3x3", None, 1e-5)),
    ],
)
def test_strides_zeros_and_epsilon_are_read_from_a_configuration(
    row: Architecture | str, options: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    with shapes_only():
        model = build(row, input_shape=(32, 32, 3), **options)
    assert summary(conventions_of_config(model.get_config())) == expected


def test_segments_tell_what_is_within_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    row = Architecture(stem="cifar", block="bottleneck", repeats=(2, 2), widths=(4, 8), shortcut="A")
    row = row.replace(zero_channels="both_sides")
    for stride in ("1x1", "3x3"):
        model = build(row, input_shape=(16, 16, 3), bottleneck_stride=stride)
        assert any(isinstance(layer, keras.Model) for layer in model.layers)
        assert summary(conventions_of_config(model.get_config())) == (stride, "both_sides", 1e-5)


@pytest.mark.parametrize(
    ("widths", "zero_channels", "expected"),
    [
        ((4, 4), "both_sides", None),
        ((4, 5), "both_sides", None),
        ((4, 5), "end", None),
        ((4, 6), "both_sides", "both_sides"),
        ((4, 6), "end", "end"),
        ((4, 7), "both_sides", "both_sides"),
        ((4, 5, 7), "both_sides", "both_sides"),
        ((4, 5, 7), "end", "end"),
    ],
)
def test_zeros_that_could_only_be_in_one_place_are_in_none(
    widths: tuple[int, ...], zero_channels: Any, expected: Any
) -> None:
    row = Architecture(stem="cifar", block="basic", repeats=(1,) * len(widths), widths=widths, shortcut="A")
    row = row.replace(zero_channels=zero_channels)
    with shapes_only():
        config = build(row, input_shape=(8, 8, 3)).get_config()
    assert conventions_of_config(config).zero_channels == expected


def test_epsilons_that_differ_tell_none() -> None:
    model = network(1)
    model.get_layer("stem_conv_bn").epsilon = 1e-3
    assert conventions_of_config(model.get_config()).epsilon is None


@pytest.mark.parametrize("config", [{}, [], None, "x", 3, {"layers": [1, "x", None]}, {"class_name": 3, "config": {}}])
def test_an_empty_configuration_gives_nothing(config: Any) -> None:
    assert conventions_of_config(config) == Conventions()


PLAIN = Architecture(stem="cifar", block="basic", repeats=(2, 1), widths=(4, 8), shortcut=None)


def test_a_network_without_shortcuts_is_plain() -> None:
    assert conventions_of_config(build(PLAIN, input_shape=(8, 8, 3)).get_config()).plain is True
    assert conventions_of_config(network(1).get_config()).plain is False


@pytest.mark.parametrize(
    ("stem", "block", "repeats", "place", "stride"),
    [
        ("cifar", "basic", (2, 1, 1), "1x1", 1),
        ("cifar", "bottleneck", (1, 1, 2), "1x1", 2),
        # Here one 3x3 is in the dilated stage, the one that had its stride, and is not dilated itself.
        ("cifar", "bottleneck", (1, 1, 1), "3x3", 2),
        ("imagenet", "basic", (1, 1, 1), "1x1", 8),
        ("imagenet", "bottleneck", (1, 2, 1), "3x3", 4),
        ("imagenet", "bottleneck", (1, 1, 1), "3x3", 8),
    ],
)
def test_an_output_stride_is_found_where_a_stage_does_not_halve(
    stem: Any, block: Any, repeats: tuple[int, ...], place: Any, stride: int
) -> None:
    row = Architecture(stem=stem, block=block, repeats=repeats, widths=(4, 4, 8)).replace(bottleneck_stride=place)
    with shapes_only():
        configs = [
            build(row, input_shape=(32, 32, 3), **options).get_config() for options in ({"output_stride": stride}, {})
        ]
    assert conventions_of_config(configs[0]).output_stride == stride
    assert conventions_of_config(configs[1]).output_stride in (None, row.total_stride)


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Conv2D", "config": {}},
        {"class_name": "Conv2D", "config": {"name": "a", "strides": 3}},
        {"class_name": "Conv2D", "config": {"name": "a", "strides": []}},
        {"class_name": "Conv2D", "config": {"name": "a", "strides": ["x"]}},
        {"class_name": "Pad", "config": {"pad_width": 1}},
        {"class_name": "Pad", "config": {"pad_width": []}},
        {"class_name": "Pad", "config": {"pad_width": [[1, 2, 3]]}},
        {"class_name": "BatchNormalization", "config": {"epsilon": [1]}},
        {"class_name": "BatchNormalization", "config": {}},
    ],
)
def test_a_layer_that_is_not_as_keras_writes_it_is_refused(layer: dict[str, Any]) -> None:
    for config in (layer, {"layers": [layer]}, {"class_name": "Functional", "config": {"layers": [layer]}}):
        with pytest.raises(ValueError, match="Expected a configuration as Keras writes it. Received: "):
            conventions_of_config(config)


def test_layers_within_layers_without_end_are_refused() -> None:
    config: dict[str, Any] = {}
    config["layers"] = [config]
    with pytest.raises(ValueError, match="Expected a configuration as Keras writes it. Received: RecursionError"):
        conventions_of_config(config)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resnet20", {}),
        ("resnet20", {"zero_channels": "both_sides"}),
        ("plainnet20", {}),
        ("resnet50", {"bottleneck_stride": "3x3"}),
        ("resnet50", {"output_stride": 8}),
    ],
)
def test_the_layers_of_a_network_tell_what_its_configuration_does(network: str, options: dict[str, Any]) -> None:
    with shapes_only():
        model = build(network, input_shape=(32, 32, 3), **options)
    assert conventions_of_model(model) == conventions_of_config(model.get_config())
    assert conventions_of_model(model).epsilon == 1e-5


def test_the_layers_of_nested_models_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with shapes_only():
        whole = conventions_of_model(build("resnet20", zero_channels="both_sides"))
        monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
        assert conventions_of_model(build("resnet20", zero_channels="both_sides")) == whole


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("repeats", [(2, 2, 2), (1, 2, 1), (1, 1, 1)])
def test_a_configuration_shows_its_strides(block: Any, repeats: tuple[int, ...]) -> None:
    row = Architecture(stem="cifar", block=block, repeats=repeats, widths=(4, 4, 8))
    for where in ("first", "last", "last_of_previous"):
        for stride in ("conv1", "conv2"):
            own = row.replace(
                strided_block=where, basic_stride=stride, bottleneck_stride={"conv1": "1x1"}.get(stride, "3x3")
            )
            with shapes_only():
                found = conventions_of_model(build(own, input_shape=(8, 8, 3)))
            shown = "first" if where == "last" and max(repeats[1:]) == 1 else where
            assert (found.strided_block, found.output_stride) == (shown, None), where
            kept = ("basic_stride", "bottleneck_stride")[block == "bottleneck"]
            assert found.known("basic_stride", "bottleneck_stride") == own.conventions.known(kept)
