"""Gradient checkpointing (rematerialization): activations are recomputed in the backward pass (arXiv:1604.06174).

Only the tensors between groups of blocks stay in memory. The backward pass recomputes the activations within a group
just before it needs them. That is a third more arithmetic, and the memory of a deep network falls from that of all its
blocks to about that of the square root of their number (section 3).

`tf.recompute_grad`, on which `keras.RematScope` and `keras.remat` are built, would update the moving statistics of
batch normalization twice and draw another dropout mask in the second pass. Here a group is a pure function: weights and
state (statistics, random seeds) are its arguments, by `keras.StatelessScope`. The state after the first pass is
assigned; the second pass starts from the same state, and its new state is dropped. On JAX `keras.remat` does the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras

from resnet_keras.layers.keras_internals import outer_input, outer_output, patch_methods, producing_call

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

_BLOCK = re.compile(r"stage\d+_block\d+_")
_KEPT = 4.0
"""Activations of a block that the backward pass needs, in sizes of the block's output: the inputs of its batch
normalizations and the outputs of its ReLUs (4 in a basic block, 3 in a bottleneck)."""


@contextmanager
def rematerialize(model: keras.Model) -> Iterator[None]:
    """Trains a network with less memory and more time inside the context.

    On TensorFlow and a CPU the result is the same, bit for bit. With frozen batch normalization, and on other devices
    and backends, it is the same up to rounding. The model and its file do not change.

    Example:
        >>> model = resnet_keras.ResNet110()
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> with resnet_keras.training.rematerialize(model):
        ...     model.fit(images, labels)

    Args:
        model: A network of this package, on Keras's TensorFlow or JAX backend.

    Raises:
        ValueError: The network has no blocks by their names, or the backend is another one.
    """
    if keras.backend.backend() not in ("tensorflow", "jax"):
        raise ValueError(
            f"Expected KERAS_BACKEND=tensorflow or jax to rematerialize. Received: {keras.backend.backend()}"
        )
    call, rematerialized = model.call, _Rematerialized(model)

    def called(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return rematerialized(inputs) if training else call(inputs, training=training, mask=mask)

    with patch_methods(model, call=called):
        yield


@dataclass(frozen=True)
class Piece:
    """The part of a network between two tensors of Keras's graph, the second of which depends only on the first.

    Attributes:
        source: Its input.
        target: Its output.
        nodes: The calls of layers and operations between them, in topological order.
    """

    source: Any
    target: Any
    nodes: tuple[Any, ...]

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Its layers, in topological order."""
        return [node.operation for node in self.nodes if isinstance(node.operation, keras.layers.Layer)]

    def __call__(self, x: Any) -> Any:
        """Returns the output for an input, in training mode."""
        values = {id(self.source): x}
        for node in self.nodes:
            args, kwargs = node.arguments.fill_in(values)
            if isinstance(node.operation, keras.layers.Layer):
                kwargs["training"] = True
            values[id(node.outputs[0])] = node.operation(*args, **kwargs)
        return values[id(self.target)]


class _Rematerialized(keras.layers.Layer):
    """A network in training mode. As a layer without autocast it reads weights in full precision."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(autocast=False, name="rematerialized")
        (self.groups, self.head), self.dtype_of_images = groups(model), model.input.dtype

    def call(self, inputs: Any) -> Any:
        """Returns the network's output for images (N, H, W, C)."""
        x = keras.ops.convert_to_tensor(inputs, self.dtype_of_images)
        for group in self.groups:
            x = _recomputed(group, x)
        return self.head(x)


def _recomputed(pieces: Sequence[Piece], x: Any) -> Any:
    """Returns the output of pieces in training mode and updates their state once; the backward pass recomputes them."""
    layers = [layer for piece in pieces for layer in piece.layers]
    weights = [variable for layer in layers for variable in layer.trainable_variables]
    states = [variable for layer in layers for variable in layer.non_trainable_variables]
    moved: list[keras.Variable] = []

    def computed(x: Any, weight_values: Sequence[Any], state_values: Sequence[Any]) -> tuple[Any, list[Any]]:
        mapping = [*zip(weights, weight_values, strict=True), *zip(states, state_values, strict=True)]
        with keras.StatelessScope(mapping) as scope:
            before = [scope.get_current_value(state) for state in states]
            for piece in pieces:
                x = piece(x)
        after = [scope.get_current_value(state) for state in states]
        changed = [i for i in range(len(states)) if after[i] is not before[i]]
        moved[:] = [states[i] for i in changed]
        return x, [after[i] for i in changed]

    arguments = (x, *([keras.ops.convert_to_tensor(each) for each in kind] for kind in (weights, states)))
    on_jax = keras.backend.backend() == "jax"
    y, values = keras.remat(computed)(*arguments) if on_jax else _remat(computed, *arguments)
    for state, value in zip(moved, values, strict=True):
        state.assign(value)
    return y


