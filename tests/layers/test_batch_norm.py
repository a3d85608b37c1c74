"""`BatchNormalization` against the layer of Keras that it computes."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.two_devices import run_on_two_devices

from resnet_keras.layers.batch_norm import BatchNormalization, fuse
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

KERNEL = "FusedBatchNormV3"
SMALL = Architecture(stem="cifar", block="basic", repeats=(1, 1), widths=(4, 8), shortcut="A")

# Relative to values of about 1: float32 sums in another order; half precision rounds to 8 or 11 bits.
TOLERANCE = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "mixed_float16": 2e-3}


def normal(*shape: int, seed: int = 5) -> np.ndarray:
    # Neither of mean 0 nor of deviation 1, which would hide a missing statistic.
    return np.random.default_rng(seed).normal(loc=0.7, scale=1.6, size=shape).astype("float32")


def pair(shape: tuple[int | None, ...], **options: Any) -> tuple[keras.Layer, keras.Layer]:
    """Returns Keras's layer and ours, with the same random weights."""
    rng = np.random.default_rng(9)
    layers = keras.layers.BatchNormalization(**options), BatchNormalization(**options)
    for layer in layers:
        layer.build(shape)
    values = [
        rng.uniform(0.5, 1.5, w.shape) if w.name in ("gamma", "moving_variance") else rng.normal(size=w.shape)
        for w in layers[0].weights
    ]
    for layer in layers:
        layer.set_weights(values)
    return layers


def results(layer: keras.Layer, x: np.ndarray, training: bool, wrap: Callable[[Any], Any] = lambda f: f) -> list[Any]:
    """Returns the outputs, then the gradients of a weighted sum of them by input and weights."""
    weighting = normal(*x.shape, seed=6)

    @wrap
    def run(x: tf.Tensor) -> list[tf.Tensor]:
        variables = [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, "float32") * weighting)
        return [outputs, *tape.gradient(loss, [x, *variables])]

    return [np.asarray(tf.cast(result, "float32")) for result in run(tf.constant(x))]


def assert_same(layers: tuple[keras.Layer, keras.Layer], x: np.ndarray, training: bool, **options: Any) -> None:
    tolerance = TOLERANCE[layers[0].dtype_policy.name]
    keras_results, our_results = (results(layer, x, training, **options) for layer in layers)
    assert len(keras_results) == len(our_results)
    for expected, received in zip(keras_results, our_results, strict=True):
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(received, expected, rtol=tolerance, atol=tolerance * scale)
    for expected, received in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def kernels(function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    """Counts the operations that a `tf.function` of `function` is traced to, in those it calls too."""
    graph = tf.function(function).get_concrete_function(*arguments).graph.as_graph_def()
    nodes = [node.op for node in graph.node] + [n.op for f in graph.library.function for n in f.node_def]
    return Counter(nodes)


@pytest.mark.parametrize("policy", TOLERANCE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (16, 8, 8, 7), (2, 1, 1, 5)])
def test_outputs_and_gradients_are_those_of_keras(policy: str, training: bool, shape: tuple[int, ...]) -> None:
    layers = pair(shape, dtype=policy, momentum=0.9, epsilon=1e-5)
    assert_same(layers, normal(*shape), training)
    assert layers[1](normal(*shape)).dtype == layers[0](normal(*shape)).dtype == layers[0].compute_dtype


@pytest.mark.parametrize("policy", TOLERANCE)
def test_moving_statistics_are_those_of_keras_after_several_steps(policy: str) -> None:
    layers = pair((2, 3, 3, 4), dtype=policy, momentum=0.8)
    before = layers[1].get_weights()
    for step in range(6):
        x = normal(2, 3, 3, 4, seed=step)
        for layer in layers:
            layer(x, training=True)
    for expected, received in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(layers[1].get_weights()[2] - before[2]).max() > 0.1


def test_moving_variance_averages_the_biased_variance() -> None:
    # Of 2 values, the unbiased variance would be twice as much.
    layer = BatchNormalization(momentum=0.75, epsilon=1e-5)
    x = np.array([[[[1.0, 5.0]]], [[[3.0, 5.0]]]], "float32")
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.25 * 2, 0.25 * 5], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.75 + 0.25 * 1, 0.75], rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("center", "scale"), [(False, True), (True, False), (False, False)])
def test_layer_without_offset_or_scale_is_that_of_keras(center: bool, scale: bool, training: bool) -> None:
    layers = pair((4, 5, 5, 3), center=center, scale=scale)
    assert len(layers[1].trainable_weights) == center + scale
    assert_same(layers, normal(4, 5, 5, 3), training)


