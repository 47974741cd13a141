"""Batches: the same again, each example once, mean and covariance."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import pipeline, shuffling, tfds_source
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.statistics import measure_pixels

GEOMETRY = Geometry(40, 32)
SETTINGS = Data(image_size=40, crop_size=32, shuffle_buffer=100)
# A note would fail: there is no such folder.
NONE_BAD = BadExamples(Path("/nowhere/bad.csv"), limit=0)


@pytest.fixture(scope="module", params=["in order", "in any order"])
def split(request, data_dir, tmp_path_factory):
    """The training split of shapes/tiny, from TFRecords or as a folder."""
    records = tfds_source.open_split("shapes/tiny", "train", data_dir=data_dir)
    if request.param == "in order":
        assert records.fetch is None
        return records
    root = tmp_path_factory.mktemp("folder")
    for number, example in enumerate(records.records.as_numpy_iterator()):
        folder = root / "train" / f"{example['label']:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(example["image"])
    return tfds_source.open_split(f"folder:{root}", "train")


def batches(split, steps, settings=SETTINGS, **changed):
    arguments = dict(
        batch_size=50,
        steps=steps,
        seed=1,
        bad=NONE_BAD,
    )
    dataset = pipeline.training_batches(
        split, settings, **(arguments | changed)
    )
    return list(dataset.as_numpy_iterator())


def assert_equal(some, others):
    assert len(some) == len(others)
    for (images, labels), (images_2, labels_2) in zip(
        some, others, strict=True
    ):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(labels, labels_2)


@pytest.mark.parametrize(
    "rows", [128, pytest.param(10, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("batch_size", "parts"),
    [pytest.param(50, 2, marks=pytest.mark.slow), (90, 3)],
)
def test_parts_are_those_of_the_whole_batch(
    split, batch_size, parts, rows, monkeypatch
):
    steps = range(1, 7)  # Of several epochs.
    assert split.count // batch_size < 7
    whole = batches(split, steps, batch_size=batch_size)
    monkeypatch.setattr(shuffling, "_ROWS", rows)
    shares = [
        batches(split, steps, batch_size=batch_size, shard=(part, parts))
        for part in range(parts)
    ]
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*step, strict=True))
        for step in zip(*shares, strict=True)
    ]
    assert_equal(whole, joined)


def test_batches_are_full_uint8_and_the_same_each_time(split):
    once = batches(split, range(8))
    assert len(once) == 8
    for images, labels in once:
        assert images.shape == (50, 32, 32, 3) and images.dtype == np.uint8
        assert labels.shape == (50,) and labels.dtype == np.int64
    assert_equal(once, batches(split, range(8)))


@pytest.mark.parametrize("start", [1, 3, 4, 6, 8, 11])
def test_a_later_start_sees_what_it_would_have_seen(split, start):
    # Four steps an epoch: starts within the first, second and third one.
    everything = batches(split, range(12))
    assert_equal(everything[start:], batches(split, range(start, 12)))


def test_the_number_of_cores_makes_no_difference(split, monkeypatch):
    some = batches(split, range(5))
    monkeypatch.setattr(pipeline, "CORES", 7)
    monkeypatch.setattr(shuffling, "CORES", 5)
    assert_equal(some, batches(split, range(5)))


def test_a_start_decodes_nothing_of_what_came_before(split):
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
    assert_equal(batches(counting, range(6, 8)), batches(split, range(6, 8)))
    assert len(set(decoded)) == 100


def test_epochs_and_seeds_differ(split):
    first, second = batches(split, range(4)), batches(split, range(4, 8))
    other_seed = batches(split, range(4), seed=2)
    for others in (second, other_seed):
        assert any(
            np.any(labels != labels_2)
            for (_, labels), (_, labels_2) in zip(first, others, strict=True)
        )


def order_of(split, epoch, reference):
    """Returns which examples an epoch goes through, by their pixels."""
    ((images, labels),) = batches(
        split,
        range(epoch, epoch + 1),
        Data(
            image_size=32,
            crop_size=32,
            random_crop=False,
            horizontal_flip=False,
            shuffle_buffer=240,
        ),
        batch_size=240,
    )
    assert np.all(np.bincount(labels) == 20)
    return [reference[image.tobytes()] for image in images]


def test_an_epoch_is_a_permutation_without_correlation(split):
    everything = pipeline.evaluation_batches(
        split, batch_size=240, geometry=Geometry(32, 32), bad=NONE_BAD
    )
    images, _ = next(everything.as_numpy_iterator())
    reference = {image.tobytes(): n for n, image in enumerate(images)}
    orders = [order_of(split, epoch, reference) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(240))
        # Neighbors: of 239 independent pairs the correlation is 0.065 or so.
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.25
        assert abs(np.corrcoef(order, range(240))[0, 1]) < 0.25
    for one, other in [(0, 1), (1, 2), (0, 2)]:
        assert abs(np.corrcoef(orders[one], orders[other])[0, 1]) < 0.25


@pytest.mark.parametrize("batch_size", [1, 7, 240, 1000])
def test_evaluation_has_each_example_once(split, batch_size):
    dataset = pipeline.evaluation_batches(
        split, batch_size=batch_size, geometry=GEOMETRY, bad=NONE_BAD
    )
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    assert {len(batch) for batch in images} == {batch_size}
    images, labels = np.concatenate(images), np.concatenate(labels)
    assert np.all((labels >= 0) == (np.arange(len(labels)) < 240))
    flat = images[:240].reshape(240, -1)
    assert len(np.unique(flat, axis=0)) == 240
    assert not images[240:].any()


def test_ten_crops_come_beside_their_label(split):
    (images, labels), *_ = pipeline.evaluation_batches(
        split, batch_size=8, geometry=GEOMETRY, bad=NONE_BAD, ten_crops=True
    )
    assert images.shape == (8, 10, 32, 32, 3) and labels.shape == (8,)
    center, _ = next(
        iter(
            pipeline.evaluation_batches(
                split, batch_size=8, geometry=GEOMETRY, bad=NONE_BAD
            )
        )
    )
    np.testing.assert_array_equal(images[:, 0], center)
    np.testing.assert_array_equal(images[:, 5], center[:, :, ::-1])


def test_pixels_are_measured_as_numpy_measures_them(split):
    measured = measure_pixels(
        split, num_images=150, geometry=GEOMETRY, bad=NONE_BAD
    )
    dataset = pipeline.evaluation_batches(
        split, batch_size=150, geometry=GEOMETRY, bad=NONE_BAD
    )
    images, _ = next(dataset.as_numpy_iterator())
    pixels = images[:, ::4, ::4].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(measured.mean_rgb, pixels.mean(axis=0))
    np.testing.assert_allclose(
        measured.covariance_rgb, np.cov(pixels.T, bias=True)
    )
    np.testing.assert_allclose(
        measured.mean_image, images.mean(axis=0, dtype=np.float64)
    )
