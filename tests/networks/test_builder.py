"""The networks: sizes, shapes, gradients, precision, files, and the calls written for `keras.applications`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.shapes_only import shapes_only

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES

BASIC = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A")
BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(4, 6))
CIFAR = Architecture(stem="cifar", block="basic", repeats=(2, 2, 2), widths=(4, 8, 16), shortcut="A")
FOUR_STAGES = Architecture(stem="imagenet", block="basic", repeats=(1, 1, 1, 1), widths=(4, 6, 8, 10))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype("float32")


def randomize(model: keras.Model) -> keras.Model:
    """Draws every weight, the moving statistics too, about as far from zero as training leaves them."""
    rng = np.random.default_rng(8)
    values = []
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            values.append(rng.uniform(0.5, 1.5, weight.shape))
        else:
            values.append(rng.normal(scale=0.2, size=weight.shape))
    model.set_weights(values)
    return model


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


# ResNet-18 to 152: the counts that torchvision publishes for its networks of Table 1, classifier included.
# The CIFAR family: the arithmetic of §4.2, which Table 6 rounds to 0.27M, 0.46M, 0.66M, 0.85M, 1.7M and 19.4M.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
}
PROJECTIONS = {
    "18": sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512))),
    "34": sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512))),
    "20": 0,
    "32": 0,
    "44": 0,
    "56": 0,
    "110": 0,
}


def test_networks_have_exactly_the_published_number_of_trainable_parameters() -> None:
    with shapes_only():
        assert {name: trainable(build(name)) for name in PARAMETERS} == PARAMETERS


def test_plain_networks_have_the_parameters_of_their_residual_twins_but_the_projections() -> None:
    for depth, projections in PROJECTIONS.items():
        with shapes_only():
            found = trainable(build(f"plainnet{depth}"))
        assert found == PARAMETERS[f"resnet{depth}"] - projections, depth


@pytest.mark.parametrize(
    ("option", "extra"),
    [
        ("A", 0),
        ("B", 16 * 32 + 32 * 64 + 2 * (32 + 64)),
        ("C", 3 * 16 * 16 + 16 * 32 + 2 * 32 * 32 + 32 * 64 + 2 * 64 * 64 + 2 * 3 * (16 + 32 + 64)),
    ],
)
def test_option_adds_its_projections_to_the_count(option: Any, extra: int) -> None:
    with shapes_only():
        assert trainable(build("resnet20", shortcut=option)) == PARAMETERS["resnet20"] + extra


@pytest.mark.slow
def test_resnet1202_is_built_under_pythons_own_recursion_limit() -> None:
    limit = sys.getrecursionlimit()
    with shapes_only():
        model = named_networks.ResNet1202()
    assert sys.getrecursionlimit() == limit
    assert trainable(model) == 19_421_274
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in flat_layers(model)) == 1201
    assert model.output_shape == (None, 10)


OPEN_AND_PREDICT = """
import sys
sys.modules["resnet_keras"] = None  # an import of it is now an error
import json
import keras
import numpy as np

def classes(model):
    for layer in model.layers:
        yield from classes(layer) if isinstance(layer, keras.Model) else (type(layer),)

folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
titles = {}
for name in sys.argv[2:]:
    limit = sys.getrecursionlimit()
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    titles[name] = model.name
    assert sys.getrecursionlimit() == limit
    foreign = {c for c in classes(model) if not c.__module__.startswith("keras.")}
    assert not foreign, foreign
    np.save(f"{folder}/{name}.npy", model(images, training=False))
    before = [w.numpy() for w in model.trainable_weights]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    loss = model.train_on_batch(images, np.arange(len(images)) % 3)
    assert np.isfinite(loss), loss
    assert any((w.numpy() != old).any() for w, old in zip(model.trainable_weights, before)), name
