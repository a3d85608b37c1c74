"""Networks that compute as in int8: what is rounded, to what, and that training and files keep it."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from helpers.messages import interrupt, on_message
from helpers.small_networks import randomized

from resnet_keras.applications import named_networks
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.image_ops import normalize
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.artifact_worker import LiteRTModel
from resnet_keras.exporting.exporter import export
from resnet_keras.exporting.litert import convert_to_litert, operators
from resnet_keras.exporting.serving import probability_network, serving_network
from resnet_keras.layers.fake_quant import FakeQuant, QuantizedConv2D, QuantizedDense
from resnet_keras.networks import builder as models
from resnet_keras.networks.architecture import Architecture
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.folder import RunFolder
from resnet_keras.surgery.quantization import PIXELS_RANGE, calibrate, is_quantized, quantize
from resnet_keras.training.trainer import train

RGB = Preprocessing(image_size=(32, 32), channels=3, mean=(125.3, 123.0, 113.9), std=(50.0, 60.0, 70.0))
BOTTLENECK = Architecture(stem="imagenet", block="bottleneck", repeats=(1, 1), widths=(8, 16))
DEEP = Architecture(stem="cifar", block="basic", repeats=(101,), widths=(8,))


def small(**options: str) -> keras.Model:
    return randomized(models.build("resnet20", input_shape=(32, 32, 3), classifier_activation=None, **options), 0.5)


def pixels(count: int = 64) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def observing(model: keras.Model) -> keras.Model:
    """Lets everything through as it is."""
    for layer in model.layers:
        if isinstance(layer, FakeQuant):
            layer.seen = []
    return model


def logits_of(path: Path, images: np.ndarray) -> np.ndarray:
    """What a file's only fully connected layer gives, as real numbers."""
    options = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that keeping all tensors takes memory
        interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True, **options)
    interpreter.allocate_tensors()
    (head,) = (op for op in interpreter._get_ops_details() if op["op_name"] == "FULLY_CONNECTED")
    about = next(each for each in interpreter.get_tensor_details() if each["index"] == head["outputs"][0])
    scale, zero = about["quantization"]
    found = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        found.append((interpreter.get_tensor(about["index"])[0].astype(np.float32) - zero) * scale)
    return np.array(found)


def step_of(model: keras.Model) -> float:
    bounds = model.get_layer("logits_range")
    return (float(bounds.high.value) - float(bounds.low.value)) / 255


def test_a_range_rounds_to_256_values_with_zero_among_them() -> None:
    layer = FakeQuant((-1.0, 3.0))
    x = np.linspace(-2, 4, 5001, dtype=np.float32)[None]
    y = np.asarray(layer(x))
    assert len(np.unique(y)) == 256
    assert 0.0 in y
    step = 4 / 255
    np.testing.assert_allclose(np.diff(np.unique(y)), step, rtol=1e-3)
    inside = (x > -0.99) & (x < 2.99)
    assert np.abs(y - x)[inside].max() <= 0.51 * step


def test_a_range_follows_batches_in_training_alone() -> None:
    moving, fixed = FakeQuant((-1.0, 1.0), fixed=False), FakeQuant((-1.0, 1.0))
    x = np.array([[-3.0, 5.0]], np.float32)
    for layer in (moving, fixed):
        layer(x, training=False)
        assert [float(v) for v in layer.weights] == [-1, 1]
        layer(x, training=True)
    np.testing.assert_allclose([float(v.value) for v in moving.weights], [-1.02, 1.04], rtol=1e-6)
    assert [float(v.value) for v in fixed.weights] == [-1, 1]


