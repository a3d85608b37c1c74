"""A little network, its training step by step, and a process of its own in which two devices share its batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.layers.batch_norm import BatchNormalization
from resnet_keras.training.optimizers import Lamb, MomentumSGD

Batch = tuple[np.ndarray, np.ndarray]
IMAGES = 8
"""In a batch."""


def network(
    *, seed: int = 0, frozen: bool = False, policy: str = "float32", optimizer: str = "sgd", dropout: float = 0.0
) -> keras.Model:
    """Returns a compiled network; `frozen` batch normalization is the same for an image whatever stands beside it."""
    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        x = inputs = keras.Input((6, 6, 2))
        for i in range(2):
            x = keras.layers.Conv2D(4, 3, use_bias=False, name=f"conv{i}")(x)
            normalize = BatchNormalization(name=f"bn{i}", momentum=0.9)
            x = keras.layers.ReLU(name=f"relu{i}")(normalize(x))
            normalize.trainable = not frozen
        x = keras.layers.Dropout(dropout)(keras.layers.Flatten()(x))
        model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32", name="logits")(x), name="little")
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([1000], [0.05, 0.01])
        model.compile(
            Lamb(learning_rate=rate, decay=0.1)
            if optimizer == "lamb"
            else MomentumSGD(learning_rate=rate, momentum=0.9, l2=0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        model.optimizer.build(model.trainable_variables)
        if not tf.distribute.has_strategy():  # under one Keras builds the metrics before the first step, here in it
            model.compute_metrics(None, keras.ops.zeros((1,)), keras.ops.zeros((1, 3)))
            model.reset_metrics()
    finally:
        keras.config.set_dtype_policy(before)
    return model


def batch(step: int) -> Batch:
    rng = np.random.default_rng(step)
    return rng.normal(size=(IMAGES, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, IMAGES)


def broken(step: int, image: int = 0) -> Batch:
    """Returns a batch with a pixel that is infinite."""
    images, labels = batch(step)
    images[image, 3, 3, 0] = np.inf
    return images, labels


def fit(model: keras.Model, batches: Iterable[Batch], **options: Any) -> dict[str, float]:
    """Trains an epoch of some batches and returns its loss and metrics."""
    batches = list(batches)
    images, labels = (np.stack(parts) for parts in zip(*batches, strict=True))
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    history = model.fit(data, steps_per_epoch=len(batches), verbose=0, shuffle=False, **options).history
    return {name: values[-1] for name, values in history.items()}


def of(variables: Iterable[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def largest_difference(one: Iterable[Any], other: Iterable[Any]) -> float:
    return max(
        float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
        for a, b in zip(one, other, strict=True)
    )


def run(script: str) -> Any:
    """Returns what a script prints last, as JSON; a new process may divide its CPU again."""
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])