assert sys.modules["resnet_keras"] is None
assert not [m for m in sys.modules if m.startswith("resnet_keras.")]
print(json.dumps(titles))
"""


def in_fresh_process(folder: Path, *names: str) -> dict[str, str]:
    """Opens files in a program without this package, and returns the names of the models in them."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-I", "-c", OPEN_AND_PREDICT, str(folder), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_saved_networks_open_and_train_in_a_program_that_never_imports_this_package(
    tmp_path: Path, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "a": build(BASIC, input_shape=(16, 16, 3), classifier_activation=None),
        "both_sides": build(BASIC, input_shape=(16, 16, 3), zero_channels="both_sides", classifier_activation=None),
        "b": build(BASIC, input_shape=(16, 16, 3), shortcut="B", classifier_activation=None),
        "c": build(BOTTLENECK, input_shape=(None, None, 3), shortcut="C", classifier_activation=None),
        "plain": build(BASIC.replace(shortcut=None), input_shape=(16, 16, 3), classifier_activation=None),
    }
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    made["segments"] = build(CIFAR, input_shape=(16, 16, 3), classifier_activation=None)
    assert sum(isinstance(layer, keras.Model) for layer in made["segments"].layers) == 3
    keras.config.set_dtype_policy("mixed_bfloat16")
    made["half"] = build(BASIC, input_shape=(16, 16, 3), classifier_activation=None)
    np.save(tmp_path / "images.npy", images(4, 16, 16, 3))
    for name, model in made.items():
        randomize(model).save(tmp_path / f"{name}.keras")
    # The file of a classifier holds its preprocessing and class names, too.
    made["classifier"] = made["a"]
    preprocessing = Preprocessing(image_size=(16, 16), channels=3, mean=(1, 2, 3), std=(4, 5, 6))
    Classifier(made["a"], preprocessing, tuple("abcdefghij")).save(tmp_path / "classifier.keras")
    assert in_fresh_process(tmp_path, *made) == {name: model.name for name, model in made.items()}
    for name, model in made.items():
        expected = model.predict_on_batch(images(4, 16, 16, 3))
        assert np.ptp(expected, axis=0).max() > 0.01, name
        error = np.abs(np.load(tmp_path / f"{name}.npy") - expected).max() / np.abs(expected).max()
        assert error < (2e-2 if name == "half" else 1e-6), (name, error)


@pytest.mark.slow
def test_saved_resnet1202_opens_in_a_fresh_process(tmp_path: Path) -> None:
    model = named_networks.ResNet1202(classifier_activation=None)
    np.save(tmp_path / "images.npy", images(2, 32, 32, 3))
    model.save(tmp_path / "resnet1202.keras")
    in_fresh_process(tmp_path, "resnet1202")
    received = np.load(tmp_path / "resnet1202.npy")
    expected = np.asarray(model(images(2, 32, 32, 3), training=False))
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_network_in_segments_computes_what_it_computes_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = randomize(build("resnet20"))
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    segmented = build("resnet20")
    inner = [layer for layer in segmented.layers if isinstance(layer, keras.Model)]
    assert [layer.name for layer in inner] == [
        "stage1_block1_to_stage1_block2",
        "stage1_block3_to_stage1_block3",
        "stage2_block1_to_stage2_block2",
        "stage2_block3_to_stage2_block3",
        "stage3_block1_to_stage3_block2",
        "stage3_block3_to_stage3_block3",
    ]
    assert len(segmented.layers) < len(flat.layers) / 4
    assert [la.name for la in flat_layers(segmented) if la.weights] == [la.name for la in flat.layers if la.weights]
    segmented.set_weights(flat.get_weights())
    x = images(2, 32, 32, 3)
    np.testing.assert_allclose(segmented(x), flat(x), rtol=1e-5, atol=1e-6)


# The calls that keras.applications teaches


def test_resnet50_has_the_parameters_of_keras_applications_but_its_convolutions_biases() -> None:
    with shapes_only():
        theirs = keras.applications.ResNet50(weights=None)
    biases = [layer.bias for layer in theirs.layers if isinstance(layer, keras.layers.Conv2D)]
    assert trainable(theirs) - sum(int(np.prod(bias.shape)) for bias in biases) == PARAMETERS["resnet50"]


