"""Solvers of ordinary differential equations, dx/dt = f(t, x) from t = 0 to 1, eagerly and in graphs.

tensorflow-probability 0.25 does not serve: it does not import without Keras 2 (`tf-keras`), has no solver with fixed
steps, differentiates only by the adjoint method, and does not report the evaluations of f in that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import tensorflow as tf

from resnet_keras.checks.fields import check_fields

Solver = Literal["euler", "rk4", "dopri5"]
Gradient = Literal["backpropagation", "adjoint"]
States = tuple[tf.Tensor, ...]
Derivative = Callable[[tf.Tensor, States], States]

# The constants of SciPy's RK45, which takes the same steps.
_SAFETY, _LEAST_FACTOR, _LARGEST_FACTOR = 0.9, 0.2, 10.0
_FIRST_EVALUATIONS, _EVALUATIONS = 2, 6  # before the first step; in each attempt at a step, whose first slope is known


@dataclass(frozen=True)
class Tableau:
    """The Butcher tableau of an explicit Runge-Kutta method.

    Attributes:
        nodes: Time of each slope but the first, as a fraction of the step.
        rows: Coefficients of the earlier slopes in the state of each slope but the first.
        weights: Coefficients of the slopes in the step. Empty if the last of `rows` is the step, whose slope is then
            the first one of the next step.
        error: Coefficients of the slopes in the difference from a method of lower order.
    """

    nodes: tuple[float, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, ...] = ()
    error: tuple[float, ...] = ()


TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau(weights=(1.0,)),
    "rk4": Tableau(
        nodes=(1 / 2, 1 / 2, 1.0),
        rows=((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    # Dormand and Prince 1980, doi:10.1016/0771-050X(80)90013-3, RK5(4)7M.
    "dopri5": Tableau(
        nodes=(1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
        rows=(
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Integration:
    """Settings of the solution of an ordinary differential equation, and of its gradient.

    Attributes:
        solver: "euler" (order 1) and "rk4" (the classical Runge-Kutta method, order 4) take `steps` equal steps.
            "dopri5" (Dormand and Prince, order 5) chooses its steps by the estimated error of each.
        steps: Number of steps of "euler" and "rk4".
        rtol: Relative tolerance of "dopri5": the root mean square of the error of a step over the whole state, relative
            to the state. So the steps depend on the whole batch.
        atol: Absolute tolerance of "dopri5", added to `rtol` times the state.
        max_steps: Largest number of attempted steps of "dopri5".
        gradient: "backpropagation" through all steps, whose memory grows with their number, or the "adjoint" method
            (arXiv:1806.07366, §2), which solves the equation backwards together with that of the gradient, in constant
            memory, to the same tolerance or in as many steps.

    Raises:
        ValueError: An unknown name, or a number out of its range.
    """

    solver: Solver = "dopri5"
    steps: int = 6
    rtol: float = 1e-3
    atol: float = 1e-3
    max_steps: int = 1000
    gradient: Gradient = "backpropagation"

    def __post_init__(self) -> None:
        check_fields(self)
        for field in ("steps", "max_steps"):
            value = getattr(self, field)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"Expected `{field}` to be a positive whole number. Received: {value!r}")
        for field in ("rtol", "atol"):
            value = getattr(self, field)
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"Expected `{field}` to be a finite number of at least 0. Received: {value!r}")
        if self.rtol == self.atol == 0:
            raise ValueError("Expected `rtol` or `atol` above 0. Received: 0 for both")


def integrate(
    derivative: Derivative, states: States, how: Integration, *, controlled: int | None = None
) -> tuple[States, tf.Tensor]:
    """Returns the states at t = 1 and the number of evaluations of the derivative, an int32 scalar.

    Works eagerly and in graphs. Gradients pass through the steps, but not through the choice of their length.

    Args:
        derivative: Returns dx/dt, a tensor for each state, at a time (a scalar) and the states.
        states: States at t = 0: floating-point tensors of any shapes and one type.
        how: The solver and its settings.
        controlled: Number of leading states whose error "dopri5" controls; all if `None`.

    Raises:
        tf.errors.InvalidArgumentError: "dopri5" cannot reach t = 1: a state or slope is not finite, the steps become
            too small for the numbers' precision, or there are more than `max_steps`.
    """
    if how.solver == "dopri5":
        return _adaptive(derivative, states, how, len(states) if controlled is None else controlled)
    table = TABLEAUX[how.solver]
    length = tf.constant(1 / how.steps, states[0].dtype)

    def step(done: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
        time = tf.cast(done, length.dtype) * length
        slopes, _ = _stages(derivative, time, length, states, derivative(time, states), table)
        return done + 1, _moved(states, slopes, table.weights, length)

    loop = (tf.constant(0), states)
    _, states = tf.while_loop(lambda done, _: done < how.steps, step, loop, maximum_iterations=how.steps)
    return states, tf.constant(how.steps * len(table.weights))


def _moved(states: States, slopes: list[States], parts: tuple[float, ...], length: tf.Tensor) -> States:
    """Returns the states after a step of a length along a weighted sum of the slopes."""
    used = [(part, slope) for part, slope in zip(parts, slopes, strict=True) if part]
    return tuple(state + length * tf.add_n([part * slope[i] for part, slope in used]) for i, state in enumerate(states))


def _stages(
    derivative: Derivative, time: tf.Tensor, length: tf.Tensor, states: States, first: States, table: Tableau
) -> tuple[list[States], States]:
    """Returns all slopes of a step, and the states of the last one."""
    slopes, at = [first], states
    for node, row in zip(table.nodes, table.rows, strict=True):
        at = _moved(states, slopes, row, length)
        slopes.append(derivative(time + node * length, at))
    return slopes, at


def _size(values: States, states: States, others: States, how: Integration) -> tf.Tensor:
    """Returns the largest root mean square of any of `values`, in units of the tolerance at the states."""
    sizes = []
    for value, state, other in zip(values, states, others, strict=True):
        unit = how.atol + how.rtol * tf.maximum(tf.abs(state), tf.abs(other))
        count = tf.cast(tf.size(value), value.dtype)  # 0 of an empty batch
        sizes.append(tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(tf.square(value / unit)), count)))
    return tf.reduce_max(sizes)


def _first_length(derivative: Derivative, states: States, slopes: States, how: Integration, first: int) -> tf.Tensor:
    """Returns the length of the first step (Hairer, Nørsett and Wanner, Solving ODEs I, §II.4)."""
    state_size = _size(states[:first], states[:first], states[:first], how)
    slope_size = _size(slopes[:first], states[:first], states[:first], how)
    small = (state_size < 1e-5) | (slope_size < 1e-5)
    trial = tf.minimum(tf.where(small, tf.cast(1e-6, slope_size.dtype), 0.01 * state_size / slope_size), 1.0)
    later = derivative(trial, _moved(states, [slopes], (1.0,), trial))
    change = tuple(b - a for a, b in zip(slopes[:first], later[:first], strict=True))
    bend = _size(change, states[:first], states[:first], how) / trial
    steepest = tf.maximum(slope_size, bend)
    length = tf.where(steepest <= 1e-15, tf.maximum(trial * 1e-3, 1e-6), (0.01 / steepest) ** 0.2)
    return tf.minimum(tf.minimum(100 * trial, length), 1.0)


def _adaptive(derivative: Derivative, states: States, how: Integration, controlled: int) -> tuple[States, tf.Tensor]:
    table = TABLEAUX["dopri5"]
    begin = tf.zeros((), states[0].dtype)
    slopes = derivative(begin, states)
    still, along = tf.nest.map_structure(tf.stop_gradient, (states, slopes))
    length = tf.stop_gradient(_first_length(derivative, still, along, how, controlled))

    def unfinished(time: tf.Tensor, length: tf.Tensor, attempts: tf.Tensor, *_: Any) -> tf.Tensor:
        # Comparisons with NaN are false.
        return (time < 1) & (attempts < how.max_steps) & (time + length > time)

    def attempt(
        time: tf.Tensor, length: tf.Tensor, attempts: tf.Tensor, rejected: tf.Tensor, states: States, slopes: States
    ) -> tuple:
        last = length >= 1 - time
        length = tf.minimum(length, 1 - time)
        found, there = _stages(derivative, time, length, states, slopes, table)
        parts = tuple(value[:controlled] for value in found)
        errors = _moved(tuple(tf.zeros_like(state) for state in states[:controlled]), list(parts), table.error, length)
        size = _size(errors, states[:controlled], there[:controlled], how)
        factor = tf.clip_by_value(_SAFETY * size**-0.2, _LEAST_FACTOR, _LARGEST_FACTOR)
        factor = tf.where(rejected, tf.minimum(factor, 1.0), factor)
        accepted = size < 1
        time = tf.where(accepted, tf.where(last, tf.ones_like(time), time + length), time)
        states, slopes = tf.nest.map_structure(
            lambda new, old: tf.where(accepted, new, old), (there, found[-1]), (states, slopes)
        )
        length, time = tf.stop_gradient(length * factor), tf.stop_gradient(time)
        return time, length, attempts + 1, ~accepted, states, slopes

    loop = (begin, length, tf.constant(0), tf.constant(False), states, slopes)
    time, _, attempts, _, states, _ = tf.while_loop(unfinished, attempt, loop)
    expected = (
        f"Expected dopri5 to reach t = 1 within `max_steps` of {how.max_steps}, at rtol={how.rtol} and "
        f"atol={how.atol}. Received: a state that is not finite, or too small or too many steps, after "
    )
    with tf.control_dependencies([tf.debugging.Assert(time >= 1, [expected, attempts, "attempts, at t =", time])]):
        states = tuple(tf.identity(state) for state in states)
    return states, _FIRST_EVALUATIONS + _EVALUATIONS * attempts
