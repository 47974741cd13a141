"""Each kind of image file: PIL's pixels, or refused with a reason."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.data.bad_examples import decode_rows, decoding_error
from alexnet_tf.data.decoding import (
    decode_patch,
    decode_square,
    decode_usual_patch,
)
from alexnet_tf.data.formats import decode_image, read_orientation
from tests.data.image_kinds import (
    BAD,
    GOOD,
    GRAYS,
    HALF_COLORS,
    HEIGHT,
    ORIENTATIONS,
    WIDTH,
    cmyk,
    encode,
    exif,
    gray_png,
    lying,
    photo,
    with_segment,
)

LIMIT = Geometry.max_image_pixels


def pil_pixels(encoded):
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        image.info.pop("transparency", None)  # PIL warns that it is lost.
        return np.asarray(image.convert("RGB")).astype(float)


@pytest.mark.parametrize("kind", GOOD)
def test_pixels_are_pils(kind):
    found = decode_image(GOOD[kind], LIMIT)
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, pil_pixels(GOOD[kind]))


def test_16_bits_of_gray():
    """PIL does not convert them."""
    pixels = decode_image(gray_png(16), LIMIT).numpy()
    np.testing.assert_array_equal(pixels, np.repeat(GRAYS, 3, axis=2))


def test_cmyk_without_adobes_marker_is_not_inverted():
    """As TensorFlow reads it; PIL inverts it all the same."""
    file = cmyk(adobe=False)
    inverted = np.asarray(PIL.Image.open(io.BytesIO(file)))
    image = PIL.Image.fromarray(255 - inverted, "CMYK").convert("RGB")
    np.testing.assert_allclose(decode_image(file, LIMIT), image, atol=1)


@pytest.mark.parametrize("decode", [decode_patch, decode_usual_patch])
def test_patches_have_these_pixels(decode):
    """In a graph, and of the whole square, so that nothing is rescaled."""
    usual = [kind for kind in GOOD if kind.startswith("jpeg")]
    kinds = usual if decode is decode_usual_patch else GOOD
    patches, ok = decode_files(decode, [GOOD[kind] for kind in kinds])
    assert ok.all()
    left = (WIDTH - HEIGHT) // 2
    for kind, patch in zip(kinds, patches, strict=True):
        square = pil_pixels(GOOD[kind])[:, left : left + HEIGHT]
        if kind in HALF_COLORS:
            # The last column's color is not a mean with the next one's.
            np.testing.assert_allclose(patch[:, -1], square[:, -1], atol=16)
            patch, square = patch[:, :-1], square[:, :-1]
        np.testing.assert_array_equal(patch, square, err_msg=kind)


def decode_files(decode, files):
    """Returns the patches of files, and which could be decoded."""
    geometry = Geometry(HEIGHT, HEIGHT)
    patches, ok = tf.function(decode_rows)(
        lambda encoded: decode(encoded, (0, 0), geometry),
        [tf.constant(files)],
        tf.zeros(geometry.patch_shape, tf.uint8),
    )
    return patches.numpy(), ok.numpy()


def test_what_would_be_misread_is_refused():
    """With a reason, and by all decoders."""
    files = [file for file, _ in BAD.values()]
    for file, reason in BAD.values():
        found = decoding_error(tf.constant(file), LIMIT)
        assert reason in found and len(found) < 200
    whole = Geometry(HEIGHT, HEIGHT)
    decoders = [decode_patch, lambda file, *_: decode_square(file, whole)]
    for decode in [*decoders, decode_usual_patch]:
        _, ok = decode_files(decode, files)
        np.testing.assert_array_equal(ok, False)


@pytest.mark.parametrize("size", [(120, 90), (403, 500)])
@pytest.mark.parametrize(("number", "transpose"), ORIENTATIONS)
def test_photographs_are_turned_upright(number, transpose, size):
    """As PIL does; with the orientation in several places."""
    file = lying(photo(number, size), transpose)
    first = with_segment(file, 0xE1, exif(number))
    variants = {
        "first": first,
        "big-endian": with_segment(file, 0xE1, exif(number, ">")),
        "elsewhere": with_segment(file, 0xE1, exif(number, ">", place=99)),
        "after a profile": with_segment(first, 0xE2, b"ICC_PROFILE" * 900),
        "after a comment": with_segment(first, 0xFE, b"II or MM"),
    }
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(first)))
    assert upright.size == size
    geometry = Geometry(72, 64)
    reference = tf.io.encode_png(np.asarray(upright)).numpy()
    for offset in ((0, 0), (4, 4), (3, 8)):
        expected = decode_patch(reference, offset, geometry).numpy().astype(int)
        for name, variant in variants.items():
            found = decode_patch(variant, offset, geometry)
            assert np.abs(found - expected).max() <= 1, name
    whole = Geometry(72, 72)
    expected = decode_square(reference, whole).numpy().astype(int)
    found = decode_square(first, whole).numpy()
    assert np.abs(found - expected).max() <= 1
    # Without the setting it stays as it is stored.
    plain = Geometry(72, 64, exif_orientation=False)
    np.testing.assert_array_equal(
        decode_patch(first, (3, 8), plain), decode_patch(file, (3, 8), plain)
    )
    np.testing.assert_array_equal(
        decode_square(first, plain), decode_square(file, plain)
    )


def test_the_fast_decoder_leaves_exif_data_to_the_other():
    file = with_segment(encode(photo(), "JPEG"), 0xE1, exif(6))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_usual_patch(file, (0, 0), Geometry(72, 64))
    decode_usual_patch(file, (0, 0), Geometry(72, 64, exif_orientation=False))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_the_fast_decoder_leaves_other_formats_silently(kind, capfd):
    """A set of PNG files would fill the screen."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unusual file"):
        decode_usual_patch(encode(photo(), kind), (0, 0), Geometry(72, 64))
    assert "JPEG" not in capfd.readouterr().err


@pytest.mark.parametrize("length", range(4, 37, 3))
@pytest.mark.parametrize("order", "<>")
def test_damaged_exif_data_are_ignored(length, order):
    file = encode(photo(), "JPEG")
    for damaged in (
        exif(6, order)[:length],
        exif(9, order),
        exif(0, order),
        exif(6, order)[:10] + b"\xff" * 4 + exif(6, order)[14:],
        exif(6, order).replace(b"Exif\0\0", b"Exif\0\0\0"),
    ):
        number = read_orientation(with_segment(file, 0xE1, damaged))
        assert number == 1


def test_a_comment_is_not_exif_data():
    file = with_segment(encode(photo(), "JPEG"), 0xFE, exif(6))
    assert read_orientation(file) == 1
    assert read_orientation(encode(photo(), "PNG") + exif(6)) == 1
