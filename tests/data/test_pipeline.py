"""Batches: reproducible, complete, and timed."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import pipeline, shuffling
from alexnet_tf.data.bad_examples import BadExamples

GEOMETRY = Geometry(40, 32)
SETTINGS = Data(image_size=40, crop_size=32, shuffle_buffer=100)
# Adding one would fail: there is no such folder.
NONE_BAD = BadExamples(Path("/nowhere/bad.csv"), limit=0)


def batches(split, steps, settings=SETTINGS, **changed):
    arguments = dict(batch_size=50, steps=steps, seed=1, bad=NONE_BAD)
    dataset = pipeline.training_batches(
        split, settings, **(arguments | changed)
    )
    return list(dataset.as_numpy_iterator())


def evaluation(split, geometry=GEOMETRY, **changed):
    dataset = pipeline.evaluation_batches(
        split, geometry=geometry, bad=NONE_BAD, **changed
    )
    return dataset.as_numpy_iterator()


@pytest.fixture(scope="module")
def twelve(split):
    """Three epochs of four batches."""
    return batches(split, range(12))


def assert_equal(some, others):
    assert len(some) == len(others)
    for (images, labels), (images_2, labels_2) in zip(
        some, others, strict=True
    ):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(labels, labels_2)


@pytest.mark.parametrize(
    ("batch_size", "num_shards", "rows"),
    [
        (50, 2, 10),
        pytest.param(50, 2, 128, marks=pytest.mark.slow),
        pytest.param(90, 3, 10, marks=pytest.mark.slow),
        pytest.param(90, 3, 128, marks=pytest.mark.slow),
    ],
)
def test_shards_are_those_of_the_whole_batch(
    split, batch_size, num_shards, rows, monkeypatch
):
    steps = range(1, 7)  # Of several epochs.
    assert split.count // batch_size < 7
    whole = batches(split, steps, batch_size=batch_size)
    monkeypatch.setattr(shuffling, "_ROWS", rows)
    shards = [
        batches(split, steps, batch_size=batch_size, shard=(index, num_shards))
        for index in range(num_shards)
    ]
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*step, strict=True))
        for step in zip(*shards, strict=True)
    ]
    assert_equal(whole, joined)


def test_batches_are_full_uint8_and_the_same_each_time(split, twelve):
    once = batches(split, range(8))
    assert len(once) == 8
    for images, labels in once:
        assert images.shape == (50, 32, 32, 3) and images.dtype == np.uint8
        assert labels.shape == (50,) and labels.dtype == np.int64
    assert_equal(once, twelve[:8])


@pytest.mark.parametrize("start", [1, 3, 4, 6, 8, 11])
def test_a_later_start_sees_the_same_batches(split, twelve, start):
    # Four steps an epoch: starts within the first, second and third one.
    assert_equal(twelve[start:], batches(split, range(start, 12)))


def test_the_number_of_cores_makes_no_difference(split, twelve, monkeypatch):
    monkeypatch.setattr(pipeline, "CORES", 7)
    monkeypatch.setattr(shuffling, "CORES", 5)
    assert_equal(twelve[:5], batches(split, range(5)))


def test_a_start_decodes_nothing_of_the_steps_before(split, twelve):
    decoded = []

    def counting_load(image):
        count = tf.numpy_function(
            lambda image: decoded.append(image) or np.int64(0),
            [image],
            tf.int64,
        )
        with tf.control_dependencies([count]):
            return split.load(image)

    counting = dataclasses.replace(split, load=counting_load)
    assert_equal(batches(counting, range(6, 8)), twelve[6:8])
    assert len(set(decoded)) == 100


def test_an_epoch_without_augmentation_has_the_images_of_evaluation(split):
    plain = Data(
        image_size=32,
        crop_size=32,
        random_crop=False,
        horizontal_flip=False,
        shuffle_buffer=240,
    )
    ((images, labels),) = batches(split, range(1), plain, batch_size=240)
    expected, expected_labels = next(
        evaluation(split, Geometry(32, 32), batch_size=240)
    )
    numbers = {image.tobytes(): n for n, image in enumerate(expected)}
    order = [numbers[image.tobytes()] for image in images]
    assert sorted(order) == list(range(240)) != order
    np.testing.assert_array_equal(labels, expected_labels[order])


@pytest.mark.parametrize("batch_size", [1, 7, 240, 1000])
def test_evaluation_has_each_example_once(split, batch_size):
    dataset = evaluation(split, batch_size=batch_size)
    images, labels = zip(*dataset, strict=True)
    assert {len(batch) for batch in images} == {batch_size}
    images, labels = np.concatenate(images), np.concatenate(labels)
    assert np.all((labels >= 0) == (np.arange(len(labels)) < 240))
    flat = images[:240].reshape(240, -1)
    assert len(np.unique(flat, axis=0)) == 240
    assert not images[240:].any()


def test_ten_crops_are_stacked(split):
    images, labels = next(evaluation(split, batch_size=8, ten_crops=True))
    assert images.shape == (8, 10, 32, 32, 3) and labels.shape == (8,)
    center, _ = next(evaluation(split, batch_size=8))
    np.testing.assert_array_equal(images[:, 0], center)
    np.testing.assert_array_equal(images[:, 5], center[:, :, ::-1])


@pytest.mark.parametrize(
    ("making", "training", "waits"), [(0.1, 0.0, True), (0.0, 0.1, False)]
)
def test_the_clock_shows_which_side_waits(making, training, waits):
    """Most of the time one side sleeps, and the other is idle."""

    def slow(n):
        time.sleep(making)
        return n

    clock = pipeline.InputClock()
    dataset = tf.data.Dataset.range(12).map(
        lambda n: (tf.ensure_shape(tf.py_function(slow, [n], tf.int64), ()), n)
    )
    waited = 0.0
    start = last = time.perf_counter()
    for number, (batch, _) in enumerate(clock.watch(dataset, 100).prefetch(1)):
        assert batch == number
        waited += clock.waited(100 + number, last)
        time.sleep(training)
        last = time.perf_counter()
    assert (waited > 0.5 * (last - start)) == waits


def test_a_batch_without_a_record_has_not_been_waited_for():
    assert pipeline.InputClock().waited(3, time.perf_counter()) == 0
