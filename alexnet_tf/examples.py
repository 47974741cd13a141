"""What a split of a data set is, and what is measured on one."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split of a data set, images still encoded.

    Args:
        records: Dataset of {"image": string, "label": int64, "name": string}.
        count: Number of examples.
        class_names: Names in the order of the labels.
        fetch: Maps int64 indices (n,) to {"image", "label", "name"}, each
            (n,), also inside a tf.data graph: reading in any order. None if
            the split can only be read from its beginning.
        raw_size: If not 0, images are not encoded but the uint8 bytes of an
            RGB square of this side [pixels].
    """

    records: tf.data.Dataset
    count: int
    class_names: tuple[str, ...]
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]] | None = None
    raw_size: int = 0


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """What was measured on patches of training images, in 0..255, float64.

    Args:
        mean_image: Mean of each pixel, (crop_size, crop_size, 3).
        mean_rgb: Mean colour, (3,).
        covariance_rgb: Covariance of the colours of pixels, (3, 3).
    """

    mean_image: np.ndarray
    mean_rgb: np.ndarray
    covariance_rgb: np.ndarray