def test_frozen_layer_normalizes_by_its_moving_statistics_and_keeps_them() -> None:
    layers = pair((4, 5, 5, 3))
    for layer in layers:
        layer.trainable = False
    before = layers[1].get_weights()
    assert_same(layers, normal(4, 5, 5, 3), training=True)
    np.testing.assert_array_equal(layers[1](normal(4, 5, 5, 3), training=True), layers[1](normal(4, 5, 5, 3)))
    for old, new in zip(before, layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("policy", TOLERANCE)
def test_batch_of_one_pixel_gives_the_offset_and_no_variance(policy: str) -> None:
    layers = pair((1, 1, 1, 6), dtype=policy, momentum=0.5)
    offset, variance = layers[1].beta.numpy(), layers[1].moving_variance.numpy()
    outputs = results(layers[1], normal(1, 1, 1, 6), True)[0]
    np.testing.assert_allclose(outputs[0, 0, 0], offset, rtol=1e-2)
    np.testing.assert_allclose(layers[1].moving_variance, variance / 2, rtol=1e-6)
    results(layers[0], normal(1, 1, 1, 6), True)
    assert_same(layers, normal(1, 1, 1, 6), True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (1, 1, 1, 3)])
def test_traced_and_compiled_layer_is_that_of_keras(shape: tuple[int, ...], jit_compile: bool, training: bool) -> None:
    layers = pair(shape, momentum=0.9)
    assert_same(layers, normal(*shape), training, wrap=tf.function(jit_compile=jit_compile))


@pytest.mark.parametrize("training", [True, False])
def test_layer_of_unknown_batch_height_and_width_is_that_of_keras(training: bool) -> None:
    layers = pair((None, None, None, 3), momentum=0.9)
    signature = [tf.TensorSpec((None, None, None, 3))]
    traced = [tf.function(lambda x, la=la: la(x, training=training), signature) for la in layers]
    for x in (normal(4, 6, 5, 3), normal(1, 2, 9, 3), normal(1, 1, 1, 3)):
        expected, received = (function(x) for function in traced)
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
        for theirs, ours in zip(*(layer.get_weights() for layer in layers), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", TOLERANCE)
def test_images_go_through_the_fused_kernel(policy: str, training: bool) -> None:
    layers = pair((None, None, None, 3), dtype=policy)
    spec = tf.TensorSpec((None, None, None, 3), layers[1].compute_dtype)
    counts = [kernels(lambda x, layer=layer: layer(x, training=training), spec)[KERNEL] for layer in layers]
    assert counts == [0, 1]


FALLBACKS: dict[str, tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]] = {
    "vectors": ((6, 3), {}, {}),
    "sequences": ((6, 4, 3), {}, {}),
    "volumes": ((2, 3, 4, 5, 3), {}, {}),
    "float64": ((4, 5, 5, 3), {"dtype": "float64"}, {}),
    "channels first": ((4, 3, 5, 5), {"axis": 1}, {}),
    "mask": ((4, 5, 5, 3), {}, {"mask": np.random.default_rng(1).uniform(size=(4, 5, 5)) < 0.7}),
    "synchronized": ((4, 5, 5, 3), {"synchronized": True}, {}),
}
if "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters:  # Keras 3.12 has it not
    FALLBACKS["renorm"] = ((4, 5, 5, 3), {"renorm": True}, {})


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", FALLBACKS)
def test_what_the_kernel_cannot_do_is_done_by_keras(case: str, training: bool) -> None:
    shape, options, arguments = FALLBACKS[case]
    layers = pair(shape, momentum=0.9, **options)
    x = tf.cast(normal(*shape), layers[0].compute_dtype)
    expected, received = (layer(x, training=training, **arguments) for layer in layers)
    np.testing.assert_array_equal(received, expected)
    assert received.dtype == expected.dtype
    for old, new in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_array_equal(new, old)
    traced = kernels(lambda x: layers[1](x, training=training, **arguments), x)
    assert traced[KERNEL] == 0
    assert sum(traced.values()) > 0


