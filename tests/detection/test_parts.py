"""The stages of a detector for training: shapes, order, and the same numbers as the whole model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_detectors import C4, FPN, inputs, small_detector

from resnet_keras.detection import decode, detector_parts


def test_the_stages_one_after_the_other_are_the_model(detector: keras.Model) -> None:
    given, parts = inputs(), detector_parts(detector)
    first = parts.first_stage(given["images"])
    proposals, number = parts.propose(first, **given)
    logits, deltas = parts.second_stage(first["maps"], proposals)
    assert logits.shape == (2, 30, 4)
    assert deltas.shape == (2, 30, 4, 4)
    flat = np.reshape(logits, (60, 4)), np.reshape(deltas, (60, 16))
    found = parts.detections(*flat, proposals, number, given["sizes"])
    for name, value in detector(given).items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_anchors_are_in_the_order_of_their_scores(detector: keras.Model) -> None:
    given, parts = inputs(), detector_parts(detector)
    first, anchors = parts.first_stage(given["images"]), parts.anchors((64, 96))
    assert first["objectness"].shape == (2, len(anchors))
    assert first["deltas"].shape == (2, len(anchors), 4)
    best = int(np.argmax(first["objectness"][0]))
    box = np.asarray(decode(first["deltas"][0, best], anchors[best]))
    proposals, _ = parts.propose(first, **given)
    np.testing.assert_allclose(proposals[0, 0], np.clip(box, 0, [96, 64, 96, 64]), atol=1e-3)


def test_training_has_more_proposals_and_gradients_but_for_boxes(detector: keras.Model) -> None:
    given, parts = inputs(), detector_parts(detector)
    variables = detector.trainable_variables
    with tf.GradientTape() as tape:
        first = parts.first_stage(given["images"], training=True)
        proposals, _ = parts.propose(first, **given, training=True)
        logits, deltas = parts.second_stage(first["maps"], proposals, training=True)
        loss = tf.reduce_sum(logits**2) + tf.reduce_sum(deltas**2)
    assert proposals.shape == (2, FPN.proposals[0], 4)
    gradients = {variable.path: each for variable, each in zip(variables, tape.gradient(loss, variables), strict=True)}
    without = {path for path, gradient in gradients.items() if gradient is None}
    assert without == {path for path in gradients if path.startswith("rpn_")}


def test_stages_are_parts_of_other_functional_models(detector: keras.Model) -> None:
    given, parts = inputs(), detector_parts(detector)
    images, sizes = keras.Input((64, 96, 3)), keras.Input((2,), dtype="int32")
    first = parts.first_stage(images)
    proposals, number = parts.propose(first, images, sizes, training=True)
    logits, deltas = parts.second_stage(first["maps"], proposals)
    model = keras.Model([images, sizes], [first["objectness"], first["deltas"], proposals, number, logits, deltas])
    found = model([given["images"], given["sizes"]])
    assert [tuple(each.shape[1:]) for each in found] == [(1536,), (1536, 4), (50, 4), (), (50, 4), (50, 4, 4)]
    assert {weight.path for weight in model.weights} == {weight.path for weight in detector.weights}


def test_anchors_of_c4_are_nine_at_each_place() -> None:
    assert detector_parts(small_detector(C4)).anchors((64, 96)).shape == (4 * 6 * 9, 4)


def test_other_models_are_refused() -> None:
    inputs_ = keras.Input((4,))
    model = keras.Model(inputs_, keras.layers.Dense(2)(inputs_), name="dense")
    with pytest.raises(ValueError, match=r"from `FasterRCNN`. Received: 'dense', without a layer 'proposals'"):
        detector_parts(model)
