"""The Exif orientation of a JPEG, read and applied as Pillow does, whatever its header holds."""

import io
import struct
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from resnet_keras.data import exif as exif_module
from resnet_keras.data.exif import orientation, turn, turned_window
from resnet_keras.data.exif_bytes import orientation_of_tiff
from resnet_keras.data.image_ops import decode
from resnet_keras.data.pillow_files import turned_upright

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
FILE = tf.TensorSpec((), tf.string)
read = tf.function(partial(orientation, saveable=True), input_signature=[FILE])
read_by_python = tf.function(orientation, input_signature=[FILE])


@tf.function(input_signature=[FILE])
def upright(file: tf.Tensor) -> tf.Tensor:
    return decode(file, 3)


def encoded(form: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


PLAIN = encoded("JPEG")
SCAN = PLAIN.index(b"\xff\xda")


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(
    value: int | None, *, order: str = "<", others: int = 3, directory: int = 8, count: int | None = None, form: int = 3
) -> bytes:
    """An Exif segment whose first directory has `others` entries before the orientation, a SHORT (3) or a LONG (4)."""
    entries = [struct.pack(order + "HHIHxx", tag, 3, 1, 7) for tag in range(others)]
    if value is not None:
        entries.append(struct.pack(order + ("HHIHxx" if form == 3 else "HHII"), 0x0112, form, 1, value))
    head = struct.pack(order + "2sHI", b"MM" if order == ">" else b"II", 42, directory).ljust(min(directory, 64), b"\0")
    length = struct.pack(order + "H", len(entries) if count is None else count)
    return segment(0xE1, b"Exif\0\0" + head + length + b"".join(entries) + bytes(4))


def jpeg(*segments: bytes) -> bytes:
    return PLAIN[:2] + b"".join(segments) + PLAIN[2:]


def places(one: bytes) -> dict[str, bytes]:
    return {
        "first": jpeg(one),
        "after JFIF": PLAIN[:20] + one + PLAIN[20:],
        "after a comment": jpeg(segment(0xFE, b"\xff\xd8 no image"), one),
        "after XMP, which has the same marker": jpeg(segment(0xE1, XMP), one),
        "after a long profile": jpeg(segment(0xE2, b"ICC_PROFILE\0" + bytes(65_521)), one),
        "after an empty segment": jpeg(segment(0xE5, b""), one),
        "after the tables": PLAIN[:SCAN] + one + PLAIN[SCAN:],
        "after bytes that fill up": jpeg(b"\xff", segment(0xFE, b"hello"), b"\xff\xff\xff", one),
    }


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(value: int, order: str) -> None:
    for place, file in places(exif(value, order=order)).items():
        assert read(file) == value, place
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
        np.testing.assert_array_equal(upright(file), expected, err_msg=place)


def test_the_eight_turns_differ() -> None:
    turned = {upright(jpeg(exif(value))).numpy().tobytes() for value in range(1, 9)}
    assert len(turned) == 8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [0, 9, 255, 0x0600, 65_535, None])