def test_default_input_and_output_are_those_of_the_paper() -> None:
    with shapes_only():
        small, large = named_networks.ResNet20(), named_networks.ResNet18()
    assert (small.input_shape, small.output_shape) == ((None, 32, 32, 3), (None, 10))
    assert (large.input_shape, large.output_shape) == ((None, 224, 224, 3), (None, 1000))
    assert (small.name, large.name) == ("resnet20", "resnet18")


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    probabilities = randomize(build(BASIC, input_shape=(16, 16, 3)))
    logits = build(BASIC, input_shape=(16, 16, 3), classifier_activation=None)
    assert logits.layers[-1].name == "logits"
    logits.set_weights(probabilities.get_weights())
    powers = np.exp(np.asarray(logits(images(3, 16, 16, 3))).astype("float64"))
    received = probabilities(images(3, 16, 16, 3))
    np.testing.assert_allclose(received, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_head_averages_over_the_last_feature_map() -> None:
    model = randomize(build(BASIC, input_shape=(16, 16, 3), classifier_activation=None))
    features = keras.Model(model.input, model.get_layer("stage2_block1_relu").output)
    kernel, bias = model.get_layer("logits").get_weights()
    x = images(3, 16, 16, 3)
    expected = features.predict_on_batch(x).mean(axis=(1, 2)) @ kernel + bias
    np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooling_reduces_the_last_feature_map(pooling: Any, reduce: Any) -> None:
    whole = randomize(build(BOTTLENECK, include_top=False, input_shape=(32, 32, 3)))
    pooled = build(BOTTLENECK, include_top=False, input_shape=(32, 32, 3), pooling=pooling)
    pooled.set_weights(whole.get_weights())
    maps = np.asarray(whole(images(2, 32, 32, 3)))
    assert maps.shape == (2, 4, 4, 24)
    received = pooled(images(2, 32, 32, 3))
    np.testing.assert_allclose(received, reduce(maps, axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_network_on_a_tensor_begins_where_the_tensor_does() -> None:
    pixels = keras.Input((16, 16, 3), name="pixels")
    on_tensor = build(BASIC, input_tensor=keras.layers.Rescaling(1 / 128, offset=-1)(pixels))
    assert len(on_tensor.inputs) == 1
    assert on_tensor.inputs[0] is pixels
    assert on_tensor.input_shape == (None, 16, 16, 3)
    alone = build(BASIC, input_shape=(16, 16, 3))
    alone.set_weights(on_tensor.get_weights())
    x = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(on_tensor.predict_on_batch(x), alone.predict_on_batch(x / 128 - 1), rtol=1e-4)


# Shapes


@pytest.mark.parametrize(
    ("network", "side", "expected"),
    [
        ("resnet18", 224, [112, 56, 28, 14, 7]),  # Table 1, the column "output size"
        ("resnet50", 224, [112, 56, 28, 14, 7]),
        ("resnet18", 225, [113, 57, 29, 15, 8]),
        ("resnet50", 225, [113, 57, 29, 15, 8]),
        ("resnet20", 32, [32, 32, 16, 8]),  # §4.2
        ("resnet20", 33, [33, 33, 17, 9]),
        ("plainnet20", 33, [33, 33, 17, 9]),
    ],
)
def test_stages_halve_height_and_width_and_round_up(network: str, side: int, expected: list[int]) -> None:
    row = ARCHITECTURES[network]
    with shapes_only():
        model = build(network, input_shape=(side, side, 3))
    ends = ["stem_conv", *(f"stage{stage}_block{n}_relu" for stage, n in enumerate(row.repeats, start=1))]
    shapes = [tuple(model.get_layer(name).output.shape) for name in ends]
    expansion = 4 if row.block == "bottleneck" else 1
    channels = [row.widths[0], *(expansion * width for width in row.widths)]
    assert shapes == [(None, s, s, c) for s, c in zip(expected, channels, strict=True)]


@pytest.mark.parametrize("own", [FOUR_STAGES, BOTTLENECK, BASIC])
@pytest.mark.parametrize("option", ["A", pytest.param("B", marks=pytest.mark.slow), "C"])
def test_network_of_free_size_computes_what_one_of_fixed_size_does(own: Architecture, option: Any) -> None:
    free = randomize(build(own, input_shape=(None, None, 3), shortcut=option, classes=3))
    for height, width in ((64, 64), (33, 50)):
        fixed = build(own, input_shape=(height, width, 3), shortcut=option, classes=3)
        fixed.set_weights(free.get_weights())
        x = images(2, height, width, 3)
        np.testing.assert_allclose(free(x), fixed(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_any_number_of_channels(channels: int) -> None:
    model = build(BOTTLENECK, input_shape=(32, 32, channels), classes=3)
    assert model.get_layer("stem_conv").kernel.shape == (7, 7, channels, 4)
    assert model.predict_on_batch(images(2, 32, 32, channels)).shape == (2, 3)


def test_architecture_of_ones_own_is_built_as_described() -> None:
    own = Architecture(stem="cifar", block="bottleneck", repeats=(2, 1, 3), widths=(3, 7, 5), shortcut="B")
    with shapes_only():
        model = build(own, input_shape=(16, 16, 3), classes=6)
    assert (model.name, model.output_shape) == ("resnet20", (None, 6))
    weighted = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert sum(not layer.name.endswith("_projection") for layer in weighted) == own.depth == 20
    threes = [layer.filters for layer in weighted[:-1] if layer.kernel_size == (3, 3)]
    assert threes == [3, 3, 3, 7, 5, 5, 5]  # the stem's first
    assert model.get_layer("pool").input.shape == (None, 4, 4, 20)


@pytest.mark.parametrize("where", ["1x1", "3x3"])
def test_bottleneck_stride_reaches_every_stage(where: Any) -> None:
    with shapes_only():
        model = build("resnet50", bottleneck_stride=where)
    strided = {layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.strides[0] == 2}
    convolution = "conv1" if where == "1x1" else "conv2"
    residuals = {f"stage{stage}_block1_{convolution}" for stage in (2, 3, 4)}
    assert strided == {"stem_conv"} | residuals | {f"stage{stage}_block1_projection" for stage in (2, 3, 4)}
    assert trainable(model) == PARAMETERS["resnet50"]


# Training


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (CIFAR, {"shortcut": "A"}),
        (CIFAR, {"shortcut": "A", "zero_channels": "both_sides"}),
        (CIFAR, {"shortcut": "B"}),
        (CIFAR, {"shortcut": "C"}),
        (CIFAR.replace(shortcut=None), {}),
        (BOTTLENECK, {"bottleneck_stride": "1x1"}),
        (BOTTLENECK, {"bottleneck_stride": "3x3"}),
        (FOUR_STAGES, {}),
    ],
)
def test_every_trainable_variable_gets_a_finite_gradient_that_is_not_zero(
    network: Architecture | str, options: dict[str, Any]
) -> None:
    keras.utils.set_random_seed(1)
    model = build(network, input_shape=(32, 32, 3), classes=5, classifier_activation=None, **options)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images(8, 32, 32, 3), training=True) - images(8, 5)))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient.numpy()).all(), variable.path
        assert np.abs(gradient.numpy()).max() > 0, variable.path


