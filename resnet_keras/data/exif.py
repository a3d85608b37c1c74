"""Exif orientation of photographs, read from a JPEG or PNG and applied in TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from resnet_keras.data.exif_bytes import LONG, MAGIC, MOST_ENTRIES, ORIENTATION, SHORT

_HEADER_BYTES = 1 << 17  # Exif is in one of the first segments, each of at most 64 KiB
_BIG, _LITTLE = 0x4D4D, 0x4949  # TIFF 6.0, section 2
_IDAT, _EXIF = 0x49444154, 0x65584966  # PNG, third edition, §11.3.4.5
_STEPS = (  # of rows and columns of the upright image in the stored one, transposed for the last four
    *((1, 1), (1, -1), (-1, -1), (-1, 1)),
    *((1, 1), (1, -1), (-1, -1), (-1, 1)),
)
_MOST_SEGMENTS = 1000  # before Exif; only malicious files have more

# Regular expressions, of ASCII alone, take a tenth of the time of the search for segments, which few files need.
_HEAD_BYTES = 1 << 12
_CARRIES_EXIF = r"(?s)\C*(Exif\x00\x00|eXIf)\C*"
# A whole header of a baseline scan of a JPEG, in color or gray, or of a PNG's pixels, before which Exif has to be.
_PIXELS_FOLLOW = r"(?s)\C*(\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00|\x00\x08\x01\x01\x00\x00\x3f\x00|IDAT)\C*"


def turn(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns an image of Exif orientation `value` upright: (H, W, C) -> (H, W, C) or (W, H, C)."""
    transposed = tf.cond(value >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    steps = tf.gather(_STEPS, value - 1)
    result = transposed[:: steps[0], :: steps[1]]  # steps of 1 copy nothing
    result.set_shape((None, None, image.shape[-1]))
    return result


def orientation(encoded: tf.Tensor, *, saveable: bool = False) -> tf.Tensor:
    """Returns the Exif orientation of an image file, 1 (upright) to 8: bytes -> int32 (); 1 if there is none.

    Cameras store pixels in the order of the sensor, and the camera's orientation in Exif. It is 1, too, for a damaged
    header, and for other formats than JPEG and PNG.

    Args:
        encoded: The file.
        saveable: Whether the graph can be saved. Otherwise Python runs the search for a file that has Exif data, as a
            pipeline with the operations of the search takes a quarter of a second longer to start.

    Source: CIPA DC-008 (Exif 2.32), §4.6.4 and §4.7.2.
    """
    found = _found if saveable or tf.executing_eagerly() else _found_by_python
    return tf.cond(_carries_exif(encoded), lambda: found(encoded), lambda: tf.constant(1))


def _found_by_python(encoded: tf.Tensor) -> tf.Tensor:
    header = tf.strings.substr(encoded, 0, _HEADER_BYTES)
    value = tf.numpy_function(lambda content: _found(content).numpy(), [header], tf.int32, stateful=False)
    return tf.ensure_shape(value, ())


# As a call of its own: the operations of a branch take time even where it is not taken.
@tf.function(
    input_signature=[tf.TensorSpec((), tf.string)], autograph=False, experimental_attributes={"_noinline": True}
)
def _found(encoded: tf.Tensor) -> tf.Tensor:
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _HEADER_BYTES), tf.uint8), tf.int32)
    return tf.cond(tf.io.is_jpeg(encoded), lambda: _of_jpeg(data), lambda: _of_png(data))


