"""Training on several machines under Keras 3, which does not support it, and messages between the workers.

Keras 3.15 does not support `tf.distribute.MultiWorkerMirroredStrategy`: `Model.fit` fails under it
(https://github.com/keras-team/keras/issues/20585) in two places of its TensorFlow trainer:

1. Before the first step it builds the metrics from a batch, for which it takes the mean over all replicas' batches.
   That fails for a `PerReplica` of several inputs, and, on one machine as well, where replicas share a batch of an odd
   number of images. Here it takes the batch of its first replica; only shapes matter.
2. After each step it averages the metrics over the replicas along axis 0, which scalars do not have. Here the step
   returns them in the shape (1,).

`patched_fit` does both to one model inside a context. The model and its file do not change. Each patch is applied only
while the faulty lines are in Keras's source; when Keras has fixed them, `patched_fit` does nothing and can be removed.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras import files
from resnet_keras.layers.keras_internals import FIRST_BUILD, build_from_batch, patch_methods, trainer_functions

_METRICS_FAULT = 'strategy.reduce("MEAN", v, axis=0)'
_BUILD_FAULT = "self.distribute_strategy.reduce("

LOST_SECONDS = 60
"""When a worker is lost, the others end within this time."""


def spans_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Returns whether a strategy spans several workers."""
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.cluster_resolver.cluster_spec().num_tasks("worker") > 1
    )