def test_gradients_pass_inside_the_range_alone() -> None:
    layer = FakeQuant((-1.0, 1.0))
    x = tf.constant([[-2.0, -0.5, 0.3, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x))
    np.testing.assert_array_equal(tape.gradient(y, x), [[0, 1, 1, 0]])


def test_kernels_have_255_values_per_channel_of_the_scaled_kernel() -> None:
    layer = QuantizedConv2D(4, 1, use_bias=True)
    layer.build((None, 1, 1, 512))
    rng = np.random.default_rng(0)
    layer.kernel.assign(rng.normal(size=(1, 1, 512, 4)) * [1, 10, 100, 1000])
    layer.scale.assign([1.0, 2.0, 3.0, 4.0])
    probe = np.eye(512, dtype=np.float32).reshape(512, 1, 1, 512)
    found = np.asarray(layer(probe)).reshape(512, 4)
    true = np.asarray(layer.kernel.value).reshape(512, 4) * [1, 2, 3, 4]
    step = np.abs(true).max(0) / 127
    np.testing.assert_allclose(found / step, np.round(found / step), atol=1e-2)
    assert (np.abs(found - true).max(0) <= 0.501 * step).all()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: small(), marks=pytest.mark.slow),
        lambda: randomized(
            models.build(BOTTLENECK, input_shape=(32, 32, 3), classes=5, classifier_activation=None), 0.5
        ),
    ],
    ids=["option A", "bottleneck"],
)
def test_int8_computes_what_the_quantized_network_does(model: object, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    network = model()  # type: ignore[operator]
    images = normalize(pixels(), RGB)
    rounded = quantize(network, RGB.std)
    scale = np.abs(network(images)).max()
    # Without the ranges, only the kernels are rounded.
    np.testing.assert_allclose(observing(rounded)(images), network(images), atol=0.05 * scale)
    assert calibrate(rounded, [images[:32], images[32:]]) == 64
    assert not any(layer.seen for layer in rounded.layers if isinstance(layer, FakeQuant))
    np.testing.assert_allclose(rounded(images), network(images), atol=0.08 * scale)
    assert np.abs(rounded(images) - network(images)).max() > 1e-4 * scale
    classifier = Classifier(rounded, RGB, tuple(map(str, range(network.output_shape[1]))))
    expected = classifier.probabilities_of_inputs(images)
    convert_to_litert(probability_network(serving_network(classifier)), pixels(1), {"int8": tmp_path / "x.tflite"})
    found = LiteRTModel(tmp_path / "x.tflite")
    (probabilities,) = found(pixels()).values()
    assert (probabilities.argmax(1) == expected.argmax(1)).mean() >= 0.95
    # Where two scales are added, some values are rounded the other way, a step apart.
    steps = np.abs(logits_of(tmp_path / "x.tflite", pixels()[:16]) - rounded(images[:16])) / step_of(rounded)
    np.testing.assert_allclose(steps, np.round(steps), atol=0.01)
    assert steps.max() < 4.5
    assert steps.mean() < 1.0
    assert found.input_type == "uint8"
    assert not {"MUL", "DIV"} & set(operators(tmp_path / "x.tflite"))


def test_the_pixels_range_is_the_whole_of_what_was_seen_and_others_the_mean() -> None:
    rounded = quantize(small())
    first, second = np.full((8, 32, 32, 3), -1.0, np.float32), np.full((8, 32, 32, 3), 3.0, np.float32)
    calibrate(rounded, [first, second])
    bounds = rounded.get_layer(PIXELS_RANGE)
    assert (float(bounds.low.value), float(bounds.high.value)) == (-1.0, 3.0)
    observed = observing(rounded)
    highs = []
    for batch in (first, second):
        observed(batch)
        highs.append(observed.get_layer("stem_relu_range").seen[-1][1])
    np.testing.assert_allclose(float(rounded.get_layer("stem_relu_range").high.value), np.mean(highs), rtol=1e-6)


@pytest.mark.slow
def test_a_file_holds_a_quantized_network_whole(tmp_path: Path) -> None:
    rounded = quantize(small(), RGB.std)
    images = normalize(pixels(8), RGB)
    calibrate(rounded, [images])
    Classifier(rounded, RGB, tuple("abcdefghij")).save(tmp_path / "x.keras")
    again = Classifier.load(tmp_path / "x.keras").model
    np.testing.assert_array_equal(again(images), rounded(images))
    assert is_quantized(again)
    assert not is_quantized(small())


def test_what_cannot_be_quantized_is_refused() -> None:
    rounded = quantize(small())
    with pytest.raises(ValueError, match="not quantized yet. Received: .resnet20., with quantized layers"):
        quantize(rounded)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="first")(inputs)
    with pytest.raises(ValueError, match="every batch normalization follows a convolution.*with first"):
        quantize(keras.Model(inputs, keras.layers.Conv2D(3, 1)(x)))
    with pytest.raises(ValueError, match="Expected a network that begins with a convolution"):
        quantize(keras.Model(inputs, keras.layers.Conv2D(3, 1)(keras.layers.ReLU()(inputs))))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = named_networks.ResNet20(classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ValueError, match="Expected a network in float32"):
        quantize(half)
    with pytest.raises(ValueError, match="Expected at least one batch"):
        calibrate(rounded, [])
    with pytest.raises(ValueError, match="Expected a quantized network"):
        calibrate(small(), [pixels(1)])


