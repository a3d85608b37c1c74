"""What a step does besides Keras's own: a batch in parts, and no step from numbers that are none."""

import json
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.little_steps import IMAGES, batch, broken, fit, largest_difference, network, of
from helpers.two_devices import run_on_two_devices

from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.training.ema import WeightAverage
from resnet_keras.training.train_step import SkipNonFiniteSteps, accumulate_gradients


def in_parts_fitted(parts: int, **options: object) -> tuple[list[np.ndarray], dict[str, float]]:
    model = network(**options)  # type: ignore[arg-type]
    with patch_methods(model, train_step=accumulate_gradients(model, parts)):
        logs = fit(model, map(batch, range(3)))
    return of(model.weights), logs


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("lamb", marks=pytest.mark.slow)])
def test_parts_of_a_batch_are_the_whole_batch_where_statistics_are_frozen(optimizer: str) -> None:
    whole = network(frozen=True, optimizer=optimizer)
    begun = of(whole.weights)
    wanted = fit(whole, map(batch, range(3)))
    assert largest_difference(begun, of(whole.weights)) > 1e-3
    for parts in (1, 2, 8):
        found, logs = in_parts_fitted(parts, frozen=True, optimizer=optimizer)
        assert largest_difference(found, of(whole.weights)) < 2e-6, parts
        assert logs["loss"] == pytest.approx(wanted["loss"], abs=1e-6), parts
        assert logs["accuracy"] == wanted["accuracy"], parts


def test_each_part_is_normalized_by_its_own_statistics() -> None:
    whole = network()
    fit(whole, map(batch, range(3)))
    one, _ = in_parts_fitted(1)
    two, _ = in_parts_fitted(2)
    assert largest_difference(one, of(whole.weights)) < 2e-6
    assert largest_difference(two, of(whole.weights)) > 1e-3


def test_moving_statistics_move_with_every_part() -> None:
    model = network()
    images, labels = batch(0)
    first = model.get_layer("conv0")
    halves = [keras.ops.convert_to_numpy(first(part)).reshape(-1, 4) for part in np.split(images, 2)]
    with patch_methods(model, train_step=accumulate_gradients(model, 2)):
        fit(model, [(images, labels)])
    mean = np.zeros(4)
    for half in halves:
        mean = 0.9 * mean + 0.1 * half.mean(0)
    np.testing.assert_allclose(model.get_layer("bn0").moving_mean.numpy(), mean, rtol=1e-4, atol=1e-6)


def test_parts_drop_other_units() -> None:
    whole, _ = in_parts_fitted(1, frozen=True, dropout=0.5)
    found, _ = in_parts_fitted(2, frozen=True, dropout=0.5)
    assert largest_difference(found, whole) > 1e-4


def test_the_scale_of_a_loss_in_half_precision_is_taken_out_again() -> None:
    whole = network(frozen=True, policy="mixed_float16")
    assert isinstance(whole.optimizer, keras.optimizers.LossScaleOptimizer)
    wanted = fit(whole, map(batch, range(3)))
    begun = of(network(frozen=True, policy="mixed_float16").weights)
    found, logs = in_parts_fitted(2, frozen=True, policy="mixed_float16")
    assert largest_difference(begun, found) > 1e-3
    assert largest_difference(found, of(whole.weights)) < 1e-3
    assert logs["loss"] == pytest.approx(wanted["loss"], abs=1e-3)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    model = network()
    with (
        patch_methods(model, train_step=accumulate_gradients(model, 3)),
        pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="divi"),
    ):
        fit(model, [batch(0)])


def test_a_model_takes_its_own_step_again_afterwards() -> None:
    model, plain = network(), network()
    calls = []

    def step(data: object) -> dict[str, float]:
        calls.append(data)
        return {"loss": 0.0}

    with patch_methods(model, train_step=step):
        fit(model, [batch(0)])
    assert calls
    calls.clear()
    with pytest.raises(KeyError), patch_methods(model, train_step=step):
        raise KeyError
    assert "train_step" not in vars(model)
    with patch_methods(model, train_step=step):
        with patch_methods(model, train_step=plain.train_step):
            pass
        assert model.train_step is step
    assert fit(model, [batch(0)]) == fit(plain, [batch(0)])
    assert not calls
    assert largest_difference(of(model.weights), of(plain.weights)) == 0