@pytest.fixture
def policy() -> Iterator[keras.dtype_policies.DTypePolicy]:
    """Puts Keras's global precision policy back after a test that sets it."""
    before = keras.config.dtype_policy()
    yield before
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_logits_are_float32_under_a_mixed_precision_policy(half: str, policy: Any) -> None:
    exact = randomize(build(BOTTLENECK, input_shape=(32, 32, 3), classes=7, classifier_activation=None))
    keras.config.set_dtype_policy(f"mixed_{half}")
    model = build(BOTTLENECK, input_shape=(32, 32, 3), classes=7, classifier_activation=None)
    model.set_weights(exact.get_weights())
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)} == {half}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    # The mean over the last feature map, too, is taken in float32.
    assert model.get_layer("pool").output.dtype == model.output.dtype == "float32"
    logits = model(images(4, 32, 32, 3))
    assert logits.dtype == "float32"
    # More digits than half precision has: the head's own are all there.
    assert not np.array_equal(logits, tf.cast(tf.cast(logits, half), "float32"))
    expected = exact.predict_on_batch(images(4, 32, 32, 3))
    assert np.abs(logits - expected).max() < (0.05 if half == "bfloat16" else 0.01) * np.abs(expected).max()


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
@pytest.mark.parametrize("options", [{}, {"include_top": False, "pooling": "avg"}])
def test_probabilities_and_features_are_float32_under_a_mixed_precision_policy(
    half: str, options: dict[str, Any], policy: Any
) -> None:
    keras.config.set_dtype_policy(f"mixed_{half}")
    assert build(BASIC, input_shape=(16, 16, 3), **options).predict_on_batch(images(2, 16, 16, 3)).dtype == "float32"


