"""Views of an image, against Pillow's resizing and torchvision's crops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import slow_evaluation as slow

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.evaluation.views import PAPER_SCALES, Views

RGB = Preprocessing(image_size=(16, 16), channels=3, mean=(120, 115, 100), std=(60, 61, 62), shorter_side=18)
BGR = replace(RGB, channel_order="bgr", interpolation="bicubic")
GREY = Preprocessing(image_size=(16, 16), channels=1, mean=(100,), std=(50,))
OBLONG = replace(RGB, image_size=(10, 14), shorter_side=15)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def assert_same_views(found: tf.Tensor, image: np.ndarray, chosen: Preprocessing, views: Views, side: Any) -> None:
    """Compares views of noise, where a pixel's neighbor is 85 levels off; Pillow's own may be one or two."""
    wanted = np.stack([slow.normalized(crop, chosen) for crop in slow.crops_of(image, chosen, views, side)])
    assert found.dtype == tf.float32
    assert found.shape == wanted.shape
    assert (np.abs(found - wanted) * chosen.std).max() < 2.01


PROTOCOLS = [
    Views(),
    Views(scales=(19,)),
    Views(flip=True),
    Views(scales=(17, 23), flip=True),
    Views(crops="ten"),
    Views(crops="ten", scales=(16, 21)),
    Views(crops="full", scales=(7, 20)),
    Views(crops="full", scales=(13,), flip=True),
]


@pytest.mark.parametrize("size", [(23, 31), (37, 19), (16, 16), (5, 7), (53, 12)])
@pytest.mark.parametrize("chosen", [RGB, BGR, GREY, OBLONG], ids=["rgb", "bgr", "gray", "oblong"])
@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_views_are_those_of_pillow_and_torchvision(views: Views, chosen: Preprocessing, size: tuple[int, int]) -> None:
    image = noise(*size, chosen.channels)
    for side in views.sides(chosen):
        assert_same_views(views.of(tf.constant(image), chosen, side), image, chosen, views, side)


@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_views_of_an_image_enlarged_twice_are_exact(views: Views) -> None:
    """Bilinear weights are then quarters, whose sums Pillow's fixed point rounds as we do."""
    image, chosen = noise(13, 16), replace(RGB, image_size=(22, 22), shorter_side=26)
    views = replace(views, scales=(26,) if views.scales else ())
    for side in (None,) if views.crops != "full" else (26,):
        found = views.of(tf.constant(image), chosen, side)
        wanted = [slow.normalized(crop, chosen) for crop in slow.crops_of(image, chosen, views, side)]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_views_of_several_images_are_those_of_each(views: Views) -> None:
    images = np.stack([noise(23, 31, seed=seed) for seed in range(3)])
    for side in views.sides(RGB):
        together = views.of(tf.constant(images), RGB, side)
        assert together.shape[:2] == (3, views.count)
        for image, found in zip(images, together, strict=True):
            np.testing.assert_array_equal(found, views.of(tf.constant(image), RGB, side))


@pytest.mark.parametrize("views", PROTOCOLS, ids=str)
def test_views_are_the_same_in_a_graph_of_images_of_unknown_size(views: Views) -> None:
    image = noise(23, 31)
    for side in views.sides(RGB):
        shape = tf.TensorSpec((None, None, 3), tf.uint8)
        graph = tf.function(lambda x, side=side: views.of(x, RGB, side), input_signature=[shape])
        # A graph multiplies by 1 / std, which is a last digit off.
        np.testing.assert_allclose(graph(image), views.of(tf.constant(image), RGB, side), rtol=1e-5, atol=1e-6)
        known = (16, 16, 3) if views.crops != "full" else (None, None, 3)
        assert tuple(graph.get_concrete_function().output_shapes) == (views.count, *known)


def test_ten_crops_of_an_image_of_the_crops_size_are_five_times_the_image_and_its_mirror() -> None:
    image = noise(16, 16)
    chosen = replace(RGB, shorter_side=None)
    found = Views(crops="ten").of(tf.constant(image), chosen, None).numpy()
    mirrored = slow.normalized(image[:, ::-1], chosen)
    assert sum(np.allclose(view, slow.normalized(image, chosen), atol=1e-5) for view in found) == 5
    assert sum(np.allclose(view, mirrored, atol=1e-5) for view in found) == 5