def trained_operations(model: keras.Model) -> Counter[str]:
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    images = tf.TensorSpec((None, *model.input_shape[1:]), "float32")
    return kernels(lambda x, y: model.train_step((x, y)), images, tf.TensorSpec((None,), "int32"))


def test_training_step_of_a_network_runs_the_fused_kernel_in_every_normalization() -> None:
    traced = trained_operations(build("resnet20"))
    assert (traced[KERNEL], traced["FusedBatchNormGradV3"]) == (19, 19)


def test_training_step_of_a_synchronized_network_runs_none() -> None:
    traced = trained_operations(build(SMALL, batch_norm="synchronized"))
    assert (traced[KERNEL], traced["FusedBatchNormGradV3"]) == (0, 0)


def small_network(**options: Any) -> keras.Model:
    """A network whose normalizations are far from the identity."""
    model = build(SMALL, input_shape=(8, 8, 3), **options)
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(rng.normal(scale=0.3, size=weight.shape))
    return model


def normalizations(model: keras.Model) -> list[type]:
    return [type(la) for la in flat_layers(model) if isinstance(la, keras.layers.BatchNormalization)]


def test_file_of_a_network_opens_with_the_layer_of_keras(tmp_path: Path) -> None:
    model = small_network()
    assert normalizations(model) == [BatchNormalization] * 5
    model.save(tmp_path / "net.keras")
    opened = keras.saving.load_model(tmp_path / "net.keras")
    assert normalizations(opened) == [keras.layers.BatchNormalization] * 5
    np.testing.assert_allclose(
        opened.predict_on_batch(normal(2, 8, 8, 3)), model.predict_on_batch(normal(2, 8, 8, 3)), rtol=1e-5, atol=1e-6
    )


def test_config_names_the_layer_of_keras() -> None:
    layers = BatchNormalization(name="bn"), keras.layers.BatchNormalization(name="bn")
    ours, theirs = (keras.saving.serialize_keras_object(layer) for layer in layers)
    assert ours["config"] == theirs["config"]
    assert (ours["module"], ours["class_name"]) == ("keras.layers", "BatchNormalization")


def test_clone_of_a_network_keeps_the_fused_layers() -> None:
    assert normalizations(keras.models.clone_model(small_network())) == [BatchNormalization] * 5


@pytest.mark.parametrize("training", [True, False])
def test_fuse_returns_the_fused_layers_and_the_same_outputs(tmp_path: Path, training: bool) -> None:
    small_network().save(tmp_path / "net.keras")
    opened = keras.saving.load_model(tmp_path / "net.keras")
    fused = fuse(opened)
    assert normalizations(opened) == [keras.layers.BatchNormalization] * 5
    assert normalizations(fused) == [BatchNormalization] * 5
    assert [layer.name for layer in fused.layers] == [layer.name for layer in opened.layers]
    assert (fused.name, fused.input_shape, fused.output_shape) == (opened.name, (None, 8, 8, 3), (None, 10))
    x = normal(4, 8, 8, 3)
    np.testing.assert_allclose(fused(x, training=training), opened(x, training=training), rtol=1e-4, atol=1e-6)
    traced = trained_operations(fused)
    assert (traced[KERNEL], traced["FusedBatchNormGradV3"]) == (5, 5)


def nested(kind: str) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    inner: keras.Model
    if kind == "functional":
        inner = keras.Model(inputs, keras.layers.BatchNormalization(name="bn")(inputs), name="inner")
    else:
        inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.BatchNormalization(name="bn")], name="inner")
    outer_inputs = keras.Input((8, 8, 3))
    x = inner(keras.layers.Rescaling(2.0)(outer_inputs))
    # The inner model a second time: its weights have to stay shared.
    x = keras.layers.BatchNormalization(name="last")(inner(x))
    if kind == "sequential of models":
        return keras.Sequential([keras.Model(outer_inputs, x), keras.layers.BatchNormalization()])
    return keras.Model(outer_inputs, x)


