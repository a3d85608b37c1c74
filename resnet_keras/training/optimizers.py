"""Stochastic gradient descent with the L2 term of the paper (arXiv:1512.03385, §3.4), Muon, and LAMB."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from resnet_keras.layers.keras_internals import ClipsOverReplicas, has_weight_decay, moments_of, momentum_of
from resnet_keras.recipes.settings import Optimization

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_MOST_CHANNELS_OF_IMAGES = 4


class MomentumSGD(ClipsOverReplicas, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with weight decay as an L2 term of the gradient.

    Keras's own `weight_decay` is decoupled from the gradient; here, as in Caffe, the decay passes through the momentum,
    which makes it 1 / (1 - momentum) times as strong.

    Args:
        l2: Factor of a weight that is added to its gradient, at least 0.
        **kwargs: Arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, *, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable; on TensorFlow with one kernel, which keeps the graph of a deep network small."""
        if self.l2 and has_weight_decay(self, variable):
            gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        if keras.backend.backend() != "tensorflow" or not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,  # Keras hands over TensorFlow's own variable
            accum=momentum_of(self, variable).value.handle,
            lr=keras.ops.cast(learning_rate, variable.dtype),
            grad=keras.ops.cast(gradient, variable.dtype),
            momentum=keras.ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "l2": self.l2}


class Muon(MomentumSGD):
    """Muon for convolutions: the momentum of a kernel is orthogonalized (kellerjordan.github.io/posts/muon).

    A kernel is a matrix with a column for each output channel, a row for each position and input channel. Its update is
    the momentum with singular values of about 1, by five Newton-Schulz iterations. As in cifar10-airbench, a kernel
    keeps its length: batch normalization makes the network independent of it, and the learning rate becomes relative to
    the kernel. Convolutions of images, dense layers, biases, and batch normalization take the step of `MomentumSGD`.

    `keras.optimizers.Muon` does not orthogonalize kernels of convolutions.

    Args:
        kernel_rate: Learning rate of orthogonalized kernels as a multiple of `learning_rate`, above 0. An update has
            `kernel_rate * learning_rate` times the length of its kernel.
        **kwargs: Arguments of `MomentumSGD`; `momentum` and `nesterov` apply to all variables, `l2` to those that are
            not orthogonalized.
    """

    def __init__(self, *, kernel_rate: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_rate = kernel_rate

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        if not _is_hidden_kernel(variable):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        direction = gradient = keras.ops.cast(gradient, dtype)
        if self.momentum:
            momentum = momentum_of(self, variable)
            direction = self.momentum * keras.ops.convert_to_tensor(momentum) + gradient
            self.assign(momentum, direction)
            if self.nesterov:
                direction = gradient + self.momentum * direction
        matrix = keras.ops.reshape(direction, (-1, variable.shape[-1]))
        update = keras.ops.reshape(orthogonalized(matrix), variable.shape)
        kernel = keras.ops.convert_to_tensor(variable)
        length = _length(kernel)
        rate = keras.ops.cast(self.kernel_rate, dtype) * keras.ops.cast(learning_rate, dtype)
        moved = kernel - rate * length / keras.ops.sqrt(keras.ops.cast(min(matrix.shape), dtype)) * update
        self.assign(variable, moved * (length / keras.ops.maximum(_length(moved), keras.config.epsilon())))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "kernel_rate": self.kernel_rate}


def orthogonalized(matrix: Any, iterations: int = 5) -> Any:
    """Returns a matrix with the same singular vectors and singular values of about 1, between 0.7 and 1.2.

    The iteration is a polynomial of degree 5 in the matrix whose slope at 0 is steep, so that small singular values
    grow fast; its coefficients are those of kellerjordan.github.io/posts/muon. Singular values below a thousandth of
    the length stay smaller.

    Args:
        matrix: A matrix (M, N).
        iterations: Number of iterations, at least 1.
    """
    rows, columns = matrix.shape
    x = keras.ops.transpose(matrix) if rows > columns else matrix
    x = x / keras.ops.maximum(_length(x), keras.config.epsilon())
    for _ in range(iterations):
        square = keras.ops.matmul(x, keras.ops.transpose(x))
        polynomial = -4.7750 * square + 2.0315 * keras.ops.matmul(square, square)
        x = 3.4445 * x + keras.ops.matmul(polynomial, x)
    return keras.ops.transpose(x) if rows > columns else x


