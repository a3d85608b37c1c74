"""Stochastic gradient descent as the paper's framework does it (arXiv:1512.03385, §3.4)."""

from __future__ import annotations

from typing import Any

import keras

from resnet_keras.recipes import Recipe

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class MomentumSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with weight decay as an L2 term of the gradient.

    Keras's own `weight_decay` shrinks the weights beside the step; here, as in the paper's framework, the decay goes
    through the momentum, which makes it 1 / (1 - momentum) times as strong.

    Args:
        l2: What times a weight is added to its gradient.
        **kwargs: Those of `keras.optimizers.SGD`.
    """

    def __init__(self, *, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Takes one step for one variable; on TensorFlow by one kernel, which keeps a deep network's graph small."""
        if self.l2 and self._use_weight_decay(variable):
            gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        if keras.backend.backend() != "tensorflow" or not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,  # Keras hands over TensorFlow's own variable
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=keras.ops.cast(learning_rate, variable.dtype),
            grad=keras.ops.cast(gradient, variable.dtype),
            momentum=keras.ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "l2": self.l2}


def optimizer(recipe: Recipe, learning_rate: Any) -> MomentumSGD:
    """Returns the recipe's optimiser, with its schedule."""
    sgd = MomentumSGD(
        learning_rate=learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        l2=recipe.l2,
        global_clipnorm=recipe.clip_norm,
    )
    if recipe.l2_on == "kernels":
        sgd.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return sgd
