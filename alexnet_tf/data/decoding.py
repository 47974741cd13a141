"""From an encoded image to the patch that the network sees (Sec. 2, 4.1).

The paper rescales an image so that its shorter side is 256 pixels, keeps the
central 256x256 square and takes 224x224 patches of it. `decode_patch` goes to
the same patch directly: it works out which part of the file the patch comes
from, decodes no more than that of a JPEG file and rescales it once.

Images are scalar strings, the bytes of a file, see `formats`. JPEG files are
turned upright, unless `Geometry` excludes that. Patches are uint8 (crop_size,
crop_size, 3), RGB in 0..255. Bytes that cannot be decoded raise
`tf.errors.InvalidArgumentError`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.data.formats import (
    JPEG_OPTIONS,
    decode_image,
    has_exif,
    limit,
    num_pixels,
    read_orientation,
    require,
)


def decode_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Decodes the patch at an offset (down, right) in the central square.

    Offsets are from 0 to `geometry.offsets` - 1 [pixels].
    """
    size, orientation = geometry.crop_size, _orientation(encoded, geometry)

    def decode_part():
        shape = tf.image.extract_jpeg_shape(encoded)
        shape = limit(shape, shape, geometry.max_image_pixels)
        window = _stored_window(shape, offset, geometry, orientation)
        return tf.image.decode_and_crop_jpeg(encoded, window, **JPEG_OPTIONS)

    def decode_and_cut():
        image = decode_image(encoded, geometry.max_image_pixels)
        return _cut(image, offset, geometry, orientation)

    pixels = tf.cond(tf.io.is_jpeg(encoded), decode_part, decode_and_cut)
    patch = tf.cond(
        _is_bilinear(tf.shape(pixels)[:2], size),
        lambda: _rescale(pixels, size, "bilinear"),
        lambda: _rescale(pixels, size, "area"),
    )
    return _turn_upright(patch, orientation)


def decode_usual_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same without branches, for usual JPEG files only.

    Large ones, those with EXIF data, and other files raise
    `tf.errors.InvalidArgumentError`.
    """
    # Not left to the JPEG decoder, which prints a line for each other file.
    is_usual = tf.io.is_jpeg(encoded)
    if geometry.exif_orientation:
        is_usual &= ~has_exif(encoded)
    encoded = require(is_usual, encoded, "Unusual file")
    shape = tf.image.extract_jpeg_shape(encoded)
    window = _window(shape, offset, geometry)
    is_usual = _is_bilinear(window[2:], geometry.crop_size)
    is_usual &= num_pixels(shape) <= geometry.max_image_pixels
    window = require(is_usual, window, "Large image")
    pixels = tf.image.decode_and_crop_jpeg(encoded, window, **JPEG_OPTIONS)
    return _rescale(pixels, geometry.crop_size, "bilinear")


def decode_square_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same for JPEG files of the central square itself."""
    window = tf.concat((offset, geometry.patch_shape[:2]), axis=0)
    patch = tf.image.decode_and_crop_jpeg(encoded, window, **JPEG_OPTIONS)
    return tf.ensure_shape(patch, geometry.patch_shape)


