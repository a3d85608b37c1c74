"""The paper's weight decay: an L2 term in the gradient, which goes through the momentum."""

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.two_devices import run_on_two_devices

from resnet_keras.recipes.catalog import RECIPES, Recipe
from resnet_keras.training.optimizers import MomentumSGD, create_optimizer
from resnet_keras.training.schedules import learning_rate_schedule

L2 = 0.05  # strong enough to tell from none
RECIPE = RECIPES["cifar10"].replace(l2=L2)


def little_network(seed: int = 0) -> keras.Model:
    """Returns a network with a kernel, a bias, a gamma and a beta."""
    network = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(0.5, 0.3, variable.shape))
    return network


def gradients(network: keras.Model, step: int, l2: float = 0.0) -> list[tf.Tensor]:
    """Returns those of a batch's cross-entropy, plus l2 / 2 times the sum of all squared weights."""
    rng = np.random.default_rng(100 + step)
    images, labels = rng.normal(size=(8, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 8)
    with tf.GradientTape() as tape:
        logits = network(images, training=False)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        loss += l2 / 2 * sum(tf.reduce_sum(variable.value**2) for variable in network.trainable_variables)
    return tape.gradient(loss, [variable.value for variable in network.trainable_variables])


def trained(network: keras.Model, chosen: keras.optimizers.Optimizer, steps: int, l2_in_loss: float = 0.0) -> Any:
    for step in range(steps):
        chosen.apply(gradients(network, step, l2_in_loss), network.trainable_variables)
    return network.get_weights()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_five_steps_are_those_of_plain_sgd_on_a_loss_with_the_l2_term(momentum: float, nesterov: bool) -> None:
    options = {"learning_rate": 0.1, "momentum": momentum, "nesterov": nesterov}
    found = trained(little_network(), MomentumSGD(l2=L2, **options), steps=5)
    wanted = trained(little_network(), keras.optimizers.SGD(**options), steps=5, l2_in_loss=L2)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_is_the_papers_framework_s(nesterov: bool) -> None:
    # Caffe's SGDSolver: v <- m v - lr (g + l2 w), w <- w + v. Nesterov looks ahead by m v.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=5)
    variable = keras.Variable(weights, dtype="float64", name="kernel")
    chosen = MomentumSGD(l2=L2, learning_rate=0.1, momentum=0.9, nesterov=nesterov)
    velocity = np.zeros(5)
    for _ in range(6):
        gradient = rng.normal(size=5)
        decayed = gradient + L2 * weights
        velocity = 0.9 * velocity - 0.1 * decayed
        weights = weights + (0.9 * velocity - 0.1 * decayed if nesterov else velocity)
        chosen.apply([tf.constant(gradient)], [variable])
        np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-6)


def test_without_a_gradient_the_momentum_makes_the_decay_ten_times_as_strong() -> None:
    variable = keras.Variable(np.ones(3), dtype="float64", name="kernel")
    chosen = MomentumSGD(l2=1e-3, learning_rate=0.1, momentum=0.9)
    for _ in range(300):
        chosen.apply([tf.zeros(3, tf.float64)], [variable])
    # exp(-lr l2 steps / (1 - momentum)), but for the first steps; Keras's own `weight_decay` would give exp(-0.03).
    np.testing.assert_allclose(variable.numpy(), np.exp(-0.1 * 1e-3 * 300 / (1 - 0.9)), rtol=0.02)


def test_with_all_decayed_every_trainable_weight_decays() -> None:
    assert decayed(RECIPE.replace(decay_on="all")) == {"kernel", "bias", "gamma", "beta"}


def test_with_kernels_decayed_neither_biases_nor_batch_normalization_decay() -> None:
    assert decayed(RECIPE.replace(decay_on="kernels")) == {"kernel"}


def test_without_l2_nothing_decays() -> None:
    assert decayed(RECIPE.replace(l2=0.0)) == set()


