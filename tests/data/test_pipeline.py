"""Batches: reproducible, complete, and timed."""

import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import pipeline, shuffling, tfds_source
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples

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
        pytest.param(50, 2, 10, marks=pytest.mark.slow),
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


@pytest.fixture(scope="module", params=["in order", "in any order"])
def coded(request, tmp_path_factory):
    """48 images of 40x40 whose pixels are (row, column, number), times 5."""
    pixels = np.zeros((48, 40, 40, 3), np.uint8)
    pixels[..., 0] = 5 * np.arange(40)[:, None]
    pixels[..., 1] = 5 * np.arange(40)
    pixels[..., 2] = 5 * np.arange(48)[:, None, None]
    files = [tf.io.encode_png(image).numpy() for image in pixels]
    if request.param == "in order":
        columns = {"image": files, "label": np.arange(48) % 3}
        columns["name"] = [f"{number}" for number in range(48)]
        records = tf.data.Dataset.from_tensor_slices(columns)
        return Examples(48, ("a", "b", "c"), records=records)
    root = tmp_path_factory.mktemp("coded")
    for number, content in enumerate(files):
        for part in ("train", "test"):
            file = root / part / "abc"[number % 3] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return tfds_source.open_split(f"folder:{root}", "train")


def coded_batches(coded, steps, shard=(0, 1), **settings):
    """Returns the numbers and the places of the images of each step.

    A place is (row, column, whether mirrored). Batches have 20 images.
    """
    settings = dataclasses.replace(SETTINGS, **settings)
    numbers, places = [], []
    for images, labels in batches(
        coded, steps, settings, batch_size=20, shard=shard
    ):
        values = images.astype(int) // 5
        columns = values[:, 0, :, 1]
        mirrored = columns[:, 0] > columns[:, 1]
        numbers.append(values[:, 0, 0, 2].tolist())
        np.testing.assert_array_equal(labels, values[:, 0, 0, 2] % 3)
        rows, columns = values[:, 0, 0, 0], columns.min(axis=1)
        places.append(list(zip(rows, columns, mirrored, strict=True)))
    return numbers, places


@pytest.mark.parametrize("chunk", [7, 32])
def test_images_of_a_chunk_share_position_and_mirroring(coded, chunk):
    """The last chunk of a batch may be shorter."""
    _, places = coded_batches(coded, range(6), augment_chunk=chunk)
    shared = []
    for batch in places:
        for start in range(0, 20, chunk):
            different = set(batch[start : start + chunk])
            assert len(different) == 1
            shared += different
    # Of 9 x 9 x 2 places, drawn anew for each chunk, batch and epoch.
    assert len(shared) == 6 * math.ceil(20 / chunk)
    assert len(set(shared)) > 0.6 * len(shared)


@pytest.mark.parametrize("order", ["shuffled", "fixed"])
def test_a_fixed_order_repeats_the_batches_of_an_epoch(coded, order):
    numbers, places = coded_batches(coded, range(10), order=order)
    epochs = [sum(numbers[step : step + 2], []) for step in range(0, 10, 2)]
    assert all(len(set(epoch)) == 40 for epoch in epochs)
    assert epochs[0] != sorted(epochs[0])
    is_fixed = order == "fixed"
    assert len(set(map(tuple, epochs))) == (1 if is_fixed else 5)
    # The same eight are left out each time, or others.
    assert len(set().union(*epochs)) == (40 if is_fixed else 48)
    assert len(set(map(tuple, places))) == 10
    settings = dataclasses.replace(SETTINGS, order=order)
    for step in range(4):
        names = pipeline.names_of_step(
            coded, settings, batch_size=20, step=step, seed=1
        )
        assert [int(Path(name).stem) for name in names] == numbers[step]


def test_fixed_orders_and_chunks_resume_and_have_shards(coded):
    settings = dict(order="fixed", augment_chunk=8)
    numbers, places = coded_batches(coded, range(4), **settings)
    resumed = coded_batches(coded, range(3, 4), **settings)
    assert resumed == (numbers[3:], places[3:])
    # The second chunk of 8 belongs to both shards of 10.
    shards = [
        coded_batches(coded, range(4), (index, 2), **settings)
        for index in range(2)
    ]
    for whole, *parts in zip((numbers, places), *shards, strict=True):
        assert whole == [sum(rows, []) for rows in zip(*parts, strict=True)]


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


@pytest.mark.parametrize(
    "split",
    ["in any order", pytest.param("in order", marks=pytest.mark.slow)],
    indirect=True,
)
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
