"""Batches: the same again, each example once, mean and covariance."""

import numpy as np
import pytest

from alexnet_tf import data, sources
from alexnet_tf.preprocessing import Geometry

GEOMETRY = Geometry(40, 32)


@pytest.fixture(scope="module")
def split(data_dir):
    return sources.open_split("shapes/tiny", "train", data_dir=data_dir)


def batches(split, epochs, **changed):
    arguments = dict(
        batch_size=50,
        epochs=epochs,
        geometry=GEOMETRY,
        crop=True,
        flip=True,
        shuffle_buffer=100,
        seed=1,
    )
    dataset = data.training_batches(split, **(arguments | changed))
    return list(dataset.as_numpy_iterator())


def assert_equal(some, others):
    assert len(some) == len(others)
    for (images, labels), (images_2, labels_2) in zip(
        some, others, strict=True
    ):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(labels, labels_2)


def test_batches_are_full_uint8_and_the_same_each_time(split):
    once = batches(split, range(2))
    assert len(once) == 2 * (240 // 50)
    for images, labels in once:
        assert images.shape == (50, 32, 32, 3) and images.dtype == np.uint8
        assert labels.shape == (50,) and labels.dtype == np.int64
    assert_equal(once, batches(split, range(2)))


def test_a_later_start_sees_what_it_would_have_seen(split):
    assert_equal(batches(split, range(3))[8:], batches(split, range(2, 3)))


def test_epochs_and_seeds_differ(split):
    first, second = (batches(split, range(e, e + 1)) for e in (0, 1))
    other_seed = batches(split, range(1), seed=2)
    for others in (second, other_seed):
        assert any(
            np.any(labels != labels_2)
            for (_, labels), (_, labels_2) in zip(first, others, strict=True)
        )


def test_an_epoch_has_each_example_once(split):
    ((images, labels),) = batches(
        split, range(1), batch_size=240, flip=False, geometry=Geometry(32, 32)
    )
    assert len(np.unique(images.reshape(240, -1), axis=0)) == 240
    assert np.all(np.bincount(labels) == 20)


@pytest.mark.parametrize("batch_size", [1, 7, 240, 1000])
def test_evaluation_has_each_example_once(split, batch_size):
    dataset = data.evaluation_batches(
        split, batch_size=batch_size, geometry=GEOMETRY
    )
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    assert {len(batch) for batch in images} == {batch_size}
    images, labels = np.concatenate(images), np.concatenate(labels)
    assert np.all((labels >= 0) == (np.arange(len(labels)) < 240))
    flat = images[:240].reshape(240, -1)
    assert len(np.unique(flat, axis=0)) == 240
    assert not images[240:].any()


def test_ten_crops_come_beside_their_label(split):
    (images, labels), *_ = data.evaluation_batches(
        split, batch_size=8, geometry=GEOMETRY, ten_crops=True
    )
    assert images.shape == (8, 10, 32, 32, 3) and labels.shape == (8,)
    centre, _ = next(
        iter(data.evaluation_batches(split, batch_size=8, geometry=GEOMETRY))
    )
    np.testing.assert_array_equal(images[:, 0], centre)
    np.testing.assert_array_equal(images[:, 5], centre[:, :, ::-1])


def test_pixels_are_measured_as_numpy_measures_them(split):
    measured = data.measure_pixels(split, num_images=150, geometry=GEOMETRY)
    dataset = data.evaluation_batches(split, batch_size=150, geometry=GEOMETRY)
    images, _ = next(dataset.as_numpy_iterator())
    pixels = images[:, ::4, ::4].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(measured.mean_rgb, pixels.mean(axis=0))
    np.testing.assert_allclose(
        measured.covariance_rgb, np.cov(pixels.T, bias=True)
    )
    np.testing.assert_allclose(
        measured.mean_image, images.mean(axis=0, dtype=np.float64)
    )
