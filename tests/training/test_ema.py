"""The moving average of a network's weights, against NumPy."""

import json
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from helpers.little_steps import batch, fit, largest_difference, network, of
from helpers.two_devices import run_on_two_devices

from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.ema import ValidateAverage, WeightAverage
from resnet_keras.training.user_callbacks import UserCallbacks


def averaged(model: keras.Model, average: WeightAverage, steps: range) -> list[list[np.ndarray]]:
    """Trains and returns the weights after each step."""
    seen = []
    with patch_methods(model, train_step=average.after(model.train_step)):
        for step in steps:
            fit(model, [batch(step)])
            seen.append(of(average.weights))
    return seen


def test_all_weights_and_moving_statistics_are_averaged_and_no_random_states() -> None:
    model = network(dropout=0.5)
    average = WeightAverage(model, 0.9)
    names = [weight.name for weight in average.weights]
    assert sorted({*names}) == ["beta", "bias", "gamma", "kernel", "moving_mean", "moving_variance"]
    assert {id(weight) for weight in average.weights} == {id(weight) for weight in model.weights}
    assert len(average.variables) == len(model.weights) + 1
    for one, other in zip(of(average.averages), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("decay", [0.5, 0.7, 0.99])
def test_five_steps_are_those_of_numpy(decay: float) -> None:
    model = network()
    average = WeightAverage(model, decay)
    seen = averaged(model, average, range(5))
    assert largest_difference(seen[0], seen[4]) > 1e-3
    for i, found in enumerate(of(average.averages)):
        wanted = np.zeros_like(found, np.float64)
        plain = int(1 / (1 - decay) + 1e-6)  # so long it is the mean of all
        for t, weights in enumerate(seen, start=1):
            if t <= plain:
                wanted = np.mean([weights_before[i].astype(np.float64) for weights_before in seen[:t]], axis=0)
            else:
                wanted = decay * wanted + (1 - decay) * weights[i]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert int(average.steps.numpy()) == 5


def test_an_average_changes_nothing_of_the_training() -> None:
    alone, beside = network(), network()
    logs = fit(alone, map(batch, range(3)))
    average = WeightAverage(beside, 0.5)
    with patch_methods(beside, train_step=average.after(beside.train_step)):
        assert fit(beside, map(batch, range(3))) == logs
    for one, other in zip(of(alone.variables), of(beside.variables), strict=True):
        np.testing.assert_array_equal(one, other)


class Sees(keras.callbacks.Callback):
    """Keeps the weights that it sees, and sets the last one if it is told to."""

    def __init__(self, sets: float | None = None) -> None:
        super().__init__()
        self.sets, self.seen = sets, list[list[np.ndarray]]()

    def on_test_end(self, logs: Any = None) -> None:
        """Keeps the weights."""
        self.seen.append(of(self.model.weights))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keeps the weights, and sets one."""
        self.on_test_end()
        if self.sets is not None:
            self.model.weights[-1].assign(np.full(self.model.weights[-1].shape, self.sets))


def test_callbacks_see_the_averages_and_weights_that_they_set_stay() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    averaged(model, average, range(2))
    own, averages = of(model.weights), of(average.averages)
    assert largest_difference(own, averages) > 1e-3
    tracker: Any = SimpleNamespace(recipe=RECIPES["digits"], steps=2, learning_rate=0.25)
    for callback, last in ((Sees(), own[-1]), (Sees(7.0), np.full_like(own[-1], 7.0))):
        callbacks = UserCallbacks([callback], tracker, average)
        callbacks.start(model)
        callbacks.on_test_end()
        callbacks.on_epoch_end(0)
        assert [largest_difference(seen, averages) for seen in callback.seen] == [0, 0]
        for weight, value in zip(of(model.weights), [*own[:-1], last], strict=True):
            np.testing.assert_array_equal(weight, value)


def test_several_steps_at_once_are_averaged_one_by_one() -> None:
    found = []
    for at_once in (1, 2):
        model = network()
        model.steps_per_execution = at_once
        average = WeightAverage(model, 0.5)
        with patch_methods(model, train_step=average.after(model.train_step)):
            fit(model, map(batch, range(4)))
        found.append(of(average.variables))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision_is_averaged_in_full() -> None:
    model = network(policy="mixed_bfloat16")
    average = WeightAverage(model, 0.99)
    seen = averaged(model, average, range(3))
    for i, found in enumerate(of(average.averages)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.mean([weights[i] for weights in seen], axis=0), rtol=1e-5, atol=1e-6)


def test_it_begins_anew_as_the_network_is_then() -> None:
    model = network()
    average = WeightAverage(model, 0.99)
    averaged(model, average, range(3))
    average.reset()
    for one, other in zip(of(average.averages), of(average.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    seen = averaged(model, average, range(3, 6))
    for i, found in enumerate(of(average.averages)):
        np.testing.assert_allclose(found, np.mean([weights[i] for weights in seen], axis=0), rtol=1e-5, atol=1e-6)


def test_the_network_is_given_its_averages() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    averaged(model, average, range(3))
    wanted = of(average.averages)
    assert largest_difference(wanted, of(average.weights)) > 1e-3
    average.assign_to_model()
    for one, other in zip(of(average.weights), wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(of(average.averages), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


class Seen(keras.callbacks.Callback):
    """The weights at each step of validation, and after it."""

    def __init__(self, average: WeightAverage) -> None:
        super().__init__()
        self.average = average
        self.during: list[list[np.ndarray]] = []
        self.trained: list[list[np.ndarray]] = []
        self.after: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the weights."""
        self.trained.append(of(self.model.variables))

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Notes the weights."""
        self.during.append(of(self.average.weights))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Notes the weights."""
        self.after.append(of(self.model.variables))


def test_validation_uses_the_averages_and_training_continues_without_them() -> None:
    model = network()
    average = WeightAverage(model, 0.9)
    seen = Seen(average)
    with patch_methods(model, train_step=average.after(model.train_step)):
        logs = fit(
            model, map(batch, range(3)), validation_data=batch(9), callbacks=[ValidateAverage(average), seen],
            validation_batch_size=4,
        )  # fmt: skip
    assert len(seen.during) == 2
    for weights in seen.during:
        for one, other in zip(weights, of(average.averages), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(seen.after[0], seen.trained[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    average.assign_to_model()
    assert logs["val_loss"] == model.evaluate(*batch(9), batch_size=4, verbose=0)[0]


TWO_DEVICES = """
import json
import numpy as np
from resnet_keras.distributed import strategy as distribution
from resnet_keras.training.ema import WeightAverage, ValidateAverage
from resnet_keras.layers.keras_internals import patch_methods
from helpers.little_steps import batch, fit, largest_difference, network, of

strategy = distribution.create_strategy(2)
copies = distribution.replica_values(strategy)

def trained(chosen, frozen):
    with distribution.scope(chosen):
        model = network(frozen=frozen)
        average = WeightAverage(model, 0.5)
    statistics = distribution.AverageStatistics(chosen)
    callbacks = [statistics, ValidateAverage(average)]
    with patch_methods(model, train_step=average.after(model.train_step)):
        fit(model, map(batch, range(4)), validation_data=batch(9), validation_batch_size=8, callbacks=callbacks)
    return model, average

_, one = trained(None, True)
model, two = trained(strategy, True)
live, apart = trained(strategy, False)
apart_by = {}
for average, weight in zip(apart.averages, apart.weights):
    first, second = (np.asarray(copy) for copy in copies(average))
    apart_by.setdefault(weight.name, []).append(float(np.abs(first - second).max()))
means = [np.mean([np.asarray(copy) for copy in copies(average)], axis=0) for average in apart.averages]
before = of(two.averages)
apart.assign_to_model()
two.assign_to_model()
print(json.dumps({
    "moved": largest_difference(of(one.averages), of(one.weights)),
    "steps": [int(np.asarray(copy)) for copy in copies(two.steps)],
    "difference": largest_difference(of(one.averages), before),
    "between replicas": max(largest_difference([a], [b]) for a, b in map(copies, two.averages)),
    "apart": {name: max(values) for name, values in apart_by.items()},
    "given": largest_difference(of(two.weights), before),
    "given means": max(largest_difference(copies(w), [m, m]) for w, m in zip(apart.weights, means)),
}))
"""


@pytest.mark.slow
def test_two_replicas_have_the_averages_of_one() -> None:
    found = json.loads(run_on_two_devices(TWO_DEVICES))
    assert found["moved"] > 1e-3
    assert found["steps"] == [4, 4]
    assert found["difference"] < 1e-6
    assert found["between replicas"] == 0
    # Statistics are those of a replica, and so are their averages, until the network is given them.
    assert {name for name, difference in found["apart"].items() if difference} == {"moving_mean", "moving_variance"}
    assert found["given"] == 0
    assert found["given means"] < 1e-6