def worker_rank(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """Returns the index of this worker, and the number of workers."""
    if strategy is None or not spans_workers(strategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    return resolver.task_id, resolver.cluster_spec().num_tasks("worker")


@contextmanager
def patched_fit(model: keras.Model, strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Makes `model.fit` and `model.evaluate` work with several replicas or workers, see above.

    Raises:
        RuntimeError: Keras's trainer is not the one that the patches are for.
    """
    if strategy is None:
        yield
        return
    build_fails, metrics_fail = faults()
    patches: dict[str, Callable] = {}
    if build_fails:
        patches[FIRST_BUILD] = _building_from_own_batch(model, strategy)
    if metrics_fail and spans_workers(strategy):
        patches |= {name: _with_axis(getattr(model, name)) for name in ("train_step", "test_step")}
    with patch_methods(model, **patches):
        yield


def faults() -> tuple[bool, bool]:
    """Returns which of the two faults are in Keras's source: that of the first build, and that of the metrics.

    Raises:
        RuntimeError: The functions that had them no longer exist.
    """
    build, reduce = trainer_functions()
    if build is None or reduce is None or list(inspect.signature(build).parameters)[1:] != ["iterator", "data_batch"]:
        raise RuntimeError(
            f"Expected Keras's TensorFlow trainer to have `{FIRST_BUILD}(iterator, data_batch)` and "
            f"`reduce_per_replica`, as 3.15 has. Received: Keras {keras.__version__}"
        )
    return _BUILD_FAULT in inspect.getsource(build), _METRICS_FAULT in inspect.getsource(reduce)


def _building_from_own_batch(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[..., None]:
    def build(iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda part: strategy.experimental_local_results(part)[0], tuple(next(batches))
            )
        with strategy.scope():
            build_from_batch(model, data_batch)

    return build


def _with_axis(step: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    def stepped(data: Any) -> dict[str, Any]:
        return {name: tf.reshape(value, (1,)) for name, value in step(data).items()}

    return stepped


def mean_over_workers(strategy: tf.distribute.Strategy, values: tf.Tensor) -> tf.Tensor:
    """Returns the mean of all workers' values on every worker. All must call it."""
    return strategy.reduce("MEAN", strategy.experimental_distribute_values_from_function(lambda _: values), axis=None)


def all_reduce_any(strategy: tf.distribute.Strategy, holds: bool) -> bool:
    """Returns on every worker whether a condition holds on any of them. All must call it."""
    return bool(mean_over_workers(strategy, tf.constant(float(holds))) > 0)


def broadcast(strategy: tf.distribute.Strategy | None, content: Any) -> Any:
    """Returns the chief's content, as JSON has it, on every worker. All must call it; it is a barrier."""
    message = json.dumps(content).encode()
    if strategy is None or not spans_workers(strategy):
        return json.loads(message)
    length = int(_of_chief(strategy, np.array([len(message)], np.int32))[0])
    characters = np.zeros(length, np.int32)
    if worker_rank(strategy)[0] == 0:
        characters[:] = np.frombuffer(message, np.uint8)
    return json.loads(_of_chief(strategy, characters).astype(np.uint8).tobytes())


def broadcast_variables(strategy: tf.distribute.Strategy | None, variables: Iterable[keras.Variable]) -> None:
    """Assigns the chief's values on every worker. All must call it."""
    if strategy is None or not spans_workers(strategy):
        return
    variables = list({id(variable): variable for variable in variables}.values())
    whole = [v for v in variables if "int" in v.dtype]
    for group, kind in ((whole, np.int64), ([v for v in variables if "int" not in v.dtype], np.float32)):
        if not group:
            continue
        flat = np.concatenate([np.ravel(keras.ops.convert_to_numpy(v)).astype(kind) for v in group])
        parts = np.split(_of_chief(strategy, flat), np.cumsum([int(np.prod(v.shape)) for v in group])[:-1])
        for variable, part in zip(group, parts, strict=True):
            variable.assign(part.reshape(variable.shape).astype(variable.dtype))


def _of_chief(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    """Returns the chief's values on every worker: a sum, to which the others contribute zeros."""

    def given(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        return tf.constant(values if context.replica_id_in_sync_group == 0 else np.zeros_like(values))

    total = strategy.reduce("SUM", strategy.experimental_distribute_values_from_function(given), axis=None)
    return total.numpy()


@contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Turns TensorFlow's long errors about a lost worker into one sentence.

    Raises:
        ConnectionError: Another worker has ended, or cannot be reached.
    """
    try:
        yield
    except tf.errors.OpError as error:
        lost = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.FailedPreconditionError,
        )
        if strategy is None or not spans_workers(strategy) or not isinstance(error, lost):
            raise
        index, count = worker_rank(strategy)
        others = sorted({int(task) for task in re.findall(r"/task:(\d+)", error.message)} - {index})
        addresses = strategy.cluster_resolver.cluster_spec().as_dict()["worker"]
        named = ", ".join(f"worker {task} ({addresses[task]})" for task in others if task < count) or "another"
        raise ConnectionError(
            f"Expected all {count} workers to continue; worker {index} ends, too, and the same command on all of them "
            f"resumes from the last checkpoint. Received: {named} is lost: {_reason(error.message)}"
        ) from None


def _reason(message: str) -> str:
    """Returns the line with the reason in the long error of a collective operation."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not line.strip().startswith("[[")]
    reasons = [line.removeprefix("Collective ops is aborted by:").strip() for line in lines if "aborted by:" in line]
    before = [line for line, following in pairwise(lines) if following.startswith("Additional GRPC error information")]
    return next(iter([*reasons, *before, *lines[-1:]]), "no reason given")[:300]


@contextmanager
def log_on_chief(strategy: tf.distribute.Strategy | None) -> Iterator[None]:
    """Lets only the chief log progress inside the context; other workers log warnings alone."""
    logger = logging.getLogger(__name__.partition(".")[0])
    level = logger.level
    if worker_rank(strategy)[0]:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def own_folder(strategy: tf.distribute.Strategy | None, workdir: str | Path) -> Iterator[Path]:
    """Yields `workdir` on the chief, and a temporary folder on every other worker.

    So all workers run the same code, and none waits for a collective operation that another skips.
    """
    if worker_rank(strategy)[0] == 0:
        yield Path(workdir)
        return
    with files.scratch_folder() as folder:
        yield folder / Path(workdir).name
