"""Muon for convolutions (kellerjordan.github.io/posts/muon), against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.optimizers import MomentumSGD, Muon, create_optimizer, orthogonalized

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = {"hidden": (3, 3, 8, 6), "wide": (1, 1, 8, 20), "stem": (3, 3, 3, 6), "head": (6, 4), "gamma": (6,)}
HIDDEN = ("hidden", "wide")
OPTIONS = {"momentum": 0.8, "nesterov": True, "l2": 0.01}


def drawn(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def stepped(chosen: keras.optimizers.Optimizer, steps: int) -> dict[str, np.ndarray]:
    moved = [keras.Variable(value, dtype="float64", name=name) for name, value in drawn(0).items()]
    for t in range(1, steps + 1):
        chosen.apply([tf.constant(gradient) for gradient in drawn(100 + t).values()], moved)
    return {variable.name: variable.numpy() for variable in moved}


def test_singular_vectors_stay_and_singular_values_become_about_one() -> None:
    rng = np.random.default_rng(0)
    for shape in ((40, 16), (16, 40), (16, 16)):
        matrix = rng.normal(size=shape)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        found = keras.ops.convert_to_numpy(orthogonalized(tf.constant(matrix)))
        x = values / np.linalg.norm(matrix)
        for _ in range(5):
            x = sum(factor * x**power for factor, power in zip(COEFFICIENTS, (1, 3, 5), strict=True))
        np.testing.assert_allclose(found, left @ np.diag(x) @ right, atol=1e-5)
        assert x.min() > 0.65 and x.max() < 1.25


def test_a_matrix_of_zeros_stays() -> None:
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(orthogonalized(tf.zeros((3, 4)))), np.zeros((3, 4)))


@pytest.mark.parametrize("nesterov", [False, True])
def test_kernels_turn_by_their_orthogonalized_momentum_and_keep_their_length(nesterov: bool) -> None:
    rate, kernel_rate, momentum = 0.2, 0.5, 0.8
    found = stepped(Muon(learning_rate=rate, kernel_rate=kernel_rate, momentum=momentum, nesterov=nesterov, l2=0.01), 3)
    for name in HIDDEN:
        kernel, velocity = drawn(0)[name], 0.0
        length = np.linalg.norm(kernel)
        for t in range(1, 4):
            gradient = drawn(100 + t)[name]
            velocity = momentum * velocity + gradient
            direction = gradient + momentum * velocity if nesterov else velocity
            matrix = tf.constant(direction.reshape(-1, direction.shape[-1]))
            update = keras.ops.convert_to_numpy(orthogonalized(matrix)).reshape(kernel.shape)
            moved = kernel - rate * kernel_rate * length / np.sqrt(min(matrix.shape)) * update
            kernel = moved * length / np.linalg.norm(moved)
        np.testing.assert_allclose(found[name], kernel, rtol=1e-5, atol=1e-6)
        assert np.linalg.norm(found[name]) == pytest.approx(length, rel=1e-6)
        assert np.linalg.norm(found[name] - drawn(0)[name]) > 0.05 * length


def test_all_else_takes_the_step_of_sgd() -> None:
    found, sgd = (stepped(kind(learning_rate=0.1, **OPTIONS), 3) for kind in (Muon, MomentumSGD))
    for name in SHAPES:
        assert np.array_equal(found[name], sgd[name]) == (name not in HIDDEN)


def test_a_kernel_of_zeros_stays_finite() -> None:
    variable = keras.Variable(np.zeros((1, 1, 8, 4)), dtype="float32", name="kernel")
    Muon(learning_rate=0.1).apply([tf.ones((1, 1, 8, 4))], [variable])
    assert np.isfinite(variable.numpy()).all()


GROUPED = Architecture(
    stem="cifar", block="bottleneck", repeats=(1,), widths=(8,), groups=4, shortcut="B", se_reduction=4
)
PLAIN = Architecture(stem="cifar", block="bottleneck", repeats=(1,), widths=(8,), shortcut="B")


def moved_network(row: Architecture, *, told: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], keras.Model]:
    """Returns the kernels of convolutions before and after a step, by their layers, and the network."""
    keras.utils.set_random_seed(0)
    model = build(row, input_shape=(8, 8, 3), classes=4)
    optimizer = Muon(learning_rate=0.1, **OPTIONS)
    if told:
        optimizer.use_layers(model)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(1)
    gradients = [tf.constant(rng.normal(size=each.shape).astype("float32")) for each in model.trainable_variables]

    def kernels() -> dict[str, np.ndarray]:
        layers = [layer for layer in flat_layers(model) if isinstance(layer, keras.layers.Conv2D)]
        return {layer.name: layer.kernel.numpy() for layer in layers}

    before = kernels()
    optimizer.apply(gradients)
    return before, kernels(), model


def test_layers_tell_groups_images_and_squeeze_and_excitation() -> None:
    before, after, model = moved_network(GROUPED, told=True)
    lengths = {name: (np.linalg.norm(before[name]), np.linalg.norm(after[name])) for name in before}
    kept = {name for name, (one, other) in lengths.items() if one == pytest.approx(other, rel=1e-6)}
    grouped = model.get_layer("stage1_block1_conv2")
    assert (grouped.groups, grouped.kernel.shape) == (4, (3, 3, 2, 8))  # by its shape, of images
    assert kept == {f"stage1_block1_{name}" for name in ("conv1", "conv2", "conv3", "projection")}
    assert set(before) - kept == {"stem_conv", "stage1_block1_reduce", "stage1_block1_expand"}
    # Each group is a matrix of 18 rows and 2 columns, orthogonalized by itself.
    index = [id(each) for each in model.trainable_variables].index(id(grouped.kernel))
    rng = np.random.default_rng(1)
    gradient = [rng.normal(size=each.shape).astype("float32") for each in model.trainable_variables][index]
    kernel, length = before[grouped.name], lengths[grouped.name][0]
    parts = [orthogonalized(tf.constant(1.8 * each.reshape(-1, 2))) for each in np.split(gradient, 4, axis=-1)]
    update = np.concatenate([np.reshape(part, (3, 3, 2, 2)) for part in parts], axis=-1)
    moved = kernel - 0.1 * 0.3 * length / np.sqrt(8) * update
    np.testing.assert_allclose(after[grouped.name], moved * length / np.linalg.norm(moved), rtol=1e-4, atol=1e-6)


def test_without_groups_layers_tell_what_shapes_do() -> None:
    (_, told, _), (_, untold, _) = (moved_network(PLAIN, told=told) for told in (True, False))
    for name in told:
        np.testing.assert_array_equal(told[name], untold[name])


def test_a_recipe_names_it_and_its_configuration_gives_the_same() -> None:
    recipe = RECIPES["cifar10"].replace(optimizer="muon", kernel_rate=0.3, nesterov=True)
    chosen = create_optimizer(recipe.optimization, 0.1)
    assert type(chosen) is Muon
    assert (chosen.kernel_rate, chosen.momentum, chosen.nesterov, chosen.l2) == (0.3, 0.9, True, 1e-4)
    again = Muon.from_config(chosen.get_config())
    assert again.get_config() == chosen.get_config()
    with pytest.raises(ValueError, match="Expected `kernel_rate` to be above 0"):
        recipe.replace(kernel_rate=0.0)
