"""Every private name of Keras that this package depends on.

Keras has no public way to ask which layer computes a tensor, to replace a method of one model, or to set the module
under which a class is saved. The names below stand in Keras 3.12 to 3.15. `tests/layers/test_keras_internals.py`
fails by name when a release drops one; no other module of the package uses a private name of Keras.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

FIRST_BUILD = "_maybe_symbolic_build"
"""The method by which Keras's TensorFlow trainer builds metrics and optimizer from the first batch of a `fit`."""

_RANDOM_INITIALIZERS = (
    *(keras.initializers.VarianceScaling, keras.initializers.RandomNormal),
    *(keras.initializers.RandomUniform, keras.initializers.TruncatedNormal),
)
_INITIALIZERS = threading.RLock()  # one thread at a time replaces their methods

_Class = TypeVar("_Class", bound=type)


def saved_as_keras_layer(layer: _Class) -> _Class:
    """Makes Keras save a subclass of one of its layers under the name of that layer.

    Keras writes `__module__` and `__name__` of a class into `.keras` files. With those of the layer that it subclasses,
    a file can be opened where this package is not installed, with Keras's own layer instead.

    Raises:
        TypeError: The class is not called like the Keras layer that it subclasses.
    """
    if getattr(keras.layers, layer.__name__, None) not in layer.__bases__:
        raise TypeError(f"Expected a subclass of the layer of `keras.layers` with its name. Received: {layer!r}")
    layer.__module__ = "keras.layers"
    return layer


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer or operation that computes a symbolic tensor.

    Needs `KerasTensor._keras_history`: `layer.input` and `layer.output` lead from layers to tensors, nothing public
    leads back.
    """
    return tensor._keras_history.operation


def producing_call(tensor: keras.KerasTensor) -> Any:
    """Returns the call that computes a symbolic tensor: a node with `operation`, `arguments` and `input_tensors`.

    Needs `KerasTensor._keras_history` and `Operation._inbound_nodes`: a shared layer has several calls,
    and `layer.input` raises for it.
    """
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def call_count(operation: keras.Operation) -> int:
    """Returns in how many places of its graphs a layer is called. Needs `Operation._inbound_nodes`."""
    return len(operation._inbound_nodes)


def consumers(operation: keras.Operation) -> list[keras.Operation]:
    """Returns the layers and operations that read the outputs of a layer, one for each call.

    Needs `Operation._outbound_nodes`: a model's configuration lists the inputs of each layer, not its consumers.
    """
    return [node.operation for node in operation._outbound_nodes]


def outer_input(layer: keras.Operation) -> Any:
    """Returns the input of a layer in the graph that calls it.

    For a nested model, `model.input` is the `Input` of its own inner graph; the property of `keras.Operation`, which
    the model overrides, is the input of its call.
    """
    return keras.Operation.input.fget(layer)


def outer_output(layer: keras.Operation) -> Any:
    """Returns the output of a layer in the graph that calls it; see `outer_input`."""
    return keras.Operation.output.fget(layer)


def parameters(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns a layer's own parameters, frozen or not, without state such as moving statistics.

    Needs `Layer._trainable_variables`: `layer.trainable_variables` is empty for a frozen layer, and
    `layer.non_trainable_variables` then mixes parameters with moving statistics.
    """
    return list(layer._trainable_variables)


def update_loss(model: keras.Model, loss: Any, images: Any) -> None:
    """Adds the loss of a batch to the mean that `fit` reports, as Keras's own training step does.

    Needs `Trainer._loss_tracker`: a custom training step cannot reach the metric "loss" of a compiled model otherwise,
    since `Trainer.metrics` may list it or not.
    """
    model._loss_tracker.update_state(loss, sample_weight=images)


def build_from_batch(model: keras.Model, batch: Any) -> None:
    """Builds the compiled metrics and the optimizer of a model from one batch.

    Needs `Trainer._symbolic_build`: the only public way is a training step.
    """
    model._symbolic_build(data_batch=batch)


def has_weight_decay(optimizer: keras.optimizers.Optimizer, variable: Any) -> bool:
    """Returns whether an optimizer decays a variable.

    Needs `Optimizer._use_weight_decay`: `exclude_from_weight_decay` sets the variables, nothing public returns them.
    """
    return optimizer._use_weight_decay(variable)


