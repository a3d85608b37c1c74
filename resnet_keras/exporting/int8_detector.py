"""Detectors whose backbone and pyramid compute in int8, and whose heads and boxes compute in float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from resnet_keras.detection.parts import detector_parts
from resnet_keras.surgery.folding import fold
from resnet_keras.surgery.quantization import calibrate, quantize


def int8_detector(model: keras.Model, std: tuple[float, ...], batches: Iterable[Any]) -> keras.Model:
    """Returns a detector with fake quantization in all that runs once per image, ready for conversion.

    That is the backbone and, where there is one, the pyramid, up to the maps. Region proposals, regions, and detections
    stay in float32: a box has edges of hundreds of pixels to parts of one, which 256 values cannot hold.

    Args:
        model: A model from `FasterRCNN`, in float32.
        std: Standard deviation that the pixels are divided by, of each channel.
        batches: Normalized images on their canvas (N, H, W, C), for the ranges.

    Raises:
        ValueError: The network has something that `quantize` does not take, or there are no images.
    """
    parts = detector_parts(model)
    images, sizes = parts.network.input, model.input["sizes"]
    maps = parts.network.output["maps"]
    # A copy, because the detector's other layers read the images and the maps, too.
    body = quantize(fold(keras.Model(images, maps, name=f"{model.name}_maps")), std)
    calibrate(body, batches)
    rest = keras.Model([*maps, images, sizes], model.output, name=f"{model.name}_heads")
    inputs = {
        name: keras.Input(batch_shape=each.shape, dtype=each.dtype, name=name) for name, each in model.input.items()
    }
    found = body(inputs["images"])
    found = found if isinstance(found, list) else [found]
    return keras.Model(inputs, rest([*found, inputs["images"], inputs["sizes"]]), name=model.name)
