"""Pixels and orientation of image files, or why they cannot be read.

Files are scalar strings, the bytes of a JPEG, PNG, GIF, BMP or WebP file. Alpha
is ignored: the colors of transparent pixels count. Files that would be misread,
and those of too many pixels, raise `tf.errors.InvalidArgumentError`.
"""

from functools import partial

import tensorflow as tf

# TensorFlow's default method is a few percent faster, and a gray level too dark
# in red and blue.
JPEG_OPTIONS = {"channels": 3, "dct_method": "INTEGER_ACCURATE"}

# Functions of a file with many branches, traced once for all pipelines.
_FILE = [tf.TensorSpec([], tf.string)]
_EXIF = "Exif\0\0"
# Where they are sought: segments have up to 64 KB [bytes].
_EXIF_REACH = 1 << 16
_ORIENTATION, _SHORT = 0x0112, 3  # A tag and a type of EXIF.
_HEADER = 66  # What is looked at [bytes].
# Of red, green and blue in a BMP file of 32 bits.
_USUAL_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"


@tf.function(input_signature=[*_FILE, tf.TensorSpec([], tf.int64)])
def decode_image(encoded: tf.Tensor, max_pixels: tf.Tensor) -> tf.Tensor:
    """Decodes a file to uint8 (height, width, 3), RGB, as it is stored.

    Of an animation it decodes the first frame. A file of more than `max_pixels`
    is refused by its header.
    """
    # Zeros stand for what is missing.
    header = tf.strings.substr(encoded, 0, _HEADER) + "\0" * _HEADER

    def starts_with(magic):
        return tf.strings.substr(header, 0, len(magic)) == magic

    def decode_jpeg():
        shape = tf.image.extract_jpeg_shape(encoded)
        small = limit(encoded, shape, max_pixels)
        return tf.io.decode_jpeg(small, **JPEG_OPTIONS)

    def reject():
        nothing = tf.zeros((0, 0, 3), tf.uint8)
        is_empty = tf.strings.length(encoded) == 0
        nothing = require(~is_empty, nothing, "Empty file")
        return require(
            False,
            nothing,
            "Unknown image file format; convert it to JPEG or PNG",
        )

    is_format = [
        tf.io.is_jpeg(encoded),
        *map(starts_with, (b"\x89PNG", b"GIF8", b"BM", b"RIFF")),
        True,
    ]
    decoders = [
        decode_jpeg,
        *(
            partial(decode, encoded, header, max_pixels)
            for decode in (_decode_png, _decode_gif, _decode_bmp, _decode_webp)
        ),
        reject,
    ]
    # Not `tf.case`, nested conditions that take seconds to optimize.
    return tf.switch_case(tf.argmax(is_format, output_type=tf.int32), decoders)


def _decode_png(encoded, header, max_pixels):
    width, height = _read(header, 16, 2, tf.int32, little_endian=False)
    encoded = limit(encoded, (height, width), max_pixels)

    def decode_16_bits():
        values = tf.io.decode_png(encoded, channels=3, dtype=tf.uint16)
        largest = tf.cast(tf.reduce_max(values), tf.int32)
        return require(
            largest >= 1 << 14,
            tf.bitcast(values, tf.uint8)[..., 1],  # The upper eight bits.
            "16-bit PNG file with values of at most {}, far from 65535: they "
            "seem to have fewer bits; rescale them",
            largest,
        )

    return tf.cond(
        tf.strings.substr(header, 24, 1) == b"\x10",  # Bits of a value.
        decode_16_bits,
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def _decode_gif(encoded, header, max_pixels):
    width, height = canvas = _read(header, 6, 2, tf.uint16)
    encoded = limit(encoded, (height, width), max_pixels)
    # Without the other frames, which TensorFlow decodes all the same.
    start, end = _find_gif_frame(encoded)
    encoded = require(
        end <= tf.strings.length(encoded),
        encoded,
        "Invalid GIF data: the first frame is incomplete",
    )
    frame = _read(encoded, start + 1, 4, tf.uint16)
    encoded = require(
        tf.reduce_all(tf.equal(frame, (0, 0, *canvas))),
        tf.strings.substr(encoded, 0, end) + b";",
        "GIF file whose first frame does not fill its canvas; convert it to "
        "PNG",
    )
    # Clears the flag for a transparent color, which would become black.
    opaque = tf.strings.regex_replace(
        encoded, r"(!\C\x04)\C(\C\C\C\x00,)", "\\1\0\\2", replace_global=False
    )
    return tf.io.decode_image(opaque, channels=3, expand_animations=False)


def _find_gif_frame(encoded):
    """Returns where the first frame starts and ends [bytes]."""
    # Zeros stand for what is missing.
    values = tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 16]])
    last = tf.size(values) - 1

    def at(place):
        return tf.cast(values[tf.minimum(place, last)], tf.int32)

    def after_colors(place, flags):
        """Returns the end of a table of colors, which may be absent."""
        size = tf.bitwise.left_shift(6, flags % 8)
        return place + tf.where(flags < 128, 0, size)

    def after_blocks(place):
        """Returns the end of data: blocks with their lengths, up to a 0."""
        (place,) = tf.while_loop(
            lambda place: at(place) > 0,
            lambda place: (place + 1 + at(place),),
            (place,),
        )
        return place + 1

    (start,) = tf.while_loop(
        lambda place: at(place) == ord("!"),  # Extensions.
        lambda place: (after_blocks(place + 2),),
        (after_colors(13, at(10)),),
    )
    data = after_colors(start + 10, at(start + 9)) + 1
    return start, after_blocks(data)


