"""The networks that came after the paper's: sizes, what their blocks compute, and other libraries' weights in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.shapes_only import shapes_only
from helpers.small_networks import drawn, images

from resnet_keras.applications.named_networks import build_with_weights
from resnet_keras.exporting.litert import convert_to_litert, operators
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY, architecture
from resnet_keras.networks.complexity import complexity, parameters
from resnet_keras.networks.conventions import Conventions
from resnet_keras.networks.published_sizes import SIZES
from resnet_keras.surgery.folding import fold
from resnet_keras.surgery.freezing import freeze
from resnet_keras.surgery.quantization import quantize
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.model_conventions import conventions_of_config
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import open_weights

BEFORE = Architecture(
    stem="imagenet", block="bottleneck", repeats=(2, 2), widths=(4, 6), activation="before",
    conventions=Conventions(projection="bare", bottleneck_stride="3x3"),
)  # fmt: skip
SMALL = {
    "before": BEFORE,
    "before, TF-slim": BEFORE.replace(
        first_activation="block", strided_block="last_of_previous", conv_bias=True, bottleneck_stride="3x3"
    ),
    "before, timm": BEFORE.replace(first_activation="block", pool_border="edge"),
    "before, basic, A": Architecture(
        stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A", activation="before"
    ),
    "vd": Architecture(
        stem="deep", block="basic", repeats=(2, 1), widths=(4, 6),
        conventions=Conventions(projection="pooled", first_projection=True),
    ),
    "resnext": Architecture(
        stem="imagenet", block="bottleneck", repeats=(2, 1), widths=(8, 16), stem_width=4, expansion=2, groups=4
    ),
    "rs": Architecture(
        stem="strided", block="bottleneck", repeats=(2, 1), widths=(4, 6), se_reduction=4,
        conventions=Conventions(projection="pooled", bottleneck_stride="3x3"),
    ),
    "tiny": replace(FAMILY["resnet8"], widths=(4, 6, 8)),
}  # fmt: skip

QUICK = (
    "resnet18v2", "resnet50v2", "resnet164v2", "resnet50vd", "wide_resnet28_10", "wide_resnet16_8", "wide_resnet50_2",
    "resnext50_32x4d", "se_resnet50", "se_resnext50_32x4d", "resnet_rs50",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILY if name in SIZES]
)
def test_a_member_has_the_published_parameters(name: str) -> None:
    with shapes_only():
        assert SIZES[name].is_of(parameters(build(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILY if name not in SIZES])
def test_every_other_member_is_built_and_predicts(name: str) -> None:
    row = FAMILY[name]
    side = row.total_stride * 2
    model = build(name, input_shape=(side, side, 3))
    assert np.isfinite(model.predict_on_batch(images(1, side, side, 3))).all()


def test_resnet8_has_the_parameters_of_mlperf_tiny() -> None:
    model = build("resnet8")
    # Its README counts 78,666: the moving statistics, too, and biases that batch normalization takes away again.
    removed = sum(
        layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and not layer.use_bias
    )
    assert model.count_params() + removed == 78_666
    assert parameters(model) == 77_946


# Multiply-adds, in 10^9, that torchvision publishes (`_ops`); MLPerf Tiny's 12.5 million.
@pytest.mark.parametrize(
    ("name", "billions"), [("resnext50_32x4d", 4.23), ("wide_resnet50_2", 11.398), ("resnet8", 0.0125)]
)
def test_multiply_adds_are_the_published(name: str, billions: float) -> None:
    with shapes_only():
        found = complexity(name)
    assert found.multiply_adds / 1e9 == pytest.approx(billions, rel=0.01)


def test_no_name_is_taken_twice_and_unknown_names_have_a_nearest() -> None:
    assert not set(ARCHITECTURES) & set(FAMILY)
    assert all(row.name == name for name, row in FAMILY.items())
    with pytest.raises(ValueError, match=r"Received: 'resnext51'\. Did you mean .*resnet50"):
        architecture("resnext51")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"groups": 3}, r"`groups` to be 1, or for bottlenecks a divisor of all widths \(4, 6\). Received: 3"),
        ({"groups": 0}, "`groups` to be at least 1. Received: 0"),
        ({"se_reduction": -1}, "`se_reduction` to be at least 0. Received: -1"),
        ({"expansion": 0}, "`expansion` to be at least 1, or None. Received: 0"),
        ({"stem": "shallow"}, "`stem` to be one of .* Received: 'shallow'"),
        ({"activation": "between"}, "`activation` to be one of .* Received: 'between'"),
        ({"zero_init_residual": True}, "`zero_init_residual` to be False"),
        ({"strided_block": "last", "output_stride": 4}, "`output_stride` to be None"),
    ],
)
def test_fields_that_exclude_each_other_raise(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BEFORE.replace(**fields)


# What the blocks compute


def part(model: keras.Model, begin: str, end: str) -> keras.Model:
    """Returns what a network computes from one layer's output to another's."""
    return keras.Model(model.get_layer(begin).output, model.get_layer(end).output)


def built(name: str, **options: Any) -> keras.Model:
    return drawn(build(SMALL[name], input_shape=(32, 32, 3), classes=5, classifier_activation=None, **options))


def test_a_block_that_activates_before_is_its_input_plus_a_function_of_the_activated() -> None:
    model = built("before")
    x = images(2, 8, 8, 16)
    norm = model.get_layer("stage1_block2_preact_bn")
    activated = np.maximum(np.asarray(norm(x)), 0)
    residual = part(model, "stage1_block2_preact_relu", "stage1_block2_conv3").predict_on_batch(activated)
    received = part(model, "stage1_block1_add", "stage1_block2_add").predict_on_batch(x)
    np.testing.assert_allclose(received, x + residual, rtol=1e-5, atol=1e-5)


def test_the_first_activation_is_the_stems_or_the_first_blocks() -> None:
    of_stem = {layer.name for layer in built("before").layers}
    of_block = {layer.name for layer in built("before, timm").layers}
    assert {"stem_conv_bn", "final_bn"} <= of_stem
    assert "stage1_block1_preact_bn" not in of_stem
    assert {"stage1_block1_preact_bn", "final_bn"} <= of_block
    assert "stem_conv_bn" not in of_block


def test_strides_are_in_the_last_block_of_the_stage_before() -> None:
    model = built("before, TF-slim")
    strides = {
        la.name: la.strides[0] for la in model.layers if isinstance(la, keras.layers.Conv2D) and la.strides[0] > 1
    }
    assert strides == {"stem_conv": 2, "stage1_block2_conv2": 2}


def test_squeeze_and_excitation_scales_channels_by_a_function_of_their_means() -> None:
    model = built("rs")
    x = images(2, 8, 8, 16)
    reduce, expand = (model.get_layer(f"stage1_block1_{each}").get_weights() for each in ("reduce", "expand"))
    hidden = np.maximum(x.mean(axis=(1, 2)) @ reduce[0][0, 0] + reduce[1], 0)
    scale = 1 / (1 + np.exp(-(hidden @ expand[0][0, 0] + expand[1])))
    received = part(model, "stage1_block1_conv3_bn", "stage1_block1_scale").predict_on_batch(x)
    np.testing.assert_allclose(received, x * scale[:, None, None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_a_pooled_projection_sees_the_mean_of_each_window(size: tuple[int, int]) -> None:
    model = drawn(build(SMALL["vd"], input_shape=(None, None, 3)))
    x = images(2, *size, 4)
    height, width = (-(-side // 2) for side in size)
    means = [
        [x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(1, 2)) for j in range(width)] for i in range(height)
    ]
    expected = np.stack([np.stack(row, axis=1) for row in means], axis=1)
    received = part(model, "stage1_block2_relu", "stage2_block1_projection_pool").predict_on_batch(x)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_groups_see_their_own_channels_alone() -> None:
    model = built("resnext")
    convolution = model.get_layer("stage1_block1_conv2")
    kernel = convolution.get_weights()[0]
    assert kernel.shape == (3, 3, 2, 8)
    x = images(1, 6, 6, 8)
    received = np.asarray(convolution(x))
    for group in range(4):
        own = slice(2 * group, 2 * group + 2)
        expected = tf.nn.conv2d(x[..., own], kernel[..., own], 1, "SAME")
        np.testing.assert_allclose(received[..., own], expected, rtol=1e-4, atol=1e-5)


def test_a_pool_whose_border_is_the_edge_sees_no_zeros() -> None:
    model = built("before, timm")
    x = -1 - np.abs(images(1, 16, 16, 4))  # below zero throughout
    received = part(model, "stem_conv", "stem_pool").predict_on_batch(x)
    windows = [slice(max(0, 2 * i - 1), 2 * i + 2) for i in range(8)]
    expected = [[x[0, rows, columns].max(axis=(0, 1)) for columns in windows] for rows in windows]
    np.testing.assert_allclose(received[0], expected)


# All of them


@pytest.mark.parametrize("name", SMALL)
def test_every_variable_learns(name: str) -> None:
    keras.utils.set_random_seed(1)
    model = build(SMALL[name], input_shape=(32, 32, 3), classes=5, classifier_activation=None)
    drawn(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images(4, 32, 32, 3), training=True) - images(4, 5)))
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        # What normalization takes away again has a gradient of rounding errors alone.
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("name", SMALL)
def test_a_file_has_its_network_and_its_weights(name: str, tmp_path: Path) -> None:
    model = built(name)
    model.save(tmp_path / "x.keras")
    found = open_weights(tmp_path / "x.keras")
    assert recognize_architecture(found) == SMALL[name]
    again = build_with_weights(
        SMALL[name], weights=found, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_folding_changes_no_prediction(name: str) -> None:
    model = built(name)
    x = images(2, 32, 32, 3)
    copy = fold(model)
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-4, atol=1e-4)
    left = [layer.name for layer in copy.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # What follows a sum has no convolution to be folded into.
    assert all(each.endswith("preact_bn") or each == "final_bn" for each in left)


@pytest.mark.parametrize("names", [("before, timm", "before, TF-slim"), ("vd", "before")])
def test_weights_of_another_member_are_refused(names: tuple[str, str]) -> None:
    one, other = (built(name) for name in names)
    before = other.get_weights()
    with pytest.raises(ValueError, match="Expected"):
        load_weights(other, one)
    for kept, weight in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_a_strided_projection_is_no_place_for_the_weights_of_a_pooled_one() -> None:
    pooled = built("vd")
    strided = build(SMALL["vd"].replace(projection="normalized"), input_shape=(32, 32, 3), classes=5)
    with pytest.raises(ValueError, match=r"projection='pooled' \(the projection of shortcuts\).*'normalized'"):
        load_weights(strided, pooled)


@pytest.mark.parametrize(
    ("name", "said"),
    [("before", "whose every batch normalization follows a convolution"), ("rs", "without squeeze-and-excitation")],
)
def test_what_int8_training_cannot_do_raises(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quantize(built(name))


@pytest.mark.slow
def test_all_at_once_converts_with_builtin_operators_alone(tmp_path: Path) -> None:
    every = BEFORE.replace(
        stem="deep", groups=2, se_reduction=2, first_activation="block", pool_border="edge", conv_bias=True
    )
    model = drawn(build(every, input_shape=(32, 32, 3), classes=5))
    pixels = keras.Input((32, 32, 3), name="image")
    whole = keras.Model(pixels, fold(model)(pixels))
    x = images(8, 32, 32, 3)
    convert_to_litert(whole, x, {form: tmp_path / f"{form}.tflite" for form in ("float32", "int8")})
    counts = operators(tmp_path / "int8.tflite")
    assert not any(operator.startswith("custom:") for operator in counts)


def test_the_last_activation_is_of_the_backbone() -> None:
    model = built("before")
    freeze(model, "backbone")
    learning = {layer.name for layer in model.layers if layer.trainable_variables}
    assert learning == {"logits"}


# Other libraries' own networks


def agrees(network: str, theirs: keras.Model, **options: Any) -> None:
    """Asserts that a network of theirs, with weights drawn, is ours of that name with the same weights."""
    drawn(theirs)
    x = images(2, 64, 64, 3)
    expected = np.asarray(theirs(x))
    found = open_weights(theirs)
    assert recognize_architecture(found) == architecture(network).following(found.conventions)
    ours = build_with_weights(network, weights=found, input_shape=(64, 64, 3), classifier_activation=None, **options)
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_keras_applications_v2_is_ours_with_strides_at_the_ends_of_stages() -> None:
    theirs = keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3), classes=7, classifier_activation=None)
    agrees("resnet50v2", theirs, classes=7)
    found = open_weights(theirs)
    assert found.conventions.strided_block == "last_of_previous"
    # A `.keras` file states what its configuration shows, which are no strides of layers with other names.
    assert conventions_of_config(theirs.get_config()).strided_block is None
    assert found.preprocessing is not None
    assert found.preprocessing.mean == (127.5, 127.5, 127.5)


@pytest.mark.parametrize(
    ("network", "repeats", "block", "before", "stem"),
    [
        ("resnet18v2", [2, 2, 2, 2], "basic_block", True, [64]),
        pytest.param("resnet18vd", [2, 2, 2, 2], "basic_block_vd", False, [32, 32, 64], marks=pytest.mark.slow),
        pytest.param("resnet50vd", [3, 4, 6, 3], "bottleneck_block_vd", False, [32, 32, 64], marks=pytest.mark.slow),
    ],
)
def test_keras_hub_has_ours(network: str, repeats: list[int], block: str, before: bool, stem: list[int]) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    theirs = keras_hub.models.ResNetBackbone(
        input_conv_filters=stem,
        input_conv_kernel_sizes=[7] if len(stem) == 1 else [3, 3, 3],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=repeats,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        use_pre_activation=before,
        image_shape=(64, 64, 3),
    )
    agrees(network, theirs, include_top=False)


def test_mlperf_tinys_network_is_resnet8() -> None:
    keras.backend.clear_session()  # it distinguishes its layers by Keras's own numbers
    layers = keras.layers

    def conv(x: Any, channels: int, kernel: int = 3, stride: int = 1) -> Any:
        return layers.Conv2D(channels, kernel, strides=stride, padding="same")(x)

    image = keras.Input((32, 32, 3))
    x = layers.Activation("relu")(layers.BatchNormalization()(conv(image, 16)))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Activation("relu")(layers.BatchNormalization()(conv(x, channels, stride=stride)))
        y = layers.BatchNormalization()(conv(y, channels))
        x = conv(x, channels, 1, stride) if stride > 1 else x
        x = layers.Activation("relu")(layers.add([x, y]))
    theirs = keras.Model(image, layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(8)(x))))
    drawn(theirs)
    found = open_weights(theirs)
    assert found.layout == "MLPerf Tiny"
    assert recognize_architecture(found) == FAMILY["resnet8"]
    x = images(2, 32, 32, 3)
    ours = build_with_weights("resnet8", weights=theirs, classifier_activation=None)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
