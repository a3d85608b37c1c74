"""The ODE block: residual blocks that share weights, its two gradients, what it counts, and its life in Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.two_devices import run_on_two_devices
from keras import layers

from resnet_keras.exporting.artifact_worker import LiteRTModel
from resnet_keras.exporting.litert import convert_to_litert, operators
from resnet_keras.networks.ode_block import ODEBlock, solution
from resnet_keras.networks.ode_solvers import Integration


def images(*shape: int, seed: int = 3, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def drawn(block: ODEBlock, channels: int = 4, seed: int = 5) -> ODEBlock:
    """Builds the block and draws every weight, the offsets and scales too."""
    block.build((None, None, None, channels))
    rng = np.random.default_rng(seed)
    for weight in block.weights:
        center = 1.0 if weight.name == "gamma" else 0.0
        weight.assign(rng.normal(center, 0.3, weight.shape))
    return block


def network(**settings: Any) -> keras.Model:
    inputs = keras.Input((4, 4, 4))
    block = drawn(ODEBlock(**settings, name="ode"))
    x = layers.GlobalAveragePooling2D(dtype="float32")(layers.ReLU()(block(inputs)))
    return keras.Model(inputs, layers.Dense(2, kernel_initializer="ones", dtype="float32")(x))


@pytest.mark.parametrize("steps", [1, 3])
def test_euler_of_n_steps_is_n_residual_blocks_that_share_their_weights(steps: int) -> None:
    block = drawn(ODEBlock("euler", steps=steps))
    norms = [layers.GroupNormalization(4, epsilon=1e-5) for _ in range(3)]
    convolutions = [layers.Conv2D(4, 3, padding="same") for _ in range(2)]
    for layer, own in zip((*norms, *convolutions), (*block.norms, *block.convolutions), strict=True):
        layer.build((None, 5, 6, 5 if layer in convolutions else 4))
        layer.set_weights(own.get_weights())
    expected = x = images(2, 5, 6, 4)
    for i in range(steps):
        time = np.full((2, 5, 6, 1), i / steps, "float32")
        residual = expected
        for norm, convolution in zip(norms, convolutions, strict=False):
            residual = convolution(keras.ops.concatenate([time, keras.ops.relu(norm(residual))], axis=-1))
        expected = expected + norms[2](residual) / steps
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-5)
    assert int(block.solve(x)[1]) == steps


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (16, 16), (48, 16), (6, 2)])
def test_group_normalization_has_the_papers_32_groups_or_what_of_them_divides_the_channels(
    channels: int, groups: int
) -> None:
    block = ODEBlock()
    block.build((None, 8, 8, channels))
    assert [norm.groups for norm in block.norms] == [groups] * 3
    # Two convolutions that see the time, with biases, and three scales and offsets.
    assert block.count_params() == 2 * (9 * (channels + 1) * channels + channels) + 3 * 2 * channels


def gradients(block: ODEBlock, x: np.ndarray) -> list[np.ndarray]:
    """Of a weighted sum of the output: with respect to the input and all weights."""
    towards = images(*x.shape, seed=9, dtype=x.dtype.name)

    @tf.function
    def graph(x: tf.Tensor) -> list:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(block(x) * towards)
        return tape.gradient(loss, [x, *(weight.value for weight in block.weights)])

    return [gradient.numpy() for gradient in graph(tf.constant(x))]


@pytest.mark.slow
def test_the_gradient_by_backpropagation_is_the_slope_of_what_the_solver_computes() -> None:
    block = drawn(ODEBlock("rk4", steps=2, dtype="float64"), channels=6)
    x, rng = images(2, 3, 3, 6, dtype="float64"), np.random.default_rng(2)
    found = gradients(block, x)
    directions = [rng.normal(size=gradient.shape) for gradient in found]
    values, towards, width = block.get_weights(), images(*x.shape, seed=9, dtype="float64"), 1e-6
    solve = tf.function(block.solve)

    def loss(by: float) -> float:
        block.set_weights([value + by * along for value, along in zip(values, directions[1:], strict=True)])
        return float(tf.reduce_sum(solve(tf.constant(x + by * directions[0]))[0] * towards))

    slope = (loss(width) - loss(-width)) / (2 * width)
    assert slope == pytest.approx(sum(float((g * d).sum()) for g, d in zip(found, directions, strict=True)), rel=1e-5)


@pytest.mark.slow
def test_the_adjoint_gradient_of_a_block_is_that_of_backpropagation() -> None:
    x = images(2, 3, 3, 6, dtype="float64")
    adjoint, exact = (
        gradients(drawn(ODEBlock("rk4", steps=60, gradient=gradient, dtype="float64"), channels=6), x)
        for gradient in ("adjoint", "backpropagation")
    )
    largest = max(np.abs(gradient).max() for gradient in exact)
    assert len(exact) == 1 + 10
    for a, b in zip(adjoint, exact, strict=True):
        assert np.abs(b).max() > 0.01 * largest
        # A ReLU bends within a step, which costs both of them digits.
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-3 * largest)


@pytest.mark.parametrize("gradient", ["adjoint", "backpropagation"])
def test_both_gradients_of_a_linear_equation_are_exact_to_the_tolerance(gradient: Any) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    matrix, start, towards = np.array([[-0.5, 3.0], [-3.0, -0.2]]), np.array([1.0, 2.0]), np.array([0.7, -1.1])
    reported: list[int] = []
    x, weight = tf.constant(start), tf.constant(matrix)
    with tf.GradientTape() as tape:
        tape.watch((x, weight))
        end, _ = solution(
            lambda time, x, weights: tf.linalg.matvec(weights[0], x),
            x,
            (weight,),
            Integration(rtol=1e-8, atol=1e-8, gradient=gradient),
            lambda evaluations: reported.append(int(evaluations)),
        )
        loss = tf.reduce_sum(end * towards)
    by_start, by_matrix = tape.gradient(loss, (x, weight))
    np.testing.assert_allclose(by_start, linalg.expm(matrix).T @ towards, atol=1e-7)
    exact = linalg.expm_frechet(matrix.T, np.outer(towards, start), compute_expm=False)
    np.testing.assert_allclose(by_matrix, exact, atol=1e-7)
    assert len(reported) == (gradient == "adjoint")


def test_the_adjoint_gradient_is_as_exact_for_a_loss_of_any_scale_and_passes_on_what_is_not_finite() -> None:
    reported: list[int] = []

    def gradient(scale: float) -> np.ndarray:
        how = Integration(gradient="adjoint")
        x = tf.constant([1.0, 2.0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            end, _ = solution(lambda time, x, _: -x * tf.sin(3 * x), x, (), how, lambda n: reported.append(int(n)))
            loss = tf.reduce_sum(end) * scale
        return tape.gradient(loss, x).numpy()

    np.testing.assert_allclose(gradient(1e-6) * 1e6, gradient(1.0), rtol=1e-5)
    np.testing.assert_allclose(gradient(2.0**15) / 2**15, gradient(1.0), rtol=1e-5)
    assert len(set(reported)) == 1
    assert not np.isfinite(gradient(np.inf)).any()
    np.testing.assert_array_equal(gradient(0.0), [0, 0])


def test_the_adjoint_of_fixed_steps_approaches_backpropagation_at_the_order_of_the_solver() -> None:
    def error(steps: int) -> float:
        # y' = -y cos(w t): smooth, other than a network with ReLUs.
        results = []
        for gradient in ("adjoint", "backpropagation"):
            how = Integration(solver="rk4", steps=steps, gradient=gradient)
            start, weight = tf.constant([1.0, 2.0], tf.float64), tf.constant(4.0, tf.float64)
            with tf.GradientTape() as tape:
                tape.watch((start, weight))
                end, _ = solution(lambda t, x, w: -x * tf.sin(x) * tf.cos(w[0] * t), start, (weight,), how)
            results.append(np.concatenate([np.ravel(g) for g in tape.gradient(end, (start, weight))]))
        return np.abs(results[0] - results[1]).max()

    assert np.log2(error(8) / error(16)) == pytest.approx(4, abs=0.5)


def test_memory_of_the_adjoint_method_does_not_grow_with_the_steps() -> None:
    # A loop that is differentiated keeps what each round has computed in lists; one that is not has none.
    def lists(gradient: Any) -> set[str]:
        block = drawn(ODEBlock("euler", steps=2, gradient=gradient))

        @tf.function
        def graph(x: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(block(x) ** 2)
            return tape.gradient(loss, block.convolutions[0].kernel.value)

        found = graph.get_concrete_function(tf.TensorSpec([2, 4, 4, 4])).graph.as_graph_def()
        nodes = [*found.node, *(node for function in found.library.function for node in function.node_def)]
        return {node.op for node in nodes if "TensorList" in node.op}

    assert "TensorListPushBack" in lists("backpropagation")
    assert not lists("adjoint")


@pytest.mark.slow
def test_fit_reports_the_evaluations_of_both_passes_and_learns() -> None:
    x, y = images(32, 4, 4, 4), images(32, 2, seed=8)
    model = network(gradient="adjoint", rtol=1e-2, atol=1e-2)
    model.compile("sgd", "mse")
    history = model.fit(x, y, epochs=3, batch_size=16, verbose=0).history
    assert history["loss"] == sorted(history["loss"], reverse=True)
    # Two evaluations before the first step, six for each attempt.
    for name in ("ode_evaluations", "ode_backward_evaluations"):
        assert all(count >= 8 for count in history[name])
    _, in_inference = model.get_layer("ode").solve(x)
    assert (int(in_inference) - 2) % 6 == 0


@pytest.mark.slow
@pytest.mark.parametrize(("gradient", "other"), [("adjoint", "run_eagerly"), ("backpropagation", "jit_compile")])
def test_eager_training_and_graphs_and_xla_take_the_same_step(gradient: Any, other: str) -> None:
    x, y = images(8, 4, 4, 4), images(8, 2, seed=8)
    results = []
    for how in ({"jit_compile": False}, {other: True}):
        model = network(solver="euler", steps=2, gradient=gradient)
        model.compile("sgd", "mse", **how)
        logs = model.train_on_batch(x, y, return_dict=True)
        assert logs["ode_evaluations"] == 2
        assert logs["ode_backward_evaluations"] == (2 if gradient == "adjoint" else 0)
        results.append(np.concatenate([weight.ravel() for weight in model.get_weights()]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-6)


def test_xla_is_for_fixed_steps() -> None:
    assert [ODEBlock(solver).supports_jit for solver in ("euler", "rk4", "dopri5")] == [True, True, False]


def test_a_looser_tolerance_takes_fewer_evaluations() -> None:
    x = images(4, 8, 8, 4)
    results = [drawn(ODEBlock(rtol=tol, atol=tol)).solve(x) for tol in (1e-1, 1e-3, 1e-5)]
    counts = [int(evaluations) for _, evaluations in results]
    assert counts == sorted(set(counts))
    errors = [float(tf.reduce_max(tf.abs(maps - results[-1][0]))) for maps, _ in results[:-1]]
    assert errors[0] > 2 * errors[1]


@pytest.mark.slow
def test_a_saved_network_opens_where_the_package_is_imported_and_computes_the_same(tmp_path: Path) -> None:
    model = network(solver="dopri5", rtol=1e-4, atol=1e-5, max_steps=77, gradient="adjoint")
    model.save(tmp_path / "ode.keras")
    opened = keras.saving.load_model(tmp_path / "ode.keras")
    block = opened.get_layer("ode")
    assert isinstance(block, ODEBlock)
    assert block.integration == Integration(rtol=1e-4, atol=1e-5, max_steps=77, gradient="adjoint")
    x = images(3, 4, 4, 4)
    np.testing.assert_array_equal(opened.predict_on_batch(x), model.predict_on_batch(x))
    # What it counts is no weight.
    assert len(model.weights) == 10 + 2
    assert not block.non_trainable_weights


def test_a_saved_model_has_no_state_but_the_weights(tmp_path: Path) -> None:
    model = network(solver="euler", steps=2, gradient="adjoint")
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    x = images(3, 4, 4, 4)
    np.testing.assert_allclose(served.serve(x), model.predict_on_batch(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_litert_file_takes_the_same_steps_by_builtin_operators(tmp_path: Path) -> None:
    inputs = keras.Input((4, 4, 4))
    answers = [network(solver=solver, gradient="adjoint")(inputs) for solver in ("euler", "dopri5")]
    model = keras.Model(inputs, layers.Concatenate()(answers))
    x = images(2, 4, 4, 4)
    convert_to_litert(model, x, {"float32": tmp_path / "ode.tflite"})
    assert not [name for name in operators(tmp_path / "ode.tflite") if name.startswith("custom:")]
    (found,) = LiteRTModel(tmp_path / "ode.tflite")(x).values()
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found, model.predict_on_batch(x), rtol=1e-4, atol=1e-5)


REPLICAS = """
import sys
import keras
import numpy as np
import tensorflow as tf
from resnet_keras.distributed.strategy import create_strategy, scope
from resnet_keras.networks import ODEBlock