def index_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the index of a variable among those that an optimizer was built with, which is that in lists of slots.

    Needs `Optimizer._get_variable_index`: `update_step` gets a variable of the backend, which nothing public looks up.
    """
    return optimizer._get_variable_index(variable)


def momentum_of(optimizer: keras.optimizers.SGD, variable: Any) -> keras.Variable:
    """Returns the momentum of a variable."""
    return optimizer.momentums[index_of(optimizer, variable)]


def moments_of(optimizer: keras.optimizers.Lamb, variable: Any) -> tuple[keras.Variable, keras.Variable]:
    """Returns the first and second moment of the gradient of a variable.

    Needs `Optimizer._get_variable_index`, `Lamb._momentums` and `Lamb._velocities`: a subclass with another
    `update_step` needs the slots of its class.
    """
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


class ClipsOverReplicas:
    """A base of optimizers, before Keras's: `global_clipnorm` is of the gradient of all replicas, as on one device.

    Keras clips what each replica computes of its part of the batch.
    """

    global_clipnorm: float | None

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        here = [gradient for gradient in grads if gradient is not None]
        total = _sum_over_replicas(here) if self.global_clipnorm else None
        if total is None:
            return super()._clip_gradients(grads)  # type: ignore[misc]
        clipped, _ = tf.clip_by_global_norm(here, self.global_clipnorm, use_norm=tf.linalg.global_norm(total))
        left = iter(clipped)
        return [None if gradient is None else next(left) for gradient in grads]


def _sum_over_replicas(gradients: list[Any]) -> list[Any] | None:
    """Returns the sum of gradients over replicas; `None` if there is one."""
    if keras.backend.backend() != "tensorflow" or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return None
    context = tf.distribute.get_replica_context()
    return None if context is None else context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def trainer_functions() -> tuple[Callable | None, Callable | None]:
    """Returns `FIRST_BUILD` and `reduce_per_replica` of Keras's TensorFlow trainer; `None` for one that is gone.

    They are where Keras fails with several workers; see `distributed.multi_worker`, which reads their source.
    """
    module = inspect.getmodule(keras.Model.make_train_function)
    return getattr(keras.Model, FIRST_BUILD, None), getattr(module, "reduce_per_replica", None)


@contextmanager
def patch_methods(layer: keras.layers.Layer, **methods: Callable) -> Iterator[None]:
    """Replaces methods of one layer or model in a context; afterwards it has its former ones.

    The class and the saved file stay as they are. Functions that Keras has traced with the former methods are traced
    again. Keras's `__setattr__` tracks what is assigned to a layer and refuses some names, so `object.__setattr__` is
    used.
    """
    former = {name: vars(layer)[name] for name in methods if name in vars(layer)}
    for name, method in methods.items():
        object.__setattr__(layer, name, method)
    _discard_traces(layer)
    try:
        yield
    finally:
        for name in methods:
            if name in former:
                object.__setattr__(layer, name, former[name])
            else:
                object.__delattr__(layer, name)
        _discard_traces(layer)


def replace_method(layer: keras.layers.Layer, name: str, method: Callable) -> None:
    """Replaces a method of one layer or model until `vars(layer)` loses it; see `patch_methods` for what stays."""
    object.__setattr__(layer, name, method)


@dataclass(frozen=True)
class RunningFit:
    """A `fit` that this thread is in.

    Attributes:
        model: The model that is trained.
        data: The argument `x`; of a generator, the first batch, which Keras has taken.
        depth: Number of calls from the line of the user's code to who asks.
    """

    model: keras.Model
    data: Any
    depth: int


def running_fit() -> RunningFit | None:
    """Returns the innermost `fit` of Keras that this thread is in; `None` if it is in none.

    Needs the names of local variables in `Trainer.fit`, and `GeneratorDataAdapter._first_batches`: a layer has no
    public way to its trainer, and a generator's first batch is gone.
    """
    frame, depth, found = inspect.currentframe(), -1, None
    while frame is not None:
        values = frame.f_locals if frame.f_code.co_name == "fit" else {}
        if found is None and isinstance(values.get("self"), keras.Model) and "x" in values:
            adapter = getattr(values.get("epoch_iterator"), "data_adapter", None)
            first = getattr(adapter, "_first_batches", None)
            found = values["self"], first[0] if first else values["x"]
        elif found is not None and frame.f_globals.get("__name__", "").partition(".")[0] != "keras":
            return RunningFit(*found, depth)
        frame, depth = frame.f_back, depth + 1
    return None


@contextmanager
def zero_initial_weights() -> Iterator[None]:
    """Lets layers that this thread builds in a context begin with zeros, where they would draw random numbers.

    For weights that are replaced at once: random numbers for ResNet-50 take a second. Layers keep their initializers.
    Needs a method of public classes of `keras.initializers`; Keras has no setting for it.
    """
    thread = threading.get_ident()
    with _INITIALIZERS:
        former = {kind: kind.__call__ for kind in _RANDOM_INITIALIZERS if "__call__" in vars(kind)}

        def zeros(draw: Callable) -> Callable:
            @functools.wraps(draw)
            def called(self: Any, shape: Any, dtype: Any = None) -> Any:
                if threading.get_ident() != thread:
                    return draw(self, shape, dtype)
                return keras.ops.zeros(shape, dtype or keras.config.floatx())

            return called

        for kind, draw in former.items():
            kind.__call__ = zeros(draw)
        try:
            yield
        finally:
            for kind, draw in former.items():
                kind.__call__ = draw


def _discard_traces(layer: keras.layers.Layer) -> None:
    if isinstance(layer, keras.Model):
        layer.train_function = layer.test_function = None