def decayed(recipe: Recipe) -> set[str]:
    """Returns the names of the weights that a step without gradients changes, by lr * l2 of themselves each."""
    network = little_network()
    before = {variable.path: variable.numpy().copy() for variable in network.trainable_variables}
    zeros = [tf.zeros(variable.shape) for variable in network.trainable_variables]
    create_optimizer(recipe.optimization, 0.1).apply(zeros, network.trainable_variables)
    changed = set()
    for variable in network.trainable_variables:
        if (variable.numpy() != before[variable.path]).any():
            np.testing.assert_allclose(variable.numpy(), before[variable.path] * (1 - 0.1 * L2), rtol=1e-6)
            changed.add(variable.name)
    names = [variable.name for variable in network.trainable_variables]
    assert all(names.count(name) == (2 if name in ("kernel", "bias") else 1) for name in set(names))
    return changed


def test_the_recipes_numbers_arrive_in_the_optimizer() -> None:
    recipe = RECIPE.replace(momentum=0.8, nesterov=True, l2=3e-4)
    chosen = create_optimizer(recipe.optimization, learning_rate_schedule(recipe, 390))
    assert (chosen.momentum, chosen.nesterov, chosen.l2) == (0.8, True, 3e-4)
    assert chosen.weight_decay is None  # Keras's own, which would come on top
    assert float(chosen.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "muon", "lamb"])
def test_gradients_are_clipped_to_the_recipes_norm(optimizer: str) -> None:
    recipe = RECIPE.replace(optimizer=optimizer, l2=0.0, momentum=0.0, clip_norm=1.0)
    assert create_optimizer(recipe.optimization, 0.1).global_clipnorm == 1.0
    assert create_optimizer(recipe.replace(clip_norm=None).optimization, 0.1).global_clipnorm is None


def test_the_rate_follows_the_schedule_from_step_to_step() -> None:
    recipe = RECIPE.replace(epochs=4, lr_drops=(0.5, 0.75), momentum=0.0, l2=0.0)
    variable = keras.Variable(np.zeros(1), dtype="float64", name="kernel")
    chosen = create_optimizer(recipe.optimization, learning_rate_schedule(recipe, 1))
    places = [0.0]
    for _ in range(4):
        chosen.apply([tf.constant([-1.0], tf.float64)], [variable])
        places.append(float(variable.numpy()[0]))
    np.testing.assert_allclose(np.diff(places), [0.1, 0.1, 0.01, 0.001], rtol=1e-5)


def test_its_configuration_gives_the_same_optimizer() -> None:
    chosen = MomentumSGD(l2=L2, learning_rate=0.1, momentum=0.9, nesterov=True)
    again = MomentumSGD.from_config(chosen.get_config())
    assert again.get_config() == chosen.get_config()
    assert (again.l2, again.momentum, again.nesterov) == (L2, 0.9, True)


TWO_GRADIENTS = """
import json
import keras
import tensorflow as tf
from resnet_keras.distributed.strategy import create_strategy
from resnet_keras.training.optimizers import MomentumSGD

strategy = create_strategy(2)
with strategy.scope():
    weight = keras.Variable([10.0, 10.0])
    optimizer = MomentumSGD(learning_rate=1.0, global_clipnorm=1.0)
    optimizer.build([weight])

@tf.function
def step():
    def own():
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        optimizer.apply([tf.where(first, [3.0, 0.0], [0.0, 4.0])], [weight])
    strategy.run(own)

step()
print(json.dumps(weight.numpy().tolist()))
"""


def test_two_devices_clip_by_the_norm_of_their_sum() -> None:
    # Of length 5, the gradient (3, 4) becomes (0.6, 0.8); the parts by themselves would become (1, 0) and (0, 1).
    np.testing.assert_allclose(json.loads(run_on_two_devices(TWO_GRADIENTS)), [10 - 0.6, 10 - 0.8], rtol=1e-6)
