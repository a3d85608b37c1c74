"""A detector with refinements, beside the same computed step by step from its stages."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_detectors import C4, FPN, small_detector

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection import Detector, Refinements, clip_boxes, decode, detector_parts
from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.canvas import on_canvas
from resnet_keras.detection.refined import RefinedDetector
from resnet_keras.detection.refinements import combined, mirrored
from resnet_keras.surgery.cloning import clone_for_any_size

CANVAS = Preprocessing(image_size=(64, 96), channels=3, mean=(124, 116, 104), std=(58, 57, 57))
SIZE = (64, 91)  # of the image below on the canvas
PIXELS = np.random.default_rng(0).integers(0, 256, (128, 182, 3), np.uint8)


def assert_same(found: FoundBoxes, expected: FoundBoxes) -> None:
    assert len(expected.scores) > 3
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)


@pytest.fixture(scope="module")
def pets(detector: keras.Model) -> Detector:
    return Detector(detector, CANVAS, ("a", "b", "c"))


@pytest.mark.slow
def test_at_their_own_scale_detections_are_those_of_the_model(pets: Detector) -> None:
    (expected,) = pets.predict(PIXELS)
    (found,) = pets.predict(PIXELS, refinements=Refinements(scales=(64,)))
    assert_same(found, expected)


@pytest.mark.slow
def test_without_refinements_detections_on_c4_with_context_are_those_of_the_model() -> None:
    model = small_detector(C4.replace(global_context=True))
    (expected,) = Detector(model, CANVAS, ("a", "b", "c")).predict(PIXELS)
    assert_same(RefinedDetector(model, CANVAS, None, Refinements()).find(PIXELS), expected)


@pytest.mark.slow
def test_boxes_flips_and_scales_are_what_the_stages_give(pets: Detector) -> None:
    parts = detector_parts(pets.model)
    network = clone_for_any_size(parts.network)
    body = keras.Model(parts.box_head.input, parts.box_head.get_layer("logits").input)
    sizes = np.int32([SIZE])
    image = on_canvas(PIXELS, CANVAS, SIZE)[None]
    proposals, number = parts.propose(parts.first_stage(image), image, sizes)
    regions = np.asarray(proposals)[0, : int(number[0])]

    def classified(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        views = []
        for flip in (False, True):
            seen = mirrored(regions, SIZE[1]) if flip else regions
            pixels = PIXELS[:, ::-1] if flip else PIXELS
            features = []
            for factor, canvas in ((1, (64, 96)), (2, (128, 192))):
                shown = on_canvas(pixels, CANVAS.at(canvas), (SIZE[0] * factor, SIZE[1] * factor))[None]
                maps = network(shown)["maps"]
                features.append(np.asarray(body(parts.pooling(maps, tf.constant(seen[None] * factor, tf.float32)))))
            logits, deltas = (
                parts.box_head.get_layer(name)(np.maximum(*features)) for name in ("logits", "box_deltas")
            )
            offsets = tf.reshape(deltas, (-1, 4, 4))[:, 1:]
            boxes = clip_boxes(decode(offsets, seen[:, None], parts.box_weights)[None], sizes)[0].numpy()
            views.append((mirrored(boxes, SIZE[1]) if flip else boxes, tf.nn.softmax(logits).numpy()[:, 1:]))
        return sum(each[0] for each in views) / 2, sum(each[1] for each in views) / 2

    boxes, scores = classified(regions)
    best = np.stack([each[score.argmax()] for each, score in zip(boxes, scores, strict=True)])
    again = classified(best)
    union = np.concatenate([boxes, again[0]]), np.concatenate([scores, again[1]])
    expected = combined(*union, iou=0.3, least_score=FPN.least_score, count=FPN.detections, voting=True)
    expected = expected._replace(boxes=expected.boxes * np.array([182 / 91, 2, 182 / 91, 2]))
    refinements = Refinements(boxes=True, flip=True, scales=(64, 128))
    (found,) = pets.predict(PIXELS, refinements=refinements)
    assert_same(found, expected)
    (plain,) = pets.predict(PIXELS)
    assert len(plain.scores) != len(found.scores) or not np.allclose(plain.scores, found.scores, atol=1e-3)