def _decode_bmp(encoded, header, max_pixels):
    fields = _read(header, 10, 6, tf.int32)
    start, size, width, height, bits, compression = fields
    bits //= 1 << 16  # The other half counts planes.
    masks = tf.strings.substr(header, 54, 12)
    has_usual_masks = (compression == 3) & (bits == 32)
    has_usual_masks &= masks == _USUAL_MASKS
    encoded = require(
        (size >= 40)  # Older ones have other fields.
        & tf.reduce_any(bits == (8, 24, 32))
        & ((compression == 0) | has_usual_masks),
        encoded,
        "BMP file of {} bits, compression {}, header of {} bytes: only 8, 24 "
        "and 32 uncompressed bits are read; convert it to PNG",
        (bits, compression, size),
    )
    encoded = limit(encoded, (tf.abs(height), width), max_pixels)
    length = tf.strings.length(encoded)
    place = 14 + size  # Of the palette, if there is one.
    encoded = require(
        (place <= start)
        & (start <= tf.cast(length, tf.int64))
        & (tf.maximum(width, tf.abs(height)) < 1 << 16),
        encoded,
        "Invalid BMP data",
    )
    # Without what follows the pixels: TensorFlow does not expect anything.
    end = start + (width * bits + 31) // 32 * 4 * tf.abs(height)
    image = tf.image.decode_bmp(
        tf.strings.substr(encoded, tf.zeros_like(end), tf.maximum(end, 0))
    )

    def look_up():
        palette = tf.strings.substr(encoded, place, (start - place) // 4 * 4)
        palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8), (-1, 4))
        return tf.gather(palette[:, 2::-1], tf.cast(image[..., 0], tf.int32))

    return tf.cond(bits == 8, look_up, lambda: image[..., :3])


def _decode_webp(encoded, header, max_pixels):
    # Sides are 14 bits each, less 1 in a lossless image, or 24 bits less 1 in
    # the header of a file with more than an image.
    (packed,) = _read(header, 21, 1, tf.int32)
    sides = {
        b"VP8 ": [side % 2**14 for side in _read(header, 26, 2, tf.uint16)],
        b"VP8L": [packed % 2**14 + 1, packed // 2**14 % 2**14 + 1],
        b"VP8X": [
            _read(header, place, 1, tf.int32)[0] // 256 % 2**24 + 1
            for place in (23, 26)
        ],
    }
    is_kind = tf.strings.substr(header, 12, 4) == list(sides)
    encoded = require(tf.reduce_any(is_kind), encoded, "Invalid WebP data")
    chosen = tf.boolean_mask(list(sides.values()), is_kind)
    width, height = tf.unstack(tf.reduce_max(chosen, axis=0))
    encoded = limit(encoded, (height, width), max_pixels)
    # TensorFlow takes only animations with an alpha channel, and overruns its
    # memory by others. The header can announce one that the frames lack.
    flags = tf.io.decode_raw(tf.strings.substr(header, 20, 1), tf.uint8)[0]
    is_animated = tf.strings.substr(header, 12, 4) == b"VP8X"
    is_animated &= flags & 2 > 0

    def announce_alpha():
        length = tf.strings.length(encoded)
        rest = tf.strings.substr(encoded, tf.minimum(21, length), length)
        return tf.strings.substr(encoded, 0, 20) + b"\x12" + rest

    encoded = tf.cond(is_animated, announce_alpha, lambda: encoded)
    return tf.io.decode_image(encoded, expand_animations=False)[..., :3]


def _read(encoded, place, count, dtype, little_endian=True):
    """Returns numbers of a file as a list of int64."""
    part = tf.strings.substr(encoded, place, count * dtype.size)
    numbers = tf.io.decode_raw(part, dtype, little_endian)
    return tf.unstack(tf.cast(numbers, tf.int64), count)


def num_pixels(shape):
    """Returns the product of height and width, the start of a shape."""
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))


