"""From an encoded image to the patch that the network sees (Sec. 2, 4.1).

The paper rescales an image so that its shorter side is 256 pixels, keeps the
central 256x256 square and takes 224x224 patches of it. `decode_patch` goes to
the same patch directly: it works out which part of the file the patch comes
from, decodes no more than that of a JPEG file and rescales it once.

Images are scalar strings, the bytes of a JPEG, PNG, GIF, BMP or WebP file,
gray or color. Patches are uint8 (crop_size, crop_size, 3), RGB in 0..255.
Bytes that cannot be decoded raise `tf.errors.InvalidArgumentError`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from alexnet_tf.config.data import Geometry


def decode_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Decodes the patch at an offset (down, right) in the central square.

    Offsets are from 0 to `geometry.offsets` - 1 [pixels].
    """
    size = geometry.crop_size
    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _decode_part(encoded, offset, geometry),
        lambda: _decode_and_cut(encoded, offset, geometry),
    )  # (side, side, 3)
    return tf.cond(
        _is_bilinear(pixels, size),
        lambda: _rescale(pixels, size, "bilinear"),
        lambda: _rescale(pixels, size, "area"),
    )


def decode_usual_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same without branches, for JPEG files of usual sizes only.

    All others raise `tf.errors.InvalidArgumentError`.
    """
    size = geometry.crop_size
    pixels = _decode_part(encoded, offset, geometry)
    # Not tf.debugging's assertion, which is a branch.
    is_usual = _is_bilinear(pixels, size)
    check = tf.raw_ops.Assert(condition=is_usual, data=["a large image"])
    with tf.control_dependencies([check]):
        return _rescale(pixels, size, "bilinear")


def decode_square_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same for JPEG files of the central square itself."""
    window = tf.concat((offset, geometry.patch_shape[:2]), axis=0)
    patch = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    return tf.ensure_shape(patch, geometry.patch_shape)


def decode_square(encoded: tf.Tensor, geometry: Geometry) -> tf.Tensor:
    """Decodes a whole image and rescales it to uint8 (size, size, 3).

    Unlike `decode_patch` it reads a file to its end, so that a truncated one
    always is an error. `geometry` has the whole square as its patch.
    """
    square = _decode_and_cut(encoded, (0, 0), geometry)
    return _rescale(square, geometry.image_size, "area")


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


def _decode_part(encoded, offset, geometry):
    """Decodes the part of a JPEG file that a patch comes from."""
    window = _window(tf.image.extract_jpeg_shape(encoded), offset, geometry)
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)


def _decode_and_cut(encoded, offset, geometry):
    """Does the same for a file of any format."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    window = _window(tf.shape(image), offset, geometry)
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


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


def _is_bilinear(pixels, size):
    """Returns whether bilinear interpolation uses all pixels.

    It does if it shrinks by up to two, and is faster than area interpolation,
    which avoids aliasing in larger images.
    """
    return tf.reduce_max(tf.shape(pixels)) <= 2 * size


def _rescale(pixels, size, method):
    # The bare operations: what tf.image.resize adds takes time, too.
    resize = tf.raw_ops.ResizeArea
    if method == "bilinear":
        resize = partial(tf.raw_ops.ResizeBilinear, half_pixel_centers=True)
    rescaled = resize(images=pixels[None], size=[size, size])
    return tf.cast(tf.reshape(rescaled, (size, size, 3)) + 0.5, tf.uint8)
