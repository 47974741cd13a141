"""Means and the covariance of the colors of training images (Sec. 2, 4.1)."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.errors import UserError
from alexnet_tf.data import pipeline as data
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples

_CORES = os.cpu_count() or 1
# Images measured by one core at a time.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """Means and colors in 0..255, of center patches or of whole squares.

    Args:
        mean_image: Mean of each pixel, (crop_size, crop_size, 3).
        mean_rgb: Mean color, (3,).
        covariance_rgb: Covariance of the colors of pixels, (3, 3).
    """

    mean_image: np.ndarray
    mean_rgb: np.ndarray
    covariance_rgb: np.ndarray


def measure_pixels(
    examples: Examples,
    *,
    num_images: int,
    geometry: Geometry,
    bad: BadExamples,
) -> PixelStatistics:
    """Measures the means and the covariance of RGB pixels.

    Args:
        examples: The training split.
        num_images: Images to measure, the first ones of the split.
        geometry: Sizes of the patches. The colors are those of every fourth
            pixel along both axes.
        bad: Where examples are noted that cannot be used.

    Raises:
        UserError: if none of the images can be used.
    """
    sample = dataclasses.replace(
        examples, count=min(num_images, examples.count)
    )

    def sums(images, labels):
        images = tf.boolean_mask(images, labels >= 0)
        colors = tf.reshape(images[:, ::4, ::4], (-1, 3))
        colors = tf.cast(colors, tf.float64)
        return (
            tf.reduce_sum(tf.cast(labels >= 0, tf.int64)),
            tf.reduce_sum(tf.cast(images, tf.int64), axis=0),
            tf.reduce_sum(colors, axis=0),
            tf.matmul(colors, colors, transpose_a=True),
            tf.shape(colors, tf.int64)[0],
        )

    # The sums are of integers: exact, in whatever order.
    totals = [0] * 5
    for parts in data.evaluation_batches(
        sample, batch_size=_BATCH, geometry=geometry, bad=bad
    ).map(sums, num_parallel_calls=_CORES):
        totals = [
            total + part.numpy()
            for total, part in zip(totals, parts, strict=True)
        ]
        bad.check()
    images, image_sum, color_sum, products, pixels = totals
    if not images:
        raise UserError(
            f"none of the first {sample.count} training images can be used; "
            f"{bad.file} says why."
        )
    mean = color_sum / pixels
    return PixelStatistics(
        mean_image=image_sum / images,
        mean_rgb=mean,
        covariance_rgb=products / pixels - np.outer(mean, mean),
    )


def read_pixels(
    directory: Path, manifest: dict, geometry: Geometry
) -> PixelStatistics:
    """Returns what `prepare` measured on all training images.

    Args:
        directory: The prepared set; its colors are those of whole squares.
        manifest: Its manifest.
        geometry: Sizes of the patches.
    """
    mean_image = np.load(directory / "mean_image.npy")
    colors = manifest["statistics"]
    return PixelStatistics(
        mean_image=geometry.cut_center(mean_image),
        mean_rgb=np.array(colors["mean_rgb"]),
        covariance_rgb=np.array(colors["covariance_rgb"]),
    )
