"""The object that says what pixels go through: its fields, its sizes, and that it is data alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from resnet_keras.data.preprocessing import Preprocessing

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
GREY = {"channels": 1, "mean": (100,), "std": (50,)}


def preprocessing(**fields: Any) -> Preprocessing:
    return Preprocessing(**{"image_size": (64, 64), "channels": 3, "mean": MEAN, "std": STD, **fields})


def imagenet(side: int = 224, shorter_side: int | None = None, **fields: Any) -> Preprocessing:
    return preprocessing(image_size=(side, side), shorter_side=shorter_side, **fields)


# Fields ------------------------------------------------------------------------------------------------------------


def test_pixels_are_rgb_and_resized_bilinearly_if_nothing_else_is_said() -> None:
    assert (preprocessing().interpolation, preprocessing().channel_order) == ("bilinear", "rgb")
    assert preprocessing().shorter_side is None


@pytest.mark.parametrize("number", [int, np.int64, np.float32, np.float64])
def test_mean_and_std_may_be_numbers_of_any_type(number: Callable[[int], Any]) -> None:
    chosen = preprocessing(mean=map(number, (1, 3, 5)), std=[number(value) for value in (1, 2, 4)])
    assert chosen == preprocessing(mean=(1.0, 3.0, 5.0), std=(1.0, 2.0, 4.0))
    assert {type(value) for value in chosen.mean + chosen.std} == {float}


def test_the_size_of_images_may_be_an_array() -> None:
    assert preprocessing(image_size=np.array([48, 64])) == preprocessing(image_size=(48, 64))


def test_fields_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError, match="shorter_side"):
        preprocessing().shorter_side = 72  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 2, "mean": (1, 2), "std": (1, 2)}, r"`channels` of 1 or 3\. Received: 2"),
        ({"channels": 0, "mean": (), "std": ()}, r"`channels` of 1 or 3\. Received: 0"),
        ({"mean": (1.0, float("nan"), 2.0)}, r"`mean` of finite numbers\. Received: "),
        ({"std": (1.0, float("inf"), 2.0)}, r"`std` of finite numbers\. Received: "),
        ({"shorter_side": 72.5}, r"whole pixels for `shorter_side`\. Received: 72\.5"),
        ({"image_size": (64.9, 64)}, r"whole pixels for `image_size`.*Received: \(64\.9, 64\)"),
        ({"image_size": 64}, r"whole pixels for `image_size`.*Received: 64"),
        ({"image_size": ()}, r"`image_size` of a height and a width above 0\. Received: \(\)"),
        ({"image_size": (64,)}, r"`image_size` of a height and a width above 0\. Received: \(64,\)"),
        ({"image_size": (64, 64, 3)}, r"`image_size` of a height and a width above 0\. Received: \(64, 64, 3\)"),
        ({"image_size": (0, 64)}, r"`image_size` of a height and a width above 0\. Received: \(0, 64\)"),
        ({"image_size": (64, -1)}, r"`image_size` of a height and a width above 0\. Received: \(64, -1\)"),
        ({"mean": (1.0, 2.0)}, r"one mean and one std per channel \(3\)\. Received: mean=\(1\.0, 2\.0\), std=\(58"),
        ({"std": (1.0, 2.0, 3.0, 4.0)}, r"per channel \(3\)\. Received: .*std=\(1\.0, 2\.0, 3\.0, 4\.0\)"),
        ({"channels": 1}, r"one mean and one std per channel \(1\)\. Received: mean=\(123\.675, 116\.28, 103\.53\)"),
        ({"std": (1.0, 0.0, 1.0)}, r"`std` above 0\. Received: \(1\.0, 0\.0, 1\.0\)"),
        ({"std": (1.0, -2.0, 1.0)}, r"`std` above 0\. Received: \(1\.0, -2\.0, 1\.0\)"),
        ({"shorter_side": 0}, r"`shorter_side` to be no shorter than the crop, \(64, 64\)\. Received: 0"),
        ({"shorter_side": 63}, r"`shorter_side` to be no shorter than the crop, \(64, 64\)\. Received: 63"),
        ({"image_size": (32, 64), "shorter_side": 63}, r"no shorter than the crop, \(32, 64\)\. Received: 63"),
        ({"image_size": (64, 32), "shorter_side": 63}, r"no shorter than the crop, \(64, 32\)\. Received: 63"),
        ({"interpolation": "nearest"}, r"`interpolation` .*one of \('bilinear', 'bicubic'\)\. Received: 'nearest'"),
        ({"interpolation": None}, r"`interpolation` .*one of \('bilinear', 'bicubic'\)\. Received: None"),
        ({"channel_order": "BGR"}, r"`channel_order` .*one of \('rgb', 'bgr'\)\. Received: 'BGR'"),
        ({**GREY, "channel_order": "bgr"}, r'3 channels in the order "bgr"\. Received: 1'),
    ],
)
def test_wrong_fields_raise_with_what_was_received(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        preprocessing(**fields)


# Sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shorter_side", "ratio"),
    [((224, 224), 256, 0.875), ((60, 90), 100, 0.9), ((90, 60), 100, 0.9), ((64, 64), 64, 1), ((64, 48), None, 1)],
)
def test_the_crop_ratio_is_the_longer_side_of_the_crop_over_the_shorter_of_the_image(
    size: tuple[int, int], shorter_side: int | None, ratio: float
) -> None:
    assert preprocessing(image_size=size, shorter_side=shorter_side).crop_ratio == ratio


@pytest.mark.parametrize(
    ("side", "ratio", "wanted"),
    [
        (224, 0.875, 256),
        (224, 0.9, 248),
        (224, 0.95, 235),
        (224, 1, 224),
        (224, 224 / 232, 232),
        (288, 0.95, 303),
        (299, 0.897, 333),
        (320, 0.875, 365),
        ((60, 90), 0.9, 100),
        ((90, 60), 0.9, 100),
    ],
)
@pytest.mark.parametrize("before", [None, 72])
def test_at_a_crop_ratio_the_image_is_as_large_as_timm_makes_it(
    side: int | tuple[int, int], ratio: float, wanted: int, before: int | None
) -> None:
    found = preprocessing(shorter_side=before).at(side, ratio)
    assert found.shorter_side == wanted
    assert found.image_size == (side if isinstance(side, tuple) else (side, side))


@pytest.mark.parametrize(
    ("shorter_side", "side", "wanted"), [(256, 320, 365), (256, 448, 512), (232, 448, 464), (224, 288, 288)]
)
def test_at_another_size_the_crop_ratio_stays(shorter_side: int, side: int, wanted: int) -> None:
    assert imagenet(224, shorter_side).at(side) == imagenet(side, wanted)


@pytest.mark.parametrize("side", [32, 224, 299])
def test_at_its_own_size_it_is_what_it_was(side: int) -> None:
    for shorter_side in range(side, 2 * side):
        chosen = imagenet(side, shorter_side)
        assert chosen.at(side) == chosen
        assert chosen.at(side, chosen.crop_ratio) == chosen


def test_without_a_shorter_side_it_has_none_at_another_size() -> None:
    assert preprocessing().at(224) == preprocessing(image_size=(224, 224))
    assert preprocessing().at((48, 64)) == preprocessing(image_size=(48, 64))


def test_at_another_size_all_else_stays() -> None:
    chosen = imagenet(224, 256, interpolation="bicubic", channel_order="bgr")
    assert chosen.at(288, 0.95) == replace(chosen, image_size=(288, 288), shorter_side=303)
    assert chosen == imagenet(224, 256, interpolation="bicubic", channel_order="bgr")


@pytest.mark.parametrize("ratio", [0, -0.5, 1.001, 87.5, float("nan")])
def test_a_crop_ratio_out_of_its_range_raises(ratio: float) -> None:
    with pytest.raises(ValueError, match=rf"`crop_ratio` in \(0, 1\]\. Received: {ratio}"):
        preprocessing().at(224, ratio)


@pytest.mark.parametrize("shorter_side", [None, 72])
def test_a_size_of_no_pixels_raises(shorter_side: int | None) -> None:
    with pytest.raises(ValueError, match=r"`image_size` .*Received: \(0, 0\)"):
        preprocessing(shorter_side=shorter_side).at(0)


# Data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{}, {"shorter_side": 64}, {"shorter_side": 72, "interpolation": "bicubic", "channel_order": "bgr"}, GREY],
)
def test_it_survives_json(fields: dict[str, Any]) -> None:
    chosen = preprocessing(**fields)
    again = Preprocessing(**json.loads(json.dumps(chosen.to_json())))
    assert again == chosen
    assert hash(again) == hash(chosen)  # which lists instead of tuples would not have


def test_json_names_every_field() -> None:
    assert preprocessing(shorter_side=72, interpolation="bicubic", channel_order="bgr").to_json() == {
        "image_size": (64, 64),
        "channels": 3,
        "mean": MEAN,
        "std": STD,
        "shorter_side": 72,
        "interpolation": "bicubic",
        "channel_order": "bgr",
    }


def test_json_of_before_interpolations_and_channel_orders_is_read() -> None:
    saved = '{"image_size": [224, 224], "channels": 3, "mean": [1, 2, 3], "std": [4, 5, 6], "shorter_side": 256}'
    assert Preprocessing(**json.loads(saved)) == imagenet(224, 256, mean=(1, 2, 3), std=(4, 5, 6))


def test_it_needs_neither_tensorflow_nor_keras() -> None:
    code = (
        "import sys\n"
        "from resnet_keras.data.preprocessing import Preprocessing\n"
        "Preprocessing(image_size=(8, 8), channels=1, mean=(0,), std=(1,)).at(16, 0.875)\n"
        "heavy = {'keras', 'tensorflow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
