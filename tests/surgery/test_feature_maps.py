"""Feature maps, output strides and new heads, against the network that they are taken from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.shapes_only import shapes_only
from helpers.small_networks import FOUR_STAGES, TWO_STAGES, drawn, images

from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import EXPANSION, Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.surgery.feature_maps import features, split, with_head

ROWS = [name for name in ARCHITECTURES if name != "resnet1202"]  # which takes seconds to build
DEEP = ("resnet110", "plainnet110", "resnet101", "resnet152")


def logits(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x, training=False))


# Feature maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in ROWS])
def test_feature_maps_are_what_the_stages_give(name: str) -> None:
    row = ARCHITECTURES[name]
    with shapes_only():
        model = build(name, include_top=False, input_shape=(96, 64, 3))
        maps = features(model).output
    if row.stem == "imagenet":
        stem = maps.pop("C1")
        assert stem.shape == (None, 48, 32, 64)
        assert stem is model.get_layer("stem_relu").output
    assert list(maps) == [f"C{stage + 2}" for stage in range(len(row.repeats))]
    first = 4 if row.stem == "imagenet" else 1
    for stage, (repeats, width, tensor) in enumerate(zip(row.repeats, row.widths, maps.values(), strict=True)):
        stride = first * 2**stage
        assert tensor.shape == (None, 96 // stride, 64 // stride, width * EXPANSION[row.block])
        assert tensor is model.get_layer(f"stage{stage + 1}_block{repeats}_relu").output


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("architecture", [TWO_STAGES, FOUR_STAGES, replace(FOUR_STAGES, block="basic", shortcut=None)])
def test_feature_maps_are_the_activations_of_the_network(architecture: Architecture, include_top: bool) -> None:
    options = {"classes": 3, "classifier_activation": None} if include_top else {}
    model = drawn(build(architecture, include_top, input_shape=(37, 64, 3), **options))
    backbone = features(model)
    ends = [model.get_layer(f"stage{n}_block{count}_relu").output for n, count in enumerate(architecture.repeats, 1)]
    x = images(2, 37, 64, 3)
    expected = keras.Model(model.input, ends)(x, training=False)
    found = backbone(x, training=False)
    found.pop("C1", None)
    assert list(found) == ["C2", "C3", "C4", "C5"][: len(ends)]
    for one, other in zip(found.values(), expected, strict=True):
        assert np.ptp(one) > 0.1
        np.testing.assert_array_equal(one, other)
    last = np.asarray(list(found.values())[-1])
    if include_top:
        kernel, bias = model.get_layer("logits").get_weights()
        np.testing.assert_allclose(last.mean((1, 2)) @ kernel + bias, logits(model, x), rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(last, logits(model, x))


def test_feature_maps_leave_the_classifier_out_and_share_all_other_layers() -> None:
    model = build(TWO_STAGES, input_shape=(16, 16, 3))
    backbone = features(model)
    ours = {id(weight) for weight in backbone.weights}
    head = model.get_layer("logits")
    assert ours == {id(weight) for weight in model.weights} - {id(head.kernel), id(head.bias)}
    assert {id(weight) for weight in features(build(TWO_STAGES, include_top=False)).weights}.isdisjoint(ours)


def test_feature_maps_of_free_size_fit_any_image() -> None:
    backbone = features(build(FOUR_STAGES, include_top=False))
    assert backbone.output["C5"].shape == (None, None, None, 24)
    found = backbone(images(1, 70, 33, 3))
    assert [tensor.shape[1:3] for tensor in found.values()] == [(35, 17), (18, 9), (9, 5), (5, 3), (3, 2)]


@pytest.mark.parametrize("include_top", [True, False])
def test_feature_maps_of_a_network_in_segments_are_those_of_one_in_one_piece(
    include_top: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = drawn(build(TWO_STAGES, include_top, input_shape=(16, 16, 3)))
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = build(TWO_STAGES, include_top, input_shape=(16, 16, 3))
    assert sum(isinstance(layer, keras.Model) for layer in segmented.layers) == 3
    segmented.set_weights(flat.get_weights())
    x = images(2, 16, 16, 3)
    expected, found = features(flat)(x, training=False), features(segmented)(x, training=False)
    assert list(found) == ["C2", "C3"]
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_feature_maps_survive_a_file(tmp_path: Path) -> None:
    backbone = features(drawn(build(TWO_STAGES, input_shape=(16, 16, 3))))
    backbone.save(tmp_path / "backbone.keras")
    x = images(2, 16, 16, 3)
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")(x)
    for name, expected in backbone(x).items():
        np.testing.assert_allclose(loaded[name], expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_stages_has_no_feature_maps() -> None:
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, keras.layers.Conv2D(4, 3)(image), name="other")
    with pytest.raises(ValueError, match=r"network of this package, with layers stage1_.*Received: 'other'"):
        features(other)


# Output strides ----------------------------------------------------------------------------------------------------

SHAPES: dict[str, Any] = {"repeats": (1, 1, 2, 2), "widths": (3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("stem", "block", "where", "option"),
    [
        *(("imagenet", "basic", "1x1", option) for option in ("A", "B")),
        *(pytest.param("imagenet", "basic", "1x1", option, marks=pytest.mark.slow) for option in ("C", None)),
        ("imagenet", "bottleneck", "1x1", "B"),
        pytest.param("imagenet", "bottleneck", "1x1", None, marks=pytest.mark.slow),
        *(pytest.param("imagenet", "bottleneck", "1x1", option, marks=pytest.mark.slow) for option in ("A", "C")),
        *(pytest.param("imagenet", "bottleneck", "3x3", option, marks=pytest.mark.slow) for option in ("A", "B", None)),
        ("cifar", "basic", "1x1", "A"),
        pytest.param("cifar", "basic", "1x1", None, marks=pytest.mark.slow),
        ("cifar", "bottleneck", "3x3", "C"),
    ],
)
def test_a_dilated_network_computes_what_the_original_does_at_more_places(
    stem: Any, block: Any, where: Any, option: Any
) -> None:
    own = Architecture(stem=stem, block=block, shortcut=option, **SHAPES).replace(bottleneck_stride=where)
    original = drawn(build(own, include_top=False))
    sizes = [(64, 32), (41, 50)]
    shown = [images(2, *size, 3) for size in sizes]
    expected = [logits(original, x) for x in shown]
    for stride in (own.total_stride // 2, own.total_stride // 8):
        dilated = build(own, include_top=False, output_stride=stride)
        dilated.set_weights(original.get_weights())
        step = own.total_stride // stride
        for size, x, wanted in zip(sizes, shown, expected, strict=True):
            found = logits(dilated, x)
            assert found.shape[1:3] == tuple(-(-side // stride) for side in size)
            assert wanted.std() > 0.05
            np.testing.assert_allclose(found[:, ::step, ::step], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stem", "stride", "expected"),
    [
        ("imagenet", 32, [4, 8, 16, 32]),
        ("imagenet", 16, [4, 8, 16, 16]),
        ("imagenet", 8, [4, 8, 8, 8]),
        ("imagenet", 4, [4, 4, 4, 4]),
        ("cifar", 4, [1, 2, 4, 4]),
        ("cifar", 2, [1, 2, 2, 2]),
        ("cifar", 1, [1, 1, 1, 1]),
    ],
)
def test_feature_maps_stop_shrinking_at_the_output_stride(stem: Any, stride: int, expected: list[int]) -> None:
    own = Architecture(stem=stem, block="bottleneck", **SHAPES)
    with shapes_only():
        model = build(own, input_shape=(96, 64, 3), output_stride=stride)
        maps = [tensor for name, tensor in features(model).output.items() if name != "C1"]
    assert [tensor.shape[1:] for tensor in maps] == [
        (96 // s, 64 // s, 4 * width) for s, width in zip(expected, own.widths, strict=True)
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet20"])
def test_output_stride_adds_no_parameter_and_renames_no_layer(name: str) -> None:
    def weights(**options: Any) -> dict[str, tuple[int, ...]]:
        return {weight.path: tuple(weight.shape) for weight in build(name, include_top=False, **options).weights}

    stride = 8 if ARCHITECTURES[name].stem == "imagenet" else 1
    with shapes_only():
        assert weights(output_stride=stride) == weights()


def test_a_dilated_network_takes_the_weights_of_a_file(tmp_path: Path) -> None:
    own = Architecture(stem="imagenet", block="bottleneck", **SHAPES)
    original = drawn(build(own, input_shape=(64, 64, 3), classes=3))
    original.save(tmp_path / "original.keras")
    dilated = build_with_weights(own, include_top=False, weights=tmp_path / "original.keras", output_stride=8)
    x = images(1, 64, 64, 3)
    expected = features(original)(x, training=False)["C5"]
    np.testing.assert_allclose(logits(dilated, x)[:, ::4, ::4], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("network", "stride"), [("resnet18", 8), ("resnet20", 1)])
def test_an_image_may_be_as_small_as_the_output_stride(network: str, stride: int) -> None:
    model = build(network, include_top=False, input_shape=(stride, stride, 3), output_stride=stride)
    assert logits(model, images(1, stride, stride, 3)).shape[1:3] == (1, 1)


def test_a_dilated_classifier_averages_over_its_larger_map() -> None:
    own = FOUR_STAGES.replace(output_stride=8)
    model = drawn(build(own, input_shape=(64, 32, 3), classes=3, classifier_activation=None))
    x = images(2, 64, 32, 3)
    last = np.asarray(features(model)(x, training=False)["C5"])
    assert last.shape == (2, 8, 4, 24)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits(model, x), last.mean((1, 2)) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_a_network_in_segments_dilates_as_one_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = drawn(build(TWO_STAGES, include_top=False, input_shape=(16, 16, 3), output_stride=1))
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = build(TWO_STAGES, include_top=False, input_shape=(16, 16, 3), output_stride=1)
    segmented.set_weights(flat.get_weights())
    x = images(2, 16, 16, 3)
    np.testing.assert_allclose(logits(segmented, x), logits(flat, x), rtol=1e-5, atol=1e-6)


# New heads ---------------------------------------------------------------------------------------------------------


def test_a_new_head_replaces_the_classifier_alone() -> None:
    keras.utils.set_random_seed(1)
    model = drawn(build(TWO_STAGES, input_shape=(16, 16, 3), classes=5))
    before = [array.copy() for array in model.get_weights()]
    new = with_head(model, 3)
    assert (new.name, new.output_shape) == (model.name, (None, 3))
    *shared, kernel, bias = new.weights
    assert [id(weight) for weight in shared] == [id(weight) for weight in model.weights[:-2]]
    assert (kernel.path, tuple(kernel.shape)) == ("logits/kernel", (8, 3))
    assert not np.any(bias)
    # As He describes it: not truncated, of variance 2 / fan-in.
    wide = with_head(model, 4000).get_layer("logits").kernel.numpy()
    assert wide.std() == pytest.approx((2 / 8) ** 0.5, rel=0.02)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("before", [None, "softmax"])
@pytest.mark.parametrize("after", [None, "softmax", "sigmoid"])
def test_a_new_head_is_a_classifier_of_the_last_feature_map(before: str | None, after: str | None) -> None:
    model = drawn(build(TWO_STAGES, input_shape=(16, 16, 3), classes=5, classifier_activation=before))
    new = with_head(model, 3, classifier_activation=after)
    x = images(2, 16, 16, 3)
    pooled = np.asarray(features(model)(x, training=False)["C3"]).mean((1, 2))
    kernel, bias = new.get_layer("logits").get_weights()
    expected = keras.activations.get(after)(pooled @ kernel + bias)
    np.testing.assert_allclose(logits(new, x), expected, rtol=1e-4, atol=1e-5)
    assert [layer.name for layer in new.layers[-2:]] == ["pool", "logits"]


def test_a_network_in_segments_gets_a_new_head_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    new = with_head(drawn(build(TWO_STAGES, input_shape=(16, 16, 3))), 3, classifier_activation=None)
    before = new.get_layer("logits").kernel.numpy()
    new.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    new.train_on_batch(images(6, 16, 16, 3), np.arange(6) % 3)
    assert (new.get_layer("logits").kernel.numpy() != before).any()


def test_a_network_without_a_classifier_gets_no_new_head() -> None:
    with pytest.raises(ValueError, match=r"a layer 'logits'\. Received: 'headless', without"):
        with_head(build(TWO_STAGES, include_top=False, name="headless"), 3)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_new_head_of_no_classes_raises(classes: int) -> None:
    with pytest.raises(ValueError, match=rf"`classes` to be a positive integer\. Received: {classes}"):
        with_head(build(TWO_STAGES), classes)


def test_a_number_of_classes_may_be_numpy_s() -> None:
    labels = np.array([0, 2, 1])
    row = replace(TWO_STAGES, widths=list(np.array([4, 8])))
    model = build(row, input_shape=(8, 8, 1), classes=labels.max() + 1)
    for network in (model, with_head(model, labels.max() + 1)):
        assert network.output_shape == (None, 3)
        assert keras.Model.from_config(network.get_config()).output_shape == (None, 3)
    with pytest.raises(ValueError, match="Expected `classes` to be a positive integer. Received: 2.0"):
        build(TWO_STAGES, input_shape=(8, 8, 1), classes=2.0)


def test_the_parts_of_a_network_one_after_the_other_are_the_network() -> None:
    model = drawn(build(FOUR_STAGES, include_top=False, input_shape=(None, None, 3)))
    shared, rest = split(model, "C4")
    x = images(2, 40, 64, 3)
    np.testing.assert_allclose(rest(shared(x)), model(x), atol=1e-5)
    assert {layer.name for layer in rest.layers if layer.weights} == {
        layer.name for layer in model.layers if layer.weights and layer.name.startswith("stage4_")
    }
    assert rest(images(3, 14, 14, shared.output_shape[-1])).shape == (3, 7, 7, model.output_shape[-1])


def test_a_network_is_not_split_at_its_end() -> None:
    with pytest.raises(ValueError, match=r"within 'resnet\d+', one of C1, C2, C3, C4. Received: 'C5'"):
        split(build(FOUR_STAGES, include_top=False), "C5")
