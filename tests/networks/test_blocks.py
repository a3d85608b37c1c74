"""Stems, blocks and shortcuts against explicit arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from resnet_keras.networks import blocks
from resnet_keras.networks.architecture import Architecture, PlannedBlock
from resnet_keras.networks.builder import build

SMALL = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8))
FOUR_STAGES = Architecture(stem="imagenet", block="basic", repeats=(2, 2, 2, 2), widths=(4, 6, 8, 10))


def planned(width: int, stride: int, dilation: int = 1, dilation_after: int | None = None) -> PlannedBlock:
    return PlannedBlock("block", width, stride, dilation, dilation if dilation_after is None else dilation_after)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype("float32")


def randomize(model: keras.Model) -> None:
    """Draws every weight, the moving statistics too: with those of a fresh layer, normalization is the identity."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(rng.normal(scale=0.3, size=weight.shape))


def convolution(x: np.ndarray, kernel: np.ndarray, stride: int, padding: int, dilation: int = 1) -> np.ndarray:
    """(N, H, W, C) and (k, k, C, D) to (N, (H + 2p - d(k - 1) - 1) // s + 1, ..., D), one tap at a time."""
    x = np.pad(x.astype("float64"), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    k = kernel.shape[0]
    height, width = ((extent - dilation * (k - 1) - 1) // stride + 1 for extent in x.shape[1:3])
    out = np.zeros((x.shape[0], height, width, kernel.shape[3]))
    for i in range(k):
        for j in range(k):
            top, left = i * dilation, j * dilation
            taps = x[:, top : top + stride * (height - 1) + 1 : stride, left : left + stride * (width - 1) + 1 : stride]
            out += taps @ kernel[i, j]
    return out


def normalized(x: np.ndarray, layer: keras.layers.BatchNormalization) -> np.ndarray:
    gamma, beta, mean, variance = (weight.astype("float64") for weight in layer.get_weights())
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_conv_bn_pads_both_sides_alike(kernel: int, stride: int, size: tuple[int, int]) -> None:
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, blocks.conv_bn(inputs, 5, kernel, stride, SMALL, name="conv"))
    randomize(model)
    x = normal(2, *size, 3)
    expected = convolution(x, model.get_layer("conv").get_weights()[0], stride, kernel // 2)
    expected = normalized(expected, model.get_layer("conv_bn"))
    assert expected.shape[1:3] == tuple(-(-side // stride) for side in size)
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (3, 3)])
@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_dilated_conv_bn_keeps_height_and_width_and_spreads_its_taps(
    kernel: int, dilation: int, size: tuple[int, int]
) -> None:
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, blocks.conv_bn(inputs, 5, kernel, 1, SMALL, name="conv", dilation=dilation))
    randomize(model)
    x = normal(2, *size, 3)
    expected = convolution(x, model.get_layer("conv").get_weights()[0], 1, dilation * (kernel // 2), dilation)
    expected = normalized(expected, model.get_layer("conv_bn"))
    assert expected.shape[1:3] == size
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [16, 17])
def test_imagenet_stem_is_a_padded_convolution_and_a_padded_maximum(size: int) -> None:
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, blocks.imagenet_stem(inputs, 4, FOUR_STAGES))
    randomize(model)
    x = normal(2, size, size, 3)
    x1 = normalized(
        convolution(x, model.get_layer("stem_conv").get_weights()[0], 2, 3), model.get_layer("stem_conv_bn")
    )
    x1 = np.pad(np.maximum(x1, 0), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    side = -(-size // 4)
    windows = np.lib.stride_tricks.sliding_window_view(x1, (3, 3), axis=(1, 2))[:, ::2, ::2]
    assert windows.shape[1:3] == (side, side)
    np.testing.assert_allclose(model.predict_on_batch(x), windows.max(axis=(-2, -1)), rtol=1e-4, atol=1e-4)


def test_cifar_stem_keeps_height_and_width() -> None:
    inputs = keras.Input((9, 7, 3))
    model = keras.Model(inputs, blocks.cifar_stem(inputs, 4, SMALL))
    randomize(model)
    x = normal(2, 9, 7, 3)
    expected = convolution(x, model.get_layer("stem_conv").get_weights()[0], 1, 1)
    expected = np.maximum(normalized(expected, model.get_layer("stem_conv_bn")), 0)
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("zero_channels", "front"), [("end", 0), ("both_sides", 2)])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_option_a_is_exactly_subsampling_and_zeros(
    zero_channels: Any, front: int, size: tuple[int, int], stride: int
) -> None:
    option_a = SMALL.replace(shortcut="A", zero_channels=zero_channels)
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, blocks.shortcut(inputs, inputs, 8, planned(8, stride), option_a))
    x = normal(2, *size, 3)
    expected = np.zeros((2, -(-size[0] // stride), -(-size[1] // stride), 8), "float32")
    expected[..., front : front + 3] = x[:, ::stride, ::stride]
    np.testing.assert_array_equal(model.predict_on_batch(x), expected)
    assert model.weights == []


@pytest.mark.parametrize("option", ["A", "B"])
def test_shortcut_of_equal_shape_is_the_identity(option: Any) -> None:
    inputs = keras.Input((8, 8, 4))
    assert blocks.shortcut(inputs, inputs, 4, planned(4, 1), replace(SMALL, shortcut=option)) is inputs


@pytest.mark.parametrize(
    ("block", "option", "projecting"),
    [
        ("basic", "A", []),
        ("basic", "B", ["stage2_block1", "stage3_block1", "stage4_block1"]),
        ("basic", "C", [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]),
        ("bottleneck", "A", []),
        # Four times as many channels leave a bottleneck as enter the first, though its stride is 1.
        ("bottleneck", "B", ["stage1_block1", "stage2_block1", "stage3_block1", "stage4_block1"]),
        ("bottleneck", "C", [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]),
        ("basic", None, []),
        ("bottleneck", None, []),
    ],
)
def test_option_decides_which_blocks_project(block: Any, option: Any, projecting: list[str]) -> None:
    model = build(replace(FOUR_STAGES, block=block, shortcut=option), input_shape=(32, 32, 3), classes=2)
    found = [layer.name for layer in model.layers if layer.name.endswith("_projection")]
    assert sorted(found) == [f"{name}_projection" for name in projecting]
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert len(adds) == (0 if option is None else 8)


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize(("block", "last"), [("basic", "conv2_bn"), ("bottleneck", "conv3_bn")])
@pytest.mark.parametrize(("channels", "stride"), [(4, 2), (16, 1)])
def test_block_whose_last_normalization_is_zero_is_relu_of_its_shortcut(
    block: Any, last: str, option: Any, channels: int, stride: int
) -> None:
    own = replace(SMALL, block=block, shortcut=option)
    width = 16 if block == "basic" else 4  # 16 channels leave either
    inputs = keras.Input((8, 8, channels))
    model = keras.Model(inputs, blocks.block(inputs, planned(width, stride), own))
    randomize(model)
    around = keras.Model(inputs, model.get_layer("block_add").input[0])
    x = normal(2, 8, 8, channels)
    expected = np.maximum(around.predict_on_batch(x), 0)
    assert np.abs(model.predict_on_batch(x) - expected).max() > 0.1
    for weight in (model.get_layer(f"block_{last}").gamma, model.get_layer(f"block_{last}").beta):
        weight.assign(np.zeros(weight.shape))
    np.testing.assert_array_equal(model.predict_on_batch(x), expected)


@pytest.mark.parametrize("option", ["A", "B", "C", None])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_block_is_relu_of_residual_and_shortcut(block: Any, option: Any) -> None:
    own = replace(SMALL, block=block, shortcut=option)
    inputs = keras.Input((9, 8, 4))
    model = keras.Model(inputs, blocks.block(inputs, planned(4, 2), own))
    randomize(model)
    x = normal(2, 9, 8, 4)

    def apply(values: np.ndarray, name: str, stride: int) -> np.ndarray:
        kernel = model.get_layer(f"block_{name}").get_weights()[0]
        values = convolution(values, kernel, stride, kernel.shape[0] // 2)
        return normalized(values, model.get_layer(f"block_{name}_bn"))

    names = ["conv1", "conv2"] if block == "basic" else ["conv1", "conv2", "conv3"]
    expected = apply(x, names[0], 2)
    for name in names[1:]:
        expected = apply(np.maximum(expected, 0), name, 1)
    if option == "A":
        expected[..., :4] += x[:, ::2, ::2]
    elif option is not None:
        expected += apply(x, "projection", 2)
    np.testing.assert_allclose(model.predict_on_batch(x), np.maximum(expected, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", ["A", "B", "C", None])
@pytest.mark.parametrize(
    ("block", "where", "dilations"),
    [
        ("basic", "1x1", {"conv1": 2, "conv2": 3}),
        # The stride that dilation replaces was in front of its 3x3 convolution, or in it.
        ("bottleneck", "1x1", {"conv1": 1, "conv2": 3, "conv3": 1}),
        ("bottleneck", "3x3", {"conv1": 1, "conv2": 2, "conv3": 1}),
    ],
)
def test_block_is_dilated_up_to_the_convolution_of_its_stride_and_after_it(
    block: Any, where: Any, dilations: dict[str, int], option: Any
) -> None:
    own = SMALL.replace(block=block, shortcut=option, bottleneck_stride=where)
    inputs = keras.Input((9, 8, 4))
    model = keras.Model(inputs, blocks.block(inputs, planned(4, 1, 2, 3), own))
    randomize(model)
    x = normal(2, 9, 8, 4)

    def apply(values: np.ndarray, name: str, dilation: int) -> np.ndarray:
        kernel = model.get_layer(f"block_{name}").get_weights()[0]
        values = convolution(values, kernel, 1, dilation * (kernel.shape[0] // 2), dilation)
        return normalized(values, model.get_layer(f"block_{name}_bn"))

    expected = x
    for name, dilation in dilations.items():
        expected = apply(expected if name == "conv1" else np.maximum(expected, 0), name, dilation)
    if option == "C" or (option == "B" and block == "bottleneck"):
        expected += apply(x, "projection", 1)
    elif option is not None:
        expected[..., :4] += x
    np.testing.assert_allclose(model.predict_on_batch(x), np.maximum(expected, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("where", "strides"), [("1x1", (2, 1, 1)), ("3x3", (1, 2, 1))])
def test_bottleneck_stride_names_the_convolution_that_has_it(where: Any, strides: tuple[int, ...]) -> None:
    own = SMALL.replace(block="bottleneck", bottleneck_stride=where)
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, blocks.block(inputs, planned(4, 2), own))
    convolutions = [model.get_layer(f"block_conv{i}") for i in (1, 2, 3)]
    assert [layer.kernel_size for layer in convolutions] == [(1, 1), (3, 3), (1, 1)]
    assert [layer.strides for layer in convolutions] == [(stride, stride) for stride in strides]
    assert model.get_layer("block_projection").strides == (2, 2)


@pytest.mark.parametrize("activation", [None, "linear"])
def test_head_without_activation_is_its_logits_alone(activation: str | None) -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, blocks.head(inputs, 4, activation))
    assert [layer.name for layer in model.layers[1:]] == ["logits"]
    randomize(model)
    kernel, bias = model.get_layer("logits").get_weights()
    x = normal(3, 6)
    np.testing.assert_allclose(model.predict_on_batch(x), x @ kernel + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", keras.activations.softmax])
def test_head_applies_its_activation_to_the_logits_in_float32(activation: Any) -> None:
    inputs = keras.Input((6,), dtype="bfloat16")
    model = keras.Model(inputs, blocks.head(inputs, 4, activation))
    assert [layer.name for layer in model.layers[1:]] == ["logits"]
    assert model.output.dtype == "float32"
    randomize(model)
    kernel, bias = model.get_layer("logits").get_weights()
    x = np.round(4 * normal(3, 6)) / 4  # the same in bfloat16
    scores = x @ kernel + bias
    expected = 1 / (1 + np.exp(-scores)) if activation == "sigmoid" else np.exp(scores) / np.exp(scores).sum(1)[:, None]
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-5, atol=1e-6)


def test_convolution_has_no_bias_and_normalization_the_constants_of_the_published_networks() -> None:
    model = build(SMALL, input_shape=(8, 8, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(convolutions) == len(normalizations) == 6
    assert not any(layer.use_bias for layer in convolutions)
    assert {(layer.momentum, layer.epsilon) for layer in normalizations} == {(0.9, 1e-5)}


@pytest.mark.parametrize(("batch_norm", "expected"), [("per_replica", False), ("synchronized", True)])
def test_batch_norm_decides_whether_replicas_share_their_statistics(batch_norm: Any, expected: bool) -> None:
    model = build(SMALL, input_shape=(8, 8, 3), batch_norm=batch_norm)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [layer.synchronized for layer in layers] == [expected] * 6


@pytest.mark.parametrize("shape", [(3, 3, 128, 128), (1, 1, 512, 256), (7, 7, 3, 1024), (512, 1000)])
def test_he_initializer_is_normal_of_variance_2_over_fan_in_and_not_truncated(shape: tuple[int, ...]) -> None:
    keras.utils.set_random_seed(11)
    values = keras.ops.convert_to_numpy(blocks.he_normal()(shape))
    sigma = np.sqrt(2 / np.prod(shape[:-1]))
    assert values.size > 100_000
    # Of so many draws, the deviation is within a per cent of sigma, and 1 in 700 lies beyond 3.2 sigma.
    assert values.std() == pytest.approx(sigma, rel=0.01)
    assert values.mean() == pytest.approx(0, abs=0.01 * sigma)
    assert np.mean(np.abs(values) > 3.2 * sigma) == pytest.approx(0.001374, rel=0.3)


def test_every_convolution_of_a_network_starts_as_he_describes() -> None:
    keras.utils.set_random_seed(12)
    wide = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(128, 128))
    model = build(wide, input_shape=(32, 32, 3), classes=1000)
    kernels = {w.path: w.numpy() for w in model.trainable_weights if w.name == "kernel"}
    assert len(kernels) == 1 + 2 * 3 + 2 + 1
    for path, kernel in kernels.items():
        sigma = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        assert kernel.std() == pytest.approx(sigma, rel=0.03), path
        assert np.abs(kernel).max() > 3.2 * sigma, path
    # Two draws of one seed would be the same numbers.
    assert not np.array_equal(kernels["stage1_block1_conv3/kernel"], kernels["stage2_block1_conv3/kernel"])


def dropping(rate: float) -> keras.Model:
    inputs = keras.Input((4, 4, 4))
    plan = PlannedBlock("block", 4, 1, 1, 1, rate)
    model = keras.Model(inputs, blocks.block(inputs, plan, SMALL))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1.0, w.shape).astype("float32") for w in model.weights])
    return model


def test_stochastic_depth_drops_residual_branches_of_single_images_and_scales_the_others() -> None:
    model = dropping(0.25)
    images = np.random.default_rng(1).uniform(size=(2000, 4, 4, 4)).astype("float32")
    whole = keras.Model(model.input, model.get_layer("block_conv2_bn").output)
    drop = keras.Model(whole.output, model.get_layer("block_drop")(whole.output))
    residuals = whole(images, training=False)
    np.testing.assert_array_equal(drop(residuals, training=False), residuals)
    kept = np.asarray(drop(residuals, training=True)) / np.asarray(residuals)
    for share in kept.reshape(2000, -1):
        assert np.ptp(share) < 1e-4
        assert share[0] == pytest.approx(0.0) or share[0] == pytest.approx(4 / 3, rel=1e-5)
    assert (kept[:, 0, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.04)


def test_stochastic_depth_adds_a_layer_only_where_it_drops() -> None:
    assert "block_drop" not in {layer.name for layer in dropping(0.0).layers}
