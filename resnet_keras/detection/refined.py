"""The stages of a detector, run image by image with the refinements of arXiv:1512.03385, appendix B."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.boxes import clip_boxes, decode, has_sides
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.parts import detector_parts
from resnet_keras.detection.refinements import UNION_IOU, Refinements, adjacent_scales, combined, mirrored
from resnet_keras.networks.blocks import HEAD
from resnet_keras.surgery.cloning import clone_for_any_size
from resnet_keras.weights.dense_heads import BOX_OFFSETS

_STRIDE = 32  # maps of a pyramid fit each other on canvases of its multiples
_LEAST_SIDE = 0.01  # pixels of a detection, as in `Detections`


class RefinedDetector:
    """A Faster R-CNN with refinements of its detections, for one image at a time.

    Without any, its detections are those of the model.

    Args:
        model: A model from `FasterRCNN`, or from a file of one.
        preprocessing: Canvas and normalization; see `Detector`.
        fit: See `Detector`.
        refinements: What is added.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        fit: tuple[int, int] | None,
        refinements: Refinements,
    ) -> None:
        self.refinements = refinements
        self._preprocessing, self._fit = preprocessing, fit
        self._parts = detector_parts(model)
        network, head = clone_for_any_size(self._parts.network), self._parts.box_head
        body = keras.Model(head.input, head.get_layer(HEAD).input)
        outputs = [head.get_layer(name) for name in (HEAD, BOX_OFFSETS)]
        self._first = tf.function(
            lambda images: network(images, training=False), autograph=False, reduce_retracing=True
        )
        self._features = tf.function(
            lambda maps, boxes, sizes: body(self._parts.regions(maps, boxes, sizes), training=False),
            autograph=False,
            reduce_retracing=True,
        )
        self._outputs = lambda features: [layer(features) for layer in outputs]
        self._classes = outputs[0].units - 1

    def find(self, pixels: np.ndarray) -> FoundBoxes:
        """Returns the objects in an image, in its pixels, the best first.

        Args:
            pixels: RGB or gray, 0–255 (H, W, C).
        """
        full = np.array(pixels.shape[:2])
        canvas = self._preprocessing.image_size
        size = resized_size(tf.constant(full, tf.int32), canvas, self._fit).numpy()
        own = self._first(on_canvas(pixels, self._preprocessing, tf.constant(size))[None])
        given = tf.zeros((1, *canvas, 1)), tf.constant(size[None])
        proposals, number = self._parts.proposals(own["objectness"], own["deltas"], *given, training=False)
        regions = proposals.numpy()[0, : int(number[0])]
        views = _Views(self, pixels, size, own["maps"])
        boxes, scores = views.classified(regions)
        detections = self._parts.detections
        iou = detections.iou
        if self.refinements.boxes:
            iou = UNION_IOU
            best = boxes[np.arange(len(boxes)), scores.argmax(-1)]
            again = views.classified(best[np.asarray(has_sides(best, _LEAST_SIDE))])
            boxes, scores = np.concatenate([boxes, again[0]]), np.concatenate([scores, again[1]])
        found = combined(
            boxes,
            np.where(has_sides(boxes, _LEAST_SIDE), scores, -1.0),
            iou=iou,
            least_score=detections.least_score,
            count=detections.count,
            voting=self.refinements.boxes,
        )
        return FoundBoxes(found.boxes * np.tile(full / size, 2)[[1, 0, 1, 0]], found.scores, found.labels)

    def _maps(self, pixels: np.ndarray, size: np.ndarray) -> Any:
        """Returns the maps of an image that is resized to `size`, on the smallest canvas."""
        height, width = (-(-int(side) // _STRIDE) * _STRIDE for side in size)
        preprocessing = self._preprocessing.at((height, width))
        return self._first(on_canvas(pixels, preprocessing, tf.constant(size, tf.int32))[None])["maps"]


class _Views:
    """The maps of an image at the scales, and of its mirror image."""

    def __init__(self, detector: RefinedDetector, pixels: np.ndarray, size: np.ndarray, own_maps: Any) -> None:
        self._detector, self._size = detector, size
        fit, canvas = detector._fit, detector._preprocessing.image_size
        own = fit[0] if fit else min(canvas)
        self._own, scales = own, detector.refinements.scales or (own,)
        self._sizes = [np.maximum(size * scale // own, 1) for scale in scales]
        self._maps = []
        for flip in (False, True)[: 1 + detector.refinements.flip]:
            shown = pixels[:, ::-1] if flip else pixels
            self._maps.append(
                [
                    own_maps if scale == own and not flip else detector._maps(shown, each)
                    for scale, each in zip(scales, self._sizes, strict=True)
                ]
            )

    def classified(self, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns boxes (R, K, 4) and scores (R, K) of regions (R, 4), means over the image and its mirror image."""
        detections, width = self._detector._parts.detections, float(self._size[1])
        if not len(regions):
            return np.zeros((0, self._detector._classes, 4)), np.zeros((0, self._detector._classes))
        found = []
        for flip, maps in enumerate(self._maps):
            seen = mirrored(regions, width) if flip else regions
            logits, deltas = self._detector._outputs(self._features(maps, seen))
            offsets = tf.reshape(deltas, (-1, logits.shape[-1], 4))[:, 1:]
            boxes = clip_boxes(decode(offsets, seen[:, None], detections.box_weights)[None], self._size[None])[
                0
            ].numpy()
            scores = tf.nn.softmax(logits).numpy()[:, 1:]
            found.append((mirrored(boxes, width) if flip else boxes, scores))
        boxes, scores = (np.mean(each, axis=0) for each in zip(*found, strict=True))
        return boxes, scores

    def _features(self, maps: list[Any], regions: np.ndarray) -> tf.Tensor:
        """Returns the features of regions at their two scales, the larger one of each (R, F)."""
        factors = np.array([each / self._size for each in self._sizes])  # scales, height and width
        lower = adjacent_scales(regions, factors.mean(-1), self._own)
        features = None
        for scale, (each, factor, size) in enumerate(zip(maps, factors, self._sizes, strict=True)):
            rows = np.flatnonzero((lower == scale) | (lower == scale - 1) & (len(maps) > 1))
            if not rows.size:
                continue
            scaled = (regions[rows] * np.tile(factor[::-1], 2)).astype(np.float32)
            own = self._detector._features(each, tf.constant(scaled[None]), tf.constant(size[None], tf.int32)).numpy()
            if features is None:
                features = np.full((len(regions), own.shape[-1]), -np.inf, np.float32)
            features[rows] = np.maximum(features[rows], own)
        return tf.constant(features)
