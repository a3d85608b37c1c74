"""Scores of batches of views: by one device, or by copies of a network on several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import head_of, logits_from, probabilities_from
from resnet_keras.evaluation.views import Views
from resnet_keras.surgery.cloning import clone


def default_devices() -> tuple[str, ...]:
    """Returns the names of all GPUs if there are several; none, for TensorFlow's own choice, if not."""
    if keras.backend.backend() != "tensorflow":
        return ()
    gpus = tf.config.list_logical_devices("GPU")
    return tuple(gpu.name for gpu in gpus) if len(gpus) > 1 else ()


class Scorer:
    """The scores of a classifier for batches of one size: the last one is filled up.

    A network is traced again for a batch of another size, which takes longer than a batch.

    Args:
        classifier: Its network is copied for all devices but the first.
        views: Crops and average of the evaluation.
        devices: Names of the devices that share each batch; none for TensorFlow's own choice.
    """

    def __init__(self, classifier: Classifier, views: Views, devices: Sequence[str] = ()) -> None:
        self.head = head_of(classifier.model)
        self._model = classifier.model
        self._probabilities = views.average == "probabilities"
        self._parts = max(1, len(devices))
        self._outputs = _shared(self._model, devices) if self._parts > 1 else self._model.predict_on_batch
        self._fill = views.crops != "full"  # whole images have many sizes, each with few images
        self._sizes: dict[tuple[int, ...], int] = {}  # by the shape of an image

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Returns the scores of normalized images: (N, H, W, C) -> float32 (N, classes)."""
        count, shape = len(images), images.shape[1:]
        if count < self._parts and not self._fill:
            # A single full image would be computed by all devices, filled up, where one of them is enough.
            return self._scores(np.asarray(self._model.predict_on_batch(images), np.float32))
        size = max(count, self._sizes.setdefault(shape, count)) if self._fill else count
        missing = size - count + -size % self._parts
        if missing:
            images = np.concatenate([images, np.broadcast_to(images[-1:], (missing, *shape))])
        return self._scores(np.asarray(self._outputs(images), np.float32)[:count])

    def _scores(self, outputs: np.ndarray) -> np.ndarray:
        return probabilities_from(self.head, outputs) if self._probabilities else logits_from(self._model, outputs)


def _shared(model: keras.Model, devices: Sequence[str]) -> Callable[[Any], tf.Tensor]:
    """Returns a function that computes an equal part of a batch on each device."""
    networks = [model]
    for device in devices[1:]:
        with tf.device(device):
            networks.append(clone(model))

    @tf.function(reduce_retracing=True, autograph=False)
    def outputs(images: tf.Tensor) -> tf.Tensor:
        found = []
        for device, network, part in zip(devices, networks, tf.split(images, len(devices)), strict=True):
            with tf.device(device):
                found.append(network(part, training=False))
        return tf.concat(found, 0)

    return lambda images: outputs(tf.convert_to_tensor(images))