def test_the_mirrored_center_of_ten_crops_is_torchvision_s() -> None:
    # Seven columns and a crop of four: the margin of three is odd. TenCrop mirrors the image and takes columns 2 to 5.
    columns = np.arange(7, dtype=np.float32)[None, :, None].repeat(4, 0)
    chosen = Preprocessing(image_size=(4, 4), channels=1, mean=(0,), std=(1,), shorter_side=4)
    views = Views(crops="ten").of(tf.constant(columns), chosen, None).numpy()[:, 0, :, 0]
    assert views.tolist()[5] == [4, 3, 2, 1]
    assert sorted(views.tolist()) == sorted(
        [[2, 3, 4, 5], [4, 3, 2, 1], *[[0, 1, 2, 3], [3, 4, 5, 6]] * 2] + [[6, 5, 4, 3], [3, 2, 1, 0]] * 2
    )


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    image, chosen = noise(16, 16), replace(RGB, shorter_side=None)
    np.testing.assert_allclose(
        Views().of(tf.constant(image), chosen, None)[0], slow.normalized(image, chosen), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (Views(), 1),
        (Views(flip=True), 2),
        (Views(crops="ten"), 10),
        (Views(crops="full"), 1),
        (Views(crops="full", flip=True, scales=(16, 20)), 2),
    ],
)
def test_count_is_the_number_of_views_at_each_scale(views: Views, expected: int) -> None:
    assert views.count == expected


@pytest.mark.parametrize(
    ("views", "chosen", "expected"),
    [
        (Views(), RGB, (None,)),
        (Views(crops="ten"), RGB, (None,)),
        (Views(scales=(16, 40)), RGB, (16, 40)),
        (Views(crops="full", scales=(3, 40)), RGB, (3, 40)),  # a whole image may be smaller than the crop
        (Views(crops="full"), replace(RGB, image_size=(224, 224), shorter_side=256), (224, 256, 384, 480, 640)),
        (Views(crops="full"), replace(RGB, image_size=(32, 32), shorter_side=None), (32, 37, 55, 69, 91)),
        (Views(crops="full"), OBLONG, (14, 16, 24, 30, 40)),
    ],
)
def test_scales_are_those_given_or_the_papers_in_proportion(
    views: Views, chosen: Preprocessing, expected: tuple[int | None, ...]
) -> None:
    assert views.sides(chosen) == expected


def test_the_papers_scales_are_those_of_section_3_4() -> None:
    assert PAPER_SCALES == (224, 256, 384, 480, 640)


@pytest.mark.parametrize("crops", ["center", "ten"])
@pytest.mark.parametrize(("chosen", "scales"), [(RGB, (15,)), (RGB, (30, 15, 40)), (OBLONG, (13,))])
def test_scales_below_the_crop_raise(crops: Any, chosen: Preprocessing, scales: tuple[int, ...]) -> None:
    crop = rf"\({chosen.image_size[0]}, {chosen.image_size[1]}\)"
    with pytest.raises(ValueError, match=rf"no shorter than the crop of {crop}\. Received: \({scales[0]},"):
        Views(crops=crops, scales=scales).sides(chosen)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crops": "centre"}, r"`crops` to be one of \('center', 'ten', 'full'\)\. Received: 'centre'"),
        ({"crops": None}, r"`crops` to be one of .* Received: None"),
        ({"average": "votes"}, r"`average` to be one of \('probabilities', 'logits'\)\. Received: 'votes'"),
        ({"scales": (256, 0)}, r"`scales` of positive whole numbers of pixels\. Received: \(256, 0\)"),
        ({"scales": (-1,)}, r"`scales` of positive whole numbers of pixels\. Received: \(-1,\)"),
        ({"scales": (256.0,)}, r"`scales` to be a tuple, each item an integer\. Received: \(256\.0,\)"),
        (
            {"crops": "ten", "flip": True},
            r'no `flip` with "ten", which mirrors each crop already\. Received: flip=True',
        ),
    ],
)
def test_bad_field_raises(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Views(**fields)


def test_lists_become_tuples_so_that_equal_protocols_are_equal() -> None:
    listed: Any = [256, 320]
    assert Views(scales=listed) == Views(scales=(256, 320))
    assert hash(Views(scales=listed)) == hash(Views(scales=(256, 320)))