def decode_square(encoded: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Decodes a whole image and rescales it to uint8 (size, size, 3).

    Unlike `decode_patch` it reads a file to its end, so that a truncated one
    always is an error. `geometry` has the whole square as its patch.
    """
    orientation = _orientation(encoded, geometry)
    image = decode_image(encoded, geometry.max_image_pixels)
    pixels = _cut(image, (0, 0), geometry, orientation)
    side = geometry.image_size
    square = tf.cond(
        tf.reduce_max(tf.shape(pixels)[:2]) < side,  # As in `decode_patch`.
        lambda: _rescale(pixels, side, "bilinear"),
        lambda: _rescale(pixels, side, "area"),
    )
    return _turn_upright(square, orientation)


def ten_patches(
    encoded: tf.Tensor, geometry: Geometry, decode: Callable = decode_patch
) -> tf.Tensor:
    """Decodes the patches that a prediction is averaged over (Sec. 4.1).

    These are the center, the four corners, and their mirror images in the same
    order, uint8 (10, crop_size, crop_size, 3). `decode` is `decode_patch` or
    one of its faster substitutes.
    """
    offsets = [geometry.center, *geometry.corners]
    patches = tf.stack([decode(encoded, o, geometry) for o in offsets])
    return tf.concat((patches, tf.reverse(patches, axis=[2])), axis=0)


def draw_places(
    count: int, geometry: Geometry, *, crop: bool, flip: bool, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the offsets of patches, and which are mirrored (Sec. 4.1).

    Returns int32 (count, 2) and bool (count,), a function of `seed`, int64
    (2,). Offsets are the center's without `crop`; `flip` mirrors half.
    """
    uniform = tf.random.stateless_uniform((count, 3), seed)  # In [0, 1).
    offsets = tf.cast(uniform[:, :2] * geometry.offsets, tf.int32)
    if not crop:
        offsets = tf.tile([geometry.center], (count, 1))
    return offsets, (uniform[:, 2] < 0.5) & flip


def mirror(patch: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Returns a patch, or its mirror image if `mirrored` is true."""
    return tf.cond(mirrored, lambda: tf.reverse(patch, axis=[1]), lambda: patch)


def _orientation(encoded, geometry):
    if geometry.exif_orientation:
        return read_orientation(encoded)
    return tf.constant(1)


def _cut(image, offset, geometry, orientation):
    """Returns the part of an image, as stored, that a patch comes from."""
    window = _stored_window(tf.shape(image), offset, geometry, orientation)
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


def _stored_window(shape, offset, geometry, orientation):
    """Returns where in an image, as stored, a patch comes from."""
    is_transposed = orientation > 4
    # shape[1::-1] would make TensorFlow's optimizer print an error.
    shape = tf.where(is_transposed, tf.reverse(shape[:2], [0]), shape[:2])
    corner, sides = tf.split(_window(shape, offset, geometry), 2)
    opposite = shape - corner - sides
    corner = tf.where(_flips(orientation), opposite, corner)
    window = tf.stack((corner, sides))
    return tf.reshape(tf.where(is_transposed, window[:, ::-1], window), [4])


def _turn_upright(patch, orientation):
    """Turns a square by its EXIF orientation, 1 to 8."""

    def turned():
        # By places: if uint8 is transposed, oneDNN prints an error.
        side = patch.shape[0]
        strides = tf.where(orientation > 4, (1, side), (side, 1))
        line = tf.range(side)
        places = strides[0] * line[:, None] + strides[1] * line
        flipped = tf.boolean_mask((0, 1), _flips(orientation))
        pixels = tf.reshape(patch, (-1, 3))
        return tf.gather(pixels, tf.reverse(places, flipped))

    turned_patch = tf.cond(orientation > 1, turned, lambda: patch)
    return tf.ensure_shape(turned_patch, patch.shape)


def _flips(orientation):
    """Returns along which axes to flip an image, after transposing it."""
    flips = [(False, False), (False, True), (True, True), (True, False)]
    return tf.gather(flips, (orientation - 1) % 4)


def _window(shape, offset, geometry):
    """Returns where in an image a patch comes from: top, left, two sides."""
    shape = shape[:2]
    square = shape if geometry.squash else tf.fill([2], tf.reduce_min(shape))
    scale = tf.cast(square, tf.float32) / geometry.image_size
    sides = tf.maximum(_round(scale * geometry.crop_size), 1)
    border = tf.cast(shape - square, tf.float32) / 2
    corner = _round(border + scale * tf.cast(offset, tf.float32))
    return tf.concat((tf.minimum(corner, shape - sides), sides), axis=0)


def _round(numbers):
    return tf.cast(numbers + 0.5, tf.int32)


def _is_bilinear(sides, size):
    """Returns whether bilinear interpolation uses all pixels.

    It does if it shrinks by up to two, and is faster than area interpolation,
    which avoids aliasing in larger images.
    """
    return tf.reduce_max(sides) <= 2 * size


def _rescale(pixels, size, method):
    # The bare operations: what tf.image.resize adds takes time, too.
    resize = tf.raw_ops.ResizeArea
    if method == "bilinear":
        resize = partial(tf.raw_ops.ResizeBilinear, half_pixel_centers=True)
    rescaled = resize(images=pixels[None], size=[size, size])
    return tf.cast(tf.reshape(rescaled, (size, size, 3)) + 0.5, tf.uint8)