def limit(value, shape, max_pixels):
    """Returns a value if an image of that shape may be decoded."""
    return require(
        num_pixels(shape) <= max_pixels,
        value,
        "{}x{} pixels, more than --max_image_pixels={}",
        (shape[1], shape[0], max_pixels),
    )


def require(condition, value, reason, numbers=()):
    """Returns a value, or raises an error whose {} are the numbers."""
    reason = tf.strings.format(reason, numbers)
    # Not tf.debugging's assertion, which adds words of its own.
    check = tf.raw_ops.Assert(condition=condition, data=[reason])
    with tf.control_dependencies([check]):
        return tf.identity(value)


def has_exif(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG file seems to have EXIF data near its start."""
    start = tf.strings.substr(encoded, 0, _EXIF_REACH)
    # The fastest of TensorFlow's ways to search a string.
    pattern = _EXIF.replace("\0", r"\x00")
    rest = tf.strings.regex_replace(start, pattern, "", replace_global=False)
    return tf.strings.length(rest) < tf.strings.length(start)


@tf.function(input_signature=_FILE)
def read_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the EXIF orientation of a JPEG file, int32, 1 to 8.

    It is 1, upright, without EXIF data in the first 64 KB, if they are damaged,
    and for files of other formats.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded) & has_exif(encoded),
        lambda: _parse_exif(encoded),
        lambda: 1,
    )


def _parse_exif(encoded):
    start = tf.strings.substr(encoded, 0, 2 * _EXIF_REACH)
    before, exif = tf.unstack(tf.strings.split(start, _EXIF, maxsplit=1), 2)
    before = "\0" * 4 + before
    is_segment = tf.strings.substr(before, -4, 2) == b"\xff\xe1"
    length = tf.strings.substr(before, -2, 2)
    length = tf.io.decode_raw(length, tf.uint16, little_endian=False)[0]
    length = tf.cast(length, tf.int32) - 2 - len(_EXIF)
    exif = tf.strings.substr(exif, 0, tf.maximum(length, 0))
    is_little_endian = tf.strings.substr(exif, 0, 2) == b"II"
    # Zeros stand for what is missing.
    values = tf.cast(tf.io.decode_raw(exif, tf.uint8), tf.int64)
    values = tf.pad(values, [[0, 16]])

    def numbers(values, size):
        """Returns the numbers that the last axis has the bytes of."""
        weights = [256**place for place in range(size)]
        # Reversed here, or TensorFlow's optimizer prints an error.
        weights = tf.where(is_little_endian, weights, weights[::-1])
        return tf.reduce_sum(values * tf.cast(weights, tf.int64), axis=-1)

    # A count, and as many entries of twelve bytes: tag, type, size and value.
    end = tf.size(values, tf.int64) - 16
    place = tf.minimum(numbers(values[4:8], 4), end)
    count = numbers(values[place : place + 2], 2)
    entries = values[place + 2 :]
    count = tf.minimum(count, tf.size(entries, tf.int64) // 12)
    entries = tf.reshape(entries[: 12 * count], (-1, 12))
    is_orientation = numbers(entries[:, :2], 2) == _ORIENTATION
    is_orientation &= numbers(entries[:, 2:4], 2) == _SHORT
    found = tf.boolean_mask(numbers(entries[:, 8:10], 2), is_orientation)
    first = tf.concat((found, [1]), axis=0)[0]
    is_valid = is_segment & (1 <= first) & (first <= 8)
    return tf.cast(tf.where(is_valid, first, 1), tf.int32)
