"""Masks from scores of another size: those of TensorFlow's resizing, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.segmentation import full_size
from resnet_keras.segmentation.full_size import full_mask, largest_at


def scores(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((13, 17, 5), (40, 70)),
        ((30, 40, 3), (7, 9)),
        ((30, 40, 3), (1, 300)),
        ((8, 9, 4), (300, 1)),
        ((1, 1, 2), (50, 6)),
    ],
)
@pytest.mark.parametrize("most", [250, 10**6])
def test_the_largest_scores_are_those_of_tensorflows_resizing_in_tiles(
    shape: tuple[int, ...], size: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, held, between = scores(*shape), [], full_size._between

    def counted(*args: Any, **kwargs: Any) -> tf.Tensor:
        result = between(*args, **kwargs)
        held.append(int(tf.size(result)))
        return result

    monkeypatch.setattr(full_size, "_between", counted)
    found = largest_at(tf.constant(values), tf.constant(size), most).numpy()
    assert found.dtype == np.uint8
    expected = tf.argmax(tf.image.resize(values, size, "bilinear"), -1)
    np.testing.assert_array_equal(found, expected)
    assert max(held) <= 4 * most
    assert len(held) == 2 or most < 10**6


def test_more_classes_than_bytes_have_values_are_kept() -> None:
    values = scores(3, 4, 300)
    found = full_mask(values, (6, 7))
    assert found.dtype == np.int32 and found.max() > 255
    np.testing.assert_array_equal(found, tf.argmax(tf.image.resize(values, (6, 7), "bilinear"), -1))
    assert full_mask(values[..., :256].astype(np.float16), (6, 7)).dtype == np.uint8