def test_a_value_out_of_range_or_missing_means_upright(value: int | None, order: str) -> None:
    file = jpeg(exif(value, order=order))
    assert read(file) == 1
    np.testing.assert_array_equal(upright(file), decode(tf.constant(PLAIN), 3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_value_of_four_bytes_is_read_too(order: str) -> None:
    assert read(jpeg(exif(6, order=order, form=4))) == 6
    for value in (0, 9, 6 << 16, 1 << 31, (1 << 32) - 1):
        assert read(jpeg(exif(value, order=order, form=4))) == 1, value


def test_only_the_first_of_several_counts() -> None:
    assert read(jpeg(exif(3), exif(6))) == 3
    assert read(jpeg(exif(None), exif(6))) == 1


def test_the_directory_may_lie_anywhere_in_the_segment() -> None:
    assert read(jpeg(exif(6, directory=8))) == 6
    assert read(jpeg(exif(6, directory=50))) == 6
    assert read(jpeg(exif(6, others=0))) == 6
    assert read(jpeg(exif(6, others=0x0112))) == 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_offsets_and_counts_beyond_the_file_mean_upright(order: str) -> None:
    for directory in (1 << 16, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 31) + 8, (1 << 32) - 12, (1 << 32) - 1):
        assert read(jpeg(exif(6, order=order, directory=directory))) == 1, directory
    for count in (0, 1, 3):
        assert read(jpeg(exif(6, order=order, count=count))) == 1, count
    assert read(jpeg(exif(6, order=order, count=65_535))) == 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_header_cut_anywhere_reads_as_a_number_of_1_to_8(order: str) -> None:
    one = exif(6, order=order)
    file = jpeg(segment(0xFE, b"hello"), one)
    value_ends = file.index(one) + len(one) - 6  # padding and the next directory's offset, 4, follow
    for length in range(value_ends + 10):
        assert read(file[:length]) == (6 if length >= value_ends else 1), length


def test_damaged_headers_read_as_a_number_of_1_to_8() -> None:
    found = set()
    for seed in range(1_500):
        rng = np.random.default_rng(seed)
        header = bytearray(jpeg(segment(0xFE, b"hello"), exif(6, order="<>"[seed % 2]))[:120])
        places = rng.integers(3, len(header), rng.integers(1, 12))
        # Mostly the bytes that decide: markers, sizes at their ends, the tag.
        values = rng.choice([0x00, 0x01, 0x06, 0x12, 0x7F, 0x80, 0xE1, 0xFF, *rng.integers(0, 256, 4)], len(places))
        for place, value in zip(places, values, strict=True):
            header[place] = value
        found.add(int(read(bytes(header))))
    assert found <= set(range(1, 9))
    assert {1, 6} <= found


def test_noise_behind_the_first_bytes_of_a_jpeg_reads_as_a_number_of_1_to_8() -> None:
    for seed in range(300):
        rng = np.random.default_rng(seed)
        assert 1 <= read(b"\xff\xd8\xff" + rng.bytes(rng.integers(0, 200))) <= 8
    for length in (0, 1):  # a segment's length counts its own two bytes
        assert read(jpeg(struct.pack(">HH", 0xFFE0, length) * 50, exif(6))) in range(1, 9)


def test_the_longest_headers_are_read_in_no_long_time() -> None:
    start = time.perf_counter()
    assert 1 <= read(jpeg(segment(0xE0, b"") * 30_000, exif(6))) <= 8
    for length in range(20):
        assert read(PLAIN[:2] + b"\xff" * length) == 1
    assert time.perf_counter() - start < 15  # a tenth of it is usual


def test_nothing_behind_the_scan_is_taken_for_a_header() -> None:
    assert read(PLAIN + exif(6)) == 1
    assert read(PLAIN[:SCAN] + segment(0xDA, b"\x01") + exif(6) + PLAIN[SCAN:]) == 1
    assert read(PLAIN[:2] + segment(0xD9, b"") + exif(6)) == 1


def test_what_is_neither_jpeg_nor_png_is_upright() -> None:
    about = Image.Exif()
    about[0x0112] = 6
    for file in (encoded("PNG"), encoded("WEBP", exif=about), encoded("GIF"), encoded("BMP")):
        assert read(file) == 1
        np.testing.assert_array_equal(upright(file), decode(tf.constant(file), 3))
    for file in (b"", b"\xff", b"\xff\xd8", b"II*\0", exif(6)):
        assert read(file) == 1


def test_the_number_of_channels_is_known() -> None:
    for channels in (1, 3):
        image = tf.zeros((2, 5, channels))

        @tf.function(input_signature=[FILE])
        def turned(file: tf.Tensor, image: tf.Tensor = image, channels: int = channels) -> tf.Tensor:
            result = turn(image, orientation(file))
            assert result.shape.as_list() == [None, None, channels]
            return result

        assert turned(jpeg(exif(6))).shape == (5, 2, channels)
        assert turned(PLAIN).shape == (2, 5, channels)


@pytest.mark.parametrize("value", range(1, 9))
def test_a_window_of_the_upright_image_is_found_in_the_stored_one(value: int) -> None:
    stored = np.arange(5 * 7).reshape(5, 7, 1)
    upright = turn(tf.constant(stored), tf.constant(value)).numpy()
    corner, extent = turned_window(tf.constant([1, 2]), tf.constant([3, 2]), tf.shape(upright)[:2], tf.constant(value))
    (top, left), (height, width) = corner.numpy(), extent.numpy()
    part = turn(tf.constant(stored[top : top + height, left : left + width]), tf.constant(value))
    np.testing.assert_array_equal(part, upright[1:4, 2:4])


def test_pipelines_and_saved_graphs_find_the_same_orientation() -> None:
    files = [jpeg(exif(value, order=order)) for value in range(1, 9) for order in ("<", ">")]
    rng = np.random.default_rng(1)
    for file in files[:]:
        damaged = bytearray(file)
        damaged[rng.integers(2, 60)] = rng.integers(256)
        files.append(bytes(damaged))
    files.append(jpeg(exif(6)) + b"\0\0")
    found = [int(read_by_python(file)) for file in files]
    assert found == [int(read(file)) for file in files] == [int(orientation(tf.constant(file))) for file in files]
    assert found[:16:2] == list(range(1, 9))


def test_only_files_that_carry_exif_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[bytes] = []
    monkeypatch.setattr(exif_module, "_found", lambda file: searched.append(file.numpy()) or tf.constant(1))
    for file in (PLAIN, encoded("JPEG", progressive=True), encoded("JPEG", subsampling=0), encoded("PNG")):
        assert orientation(tf.constant(file)) == 1
    assert searched == []
    for file in (jpeg(exif(1)), jpeg(segment(0xE2, b"ICC_PROFILE" + bytes(9000)), exif(1))):
        orientation(tf.constant(file))
        assert searched.pop() == file


def damaged(one: bytes, seed: int) -> bytes:
    """An Exif segment with other bytes among those of its header and directory."""
    rng = np.random.default_rng(seed)
    content = bytearray(one)
    for place in rng.integers(10, len(content), rng.integers(1, 6)):
        content[place] = rng.choice([0x00, 0x01, 0x03, 0x04, 0x06, 0x12, 0x2A, 0x49, 0x4D, 0xFF])
    return bytes(content)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_header_without_tiff_s_magic_or_with_another_type_or_count_means_upright(order: str) -> None:
    one = bytearray(exif(6, order=order, others=0))
    magic, entry = 10, 4 + 6 + 8 + 2  # after marker, length and name; after the TIFF header and the number of entries
    assert read(jpeg(bytes(one))) == orientation_of_tiff(bytes(one[4:])) == 6
    low = 0 if order == "<" else 1
    for place, value in (
        *((magic, ord("X")), (magic + 2 + low, 43), (magic + 2 + 1 - low, 1)),
        *((entry + 2 + low, kind) for kind in (0, 1, 2, 5, 6, 8, 9, 12, 255)),
        *((entry + 4 + (0 if order == "<" else 3), count) for count in (0, 2, 255)),
    ):
        changed = one.copy()
        changed[place] = value
        assert read(jpeg(bytes(changed))) == orientation_of_tiff(bytes(changed[4:])) == 1, (place, value)


def test_damaged_exif_data_is_read_alike_in_tensorflow_in_python_and_by_pillow() -> None:
    found = Counter[int]()
    for seed in range(250):
        one = damaged(exif(6, order="<>"[seed % 2]), seed)
        value = orientation_of_tiff(one[4:])
        assert int(read(jpeg(one))) == value
        image = Image.open(io.BytesIO(encoded("WEBP", exif=one[10:])))
        assert (turned_upright(image).size == (24, 40)) == (value >= 5)
        found[value] += 1
    assert found[1] > 40 and found[6] > 40
