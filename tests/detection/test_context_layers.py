"""Global context: the feature of the whole image beside that of each region."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small_detectors import C4, FPN, SIZES, inputs, small_detector

from resnet_keras.detection import ImageBoxes, WithContext, detector_parts, roi_align, training_network
from resnet_keras.weights.keras_archive import open_archive


@pytest.fixture(scope="module")
def with_context() -> keras.Model:
    return small_detector(FPN.replace(global_context=True))


def test_the_feature_of_its_image_is_behind_that_of_each_region() -> None:
    regions, context = np.arange(8.0).reshape(4, 2), np.array([[10.0], [20.0]])
    found = WithContext()(regions, context)
    np.testing.assert_array_equal(found, [[0, 1, 10], [2, 3, 10], [4, 5, 20], [6, 7, 20]])
    np.testing.assert_array_equal(ImageBoxes()(np.int32([[5, 9]])), [[[0, 0, 9, 5]]])


def test_logits_are_those_of_both_features(with_context: keras.Model) -> None:
    given, parts = inputs(), detector_parts(with_context)
    first = parts.first_stage(given["images"])
    boxes = np.tile(np.float32([[[3, 4, 40, 50], [10, 2, 60, 20]]]), (2, 1, 1))
    whole = np.float32([[[0, 0, width, height]] for height, width in SIZES])
    body = parts.box_head.get_layer("box_features")
    own, shared = (
        np.asarray(body(roi_align(first["maps"], each, FPN.strides, FPN.roi_size))) for each in (boxes, whole)
    )
    last = parts.box_head.get_layer("logits")
    assert last.kernel.shape == (2 * FPN.box_units, 4)
    expected = last(np.concatenate([own, shared.repeat(2, axis=0)], -1))
    logits, _ = parts.second_stage(first["maps"], boxes, SIZES)
    np.testing.assert_allclose(np.reshape(logits, (4, 4)), expected, atol=1e-5)
    with pytest.raises(ValueError, match="Expected `sizes` with a network that has global context"):
        parts.second_stage(first["maps"], boxes)


@pytest.mark.slow
def test_training_reaches_the_layers_through_the_whole_image(with_context: keras.Model) -> None:
    parts = detector_parts(with_context)
    body = parts.box_head.get_layer("box_features")
    kernel = parts.box_head.get_layer("logits").kernel
    kept = kernel.numpy()
    kernel.assign(np.concatenate([np.zeros_like(kept[: FPN.box_units]), kept[FPN.box_units :]]))  # context alone
    network = training_network(with_context, (64, 96), most_boxes=1)
    given = inputs() | {"boxes": np.float32([[[4, 5, 60, 50]]] * 2), "labels": np.int32([[1]] * 2)}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(given, training=True)[:, 2])
    kernel.assign(kept)
    gradients = tape.gradient(loss, body.trainable_variables)
    assert all(np.abs(each).max() > 0 for each in gradients if each is not None)
    assert any(each is not None for each in gradients)


@pytest.mark.slow
@pytest.mark.parametrize("row", [FPN, C4], ids=["fpn", "c4"])
def test_a_file_holds_a_network_with_global_context(row: object, tmp_path: Path) -> None:
    model = small_detector(row.replace(global_context=True))  # type: ignore[attr-defined]
    model.save(tmp_path / "model.keras")
    expected, found = model(inputs()), open_archive(tmp_path / "model.keras")(inputs())
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)
    plain = small_detector(row)(inputs())
    assert not np.allclose(plain["scores"], expected["scores"], atol=1e-3)
