"""Activations computed anew in the backward pass in place of being kept (arXiv:1604.06174).

Only the tensors between groups of blocks are kept; the backward pass computes a group's inside once more, just before
it needs it. That is a third more arithmetic, and the memory of a deep network falls from that of all its blocks to
about that of the square root of their number (section 3).

`tf.recompute_grad`, and on it `keras.RematScope` and `keras.remat`, would move batch normalization's statistics twice
and draw another dropout in the second pass. Here a group is a pure function: weights and state (statistics, random
seeds) go into it as tensors, by `keras.StatelessScope`. What the first pass makes of the state is assigned; the second
begins with the same state and leaves none. On JAX, of pure functions, `keras.remat` does what is wanted.
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
"""What the backward pass needs of a block, in sizes of its output: what goes into its two or three batch normalizations
and comes out of its ReLUs (4 of a basic block, 3 of a bottleneck)."""


@contextmanager
def rematerialize(model: keras.Model) -> Iterator[None]:
    """Makes a network's training take less memory and more time, as long as the context lasts.

    It learns the same, bit for bit, on TensorFlow and a CPU; where batch normalizations rest, and on other devices and
    backends, to rounding. The model stays an ordinary one, and so does its file.

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
    call, anew = model.call, _Rematerialized(model)

    def called(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return anew(inputs) if training else call(inputs, training=training, mask=mask)

    with patch_methods(model, call=called):
        yield


@dataclass(frozen=True)
class Piece:
    """What of a network lies between two tensors of Keras's graph, the second of which depends on no others.

    Attributes:
        source: The tensor that it begins with.
        target: The tensor that it ends with.
        nodes: The calls of layers and operations between them, each after those that it needs.
    """

    source: Any
    target: Any
    nodes: tuple[Any, ...]

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Its layers, each after those that it needs."""
        return [node.operation for node in self.nodes if isinstance(node.operation, keras.layers.Layer)]

    def __call__(self, x: Any) -> Any:
        """Computes it in training."""
        values = {id(self.source): x}
        for node in self.nodes:
            args, kwargs = node.arguments.fill_in(values)
            if isinstance(node.operation, keras.layers.Layer):
                kwargs["training"] = True
            values[id(node.outputs[0])] = node.operation(*args, **kwargs)
        return values[id(self.target)]


class _Rematerialized(keras.layers.Layer):
    """A network in training. It is a layer because its weights are to be read as they are, in no reduced precision."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(autocast=False, name="rematerialized")
        (self.groups, self.head), self.dtype_of_images = groups(model), model.input.dtype

    def call(self, inputs: Any) -> Any:
        """Returns what the network gives for images (N, H, W, C)."""
        x = keras.ops.convert_to_tensor(inputs, self.dtype_of_images)
        for group in self.groups:
            x = _anew(group, x)
        return self.head(x)


def _anew(pieces: Sequence[Piece], x: Any) -> Any:
    """Computes pieces in training, and moves their state once; the backward pass computes them once more."""
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
    """Returns what a function gives, and keeps nothing but its arguments for the gradient."""

    @tf.custom_gradient
    def outputs(x: tf.Tensor, *values: tf.Tensor) -> Any:
        weights_, states_ = values[: len(weights)], values[len(weights) :]

        def gradient(dy: tf.Tensor, *_: Any, variables: Sequence[Any] = ()) -> Any:
            # What depends on `dy` cannot be computed before it, nor be taken for the same as in the first pass: not by
            # TensorFlow, nor by XLA, which heeds no control dependencies.
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
    """Returns the groups of blocks that a network's training is divided into, and what follows: the head.

    A group is of consecutive blocks, the first of all with the stem. They are chosen by the sizes of the blocks'
    outputs, for the least to be kept: what goes into each group, and the inside of the largest.

    Raises:
        ValueError: The network has no blocks by their names.
    """
    *blocks, head = [Piece(source, target, _between(source, target)) for source, target in _chain(model)]
    if not any(_BLOCK.match(layer.name) for piece in blocks for layer in piece.layers):
        raise ValueError(f"Expected a network of this package, with layers stage1_block1_... Received: {model.name!r}")
    cuts = _cuts([_size(piece.target) for piece in blocks])
    return [blocks[start:end] for start, end in pairwise(cuts)], head


def _chain(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    """Yields where the pieces of a network begin and end, one after another: its blocks, the first with the stem."""
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
    """Returns the calls that lead from one tensor to another, each after those that it needs."""
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
    """Returns a tensor's size, relative to others of the network."""
    height, width, channels = tensor.shape[1:]
    if height is None or width is None:
        return 1.0 / channels  # half the height and width go with twice the channels (arXiv:1512.03385, section 3.3)
    return float(height * width * channels)


def _cuts(sizes: Sequence[float]) -> list[int]:
    """Returns between which blocks, of outputs of such sizes, to cut: 0, ..., their number."""

    def kept(cuts: list[int]) -> float:
        largest = max(sum(sizes[start:end]) for start, end in pairwise(cuts))
        return sum(sizes[cut - 1] for cut in cuts[1:]) + _KEPT * largest

    most = math.isqrt(len(sizes)) + 1
    return min((_filled(sizes, (count + 0.5) * max(sizes)) for count in range(1, most + 1)), key=kept)


def _filled(sizes: Sequence[float], limit: float) -> list[int]:
    """Returns the cuts into the fewest groups of at most `limit` together."""
    cuts = [0]
    for i in range(1, len(sizes)):
        if sum(sizes[cuts[-1] : i + 1]) > limit:
            cuts.append(i)
    return [*cuts, len(sizes)]