# Broken steps -------------------------------------------------------------------------------------------------------


class Guarded:
    """A network in training that leaves broken steps out."""

    def __init__(self, *, ema: float = 0.0, parts: int = 1, **options: object) -> None:
        self.model = network(**options)  # type: ignore[arg-type]
        self.average = WeightAverage(self.model, ema) if ema else None
        others = self.average.variables if self.average else []
        self.skips = SkipNonFiniteSteps(self.model, others)
        step = accumulate_gradients(self.model, parts) if parts > 1 else self.model.train_step
        step = self.average.after(step) if self.average else step
        self.step = self.skips.guard(step)
        # The counts of steps go on, as the states of random layers do.
        self.kept = [
            v for v in (*self.model.variables, *self.model.optimizer.variables, *others) if "int" not in v.dtype
        ]

    @property
    def skipped(self) -> int:
        """Skipped steps."""
        return int(self.skips.count.numpy())

    def fit(self, batches: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Trains an epoch and returns its loss and metrics."""
        with patch_methods(self.model, train_step=self.step):
            return fit(self.model, batches)


OPTIONS = [
    {},
    {"optimizer": "lamb", "ema": 0.9},
    pytest.param({"parts": 2}, marks=pytest.mark.slow),
    {"policy": "mixed_float16"},
]


@pytest.fixture(params=OPTIONS, ids=lambda options: " ".join(options) or "plain")
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    yield Guarded(**request.param)


def test_a_broken_batch_leaves_all_as_it_was(guarded: Guarded) -> None:
    guarded.fit([batch(0), batch(1)])
    assert guarded.skipped == 0
    before = of(guarded.kept)
    logs = guarded.fit([broken(2)])
    for one, other in zip(of(guarded.kept), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert guarded.skipped == 1
    assert logs == {"loss": 0.0, "accuracy": 0.0}  # of no step at all
    assert not any(value.any() for value in of(guarded.model.metrics_variables))


def test_the_count_of_steps_goes_on_and_the_rate_with_it() -> None:
    guarded = Guarded()
    guarded.fit([batch(0), broken(1), broken(2)])
    assert int(guarded.model.optimizer.iterations.numpy()) == 3
    assert guarded.skipped == 2


@pytest.mark.slow
def test_good_batches_learn_as_if_there_had_been_no_broken_one() -> None:
    without = Guarded()
    batches = [batch(0), batch(1)]
    wanted = without.fit(batches)
    assert without.skipped == 0
    for at in range(3):
        with_broken = Guarded()
        assert with_broken.fit([*batches[:at], broken(9), *batches[at:]]) == wanted, at
        for one, other in zip(of(with_broken.kept), of(without.kept), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"broken batch {at}")
        assert with_broken.skipped == 1, at


def test_an_average_has_not_seen_the_broken_step() -> None:
    with_broken, without = Guarded(ema=0.5), Guarded(ema=0.5)
    without.fit([batch(i) for i in range(3)])
    with_broken.fit([batch(0), broken(9), batch(1), batch(2)])
    assert with_broken.average is not None and without.average is not None
    for one, other in zip(of(with_broken.average.averages), of(without.average.averages), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("policy", [pytest.param("float32", marks=pytest.mark.slow), "mixed_float16"])
def test_without_broken_batches_nothing_changes(policy: str) -> None:
    guarded, plain = Guarded(policy=policy), network(policy=policy)
    assert guarded.fit([batch(i) for i in range(3)]) == fit(plain, map(batch, range(3)))
    plain_state = of([*plain.variables, *plain.optimizer.variables])
    for one, other in zip(of([*guarded.model.variables, *guarded.model.optimizer.variables]), plain_state, strict=True):
        np.testing.assert_array_equal(one, other)
    assert guarded.skipped == 0


def test_a_loss_scale_that_is_too_large_is_no_broken_step() -> None:
    guarded = Guarded(policy="mixed_float16")
    scale = guarded.model.optimizer.dynamic_scale
    scale.assign(2.0**60)
    begun = of(guarded.model.trainable_variables)
    guarded.fit([batch(0)])
    assert float(scale.numpy()) == 2.0**59  # Keras lowers it until the gradients are numbers
    assert largest_difference(of(guarded.model.trainable_variables), begun) == 0
    assert guarded.skipped == 0


# Several devices ----------------------------------------------------------------------------------------------------

TWO_DEVICES = """
import json
import numpy as np
from resnet_keras.distributed import strategy as distribution
from resnet_keras.training.ema import WeightAverage
from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.training.train_step import SkipNonFiniteSteps, accumulate_gradients
from helpers.little_steps import IMAGES, batch, broken, fit, largest_difference, network, of

strategy = distribution.create_strategy(2)
copies = distribution.replica_values(strategy)

def in_two_parts(chosen):
    with distribution.scope(chosen):
        model = network(frozen=True)
    begun = of(model.weights)
    parts = accumulate_gradients(model, 2) if chosen else model.train_step
    with patch_methods(model, train_step=parts):
        logs = fit(model, map(batch, range(3)))
    return of(model.weights), logs, begun

one, one_logs, begun = in_two_parts(None)
two, two_logs, _ = in_two_parts(strategy)
found = {"parts": {
    "moved": largest_difference(one, begun),
    "difference": largest_difference(one, two),
    "loss": abs(one_logs["loss"] - two_logs["loss"]),
    "accuracy": abs(one_logs["accuracy"] - two_logs["accuracy"]),
}}

with strategy.scope():  # in half precision, whose optimizer alone would keep the weights, but not the statistics
    model = network(policy="mixed_float16")
    average = WeightAverage(model, 0.9)
    skips = SkipNonFiniteSteps(model, average.variables)
variables = [*model.variables, *model.optimizer.variables, *average.variables]
kept = [v for v in variables if "int" not in v.dtype]

def state():
    return [np.array(copy) for variable in kept for copy in copies(variable)]

def metrics():
    return [np.array(copy) for variable in model.metrics_variables for copy in copies(variable)]

with patch_methods(model, train_step=skips.guard(average.after(model.train_step))):
    logs = fit(model, [batch(0), batch(1)])
    good, good_metrics = state(), metrics()
    found["broken"] = []
    for image in (0, IMAGES - 1):  # in the half of one replica, and in that of the other
        fitted = fit(model, [broken(2, image)])
        same = all(np.array_equal(a, b) for a, b in zip(state(), good))
        clear = all(not value.any() for value in metrics())
        found["broken"].append([same, clear, [int(np.asarray(copy)) for copy in copies(skips.count)]])
    fit(model, [batch(2)])
    found["moved"] = largest_difference(state(), good)
    found["count"] = [int(np.asarray(copy)) for copy in copies(skips.count)]
print(json.dumps(found))
"""


def test_two_devices_take_parts_and_leave_out_together() -> None:
    found = json.loads(run_on_two_devices(TWO_DEVICES))
    assert found["parts"]["moved"] > 1e-3
    assert found["parts"]["difference"] < 2e-6
    assert found["parts"]["loss"] < 2e-6
    assert found["parts"]["accuracy"] < 1e-6
    # Weights, statistics, momenta and averages of both replicas; the metrics of an epoch of nothing else are zeros.
    assert found["broken"] == [[True, True, [1, 1]], [True, True, [2, 2]]]
    assert found["moved"] > 1e-4
    assert found["count"] == [2, 2]


def test_the_little_network_has_a_batch_that_two_devices_and_two_parts_share() -> None:
    assert IMAGES % 4 == 0
