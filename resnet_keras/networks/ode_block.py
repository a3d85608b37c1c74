"""Residual blocks with shared weights, as an ordinary differential equation (arXiv:1806.07366)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from resnet_keras.networks.blocks import EPSILON, he_normal
from resnet_keras.networks.ode_solvers import Gradient, Integration, Solver, States, integrate

_GROUPS = 32  # or the largest divisor of it that divides the channels, as in the paper's code


@keras.saving.register_keras_serializable("resnet_keras")
class ODEBlock(layers.Layer):
    """Solution of dx/dt = F(x, t) from t = 0 to 1, where x are feature maps: (N, H, W, C) -> (N, H, W, C).

    A residual block, x + F(x), is one step of Euler's method. So "euler" with n steps is n blocks x + F(x, t) / n that
    share their weights, and such a stage approximates the other solvers. F has two 3x3 convolutions, each with the time
    as one more input channel, and group normalization before, between and after them, with ReLUs before the
    convolutions, as in the paper's code (§3). Batch normalization would mix the statistics of all times.
    After the last normalization, the mean of each group of channels is near 0, and average pooling reads only that
    mean: put a ReLU between them, after a normalization in the paper's code.

    The layer computes and returns float32 under policies of half precision, too: an adaptive solver would take their
    rounding for an error and shorten its steps.

    Two metrics count the evaluations of F in training. `fit` reports them as `NAME_evaluations` and, for the adjoint
    method, `NAME_backward_evaluations`: means over batches. `evaluate` does not count and reports zeros; `solve`
    returns the evaluations for a batch.

    Example:
        >>> block = resnet_keras.networks.ODEBlock(rtol=1e-4, atol=1e-4, gradient="adjoint", name="ode")
        >>> maps = block(keras.random.normal((2, 8, 8, 64)))
        >>> maps, evaluations = block.solve(keras.random.normal((2, 8, 8, 64)))

    Args:
        solver: "euler", "rk4", or "dopri5", which chooses its steps by their error.
        steps: Number of steps of "euler" and "rk4", which evaluate F once and four times in each.
        rtol: Relative tolerance of "dopri5". Steps are chosen for the whole batch, so the images of a batch change
            each other's results, within the tolerance.
        atol: Absolute tolerance of "dopri5", added to the relative one.
        max_steps: Largest number of steps of "dopri5", rejected ones included.
        gradient: "backpropagation" through the steps, or the "adjoint" method, whose memory does not grow with them.
        **kwargs: Those of every Keras layer; the only `dtype` with an effect is float64.

    Raises:
        ValueError: An unknown name, a number out of its range, a backend other than TensorFlow or, when the layer is
            built, an input that is not (N, H, W, C) with known channels.
        tf.errors.InvalidArgumentError: When called: "dopri5" does not reach t = 1, see `max_steps`.
    """

    def __init__(
        self,
        solver: Solver = "dopri5",
        steps: int = 6,
        rtol: float = 1e-3,
        atol: float = 1e-3,
        max_steps: int = 1000,
        gradient: Gradient = "backpropagation",
        **kwargs: Any,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(f"Expected KERAS_BACKEND=tensorflow for an ODEBlock. Received: {keras.backend.backend()}")
        policy = keras.dtype_policies.get(kwargs.pop("dtype", None))
        super().__init__(**kwargs, dtype="float64" if policy.compute_dtype == "float64" else "float32")
        self.integration = Integration(
            solver=solver, steps=steps, rtol=rtol, atol=atol, max_steps=max_steps, gradient=gradient
        )
        # XLA must know how many times a loop runs.
        self.supports_jit = solver != "dopri5"
        self.evaluations = keras.metrics.Mean(f"{self.name}_evaluations")
        self.backward_evaluations = keras.metrics.Mean(f"{self.name}_backward_evaluations")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the normalizations and convolutions of F."""
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(f"Expected an input of (N, H, W, C) with a known C. Received: a shape of {input_shape}")
        channels = input_shape[-1]
        with_time = (*input_shape[:-1], channels + 1)
        self.norms, self.convolutions = [], []
        for i in (1, 2, 3):
            groups = math.gcd(_GROUPS, channels)
            norm = layers.GroupNormalization(groups, epsilon=EPSILON, dtype=self.dtype_policy, name=f"norm{i}")
            norm.build(input_shape)
            self.norms.append(norm)
        for i in (1, 2):
            convolution = layers.Conv2D(
                channels,
                3,
                padding="same",
                kernel_initializer=he_normal(),
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"conv{i}",
            )
            convolution.build(with_time)
            self.convolutions.append(convolution)
        super().build(input_shape)

    def derivative(self, x: Any, time: Any) -> Any:
        """Returns F(x, t) of feature maps at a time, a scalar: (N, H, W, C) -> (N, H, W, C)."""
        times = ops.ones_like(x[..., :1]) * ops.cast(time, x.dtype)
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            x = convolution(ops.concatenate([times, ops.relu(norm(x))], axis=-1))
        return self.norms[-1](x)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the feature maps at t = 1."""
        # Inference does not count: an exported graph must not have a state.
        outputs, evaluations = self._solve(inputs, self.backward_evaluations.update_state if training else None)
        if training:
            self.evaluations.update_state(evaluations)
        return outputs

    def solve(self, inputs: Any) -> tuple[Any, Any]:
        """Returns the feature maps at t = 1, and the number of evaluations of F for this batch, an int32 scalar."""
        return self._solve(ops.convert_to_tensor(inputs, self.compute_dtype), None)

    def _solve(self, inputs: Any, on_backward: Callable[[tf.Tensor], Any] | None) -> tuple[Any, Any]:
        variables = [weight for layer in (*self.norms, *self.convolutions) for weight in layer.weights]

        def derivative(time: Any, x: Any, weights: tuple[Any, ...]) -> Any:
            # As tensors, for the gradient of the adjoint method.
            with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
                return self.derivative(x, time)

        weights = tuple(tf.convert_to_tensor(variable.value) for variable in variables)
        return solution(derivative, inputs, weights, self.integration, on_backward)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), **dataclasses.asdict(self.integration)}


def solution(
    derivative: Callable[[tf.Tensor, tf.Tensor, States], tf.Tensor],
    state: tf.Tensor,
    weights: States,
    how: Integration,
    on_backward: Callable[[tf.Tensor], Any] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the state at t = 1, differentiable, and the number of evaluations of the derivative.

    Args:
        derivative: Returns dx/dt for a time, a state and the weights, which must be all that it depends on and learns.
        state: State at t = 0.
        weights: Further tensors to differentiate by.
        how: The solver and its settings.
        on_backward: Called with the number of evaluations of the derivative in the backward pass, each with a
            vector-Jacobian product. Only the adjoint method calls it: backpropagation evaluates nothing again.

    Raises:
        tf.errors.InvalidArgumentError: See `integrate`.
    """

    def forward(state: tf.Tensor, weights: States) -> tuple[tf.Tensor, tf.Tensor]:
        (end,), evaluations = integrate(lambda time, at: (derivative(time, at[0], weights),), (state,), how)
        return end, evaluations

    if how.gradient == "backpropagation":
        return forward(state, weights)

    @tf.custom_gradient
    def solved(state: tf.Tensor, *weights: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        end, evaluations = forward(state, weights)

        def gradients(upstream: tf.Tensor, _: Any) -> States:
            def backwards(time: tf.Tensor, states: States) -> States:
                # From t = 1 to 0, that is, from 0 to 1 in 1 - t, which changes the signs of Eqn. (4) and (5).
                state, adjoint = states[:2]
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch((state, *weights))
                    slope = derivative(1 - time, state, weights)
                products = tape.gradient(slope, (state, *weights), adjoint, tf.UnconnectedGradients.ZERO)
                return (-slope, *products)

            # The equation of the gradient is linear: in units of its size, the tolerance is the same for a loss of any
            # scale. If the gradient is not finite, as it may be under a loss scale, neither are the returned ones.
            size = tf.sqrt(tf.reduce_mean(tf.square(upstream)))
            unit = tf.where(tf.math.is_finite(size), tf.math.divide_no_nan(upstream, size), tf.zeros_like(upstream))
            # Nothing depends on the gradients of the weights, which are integrals: they need no error control
            # (arXiv:2009.09457), and without it there are fewer steps.
            begin = (end, unit, *(tf.zeros_like(weight) for weight in weights))
            (_, *found), evaluations = integrate(backwards, begin, how, controlled=2)
            if on_backward is not None:
                on_backward(evaluations)
            return tuple(gradient * size for gradient in found)

        return (end, evaluations), gradients

    return solved(state, *weights)
