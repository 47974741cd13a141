"""From an encoded image to the patch that the network sees (Sec. 2, 4.1).

The paper rescales an image so that its shorter side is 256 pixels, keeps the
central 256x256 square and takes 224x224 patches of it. `decode_patch` goes to
the same patch directly: it works out which part of the file the patch comes
from, decodes no more than that and rescales it once.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes that define patches.

    Args:
        image_size: Side of the central square after rescaling [pixels].
        crop_size: Side of a patch of it [pixels].
    """

    image_size: int = 256
    crop_size: int = 224

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Shape of a patch."""
        return (self.crop_size, self.crop_size, 3)

    @property
    def offsets(self) -> int:
        """Number of places a patch can have along one axis."""
        return self.image_size - self.crop_size + 1

    @property
    def centre(self) -> tuple[int, int]:
        """Offset (down, right) of the centre patch [pixels]."""
        return (self.offsets // 2, self.offsets // 2)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Offsets of the four corner patches [pixels]."""
        last = self.offsets - 1
        return [(0, 0), (0, last), (last, 0), (last, last)]


def decode_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Decodes one patch of an image.

    Args:
        encoded: Scalar string; JPEG, PNG, GIF, BMP or WebP, grey or colour.
        offset: Two integers (down, right), the patch's place in the central
            square, from 0 to `geometry.offsets` - 1 [pixels].
        geometry: The sizes.

    Returns:
        uint8 tensor (crop_size, crop_size, 3), RGB in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are not an image.
    """
    offset = tf.convert_to_tensor(offset)

    def from_any_format():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return _cut_out(image, offset, geometry)

    pixels = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: _decode_part(encoded, offset, geometry),
        from_any_format,
    )  # (side, side, 3)
    size = geometry.crop_size
    return tf.cond(
        _is_bilinear(pixels, size),
        lambda: _rescale(pixels, size, "bilinear"),
        lambda: _rescale(pixels, size, "area"),
    )


def decode_usual_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same for a JPEG file of a usual size, a little faster.

    Raises:
        tf.errors.InvalidArgumentError: also for all other files.
    """
    # Not tf.debugging's assertions, which are branches.
    is_jpeg = tf.raw_ops.Assert(
        condition=tf.io.is_jpeg(encoded), data=["no JPEG file"]
    )
    with tf.control_dependencies([is_jpeg]):
        pixels = _decode_part(
            tf.identity(encoded), tf.convert_to_tensor(offset), geometry
        )
    size = geometry.crop_size
    is_small = tf.raw_ops.Assert(
        condition=_is_bilinear(pixels, size), data=["a large image"]
    )
    with tf.control_dependencies([is_small]):
        return _rescale(pixels, size, "bilinear")


def decode_square_patch(
    encoded: tf.Tensor, offset: Sequence[int], geometry: Geometry
) -> tf.Tensor:
    """Does the same for a JPEG file of the central square itself."""
    size = [geometry.crop_size, geometry.crop_size]
    patch = tf.image.decode_and_crop_jpeg(
        encoded, tf.concat((offset, size), axis=0), channels=3
    )
    return tf.ensure_shape(patch, geometry.patch_shape)


def _decode_part(encoded, offset, geometry):
    """Decodes the part of a JPEG file that a patch comes from."""
    window = _window(tf.image.extract_jpeg_shape(encoded), offset, geometry)
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)


