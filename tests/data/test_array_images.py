"""Images decoded and cropped without TensorFlow: the same pixels, bit for bit, as with it."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from resnet_keras.data.array_images import crop_array, decode_array, read_cropped
from resnet_keras.data.image_ops import crop, decode
from resnet_keras.data.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
COLOR = Image.fromarray(RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)).resize((53, 37), Image.Resampling.BICUBIC)
ALPHA = COLOR.convert("RGBA")
ALPHA.putalpha(77)
SIX = Image.Exif()
SIX[0x0112] = 6  # the camera was turned to the right


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


FILES = {
    "JPEG": encoded(COLOR, "JPEG"),
    "progressive JPEG": encoded(COLOR, "JPEG", progressive=True),
    "turned JPEG": encoded(COLOR, "JPEG", exif=SIX.tobytes()),
    "gray JPEG": encoded(COLOR.convert("L"), "JPEG"),
    "CMYK JPEG": encoded(COLOR.convert("CMYK"), "JPEG"),
    "PNG": encoded(COLOR, "PNG"),
    "turned PNG": encoded(COLOR, "PNG", exif=SIX.tobytes()),
    "PNG with a palette": encoded(COLOR.convert("P"), "PNG", transparency=3),
    "PNG with alpha": encoded(ALPHA, "PNG"),
    "gray PNG with alpha": encoded(ALPHA.convert("LA"), "PNG"),
    "PNG of one bit": encoded(COLOR.convert("1"), "PNG"),
    "PNG of 16 bits": encoded(Image.fromarray(RNG.integers(0, 2**16, (37, 53)).astype(np.uint16)), "PNG"),
    "WebP": encoded(COLOR, "WEBP"),
    "GIF": encoded(COLOR.convert("P"), "GIF"),
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("kind", FILES)
def test_each_format_has_tensorflows_pixels(kind: str, channels: int) -> None:
    if (kind, channels) == ("CMYK JPEG", 1):
        pytest.skip("neither decodes it: there is no luminance in it")
    expected = decode(tf.constant(FILES[kind]), channels).numpy()
    np.testing.assert_array_equal(decode_array(FILES[kind], channels), expected)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("sides", "size", "shorter_side"),
    [
        ((50, 37), (24, 20), 28),
        ((37, 50), (24, 20), None),
        ((9, 7), (31, 40), 45),
        ((32, 32), (32, 32), None),
        ((5, 400), (16, 16), 18),  # so long that it is rounded once
        ((400, 5), (16, 16), None),
        ((1, 1), (3, 3), None),
    ],
)
def test_crops_are_those_of_tensorflow(
    sides: tuple[int, int], size: tuple[int, int], shorter_side: int | None, method: str
) -> None:
    pixels = RNG.integers(0, 256, (*sides, 3), dtype=np.uint8)
    preprocessing = Preprocessing(
        image_size=size, channels=3, mean=(0,) * 3, std=(1,) * 3, shorter_side=shorter_side, interpolation=method
    )
    np.testing.assert_array_equal(crop_array(pixels, preprocessing), np.asarray(crop(pixels, preprocessing)))


def test_what_is_no_image_is_refused_by_name(tmp_path) -> None:
    gray = Preprocessing(image_size=(8, 8), channels=1, mean=(0,), std=(1,))
    for name, content in {
        "text": b"hello",
        "half": FILES["JPEG"][:600],
        "half.png": FILES["PNG"][:200],
        "cmyk": FILES["CMYK JPEG"],
        "scans": b"\xff\xd8\xff" + b"\xff\xda\x00" * 101,
        # of 2^31 pixels a side, by its header
        "huge.png": FILES["PNG"][:16] + b"\x7f\xff\xff\xff" * 2 + FILES["PNG"][24:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"Expected .*Received: .*{name}"):
            read_cropped(tmp_path / name, gray)