@pytest.mark.parametrize("kind", ["functional", "sequential", "sequential of models"])
def test_fuse_reaches_into_nested_models(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "sequential of models":
        request.getfixturevalue("recent_keras")
    model = nested(kind)
    model.set_weights([np.abs(normal(*w.shape, seed=i)) + 0.1 for i, w in enumerate(model.get_weights())])
    fused = fuse(model)
    assert normalizations(model) == [keras.layers.BatchNormalization] * len(normalizations(model))
    assert normalizations(fused) == [BatchNormalization] * len(normalizations(model))
    assert len(fused.weights) == len(model.weights)
    for training in (False, True):
        np.testing.assert_allclose(
            fused(normal(4, 8, 8, 3), training=training), model(normal(4, 8, 8, 3), training=training), 1e-4, 1e-4
        )
    for old, new in zip(model.get_weights(), fused.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


def test_fuse_returns_a_model_with_nothing_to_do_as_it_is() -> None:
    model = small_network()
    assert fuse(model) is model
    dense = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert fuse(dense) is dense


def test_fuse_shares_no_weight_with_its_model() -> None:
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization()])
    fuse(model).layers[0].moving_mean.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(model.layers[0].moving_mean, [0.0, 0.0, 0.0])


def test_fuse_keeps_options_frozen_layers_and_precision() -> None:
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.BatchNormalization(momentum=0.5, epsilon=0.1, center=False, dtype="mixed_bfloat16"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
        ]
    )
    model.layers[2].trainable = False
    first, dropout, last = fuse(model).layers
    assert (first.momentum, first.epsilon, first.center) == (0.5, 0.1, False)
    assert first.dtype_policy.name == "mixed_bfloat16"
    assert dropout.rate == 0.3
    assert (first.trainable, last.trainable) == (True, False)


REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf
from resnet_keras.distributed.strategy import create_strategy
from resnet_keras.layers.batch_norm import BatchNormalization

images = np.load(sys.argv[1])["images"]  # (replica, N, H, W, C)
found = {}
for name, layer_class, synchronized in (
    ("keras", keras.layers.BatchNormalization, False),
    ("ours", BatchNormalization, False),
    ("keras_synchronized", keras.layers.BatchNormalization, True),
    ("ours_synchronized", BatchNormalization, True),
):
    strategy = create_strategy(2)
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        layer = layer_class(momentum=0.75, synchronized=synchronized)
        layer.build((None, *images.shape[2:]))

    @tf.function
    def step(x):
        return strategy.run(lambda x: layer(x, training=True), (x,))

    x = strategy.experimental_distribute_values_from_function(lambda c: images[c.replica_id_in_sync_group])
    outputs = strategy.experimental_local_results(step(x))
    found[name] = np.stack([output.numpy() for output in outputs])
    found[name + "_mean"] = layer.moving_mean.numpy()
    found[name + "_variance"] = layer.moving_variance.numpy()
np.savez(sys.argv[2], **found)
"""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What two replicas make of the images of `replica_images`."""
    folder = tmp_path_factory.mktemp("replicas")
    np.savez(folder / "images.npz", images=replica_images())
    run_on_two_devices(REPLICAS, folder / "images.npz", folder / "found.npz")
    with np.load(folder / "found.npz") as found:
        return dict(found)


def replica_images() -> np.ndarray:
    images = normal(2, 3, 4, 4, 2)
    images[1] = images[1] * 3 + 5
    return images


@pytest.mark.parametrize("layer", ["keras", "ours"])
def test_each_replica_normalizes_by_its_own_statistics(replicas: dict[str, np.ndarray], layer: str) -> None:
    x = replica_images()
    mean, variance = x.mean(axis=(1, 2, 3)), x.var(axis=(1, 2, 3))
    expected = (x - mean[:, None, None, None]) / np.sqrt(variance[:, None, None, None] + 1e-3)
    np.testing.assert_allclose(replicas[layer], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", ["keras_synchronized", "ours_synchronized"])
def test_synchronized_replicas_normalize_by_the_statistics_of_all(replicas: dict[str, np.ndarray], layer: str) -> None:
    x = replica_images()
    mean, variance = x.mean(axis=(0, 1, 2, 3)), x.var(axis=(0, 1, 2, 3))
    np.testing.assert_allclose(replicas[layer], (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(replicas[f"{layer}_mean"], 0.25 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(replicas[f"{layer}_variance"], 0.75 + 0.25 * variance, rtol=1e-4)


@pytest.mark.parametrize("layer", ["keras", "ours"])
def test_moving_statistics_of_replicas_are_those_of_the_first(replicas: dict[str, np.ndarray], layer: str) -> None:
    first = replica_images()[0]
    np.testing.assert_allclose(replicas[f"{layer}_mean"], 0.25 * first.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(replicas[f"{layer}_variance"], 0.75 + 0.25 * first.var(axis=(0, 1, 2)), rtol=1e-4)