def _remat(
    function: Callable[..., tuple[Any, list[Any]]], x: tf.Tensor, weights: Sequence[Any], states: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Returns the result of a function, and keeps nothing but its arguments for the gradient."""

    @tf.custom_gradient
    def outputs(x: tf.Tensor, *values: tf.Tensor) -> Any:
        weights_, states_ = values[: len(weights)], values[len(weights) :]

        def gradient(dy: tf.Tensor, *_: Any, variables: Sequence[Any] = ()) -> Any:
            # Because `again` depends on `dy`, neither TensorFlow nor XLA (which ignores control dependencies) can
            # compute the second pass early or merge it with the first.
            nothing = 0.0 * tf.reduce_sum(tf.reshape(dy, (-1,))[:1])
            again = x + tf.cast(nothing, x.dtype)
            with tf.GradientTape() as tape:
                tape.watch((again, *weights_))
                y = function(again, weights_, states_)[0]
            gradients = [*tape.gradient(y, (again, *weights_), output_gradients=dy), *(None for _ in states_)]
            # Under a strategy, sums over replicas lead to the others' variables, whose gradients are their own.
            return (gradients, [None for _ in variables]) if variables else gradients

        y, moved = function(x, weights_, states_)
        return (y, *moved), gradient

    y, *moved = outputs(x, *weights, *states)
    return y, moved


def groups(model: keras.Model) -> tuple[list[list[Piece]], Piece]:
    """Returns the groups of blocks that are recomputed together, and the head, which follows them.

    A group consists of consecutive blocks; the first one also has the stem. The groups are chosen by the sizes of the
    blocks' outputs to minimize memory: the inputs of all groups, and the activations within the largest.

    Raises:
        ValueError: The network has no blocks by their names.
    """
    *blocks, head = [Piece(source, target, _between(source, target)) for source, target in _chain(model)]
    if not any(_BLOCK.match(layer.name) for piece in blocks for layer in piece.layers):
        raise ValueError(f"Expected a network of this package, with layers stage1_block1_... Received: {model.name!r}")
    cuts = _cuts([_size(piece.target) for piece in blocks])
    return [blocks[start:end] for start, end in pairwise(cuts)], head


def _chain(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    """Yields input and output of each piece of a network: its blocks, the first with the stem, and its head."""
    names = {layer: _BLOCK.match(layer.name) for layer in model.layers if not isinstance(layer, keras.Model)}
    ends = {name[0]: layer for layer, name in names.items() if name}  # of each block, the last
    source = model.input
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            # Where it is called: `input` and `output` of a nested model would be of its own inside.
            before = outer_input(layer)
            if before is not source:
                yield source, before
            yield from _chain(layer)
            source = outer_output(layer)
        elif (name := names[layer]) and ends[name[0]] is layer:
            yield source, layer.output
            source = layer.output
    if source is not model.output:
        yield source, model.output


def _between(source: Any, target: Any) -> tuple[Any, ...]:
    """Returns the calls that lead from one tensor to another, in topological order."""
    ordered: dict[int, Any] = {}
    waiting = [target]
    while waiting:
        node = producing_call(waiting[-1])
        missing = [
            tensor
            for tensor in node.input_tensors
            if tensor is not source and id(producing_call(tensor)) not in ordered
        ]
        if not missing:
            ordered[id(node)] = node
            waiting.pop()
        waiting.extend(missing)
    return tuple(ordered.values())


def _size(tensor: Any) -> float:
    """Returns a tensor's size relative to others of the network."""
    height, width, channels = tensor.shape[1:]
    if height is None or width is None:
        return 1.0 / channels  # half the height and width come with twice the channels (arXiv:1512.03385, section 3.3)
    return float(height * width * channels)


def _cuts(sizes: Sequence[float]) -> list[int]:
    """Returns the bounds of the groups, from 0 to the number of blocks, given the sizes of the blocks' outputs."""

    def kept(cuts: list[int]) -> float:
        largest = max(sum(sizes[start:end]) for start, end in pairwise(cuts))
        return sum(sizes[cut - 1] for cut in cuts[1:]) + _KEPT * largest

    most = math.isqrt(len(sizes)) + 1
    return min((_filled(sizes, (count + 0.5) * max(sizes)) for count in range(1, most + 1)), key=kept)


def _filled(sizes: Sequence[float], limit: float) -> list[int]:
    """Returns the bounds of the fewest groups whose sizes are at most `limit` each."""
    cuts = [0]
    for i in range(1, len(sizes)):
        if sum(sizes[cuts[-1] : i + 1]) > limit:
            cuts.append(i)
    return [*cuts, len(sizes)]
