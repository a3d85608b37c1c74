"""Stochastic gradient descent with the L2 term of the paper (arXiv:1512.03385, §3.4), Muon, and LAMB."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import keras

from resnet_keras.layers.keras_internals import ClipsOverReplicas, has_weight_decay, index_of, moments_of, momentum_of
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.recipes.settings import Optimization

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_MOST_CHANNELS_OF_IMAGES = 4
_OF_SQUEEZE_AND_EXCITATION = re.compile(r"stage\d+_block\d+_(reduce|expand)")


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

    A kernel is a matrix with a column for each output channel, a row for each position and input channel; in groups, a
    matrix for each group. Its update is the momentum with singular values of about 1, by five Newton-Schulz iterations.
    As in cifar10-airbench, a kernel keeps its length: batch normalization makes most networks independent of it, and
    the learning rate becomes relative to the kernel. Convolutions of images, those of squeeze-and-excitation, which no
    normalization follows, dense layers, biases, and batch normalization take the step of `MomentumSGD`.

    Which kernel is which is known of the network of `use_layers`, as in training by a recipe. Without it, shapes
    decide: each kernel (h, w, more than 4, channels) is orthogonalized, as one matrix. That includes kernels in groups
    and those of squeeze-and-excitation, and of groups, it leaves out those with up to 4 input channels each.

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
        self._groups: tuple[int, ...] | None = None

    def use_layers(self, model: keras.Model) -> None:
        """Lets the layers of a network decide which kernels are orthogonalized, and in how many groups.

        Args:
            model: Network whose trainable variables the optimizer is built with.
        """
        groups = {id(layer.kernel): _groups_of(layer) for layer in flat_layers(model) if _is_convolution(layer)}
        self._groups = tuple(groups.get(id(variable), 0) for variable in model.trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable."""
        groups = int(_is_hidden_kernel(variable)) if self._groups is None else self._groups[index_of(self, variable)]
        if not groups:
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
        update, rank = _orthogonalized_kernel(direction, groups)
        kernel = keras.ops.convert_to_tensor(variable)
        length = _length(kernel)
        rate = keras.ops.cast(self.kernel_rate, dtype) * keras.ops.cast(learning_rate, dtype)
        moved = kernel - rate * length / keras.ops.sqrt(keras.ops.cast(rank, dtype)) * update
        self.assign(variable, moved * (length / keras.ops.maximum(_length(moved), keras.config.epsilon())))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "kernel_rate": self.kernel_rate}


def orthogonalized(matrix: Any, iterations: int = 5) -> Any:
    """Returns matrices with the same singular vectors and singular values of about 1, between 0.7 and 1.2.

    The iteration is a polynomial of degree 5 in the matrix whose slope at 0 is steep, so that small singular values
    grow fast; its coefficients are those of kellerjordan.github.io/posts/muon. Singular values below a thousandth of
    the length stay smaller.

    Args:
        matrix: A matrix (M, N), or several (G, M, N).
        iterations: Number of iterations, at least 1.
    """
    *several, rows, columns = matrix.shape
    x = _transposed(matrix) if rows > columns else matrix
    x = x / keras.ops.maximum(_length(x, (-2, -1) if several else None), keras.config.epsilon())
    for _ in range(iterations):
        square = keras.ops.matmul(x, _transposed(x))
        polynomial = -4.7750 * square + 2.0315 * keras.ops.matmul(square, square)
        x = 3.4445 * x + keras.ops.matmul(polynomial, x)
    return _transposed(x) if rows > columns else x


def _transposed(x: Any) -> Any:
    return keras.ops.transpose(x) if len(x.shape) == 2 else keras.ops.swapaxes(x, -1, -2)


def _orthogonalized_kernel(kernel: Any, groups: int) -> tuple[Any, int]:
    """Returns a kernel (h, w, C / groups, channels) whose matrix of each group is orthogonalized, and their rank."""
    channels = kernel.shape[-1]
    if groups == 1:
        matrix = keras.ops.reshape(kernel, (-1, channels))
        return keras.ops.reshape(orthogonalized(matrix), kernel.shape), min(matrix.shape)
    matrices = keras.ops.transpose(keras.ops.reshape(kernel, (-1, groups, channels // groups)), (1, 0, 2))
    found = keras.ops.transpose(orthogonalized(matrices), (1, 0, 2))
    return keras.ops.reshape(found, kernel.shape), groups * min(matrices.shape[1:])


def _is_hidden_kernel(variable: Any) -> bool:
    """Returns whether a variable may be the kernel of a convolution of features; images have up to four channels."""
    return len(variable.shape) == 4 and variable.shape[2] > _MOST_CHANNELS_OF_IMAGES


def _is_convolution(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Conv2D) and layer.built


def _groups_of(layer: keras.layers.Conv2D) -> int:
    """Returns the groups in which the kernel of a convolution is orthogonalized; 0 if it is not."""
    inputs = layer.kernel.shape[2] * layer.groups
    return 0 if inputs <= _MOST_CHANNELS_OF_IMAGES or _OF_SQUEEZE_AND_EXCITATION.fullmatch(layer.name) else layer.groups


def _length(tensor: Any, axes: tuple[int, ...] | None = None) -> Any:
    return keras.ops.sqrt(keras.ops.sum(keras.ops.square(tensor), axis=axes, keepdims=axes is not None))


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
