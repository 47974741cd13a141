"""Means and the covariance of the colors of training images (Sec. 2, 4.1)."""

import dataclasses

import numpy as np
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.errors import UserError
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import CORES, Examples
from alexnet_tf.data.pipeline import evaluation_batches

# Images that one core measures at a time.
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """Means and colors in 0..255, of center patches or of whole squares."""

    mean_image: np.ndarray  # Mean of each pixel, (crop_size, crop_size, 3).
    mean_rgb: np.ndarray  # Mean color, (3,).
    covariance_rgb: np.ndarray  # Covariance of the colors of pixels, (3, 3).


def measure_pixels(
    examples: Examples, *, num_images: int, geometry: Geometry, bad: BadExamples
) -> PixelStatistics:
    """Measures the first images of a training split.

    The colors are those of every fourth pixel along both axes.
    """
    count = min(num_images, examples.count)
    sample = dataclasses.replace(examples, count=count)
    batches = evaluation_batches(
        sample, batch_size=_BATCH, geometry=geometry, bad=bad
    )
    totals: dict = {}
    for sums in batches.map(_sums, num_parallel_calls=CORES):
        totals = {n: totals.get(n, 0) + sums[n].numpy() for n in sums}
        bad.check()
    if not totals.get("images"):
        raise UserError(
            f"none of the first {count} training images can be used; "
            f"{bad.file} lists the reasons."
        )
    mean = totals["colors"] / totals["pixels"]
    covariance = totals["products"] / totals["pixels"] - np.outer(mean, mean)
    return PixelStatistics(totals["image"] / totals["images"], mean, covariance)


def _sums(images, labels):
    """Returns sums of integers, which are exact in any order."""
    images = tf.boolean_mask(images, labels >= 0)
    colors = tf.cast(tf.reshape(images[:, ::4, ::4], (-1, 3)), tf.float64)
    return {
        "images": tf.shape(images, tf.int64)[0],
        "image": tf.reduce_sum(tf.cast(images, tf.int64), axis=0),
        "pixels": tf.shape(colors, tf.int64)[0],
        "colors": tf.reduce_sum(colors, axis=0),
        "products": tf.matmul(colors, colors, transpose_a=True),
    }