def turned_window(corner: tf.Tensor, extent: tf.Tensor, size: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns where a window of an upright image lies in the stored one of Exif orientation `value`.

    Args:
        corner: Upper left corner, int32 (2,).
        extent: Height and width, int32 (2,).
        size: Height and width of the upright image, int32 (2,).
        value: Orientation, 1 to 8.

    Returns:
        Corner and extent in the stored image.
    """
    other = size - corner - extent  # the corner, counted from the lower right
    mirrored = tf.gather(_STEPS, value - 1) < 0
    corner = tf.where(mirrored, other, corner)
    swapped = value >= 5
    return tf.where(swapped, corner[::-1], corner), tf.where(swapped, extent[::-1], extent)


def _carries_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG or PNG may carry Exif data."""
    head = tf.strings.substr(encoded, 0, _HEAD_BYTES)

    def later() -> tf.Tensor:
        return tf.strings.regex_full_match(tf.strings.substr(encoded, 0, _HEADER_BYTES), _CARRIES_EXIF)

    def not_in_head() -> tf.Tensor:
        return tf.cond(tf.strings.regex_full_match(head, _PIXELS_FOLLOW), lambda: tf.constant(False), later)

    return tf.cond(tf.strings.regex_full_match(head, _CARRIES_EXIF), lambda: tf.constant(True), not_in_head)


def _of_png(data: tf.Tensor) -> tf.Tensor:
    def continues(at: tf.Tensor) -> tf.Tensor:
        # All chunks before the pixels have a length; anything else ends the search.
        kind = _number(data, at + 4, 4, True)
        return (kind != 0) & (kind != _IDAT) & (kind != _EXIF)

    def next_chunk(at: tf.Tensor) -> list[tf.Tensor]:
        return [at + 12 + tf.maximum(_number(data, at, 4, True), 0)]

    (at,) = tf.while_loop(continues, next_chunk, [tf.constant(8)], maximum_iterations=_MOST_SEGMENTS)
    return tf.cond(_number(data, at + 4, 4, True) == _EXIF, lambda: _of_tiff(data, at + 8), lambda: tf.constant(1))


def _of_jpeg(data: tf.Tensor) -> tf.Tensor:
    size = tf.size(data)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        name = tf.gather(data, tf.clip_by_value(at + tf.range(4, 10), 0, size - 1))
        return (_number(data, at, 2, True) == 0xFFE1) & tf.reduce_all(name == [0x45, 0x78, 0x69, 0x66, 0, 0])

    def continues(at: tf.Tensor) -> tf.Tensor:
        marker = _number(data, at, 2, True)
        # All segments before the scan (FFDA) have a length; anything else ends the search.
        return (marker >= 0xFFC0) & (marker != 0xFFDA) & (marker != 0xFFD9) & ~is_exif(at)

    def next_segment(at: tf.Tensor) -> list[tf.Tensor]:
        length = tf.maximum(_number(data, at + 2, 2, True), 2)
        # Any number of fill bytes FF may precede a marker (ITU T.81, B.1.1.2).
        return [tf.where(_number(data, at, 2, True) == 0xFFFF, at + 1, at + 2 + length)]

    (at,) = tf.while_loop(continues, next_segment, [tf.constant(2)], maximum_iterations=_MOST_SEGMENTS)
    return tf.cond(is_exif(at), lambda: _of_tiff(data, at + 10), lambda: tf.constant(1))


def _of_tiff(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    order = _number(data, start, 2, True)
    big = order == _BIG
    known = (big | (order == _LITTLE)) & (_number(data, start + 2, 2, big) == MAGIC)
    directory = start + _number(data, start + 4, 4, big)
    count = tf.minimum(_number(data, directory, 2, big), MOST_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    found = tf.boolean_mask(entries, _number(data, entries, 2, big) == ORIENTATION)
    entry = tf.concat([found, [tf.size(data)]], 0)[0]
    # Two bytes in the standard; some writers use four.
    kind = _number(data, entry + 2, 2, big)
    known &= ((kind == SHORT) | (kind == LONG)) & (_number(data, entry + 4, 4, big) == 1)
    value = tf.where(kind == LONG, _number(data, entry + 8, 4, big), _number(data, entry + 8, 2, big))
    return tf.where(known & (value >= 1) & (value <= 8), value, 1)


def _number(data: tf.Tensor, at: tf.Tensor, width: int, big: bool | tf.Tensor) -> tf.Tensor:
    """Returns the unsigned numbers of `width` bytes at the places `at`, int32; 0 where they lie outside the data."""
    places = at[..., None] + tf.range(width)
    inside = tf.reduce_all((places >= 0) & (places < tf.size(data)), -1)
    digits = tf.gather(data, tf.clip_by_value(places, 0, tf.size(data) - 1))
    digits = tf.where(big, digits, digits[..., ::-1])
    # Four bytes above 2^31 are an offset outside any header, and negative as int32, which is outside, too.
    value = tf.reduce_sum(digits * tf.bitwise.left_shift(1, 8 * tf.range(width)[::-1]), -1)
    return tf.where(inside, value, 0)
