"""Patches of real files, and the size of the color noise."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.data.decoding import (
    decode_patch,
    decode_square,
    decode_square_patch,
    decode_usual_patch,
    draw_places,
    mirror,
    ten_patches,
)

PAPER = Geometry(256, 224)


def smooth_image(height, width):
    """Red grows downwards, green to the right."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * y / height, 255 * x / width, 128 + 0 * x)
    return np.stack(channels, axis=-1).astype(np.uint8)


def slow_patch(image, offset, squash=False):
    """The paper's steps one by one: rescale, central square, crop."""
    height, width = image.shape[:2]
    scale = 256 / min(height, width)
    size = (round(height * scale), round(width * scale))
    if squash:
        size = (256, 256)
    image = tf.image.resize(image, size, method="area", antialias=True)
    top, left = (size[0] - 256) // 2, (size[1] - 256) // 2
    square = image[top : top + 256, left : left + 256]
    return square[offset[0] :, offset[1] :][:224, :224].numpy()


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("offset", [(0, 0), (16, 16), (32, 32), (5, 27)])
@pytest.mark.parametrize("size", [(375, 500), (500, 375), (256, 256)])
def test_a_patch_is_the_papers(size, offset, squash):
    image = smooth_image(*size)
    encoded = tf.io.encode_jpeg(image, quality=100)
    patch = decode_patch(encoded, offset, Geometry(256, 224, squash))
    assert patch.shape == (224, 224, 3) and patch.dtype == tf.uint8
    whole = np.asarray(PIL.Image.open(io.BytesIO(encoded.numpy())))
    difference = patch.numpy() - slow_patch(whole, offset, squash)
    # Red and green grow by about one level a pixel: the grids differ by half
    # a pixel at most.
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7
    assert np.abs(difference).max() < 5


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (20, 63), (64, 64)])
def test_small_images_grow_as_in_a_patch(size):
    """Without blocks of equal pixels; from 64 pixels `prepare` is exact."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    encoded, whole = tf.io.encode_png(pixels), Geometry(64, 64)
    square = decode_square(encoded, whole)
    np.testing.assert_array_equal(square, decode_patch(encoded, (0, 0), whole))
    image = PIL.Image.fromarray(pixels)
    side, (height, width) = min(size), size
    left, top = (width - side) / 2, (height - side) / 2
    box = tuple(int(n + 0.5) for n in (left, top))
    image = image.crop((*box, box[0] + side, box[1] + side))
    reference = image.resize((64, 64), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_allclose(square, np.asarray(reference, int), atol=1.01)


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (100, 150)])
def test_images_of_any_size_and_kind_give_a_patch(encode, channels, size):
    image = np.full((*size, channels), 200, np.uint8)
    for offset in (0, 32):
        patch = decode_patch(encode(image), (offset, offset), PAPER)
        np.testing.assert_allclose(patch, 200, atol=2)
        assert patch.shape == (224, 224, 3)


def draw(number, **changed):
    settings = {"crop": True, "flip": True} | changed
    seed = tf.stack((tf.constant(5, tf.int64), tf.cast(number, tf.int64)))
    return draw_places(40, PAPER, seed=seed, **settings)


def test_places_are_a_function_of_their_seed():
    numbers = tf.data.Dataset.range(5)
    drawn = [[d.numpy() for d in draw(number)] for number in range(5)]
    for once, again in zip(
        drawn, numbers.map(draw).as_numpy_iterator(), strict=True
    ):
        np.testing.assert_array_equal(once[0], again[0])
        np.testing.assert_array_equal(once[1], again[1])
    offsets = np.concatenate([offsets for offsets, _ in drawn])
    assert len(np.unique(offsets, axis=0)) > 170  # 200 of 33 x 33 places.
    mirrored = np.concatenate([mirrored for _, mirrored in drawn])
    assert 75 < mirrored.sum() < 125


def test_without_flipping_no_patch_is_mirrored():
    assert not draw(0, flip=False)[1].numpy().any()


def test_without_cropping_the_patch_is_the_center_one():
    offsets, _ = draw(0, crop=False)
    assert offsets.dtype == tf.int32 and np.all(offsets == PAPER.center)


def test_a_mirrored_patch_is_mirrored():
    patch = tf.constant(smooth_image(30, 40))
    np.testing.assert_array_equal(mirror(patch, tf.constant(False)), patch)
    np.testing.assert_array_equal(
        mirror(patch, tf.constant(True)), patch.numpy()[:, ::-1]
    )


@pytest.mark.parametrize("size", [(256, 300), (200, 240), (500, 460)])
def test_both_decoders_give_the_same_patch(size):
    encoded = tf.io.encode_jpeg(smooth_image(*size))
    for offset in ((0, 0), (16, 16), (32, 5)):
        np.testing.assert_array_equal(
            decode_usual_patch(encoded, offset, PAPER),
            decode_patch(encoded, offset, PAPER),
        )


def test_a_stored_square_needs_no_rescaling():
    encoded = tf.io.encode_jpeg(smooth_image(256, 256))
    for offset in ((0, 0), (16, 16), (32, 5)):
        np.testing.assert_array_equal(
            decode_square_patch(encoded, offset, PAPER),
            decode_patch(encoded, offset, PAPER),
        )


@pytest.mark.parametrize(
    "encoded",
    [
        tf.io.encode_png(smooth_image(300, 300)).numpy(),
        tf.io.encode_jpeg(smooth_image(530, 530)).numpy(),
        b"",
    ],
)
def test_the_fast_decoder_rejects_unusual_files(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_usual_patch(encoded, (0, 0), PAPER)


def test_ten_patches_are_center_and_corners_and_their_mirror_images():
    # A pixel's color is its place.
    y, x = np.mgrid[0:256, 0:256]
    image = np.stack((y, x, 0 * x), axis=-1).astype(np.uint8)
    patches = ten_patches(tf.io.encode_png(image), PAPER).numpy()
    assert patches.shape == (10, 224, 224, 3)
    offsets = [(16, 16), (0, 0), (0, 32), (32, 0), (32, 32)]
    for number, (down, right) in enumerate(offsets):
        expected = image[down : down + 224, right : right + 224]
        np.testing.assert_array_equal(patches[number], expected)
        np.testing.assert_array_equal(patches[number + 5], expected[:, ::-1])


def test_all_places_of_the_patch_are_drawn():
    offsets, _ = draw_places(
        400,
        Geometry(20, 17),
        crop=True,
        flip=False,
        seed=tf.constant((1, 2), tf.int64),
    )
    assert {tuple(offset) for offset in offsets.numpy().tolist()} == {
        (i, j) for i in range(4) for j in range(4)
    }