def decode_square(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a whole image and rescales its central square.

    Other than `decode_patch` it reads a file to its end, so that one that was
    cut short is an error wherever that was.

    Args:
        encoded: As for `decode_patch`.
        size: Side of the square [pixels].

    Returns:
        uint8 tensor (size, size, 3), RGB in 0..255.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes are not a whole image.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    square = _cut_out(image, tf.constant((0, 0)), Geometry(size, size))
    return _rescale(square, size, "area")


def _cut_out(image, offset, geometry):
    """Returns the part of an image that a patch comes from."""
    top, left, height, width = tf.unstack(
        _window(tf.shape(image), offset, geometry)
    )
    return image[top : top + height, left : left + width]


def _window(shape, offset, geometry):
    """Returns where in an image a patch comes from: top, left, two sides."""
    shape = shape[:2]
    shorter = tf.reduce_min(shape)
    scale = tf.cast(shorter, tf.float32) / geometry.image_size
    side = tf.maximum(_round(scale * geometry.crop_size), 1)
    border = tf.cast(shape - shorter, tf.float32) / 2
    corner = _round(border + scale * tf.cast(offset, tf.float32))
    return tf.concat((tf.minimum(corner, shape - side), [side, side]), axis=0)


def _round(numbers):
    return tf.cast(numbers + 0.5, tf.int32)


def _is_bilinear(pixels, size):
    """Returns whether bilinear interpolation uses all pixels.

    It does if it shrinks by up to two, and is faster than area interpolation,
    which avoids aliasing in larger images.
    """
    return tf.shape(pixels)[0] <= 2 * size


def _rescale(pixels, size, method):
    # The bare operations: what tf.image.resize adds takes time, too.
    if method == "area":
        rescaled = tf.raw_ops.ResizeArea(images=pixels[None], size=[size, size])
    else:
        rescaled = tf.raw_ops.ResizeBilinear(
            images=pixels[None], size=[size, size], half_pixel_centers=True
        )
    return tf.cast(tf.reshape(rescaled, (size, size, 3)) + 0.5, tf.uint8)


def ten_patches(
    encoded: tf.Tensor, geometry: Geometry, decode: Callable = decode_patch
) -> tf.Tensor:
    """Decodes the patches that a prediction is averaged over (Sec. 4.1).

    Args:
        encoded: As for `decode_patch`.
        geometry: The sizes.
        decode: `decode_patch`, or one of its faster substitutes.

    Returns:
        uint8 tensor (10, crop_size, crop_size, 3): the centre, the four
        corners, and their mirror images in the same order.
    """
    offsets = [geometry.centre, *geometry.corners]
    patches = tf.stack([decode(encoded, o, geometry) for o in offsets])
    return tf.concat((patches, tf.reverse(patches, axis=[2])), axis=0)


def draw_places(
    count: int, geometry: Geometry, *, crop: bool, flip: bool, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws where patches lie, and which are mirrored (Sec. 4.1).

    Args:
        count: Number of patches.
        geometry: The sizes.
        crop: Whether places are random; if not, they are the centre.
        flip: Whether to mirror half of them.
        seed: int64 tensor (2,); the draws are a function of it.

    Returns:
        Offsets, int32 (count, 2), and whether to mirror, bool (count,).
    """
    uniform = tf.random.stateless_uniform((count, 3), seed)  # In [0, 1).
    offsets = tf.cast(uniform[:, :2] * geometry.offsets, tf.int32)
    if not crop:
        offsets = tf.tile([geometry.centre], (count, 1))
    return offsets, (uniform[:, 2] < 0.5) & flip


def mirror(patch: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Returns a patch, or its mirror image if `mirrored` is true."""
    return tf.cond(mirrored, lambda: tf.reverse(patch, axis=[1]), lambda: patch)


def colour_noise_basis(
    covariance: Sequence[Sequence[float]], *, reading: str, std: float
) -> list[list[float]] | None:
    """Returns the directions and sizes of the colour noise.

    An image is given the colour z B, with z three standard Gaussians. Row i of
    B is `std` times principal component i times a size: by the paper's text
    its eigenvalue, which only makes sense for pixels in [0, 1] (on 0..255 it
    would wipe out the image); in the 2012 source the eigenvalue's square root,
    which scales as pixels do.

    Args:
        covariance: (3, 3), of RGB pixels in 0..255.
        reading: "paper", "code_2012" or "off".
        std: Standard deviation of the paper's Gaussian, 0.1.

    Returns:
        B, 3x3 nested lists in grey levels of 0..255; None for "off".
    """
    if reading == "off" or std == 0:
        return None
    eigenvalues, eigenvectors = np.linalg.eigh(np.array(covariance) / 255**2)
    sizes = {
        "paper": eigenvalues,
        "code_2012": np.sqrt(np.maximum(eigenvalues, 0)),
    }[reading]
    return (255 * std * sizes[:, None] * eigenvectors.T).tolist()
