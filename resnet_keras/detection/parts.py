"""The stages of a Faster R-CNN, for training: each of them is a part of the model and shares its layers.

A step of training runs the first stage on images, samples anchors and proposals, and runs the second stage on the
sampled proposals:

    parts = detector_parts(model)  # once; `model` is from `FasterRCNN`, or from a file of one
    anchors = parts.anchors((height, width))  # (A, 4), in the order of `objectness`
    first = parts.first_stage(images, training=True)  # {"objectness": (N, A), "deltas": (N, A, 4), "maps": [...]}
    proposals, number = parts.propose(first, images, sizes, training=True)  # (N, R, 4), (N,)
    logits, deltas = parts.second_stage(first["maps"], sampled, sizes, training=True)  # (N, S, 1 + K), (N, S, 1 + K, 4)

The offsets `deltas` of the first stage are those of `encode(objects, anchors)`, the ones of the second stage those of
`encode(objects, sampled, parts.box_weights)`. The class of index 0 is background. All outputs are float32; proposals
have no gradient. The stages take symbolic tensors of Keras, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from resnet_keras.detection.boxes import Weights
from resnet_keras.detection.context_layers import ImageBoxes
from resnet_keras.detection.region_layers import Detections, Proposals, RoIAlign
from resnet_keras.layers.keras_internals import producing_call


@dataclass(frozen=True, eq=False)
class DetectorParts:
    """The stages of a Faster R-CNN; see `detector_parts`.

    Attributes:
        network: A model of images to the outputs of the region proposal network and the maps, as lists.
        proposals: The layer that makes proposals.
        pooling: The layer that cuts regions out of maps.
        box_head: A model of what `regions` returns to classes and offsets.
        detections: The layer that makes detections.
        context: The layers that make a region of the whole image and cut it out; `None` without global context.
    """

    network: keras.Model
    proposals: Proposals
    pooling: RoIAlign
    box_head: keras.Model
    detections: Detections
    context: tuple[ImageBoxes, RoIAlign] | None = None

    @property
    def box_weights(self) -> Weights:
        """Weights of the offsets of the second stage."""
        return self.detections.box_weights

    def anchors(self, image_size: tuple[int, int]) -> np.ndarray:
        """Returns the anchors of images with their padding, those of the finest map first: float32 (A, 4).

        Args:
            image_size: Height and width of the batch in pixels.
        """
        shapes = self.network.compute_output_shape((1, *image_size, self.network.input_shape[-1]))
        return np.concatenate(self.proposals.anchors(image_size, [shape[1:3] for shape in shapes["objectness"]]))

    def first_stage(self, images: Any, *, training: bool = False) -> dict[str, Any]:
        """Returns what the region proposal network computes of images.

        Args:
            images: Normalized images (N, H, W, C).
            training: Whether batch normalization that is not frozen runs in training mode.

        Returns:
            `objectness`, logits of all anchors (N, A); `deltas`, their offsets (N, A, 4); `maps`, the maps that
            `second_stage` takes; and `objectness_maps` and `deltas_maps`, the same by maps.
        """
        found = self.network(images, training=training)
        return {
            "objectness": ops.concatenate([_flat(each) for each in found["objectness"]], axis=1),
            "deltas": ops.concatenate([_flat(each, 4) for each in found["deltas"]], axis=1),
            "maps": found["maps"],
            "objectness_maps": found["objectness"],
            "deltas_maps": found["deltas"],
        }

    def propose(self, first: dict[str, Any], images: Any, sizes: Any, *, training: bool = False) -> tuple[Any, Any]:
        """Returns proposals (N, R, 4), 0 behind the last, and how many of them count (N,).

        Args:
            first: Outputs of `first_stage`.
            images: Its images.
            sizes: Height and width of each without padding (N, 2).
            training: Whether as many proposals as in training are made.
        """
        return self.proposals(first["objectness_maps"], first["deltas_maps"], images, sizes, training=training)

    def regions(self, maps: list[Any], boxes: Any, sizes: Any = None) -> Any:
        """Returns what `box_head` takes: the parts of the maps under boxes and, for global context, whole images.

        Args:
            maps: Maps of `first_stage`.
            boxes: Boxes of each image (N, S, 4).
            sizes: Height and width of each image without padding (N, 2), for global context.

        Raises:
            ValueError: There are no sizes, and the network has global context.
        """
        regions = self.pooling(maps, boxes)
        if self.context is None:
            return regions
        if sizes is None:
            raise ValueError("Expected `sizes` with a network that has global context. Received: None")
        image_boxes, context = self.context
        return {"regions": regions, "context": context(maps, image_boxes(sizes))}

    def second_stage(
        self, maps: list[Any], boxes: Any, sizes: Any = None, *, training: bool = False
    ) -> tuple[Any, Any]:
        """Returns logits (N, S, 1 + classes) and offsets (N, S, 1 + classes, 4) of regions.

        Args:
            maps: Maps of `first_stage`.
            boxes: Boxes of each image (N, S, 4).
            sizes: Height and width of each image without padding (N, 2), for global context.
            training: Whether batch normalization that is not frozen runs in training mode.
        """
        found = self.box_head(self.regions(maps, boxes, sizes), training=training)
        count, classes = ops.shape(boxes)[1], found["logits"].shape[-1]
        logits = ops.reshape(found["logits"], (-1, count, classes))
        return logits, ops.reshape(found["deltas"], (-1, count, classes, 4))


def _flat(values: Any, *last: int) -> Any:
    """Returns the values of all anchors of a map in one row: (N, h, w, A * last) -> (N, h * w * A, last)."""
    sides = values.shape[1:]
    if None in sides:
        return ops.reshape(values, (ops.shape(values)[0], -1, *last))
    return ops.reshape(values, (-1, math.prod(sides) // math.prod(last), *last))  # of an unknown number of images


def detector_parts(model: keras.Model) -> DetectorParts:
    """Returns the stages of a Faster R-CNN, which share all layers and weights with it.

    Args:
        model: A model from `FasterRCNN`, or one that was saved and loaded.

    Raises:
        ValueError: The model is no Faster R-CNN of this package.
    """
    names = {layer.name for layer in model.layers}
    if missing := [name for name in ("proposals", "roi_align", "box_head", "detections") if name not in names]:
        raise ValueError(
            f"Expected a model from `FasterRCNN`. Received: {model.name!r}, without a layer {missing[0]!r}"
        )
    proposals, pooling = model.get_layer("proposals"), model.get_layer("roi_align")
    objectness, deltas, images, _ = producing_call(proposals.output[0]).arguments.args
    maps, _ = producing_call(pooling.output).arguments.args
    outputs = {"objectness": list(objectness), "deltas": list(deltas), "maps": list(maps)}
    network = keras.Model(images, outputs, name=f"{model.name}_first_stage")
    context = None
    if "context_align" in names:
        context = model.get_layer("image_boxes"), model.get_layer("context_align")
    last = model.get_layer("box_head"), model.get_layer("detections")
    return DetectorParts(network, proposals, pooling, *last, context)
