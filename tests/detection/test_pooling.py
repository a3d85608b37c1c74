"""RoIAlign: its two forms, alignment, levels, and gradient; values of torchvision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers.torchvision_boxes import STRIDES, drawn_boxes

from resnet_keras.detection.pooling import box_levels, portable_operations, roi_align

FORMS = pytest.mark.parametrize("form", ["crop", "gather"])
RAMP = np.broadcast_to(np.arange(8, dtype=np.float32)[None, :, None, None], (1, 8, 8, 1))  # each pixel is its row


@FORMS
@pytest.mark.parametrize(("aligned", "expected"), [(False, [1.0, 3.0]), (True, [0.5, 2.5])])
def test_cells_hold_the_mean_of_samples_between_points_or_centers(
    form: Any, aligned: bool, expected: list[float]
) -> None:
    # The box has rows 0 to 4 of a map of stride 2: two cells of two rows.
    found = roi_align([RAMP], np.float32([[[0, 0, 8, 8]]]), [2], 2, aligned=aligned, form=form)
    np.testing.assert_allclose(np.asarray(found)[0, :, 0, 0], expected, atol=1e-6)


@FORMS
def test_samples_far_outside_are_0_and_near_ones_are_the_border(form: Any) -> None:
    # Rows 7 to 11, one sample each: 7.5 and 8 see the last row, 7; what is beyond 8 is 0.
    found = roi_align([RAMP], np.float32([[[0, 7, 4, 11]]]), [1], 4, samples=1, form=form)
    np.testing.assert_allclose(np.asarray(found)[0, :, 0, 0], [7, 0, 0, 0], atol=1e-5)


def test_a_box_of_224_pixels_is_cut_out_of_the_map_of_stride_16() -> None:
    sides = [0, 1, 111, 112, 223, 224, 447, 448, 5000]
    boxes = np.float32([[0, 0, side, side] for side in sides])
    np.testing.assert_array_equal(box_levels(boxes, STRIDES), [0, 0, 0, 1, 1, 2, 2, 3, 3])


def test_both_forms_have_the_same_numbers_and_the_same_gradient() -> None:
    given = drawn_boxes()
    maps = [tf.constant(given[f"map{i}"]) for i in range(4)]
    results = {}
    for form in ("crop", "gather"):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = roi_align(maps, tf.constant(given["rois"]), STRIDES, 4, form=form)  # type: ignore[arg-type]
            loss = tf.reduce_sum(pooled**2)
        results[form] = [pooled, *tape.gradient(loss, maps)]
    for one, other in zip(*results.values(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(np.asarray(other)).max())


def test_the_gradient_of_training_is_the_same_each_time() -> None:
    random = np.random.default_rng(0)
    maps = [tf.constant(random.normal(size=(2, side, side, 64)).astype(np.float32)) for side in (64, 32)]
    corner = random.uniform(0, 180, (2, 64, 2))
    boxes = np.concatenate([corner, corner + random.uniform(4, 120, (2, 64, 2))], -1).astype(np.float32)

    @tf.function(autograph=False)
    def gradients(deterministic: bool) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            found = roi_align(maps, boxes, [4, 8], 7, form="crop", deterministic=deterministic)
            loss = tf.reduce_sum(tf.sin(found))
        return tape.gradient(loss, maps)

    first = gradients(True)
    for _ in range(10):
        for each, again in zip(first, gradients(True), strict=True):
            np.testing.assert_array_equal(each, again)
    for each, fast in zip(first, gradients(False), strict=True):
        np.testing.assert_allclose(each, fast, atol=2e-4)


def test_graphs_for_litert_have_no_operation_beyond_it() -> None:
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 2)), tf.TensorSpec((1, 3, 4))])
    def pooled(feature: Any, boxes: Any) -> Any:
        return roi_align([feature, feature[:, ::2, ::2]], boxes, [4, 8], 2)

    with portable_operations():
        types = {operation.type for operation in pooled.get_concrete_function().graph.get_operations()}
    assert "GatherV2" in types
    assert types.isdisjoint({"CropAndResize", "DynamicPartition"})


@FORMS
def test_numbers_are_torchvisions(form: Any, theirs: Any) -> None:
    given, found = theirs
    maps = [given[f"map{i}"] for i in range(4)]
    for size, samples in ((7, 2), (3, 1)):
        pooled = roi_align(maps, given["rois"], STRIDES, size, samples=samples, form=form)
        np.testing.assert_allclose(pooled, found[f"pooled_{size}_{samples}"], atol=1e-4)
    for aligned in (False, True):
        pooled = roi_align([maps[2]], given["rois"], [16], 14, aligned=aligned, form=form)
        np.testing.assert_allclose(pooled, found[f"pooled_c4_{aligned}"], atol=1e-4)