rng = np.random.default_rng(0)
data = tf.data.Dataset.from_tensor_slices((rng.normal(size=(8, 4, 4, 4)).astype("float32"), np.arange(8) % 2)).batch(8)
found = {}
adaptive = {"rtol": 1e-5, "atol": 1e-5, "gradient": "adjoint"}
for name, settings in {"euler": {"solver": "euler", "steps": 2}, "dopri5": adaptive}.items():
    for replicas in (1, 2):
        keras.utils.set_random_seed(0)
        with scope(create_strategy(replicas)):
            inputs = keras.Input((4, 4, 4))
            x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(ODEBlock(**settings, name="ode")(inputs)))
            model = keras.Model(inputs, keras.layers.Dense(2)(x))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(0.1), loss)
        history = model.fit(data, epochs=2, verbose=0).history
        found[f"{name}{replicas}"] = np.concatenate([weight.ravel() for weight in model.get_weights()])
        counts = history["ode_evaluations"], history["ode_backward_evaluations"]
        found[f"{name}{replicas}_evaluations"] = np.array(counts)
np.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
def test_two_replicas_learn_what_one_does(tmp_path: Path) -> None:
    run_on_two_devices(REPLICAS, tmp_path / "found.npz")
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["euler2"], found["euler1"], atol=1e-6)
    # Each replica chooses its own steps.
    np.testing.assert_allclose(found["dopri52"], found["dopri51"], atol=1e-3)
    np.testing.assert_array_equal(found["euler2_evaluations"], [[2, 2], [0, 0]])
    assert (found["dopri52_evaluations"] >= 8).all()