@pytest.mark.slow
def test_deep_networks_in_segments_are_quantized(tmp_path: Path) -> None:
    network = randomized(models.build(DEEP, input_shape=(8, 8, 3), classes=5, classifier_activation=None), 0.5)
    rounded = quantize(network)
    kinds = [type(layer) for part in rounded.layers for layer in getattr(part, "layers", [part])]
    assert kinds.count(QuantizedConv2D) == 203
    assert kinds.count(QuantizedDense) == 1
    assert calibrate(rounded, [np.zeros((2, 8, 8, 3), np.float32)]) == 2


@pytest.mark.slow
def test_training_for_int8_keeps_what_the_network_can_and_is_exported(digits_run: Path, tmp_path: Path) -> None:
    recipe = RECIPES["digits_qat"].replace(weights=str(digits_run), epochs=1)
    in_floats = RunFolder(digits_run).evaluation()
    evaluation = train(recipe, tmp_path / "run")
    assert in_floats is not None
    assert evaluation.top1_error <= in_floats.top1_error + 0.01
    done = export(tmp_path / "run", tmp_path / "saved_models")
    assert [each.format for each in done.verifications] == ["saved_model", "int8"]
    assert done.verifications[1].agreement >= 0.99
    with pytest.raises(ValueError, match=r"`formats` among saved_model, int8 for a network.*Received: float16"):
        export(tmp_path / "run", tmp_path / "saved_models", formats=("float16",))


@pytest.mark.slow
def test_training_for_int8_goes_on_bit_for_bit(digits_run: Path, tmp_path: Path) -> None:
    recipe = RECIPES["digits_qat"].replace(weights=str(digits_run), epochs=2)
    evaluation = train(recipe, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt), on_message("epoch 1/", interrupt):
        train(recipe, tmp_path / "parts")
    again = train(recipe, tmp_path / "parts")
    assert again == evaluation
    whole, parts = (Classifier.load(tmp_path / name).model.get_weights() for name in ("whole", "parts"))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_two_replicas_train_for_int8_as_one(digits_run: Path, tmp_path: Path) -> None:
    program = "from resnet_keras.cli.train import main; import sys; raise SystemExit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "digits_qat", "--epochs", "1", "--weights", str(digits_run)]
    losses = []
    for name, flags in (("one", []), ("two", ["--cpu-replicas", "2"])):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([*command, "--workdir", str(tmp_path / name), *flags], env=environment, check=True)
        evaluation = RunFolder(tmp_path / name).evaluation()
        assert evaluation is not None
        losses.append(evaluation.loss)
    # A value that lies between two steps of int8 may go either way, and the weights after it.
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_training_for_int8_wants_trained_weights(tmp_path: Path) -> None:
    recipe = RECIPES["digits"].replace(quantization_aware=True)
    with pytest.raises(ValueError, match=r"Expected `weights` of a network of the 10 classes.*Received: none"):
        train(recipe, tmp_path)
    with pytest.raises(ValueError, match="Expected `precision` to be float32 with `quantization_aware`"):
        recipe.replace(precision="mixed_bfloat16")
    with pytest.raises(ValueError, match="Expected `loss` to be softmax with `teacher`"):
        recipe.replace(teacher="initial", loss="binary")
