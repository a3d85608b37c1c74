"""Stochastic gradient descent with the L2 term of the paper (arXiv:1512.03385, §3.4), and LAMB."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.layers.keras_internals import ClipsOverReplicas, has_weight_decay, moments_of, momentum_of
from resnet_keras.recipes.settings import Optimization

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


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
            lengths = [keras.ops.sqrt(keras.ops.sum(keras.ops.square(part))) for part in (weight, update)]
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


def create_optimizer(optimization: Optimization, learning_rate: Any) -> MomentumSGD | Lamb:
    """Returns the optimizer of a recipe's part `optimization`, with a learning rate or its schedule."""
    chosen: MomentumSGD | Lamb
    if optimization.optimizer == "lamb":
        chosen = Lamb(
            learning_rate=learning_rate,
            decay=optimization.weight_decay,
            epsilon=1e-6,
            global_clipnorm=optimization.clip_norm,
        )
    else:
        chosen = MomentumSGD(
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
