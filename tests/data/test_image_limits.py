"""Limits of what is decoded: small files that claim or hide many pixels are refused in little time and memory."""

import io
import struct
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import flat_png, jpeg_of_scans, png_of_claimed_size, png_of_hidden_size
from PIL import Image

from resnet_keras.data.augmentation import random_crop
from resnet_keras.data.image_files import MOST_PIXELS, MOST_SCANS, most_pixels
from resnet_keras.data.image_ops import decode
from resnet_keras.data.input_images import read_images
from resnet_keras.data.pillow_files import decode_with_pillow
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.settings import Augmentation
from resnet_keras.runs.process_memory import peak_memory

INPUT = Preprocessing(image_size=(8, 8), channels=3, mean=(0, 0, 0), std=(1, 1, 1))


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def decoded(file: tf.Tensor) -> tf.Tensor:
    return decode(file, 3)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def randomly_cropped(file: tf.Tensor) -> tf.Tensor:
    return random_crop(file, Augmentation(crop_area=(0.1, 1.0)), INPUT, tf.constant([0, 0], tf.int64))


def test_the_limits_are_pillows_and_ten_times_a_progressive_jpeg() -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MOST_PIXELS
    assert MOST_SCANS == 100


def test_the_environment_may_set_another_limit() -> None:
    assert most_pixels({}) == 178_956_970
    assert most_pixels({"RESNET_MOST_PIXELS": "400000000"}) == 400_000_000
    for other in ("", "0", "-1", "1e9", "many", "2147483648", "99999999999"):
        assert most_pixels({"RESNET_MOST_PIXELS": other}) == 178_956_970


@pytest.mark.parametrize("read", [decoded, randomly_cropped, lambda file: next(read_images(file.numpy(), 3))])
def test_a_small_file_of_many_pixels_or_scans_is_refused_in_little_memory(read) -> None:  # type: ignore[no-untyped-def]
    hostile = {
        "at most 178,?956,?970 pixels": png_of_claimed_size(20_000, 10_000),
        "IHDR as its first chunk|whole JPEG": png_of_hidden_size(100, 100),
        "at most 100 scans": jpeg_of_scans(101),
    }
    before = peak_memory()
    for reason, file in hostile.items():
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=reason):
            read(tf.constant(file))
    assert peak_memory() - before < 64 << 20


@pytest.mark.parametrize("read", [decoded, randomly_cropped])
def test_what_is_within_the_limits_is_decoded(read) -> None:  # type: ignore[no-untyped-def]
    for file in (jpeg_of_scans(10), jpeg_of_scans(100), flat_png(30, 20)):
        assert read(tf.constant(file)).shape[-1] == 3


def test_an_image_that_pillow_decodes_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "BMP")
    content = bytearray(file.getvalue())
    content[18:26] = struct.pack("<II", 20_000, 10_000)
    with pytest.raises(ValueError, match="one of 200,000,000 pixels, of which 178,956,970 are decoded"):
        decode_with_pillow(bytes(content), 3)


def test_a_video_behind_a_photograph_has_no_scans() -> None:
    video = np.random.default_rng(0).integers(0, 256, 2**21, np.uint8).tobytes()  # 32 times FFDA, by chance
    assert video.count(b"\xff\xda") > 20
    photo = jpeg_of_scans(10) + video * 8
    np.testing.assert_array_equal(decoded(tf.constant(photo)), decoded(tf.constant(jpeg_of_scans(10))))


@pytest.mark.slow
def test_three_thousand_mutated_files_of_all_formats_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(16)
    image = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).resize((45, 37))
    options = {"JPEG": {"exif": image.getexif()}, "PNG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {}, "AVIF": {}}
    options["progressive JPEG"] = {"format": "JPEG", "progressive": True}
    outcomes: dict[str, Counter[str]] = {}
    for name, given in options.items():
        file = io.BytesIO()
        image.save(file, **{"format": name, **given})
        whole = file.getvalue()
        outcomes[name] = Counter()
        for _ in range(375):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), rng.integers(1, 12)):
                content[place] = rng.integers(256)
            if rng.integers(4) == 0:
                del content[rng.integers(len(content)) :]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about what is damaged
                try:
                    (found,) = read_images(bytes(content), 3)
                    assert found.pixels.ndim == 3
                    outcomes[name]["read"] += 1
                except ValueError as error:
                    assert "Expected" in str(error)
                    outcomes[name]["refused"] += 1
    print(outcomes)
    assert all(sum(counts.values()) == 375 and counts["refused"] > 20 for counts in outcomes.values())
