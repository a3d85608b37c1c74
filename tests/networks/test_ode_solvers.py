"""The solvers: exact solutions, orders, SciPy's steps, graphs, and what cannot be solved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.networks.ode_solvers import TABLEAUX, Integration, integrate

integration = pytest.importorskip("scipy.integrate")
linalg = pytest.importorskip("scipy.linalg")

MATRIX = np.array([[-0.5, 3.0], [-3.0, -0.2]])
START = np.array([1.0, 2.0])


def linear(time: tf.Tensor, states: tuple) -> tuple:
    return (tf.linalg.matvec(tf.constant(MATRIX, states[0].dtype), states[0]),)


def pulling(time: Any, x: Any) -> Any:
    """Neither linear nor autonomous, for NumPy and TensorFlow."""
    cos = tf.cos if tf.is_tensor(x) else np.cos
    return cos(3 * x) + 2 * cos(5 * time) - x**3


def solved(how: Integration, derivative: Callable = linear, start: Any = START) -> tuple[np.ndarray, int]:
    (end,), evaluations = integrate(derivative, (tf.constant(start),), how)
    return end.numpy(), int(evaluations)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_a_linear_equation_has_the_matrix_exponential_as_its_solution_to_the_tolerance(tolerance: float) -> None:
    end, _ = solved(Integration(rtol=tolerance, atol=tolerance))
    # The tolerance is of one step, relative to states of about 2.
    np.testing.assert_allclose(end, linalg.expm(MATRIX) @ START, rtol=0, atol=5 * tolerance)


@pytest.mark.parametrize(("solver", "order", "steps"), [("euler", 1, 64), ("rk4", 4, 8)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(solver: Any, order: int, steps: int) -> None:
    start = np.array([0.3, 1.0, -0.7])
    exact = integration.solve_ivp(pulling, (0, 1), start, "DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    errors = []
    for count in (steps, 2 * steps, 4 * steps):
        end, evaluations = solved(Integration(solver=solver, steps=count), lambda t, x: (pulling(t, x[0]),), start)
        assert evaluations == count * order  # here as many evaluations as the order
        errors.append(np.abs(end - exact).max())
    measured = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert measured == pytest.approx([order] * 2, abs=0.15)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("span", [1.0, 4.0])
def test_dopri5_takes_the_steps_of_scipy(tolerance: float, span: float) -> None:
    start = np.array([0.3, 1.0, -0.7])
    how = Integration(rtol=tolerance, atol=tolerance / 10)
    end, evaluations = solved(how, lambda t, x: (span * pulling(span * t, x[0]),), start)
    theirs = integration.solve_ivp(
        lambda t, x: span * pulling(span * t, x), (0, 1), start, rtol=tolerance, atol=tolerance / 10
    )
    assert evaluations == theirs.nfev
    np.testing.assert_allclose(end, theirs.y[:, -1], rtol=1e-10)


def test_dopri5_has_the_coefficients_of_scipy() -> None:
    table, theirs = TABLEAUX["dopri5"], integration.RK45
    np.testing.assert_allclose(table.nodes, [*theirs.C[1:], 1])
    for row, other in zip(table.rows, [*(theirs.A[i, :i] for i in range(1, 6)), theirs.B], strict=True):
        np.testing.assert_allclose(row, other, atol=1e-15)
    np.testing.assert_allclose(np.abs(table.error), np.abs(theirs.E), atol=1e-15)


def test_a_looser_tolerance_takes_fewer_evaluations_and_makes_a_larger_error() -> None:
    exact = linalg.expm(MATRIX) @ START
    results = [solved(Integration(rtol=tolerance, atol=tolerance)) for tolerance in (1e-1, 1e-3, 1e-5, 1e-7)]
    counts = [evaluations for _, evaluations in results]
    errors = [np.abs(end - exact).max() for end, _ in results]
    assert counts == sorted(set(counts))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("solver", ["euler", "rk4", "dopri5"])
def test_a_graph_of_unknown_shape_computes_the_same(solver: Any) -> None:
    how = Integration(solver=solver, rtol=1e-5)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def graph(start: tf.Tensor) -> tuple:
        return integrate(lambda t, x: (pulling(t, x[0]),), (start,), how)

    for rows in (1, 3):
        start = np.linspace(-1, 1, rows * 2, dtype="float32").reshape(rows, 2)
        end, evaluations = solved(how, lambda t, x: (pulling(t, x[0]),), start)
        (in_graph,), count = graph(start)
        assert (in_graph.dtype, int(count)) == (tf.float32, evaluations)
        np.testing.assert_allclose(in_graph, end, rtol=1e-5, atol=1e-6)


def test_states_that_are_not_controlled_do_not_shorten_steps() -> None:
    def two(time: tf.Tensor, states: tuple) -> tuple:
        return (-states[0], 50 * tf.cos(50 * time) * states[0])

    start = (tf.constant(1.0), tf.constant(0.0))
    how = Integration(rtol=1e-4, atol=1e-4)
    _, alone = integrate(lambda t, x: (-x[0],), start[:1], how)
    _, first = integrate(two, start, how, controlled=1)
    _, both = integrate(two, start, how)
    assert int(alone) == int(first) < int(both)


def test_no_numbers_need_one_step() -> None:
    end, evaluations = solved(Integration(), start=np.zeros((0, 2), "float32"))
    assert end.shape == (0, 2)
    assert evaluations < 100


GOES_WRONG: dict[str, tuple[Callable, Any, Integration]] = {
    # x' = x^2 from 2 is infinite at t = 1/2.
    "blows up": (lambda t, x: (x[0] ** 2,), 2.0, Integration()),
    "never a number": (lambda t, x: (x[0] * float("nan"),), 2.0, Integration()),
    "infinite later": (lambda t, x: (1 / tf.maximum(0.5 - t, 0.0),), 2.0, Integration()),
    "too many steps": (lambda t, x: (100 * tf.cos(100 * t) + 0 * x[0],), 2.0, Integration(rtol=1e-5, max_steps=5)),
    # What float32 cannot tell apart, no step is short enough for.
    "too exact": (lambda t, x: (tf.cos(3 * x[0]),), 1.0, Integration(rtol=1e-12, atol=1e-12)),
}


# A thousand steps take too long outside a graph.
@pytest.mark.parametrize(("case", "graph"), [*((case, True) for case in GOES_WRONG), ("blows up", False)])
def test_what_cannot_be_solved_is_an_error_within_a_bounded_number_of_steps(case: str, graph: bool) -> None:
    derivative, start, how = GOES_WRONG[case]
    evaluated = tf.Variable(0)

    def counted(time: tf.Tensor, states: tuple) -> tuple:
        evaluated.assign_add(1)
        return derivative(time, states)

    def run(start: tf.Tensor) -> tf.Tensor:
        return integrate(counted, (start,), how)[0][0]

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected dopri5 to reach t = 1 .*max_steps"):
        (tf.function(run) if graph else run)(tf.constant(start))
    assert int(evaluated) <= 2 + 6 * how.max_steps


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("solver", "midpoint", r"`solver` .*'euler', 'rk4', 'dopri5'.* Received: 'midpoint'"),
        ("gradient", "exact", r"`gradient` .*'backpropagation', 'adjoint'.* Received: 'exact'"),
        ("steps", 0, r"`steps` .*positive whole number. Received: 0"),
        ("steps", 2.0, r"`steps` to be an integer. Received: 2.0"),
        ("max_steps", True, r"`max_steps` .*Received: True"),
        ("rtol", -1e-3, r"`rtol` .*at least 0. Received: -0.001"),
        ("atol", float("nan"), r"`atol` .*finite number.*Received: nan"),
        ("rtol", "1e-3", r"`rtol` .*Received: '1e-3'"),
    ],
)
def test_a_setting_out_of_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Integration(**{field: value})


def test_a_tolerance_of_nothing_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="`rtol` or `atol` above 0"):
        Integration(rtol=0, atol=0)
