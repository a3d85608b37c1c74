"""Formats of image files: every one is decoded as Pillow decodes it, upright, in every reader."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, features

from resnet_keras.data.evaluation_input import pixel_array
from resnet_keras.data.exif import orientation
from resnet_keras.data.image_checks import broken_images
from resnet_keras.data.image_files import FORMATS
from resnet_keras.data.image_ops import decode
from resnet_keras.data.input_images import read_images
from resnet_keras.data.opening import open_split
from resnet_keras.data.pillow_files import decode_with_pillow
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.splits import FileSplit
from resnet_keras.data.training_input import training_batches

RNG = np.random.default_rng(0)
COLOR = Image.fromarray(RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((24, 16), Image.Resampling.BICUBIC)
ALPHA = COLOR.convert("RGBA")
ALPHA.putalpha(Image.fromarray(RNG.integers(0, 256, (16, 24), dtype=np.uint8)))
PALETTE = COLOR.convert("P", palette=Image.Palette.ADAPTIVE)
SIX = Image.Exif()
SIX[0x0112] = 6  # the camera was turned to the right

WITH_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow decodes no AVIF")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


FILES = {
    "WebP": encoded(COLOR, "WEBP", quality=70),
    "lossless WebP with alpha": encoded(ALPHA, "WEBP", lossless=True),
    "animated WebP": encoded(COLOR, "WEBP", save_all=True, append_images=[ImageOps.mirror(COLOR)]),
    "turned WebP": encoded(COLOR, "WEBP", quality=70, exif=SIX.tobytes()),
    "BMP": encoded(COLOR, "BMP"),
    "BMP with a palette": encoded(PALETTE, "BMP"),
    "BMP of one bit": encoded(COLOR.convert("1"), "BMP"),
    "gray BMP": encoded(COLOR.convert("L"), "BMP"),
    "BMP with alpha": encoded(ALPHA, "BMP"),
    "GIF": encoded(PALETTE, "GIF"),
    "animated GIF": encoded(PALETTE, "GIF", save_all=True, append_images=[ImageOps.mirror(PALETTE)]),
    "GIF with transparency": encoded(PALETTE, "GIF", transparency=3),
    "TIFF": encoded(COLOR, "TIFF", compression="tiff_lzw"),
    "CMYK TIFF": encoded(COLOR.convert("CMYK"), "TIFF"),
    "turned TIFF": encoded(COLOR, "TIFF", exif=SIX.tobytes()),
    "turned PNG": encoded(COLOR, "PNG", exif=SIX.tobytes()),
    "turned JPEG": encoded(COLOR, "JPEG", exif=SIX.tobytes()),
}


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def in_a_graph(file: tf.Tensor) -> tf.Tensor:
    return decode(file, 3)


@pytest.mark.parametrize("kind", FILES)
def test_each_format_has_pillows_pixels(kind: str) -> None:
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(FILES[kind])))
    expected = upright.convert("RGBA").convert("RGB")
    pixels = in_a_graph(FILES[kind]).numpy()
    np.testing.assert_array_equal(pixels, np.asarray(expected))
    gray = decode(tf.constant(FILES[kind]), 1).numpy()
    assert gray.shape == (*pixels.shape[:2], 1)
    if "JPEG" not in kind:  # of which the luminance is taken as it is stored
        assert np.abs(gray[..., 0] - np.asarray(expected.convert("L"), int)).max() <= 1


@WITH_AVIF
def test_avif_has_pillows_pixels() -> None:
    file = encoded(COLOR, "AVIF")
    np.testing.assert_array_equal(decode(tf.constant(file), 3), np.asarray(Image.open(io.BytesIO(file)).convert("RGB")))


def test_of_16_bits_the_upper_8_count() -> None:
    pixels = RNG.integers(0, 2**16, (4, 5), dtype=np.uint16)
    for form in ("TIFF", "PNG"):
        file = encoded(Image.fromarray(pixels), form)
        np.testing.assert_array_equal(decode(tf.constant(file), 1)[..., 0], pixels >> 8, err_msg=form)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("kind", ["WebP", "BMP with a palette", "GIF", "TIFF"])
@pytest.mark.parametrize("part", [0, 10, 40, 60])
def test_a_file_that_is_cut_short_is_an_error_of_its_content(kind: str, part: int) -> None:
    for read in (lambda file: decode(tf.constant(file), 3), in_a_graph):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a whole JPEG, PNG, WebP"):
            read(FILES[kind][:part])


@pytest.mark.parametrize("value", range(1, 9))
def test_a_turned_png_has_its_orientation_read(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    file = encoded(COLOR, "PNG", exif=exif.tobytes())
    assert orientation(file) == value
    np.testing.assert_array_equal(decode(tf.constant(file), 3), ImageOps.exif_transpose(Image.open(io.BytesIO(file))))


def test_all_formats_are_read_alike_in_training_evaluation_and_prediction(tmp_path: Path) -> None:
    """The upper half is white in every image, by its pixels or by its orientation."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    lying = Image.fromarray(pixels).rotate(90)
    forms = {"JPEG": lying, "PNG": lying, "WebP": lying, "TIFF": lying}
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "b").mkdir()
    for form, suffixes in FORMATS.items():
        if form == "AVIF":  # Pillow's encoder rotates by another property
            continue
        image = forms.get(form, Image.fromarray(pixels))
        options = {"exif": SIX.tobytes()} if form in forms else {}
        for label in "ab":
            path = tmp_path / "train" / label / f"1{suffixes[-1].upper()}"
            image.save(path, form, **options)
    split = open_split("folder", "train", data_dir=tmp_path)
    assert isinstance(split, FileSplit)
    assert len(split) == 12
    assert broken_images(split) == []
    preprocessing = Preprocessing(image_size=(16, 16), channels=3, mean=(0, 0, 0), std=(1, 1, 1))
    evaluated, _ = pixel_array(split, preprocessing)
    ((trained, _),) = training_batches(split, preprocessing, batch_size=12, epochs=1).take(1)
    predicted = [image.pixels for image in read_images(split.paths, 3)]
    for images in (evaluated, trained.numpy(), predicted):
        for image in images:
            assert image[:7].mean() > 240
            assert image[9:].mean() < 15


def test_an_avif_without_its_items_is_refused() -> None:
    # Pillow raises RuntimeError for some of these.
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 200)).save(file, "AVIF")
    whole = file.getvalue()
    for name in (b"iloc", b"pitm"):
        with pytest.raises(ValueError, match="Expected a whole JPEG"):
            decode_with_pillow(whole.replace(name, b"xxxx"), 3)