@pytest.mark.slow
def test_under_half_precision_the_block_and_its_gradients_are_of_float32() -> None:
    x = images(2, 4, 4, 4)
    expected = gradients(drawn(ODEBlock("rk4", steps=2, gradient="adjoint", dtype="float32", name="ode")), x)
    before = keras.config.dtype_policy()
    for policy in ("mixed_bfloat16", "mixed_float16"):
        half = drawn(ODEBlock("rk4", steps=2, gradient="adjoint", dtype=policy, name="ode"))
        assert half(x).dtype == "float32", policy
        for a, b in zip(gradients(half, x), expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=policy)
        # The global policy is that of a layer without its own.
        try:
            keras.config.set_dtype_policy(policy)
            model = network(solver="rk4", steps=2, gradient="adjoint")
            model.compile("sgd", "mse", run_eagerly=True)
            loss = model.train_on_batch(x, images(2, 2, seed=8), return_dict=True)["loss"]
        finally:
            keras.config.set_dtype_policy(before)
        assert model.get_layer("ode").compute_dtype == "float32", policy
        assert np.isfinite(loss), policy


def test_under_float64_the_block_is_of_float64() -> None:
    block = drawn(ODEBlock("euler", steps=1, dtype="float64"))
    assert block(images(2, 4, 4, 4, dtype="float64")).dtype == "float64"
    assert {layer.compute_dtype for layer in (*block.norms, *block.convolutions)} == {"float64"}


@pytest.mark.parametrize("shape", [(None, 8, 64), (None, 8, 8, None)])
def test_an_input_that_is_no_images_is_refused(shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"\(N, H, W, C\) with a known C. Received: a shape of"):
        ODEBlock().build(shape)


def test_unknown_names_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'euler', 'rk4', 'dopri5'.* Received: 'rk45'"):
        ODEBlock("rk45")
    with pytest.raises(ValueError, match=r"`rtol` .*Received: -1"):
        ODEBlock(rtol=-1)


def test_images_that_are_not_finite_are_an_error_that_says_so() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="a state that is not finite"):
        drawn(ODEBlock())(np.full((2, 4, 4, 4), np.nan, "float32"))
