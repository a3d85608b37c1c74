"""LAMB (arXiv:1904.00962, Algorithm 2) and the decay beside SGD's step (arXiv:1711.05101), against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.optimizers import Lamb, MomentumSGD, create_optimizer
from resnet_keras.training.schedules import learning_rate_schedule

SHAPES = {"kernel": (3, 4), "bias": (4,), "gamma": (4,), "beta": (4,)}
BETAS = (0.9, 0.999)
EPSILON = 1e-6


def drawn(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(scale=scale, size=shape) for name, shape in SHAPES.items()}


def variables(values: dict[str, np.ndarray]) -> list[keras.Variable]:
    return [keras.Variable(value, dtype="float64", name=name) for name, value in values.items()]


def clipped(gradients: dict[str, np.ndarray], longest: float | None) -> dict[str, np.ndarray]:
    length = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    factor = min(1.0, longest / length) if longest else 1.0
    return {name: factor * gradient for name, gradient in gradients.items()}


def algorithm_2(
    weights: dict[str, np.ndarray], rates: list[float], decay: float, whole: set[str], longest: float | None
) -> dict[str, np.ndarray]:
    """Returns the weights after a step for each rate; those not in `whole` take Adam's step, without decay."""
    weights = dict(weights)
    m, v = ({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    for t, rate in enumerate(rates, start=1):
        for name, gradient in clipped(drawn(100 + t), longest).items():
            m[name] = BETAS[0] * m[name] + (1 - BETAS[0]) * gradient
            v[name] = BETAS[1] * v[name] + (1 - BETAS[1]) * gradient**2
            update = (m[name] / (1 - BETAS[0] ** t)) / (np.sqrt(v[name] / (1 - BETAS[1] ** t)) + EPSILON)
            trust = 1.0
            if name in whole:
                update = update + decay * weights[name]
                trust = np.linalg.norm(weights[name]) / np.linalg.norm(update)
            weights[name] = weights[name] - rate * trust * update
    return weights


def stepped(chosen: keras.optimizers.Optimizer, steps: int) -> dict[str, np.ndarray]:
    moved = variables(drawn(0))
    for t in range(1, steps + 1):
        chosen.apply([tf.constant(gradient) for gradient in drawn(100 + t).values()], moved)
    return {variable.name: variable.numpy() for variable in moved}


@pytest.mark.parametrize("longest", [None, 1.0])
def test_four_steps_are_those_of_the_paper(longest: float | None) -> None:
    recipe = RECIPES["imagenet_a2"].replace(model="resnet18", 
        lr_schedule="step", peak_lr=0.05, warmup_epochs=0, lr_drops=(0.5,), epochs=4,
        weight_decay=0.3, clip_norm=longest,
    )  # fmt: skip
    wanted = algorithm_2(drawn(0), [0.05, 0.05, 0.005, 0.005], 0.3, {"kernel"}, longest)
    found = stepped(create_optimizer(recipe.optimization, learning_rate_schedule(recipe, 1)), 4)
    begun = drawn(0)
    for name in SHAPES:
        assert np.abs(wanted[name] - begun[name]).max() > 0.01
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_all_decay_where_nothing_is_excluded() -> None:
    wanted = algorithm_2(drawn(0), [0.05] * 4, 0.3, set(SHAPES), None)
    found = stepped(Lamb(decay=0.3, learning_rate=0.05, epsilon=EPSILON), 4)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_a_weight_of_zeros_takes_the_step_as_it_is() -> None:
    variable = keras.Variable(np.zeros(3), dtype="float64", name="kernel")
    Lamb(decay=0.3, learning_rate=0.05, epsilon=EPSILON).apply([tf.constant([1.0, -2.0, 3.0], tf.float64)], [variable])
    np.testing.assert_allclose(variable.numpy(), [-0.05, 0.05, -0.05], rtol=1e-4)


def test_a_weight_without_gradient_and_decay_stays() -> None:
    variable = keras.Variable(np.zeros(3), dtype="float64", name="kernel")
    Lamb(decay=0.3, learning_rate=0.05, epsilon=EPSILON).apply([tf.zeros(3, tf.float64)], [variable])
    np.testing.assert_array_equal(variable.numpy(), np.zeros(3))


def test_a_recipes_optimizer_is_the_one_that_it_names() -> None:
    lamb = create_optimizer(RECIPES["imagenet_a2"].optimization, 0.1)
    assert type(lamb) is Lamb
    assert (lamb.decay, lamb.global_clipnorm, lamb.epsilon) == (0.02, 1.0, 1e-6)
    assert (lamb.beta_1, lamb.beta_2) == BETAS
    assert lamb.weight_decay is None  # Keras's own, which would come on top
    assert type(create_optimizer(RECIPES["imagenet"].optimization, 0.1)) is MomentumSGD


def test_its_configuration_gives_the_same_optimizer() -> None:
    chosen = Lamb(decay=0.02, learning_rate=0.1, epsilon=1e-6, global_clipnorm=1.0)
    again = Lamb.from_config(chosen.get_config())
    assert again.get_config() == chosen.get_config()
    assert (again.decay, again.epsilon, again.global_clipnorm) == (0.02, 1e-6, 1.0)


@pytest.mark.parametrize("decayed", ["all", "kernels"])
def test_decoupled_decay_of_sgd_does_not_change_the_momentum(decayed: str) -> None:
    recipe = RECIPES["cifar10"].replace(l2=0.0, weight_decay=0.3, decay_on=decayed)
    weights, velocity = drawn(0), {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t in range(1, 5):
        for name, gradient in drawn(100 + t).items():
            decay = 0.3 if decayed == "all" or name == "kernel" else 0.0
            velocity[name] = 0.9 * velocity[name] - 0.05 * gradient
            weights[name] = weights[name] * (1 - 0.05 * decay) + velocity[name]
    found = stepped(create_optimizer(recipe.optimization, 0.05), 4)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], weights[name], rtol=1e-6, atol=1e-6)