def _is_hidden_kernel(variable: Any) -> bool:
    """Returns whether a variable is the kernel of a convolution of features; images have up to four channels."""
    return len(variable.shape) == 4 and variable.shape[2] > _MOST_CHANNELS_OF_IMAGES


def _length(tensor: Any) -> Any:
    return keras.ops.sqrt(keras.ops.sum(keras.ops.square(tensor)))


class Lamb(ClipsOverReplicas, keras.optimizers.Lamb):
    """`keras.optimizers.Lamb` with the weight decay of its paper (arXiv:1904.00962, Algorithm 2).

    Keras's own `weight_decay` is decoupled from the update; here the decay is part of the update, whose norm becomes
    that of the weight. Variables without decay, such as those of batch normalization, take Adam's step unscaled, as in
    timm, which trained the networks of arXiv:2110.00476.

    Args:
        decay: Factor of a weight that is added to its update, at least 0.
        **kwargs: Arguments of `keras.optimizers.Lamb`.
    """

    def __init__(self, *, decay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decay = decay

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        momentum, velocity = moments_of(self, variable)
        dtype = variable.dtype
        gradient = keras.ops.cast(gradient, dtype)
        step = keras.ops.cast(self.iterations + 1, dtype)
        self.assign_add(momentum, (gradient - momentum) * (1 - self.beta_1))
        self.assign_add(velocity, (keras.ops.square(gradient) - velocity) * (1 - self.beta_2))
        mean = keras.ops.convert_to_tensor(momentum) / (1 - keras.ops.power(keras.ops.cast(self.beta_1, dtype), step))
        square = keras.ops.convert_to_tensor(velocity) / (1 - keras.ops.power(keras.ops.cast(self.beta_2, dtype), step))
        update = mean / (keras.ops.sqrt(square) + self.epsilon)
        trust = 1.0
        if self.decay and has_weight_decay(self, variable):
            weight = keras.ops.convert_to_tensor(variable)
            update = update + self.decay * weight
            lengths = [_length(part) for part in (weight, update)]
            longer = keras.ops.minimum(*lengths) > 0
            trust = keras.ops.where(longer, lengths[0] / keras.ops.where(longer, lengths[1], 1.0), 1.0)
        self.assign_sub(variable, keras.ops.cast(learning_rate, dtype) * trust * update)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "decay": self.decay}


class LossScale(keras.optimizers.LossScaleOptimizer):
    """`keras.optimizers.LossScaleOptimizer` that checks the gradients of all replicas.

    Keras's own checks the first replica alone: if gradients of another overflow in half precision, all replicas would
    apply them.
    """

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Takes a step, or lowers the scale on all replicas if a gradient of any of them is not finite."""
        if keras.backend.backend() == "tensorflow" and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in grads])
            broken = tf.distribute.get_replica_context().all_reduce("sum", 1.0 - tf.cast(finite, tf.float32))
            grads = [tf.where(broken > 0, tf.constant(float("nan"), gradient.dtype), gradient) for gradient in grads]
        super().apply(grads, trainable_variables)


def create_optimizer(optimization: Optimization, learning_rate: Any) -> MomentumSGD | Muon | Lamb:
    """Returns the optimizer of a recipe's part `optimization`, with a learning rate or its schedule."""
    chosen: MomentumSGD | Muon | Lamb
    if optimization.optimizer == "lamb":
        chosen = Lamb(
            learning_rate=learning_rate,
            decay=optimization.weight_decay,
            epsilon=1e-6,
            global_clipnorm=optimization.clip_norm,
        )
    else:
        muon = optimization.optimizer == "muon"
        kind = partial(Muon, kernel_rate=optimization.kernel_rate) if muon else MomentumSGD
        chosen = kind(
            learning_rate=learning_rate,
            momentum=optimization.momentum,
            nesterov=optimization.nesterov,
            l2=optimization.l2,
            weight_decay=optimization.weight_decay or None,
            global_clipnorm=optimization.clip_norm,
        )
    if optimization.decay_on == "kernels":
        chosen.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return chosen
