"""Means and covariances, compared with NumPy's."""

from pathlib import Path

import numpy as np

from alexnet_tf.config.data import Geometry
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.pipeline import evaluation_batches
from alexnet_tf.data.statistics import measure_pixels


def test_statistics_equal_numpys(split):
    geometry, bad = Geometry(40, 32), BadExamples(Path("/nowhere/bad.csv"))
    measured = measure_pixels(split, num_images=150, geometry=geometry, bad=bad)
    batches = evaluation_batches(
        split, batch_size=150, geometry=geometry, bad=bad
    )
    images, _ = next(batches.as_numpy_iterator())
    pixels = images[:, ::4, ::4].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(measured.mean_rgb, pixels.mean(axis=0))
    np.testing.assert_allclose(
        measured.covariance_rgb, np.cov(pixels.T, bias=True)
    )
    np.testing.assert_allclose(
        measured.mean_image, images.mean(axis=0, dtype=np.float64)
    )