def test_network_in_segments_computes_in_half_precision_throughout(
    monkeypatch: pytest.MonkeyPatch, policy: Any
) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    monkeypatch.setattr(models, "SEGMENT_BLOCKS", 2)
    with shapes_only():
        model = build("resnet20")
    adds = [layer for layer in flat_layers(model) if isinstance(layer, keras.layers.Add)]
    segments = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert {layer.inputs[0].dtype for layer in segments} == {"bfloat16"}
    assert {add.output.dtype for add in adds} == {"bfloat16"}
    assert len(adds) == 9


# Errors


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        ("resnet51", {}, r"Expected the name of a network.* Received: 'resnet51'"),
        ("resnet50", {"input_shape": (31, 224, 3)}, r"at least 32x32 pixels.*Received: a shape of \(31, 224, 3\)"),
        ("resnet50", {"input_shape": (None, 31, 3)}, r"at least 32x32 pixels.*Received: a shape of \(None, 31, 3\)"),
        ("resnet20", {"input_shape": (3, 4, 3)}, r"at least 4x4 pixels.*resnet20.*Received: a shape of \(3, 4, 3\)"),
        ("resnet20", {"input_shape": (32, 32, 0)}, r"at least one channel.*Received: a shape of \(32, 32, 0\)"),
        ("resnet20", {"input_shape": (32, 32)}, r"\(H, W, C\) without the batch. Received: a shape of \(32, 32\)"),
        ("resnet20", {"input_shape": (1, 32, 32, 3)}, r"without the batch. Received: a shape of \(1, 32, 32, 3\)"),
        ("resnet20", {"input_shape": (32, 32, None)}, r"a known number of channels.*Received: .*\(32, 32, None\)"),
        ("resnet20", {"pooling": "mean"}, r"`pooling` to be None, 'avg' or 'max'. Received: 'mean'"),
        ("resnet20", {"include_top": False, "pooling": "sum"}, r"`pooling` to be None, 'avg' or 'max'. Received"),
        ("resnet20", {"classes": 0}, r"`classes` to be a positive integer. Received: 0"),
        ("resnet20", {"classes": 10.0}, r"`classes` to be a positive integer. Received: 10.0"),
        ("resnet20", {"input_tensor": np.zeros((1, 32, 32, 3))}, r"`input_tensor` to be a Keras tensor"),
        ("resnet20", {"shortcut": "D"}, r"`shortcut` to be one of .* Received: 'D'"),
        ("resnet20", {"zero_channels": "left"}, r"`zero_channels` to be one of .* Received: 'left'"),
        ("resnet20", {"batch_norm": "none"}, r"`batch_norm` to be one of .* Received: 'none'"),
        ("resnet50", {"bottleneck_stride": "5x5"}, r"`bottleneck_stride` to be one of .* Received: '5x5'"),
        ("resnet50", {"output_stride": 64}, r"`output_stride` to be one of \[4, 8, 16, 32\], .*resnet50.*: 64"),
        ("resnet50", {"output_stride": 2}, r"`output_stride` to be one of \[4, 8, 16, 32\], .* Received: 2"),
        ("plainnet20", {"output_stride": 8}, r"`output_stride` to be one of \[1, 2, 4\], .*plainnet20.* Received: 8"),
        ("resnet18", {"output_stride": 16, "input_shape": (15, 16, 3)}, r"at least 16x16 pixels.*of \(15, 16, 3\)"),
        ("plainnet20", {"shortcut": "B"}, r"Expected no option of shortcuts: plainnet20 has none"),
        ("plainnet20", {"zero_channels": "both_sides"}, r"Expected no option of shortcuts: plainnet20 has none"),
    ],
)
def test_bad_argument_raises_before_anything_is_built(network: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(network, **arguments)


def test_input_shape_that_contradicts_the_tensor_raises() -> None:
    tensor = keras.Input((32, 32, 3))
    assert build(BASIC, input_tensor=tensor, input_shape=(32, 32, 3)).inputs[0] is tensor
    with pytest.raises(ValueError, match=r"`input_shape` to be that of `input_tensor`, \(32, 32, 3\).*\(64, 64, 3\)"):
        build(BASIC, input_tensor=tensor, input_shape=(64, 64, 3))


@pytest.mark.parametrize("shape", [(32, 3), (4, 32, 32, 3), (16, 16, 3)])
def test_tensor_of_wrong_rank_or_size_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected images of .* Received: a shape of"):
        build("resnet18", input_tensor=keras.Input(shape))


def test_smallest_image_is_one_pixel_of_the_last_stage() -> None:
    with shapes_only():
        model = build("resnet18", include_top=False, input_shape=(32, 32, 3))
        assert model.output_shape == (None, 1, 1, 512)
        assert build("resnet20", include_top=False, input_shape=(4, 4, 3)).output_shape == (None, 1, 1, 64)


def test_config_of_a_network_holds_no_word_of_this_package(tmp_path: Path) -> None:
    config = json.dumps(keras.saving.serialize_keras_object(build(BASIC, input_shape=(16, 16, 3))))
    assert "resnet_keras" not in config
    assert "keras.layers" in config


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_blocks_of_zeroed_residuals_begin_as_their_shortcuts(name: str) -> None:
    with shapes_only():  # which draws a value whenever it is read
        model = build(name, input_shape=(32, 32, 3), zero_init_residual=True)
    last = "conv2_bn" if name == "resnet20" else "conv3_bn"
    norms = [layer for layer in flat_layers(model) if layer.name.endswith("_bn")]
    for layer in norms:
        assert (np.asarray(layer.gamma) == (0.0 if layer.name.endswith(last) else 1.0)).all(), layer.name
    assert sum(layer.name.endswith(last) for layer in norms) == sum(ARCHITECTURES[name].repeats)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resnet20", {}),
        pytest.param("resnet20", {"zero_channels": "both_sides"}, marks=pytest.mark.slow),
        (
            Architecture(stem="imagenet", block="bottleneck", repeats=(1, 2), widths=(2, 3)),
            {"bottleneck_stride": "3x3"},
        ),
        (
            Architecture(
                stem="imagenet", block="bottleneck", repeats=(2, 2), widths=(2, 3), activation="before"
            ).replace(first_activation="block", pool_border="edge", projection="bare", strided_block="last"),
            {},
        ),
    ],
)
def test_a_network_in_hdf5_opens_and_computes_the_same(network: Any, options: dict[str, Any], tmp_path: Path) -> None:
    model = build(network, input_shape=(17, 12, 3), classes=3, **options)
    assert all(isinstance(operation, keras.layers.Layer) for operation in model.operations)
    model.save(tmp_path / "network.h5")
    opened = keras.saving.load_model(tmp_path / "network.h5", compile=False)
    x = np.random.default_rng(0).normal(size=(2, 17, 12, 3)).astype("float32")
    np.testing.assert_allclose(opened.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5, atol=1e-6)


def test_the_last_layers_are_those_of_keras_applications() -> None:
    """The last but one has the features, and the last one's activation can be taken away, as for Grad-CAM."""
    theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3))
    ours = build("resnet20", input_shape=(8, 8, 3))
    for model in (theirs, ours):
        assert isinstance(model.layers[-1], keras.layers.Dense)
        assert isinstance(model.layers[-2], keras.layers.GlobalAveragePooling2D)
    x = np.ones((1, 8, 8, 3), "float32")
    probabilities = keras.ops.convert_to_numpy(ours(x))
    ours.layers[-1].activation = None
    logits = keras.ops.convert_to_numpy(ours(x))
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    assert not np.allclose(logits, probabilities)
