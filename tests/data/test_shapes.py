"""The shapes data set: reproducible, balanced, and not trivial."""

import concurrent.futures
import itertools

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data.shapes.render import CLASS_NAMES, render
from alexnet_tf.data.shapes.shapes import Shapes

SPLITS = ("train", "validation")


def draw(split, index):
    rng = np.random.default_rng([SPLITS.index(split), index])
    return render(index % 12, rng)


def build(data_dir):
    builder = Shapes(config="tiny", data_dir=data_dir)
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def tiny(data_dir):
    return build(data_dir)


def test_pictures_are_a_function_of_their_seed():
    picture = draw("train", 5)
    np.testing.assert_array_equal(draw("train", 5), picture)
    assert not np.array_equal(draw("train", 17), picture)
    assert not np.array_equal(draw("validation", 5), picture)


def test_sizes_and_aspect_ratios_vary():
    pictures = [draw("train", index) for index in range(100)]
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint8)}
    height, width, channels = np.array([p.shape for p in pictures]).T
    assert set(channels) == {3}
    short, long = np.minimum(height, width), np.maximum(height, width)
    assert 200 <= short.min() < 220 and 280 < short.max() <= 300
    aspect = long / short
    assert 1 <= aspect.min() < 1.1 and 1.5 < aspect.max() <= 1.6
    assert 0.3 < np.mean(height < width) < 0.7


def test_any_two_cues_determine_the_class_and_no_single_one_does():
    cues = list(zip(*(name.split("_") for name in CLASS_NAMES), strict=True))
    for one, other in itertools.combinations(cues, 2):
        assert len(set(zip(one, other, strict=True))) == 12
    assert sorted(len(set(cue)) for cue in cues) == [3, 4, 4]


def test_two_builds_are_the_same_on_disk(tiny, tmp_path):
    def records(builder):
        # In their order on disk. TFDS writes the fields of an example in an
        # order that changes from process to process; here they are sorted.
        splits = builder.info.splits
        files = [str(f) for name in SPLITS for f in splits[name].filepaths]
        return [
            tf.train.Example.FromString(record).SerializeToString(
                deterministic=True
            )
            for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
        ]

    assert records(build(tmp_path)) == records(tiny)


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced_and_names_tell_the_picture(tiny, split):
    names, labels = [], []
    for example in tiny.as_dataset(split=split).as_numpy_iterator():
        names.append(example["file_name"].decode())
        labels.append(example["label"])
        index = int(names[-1].removeprefix(f"{split}_").removesuffix(".jpeg"))
        picture = draw(split, index)
        assert example["image"].shape == picture.shape
        # JPEG is lossy.
        difference = example["image"].astype(float) - picture
        assert np.abs(difference).mean() < 6
        assert labels[-1] == index % 12
    each = {"train": 20, "validation": 5}[split]
    np.testing.assert_array_equal(np.bincount(labels), [each] * 12)
    assert len(set(names)) == len(names)


def test_classes_of_the_full_set_are_balanced():
    full = Shapes.BUILDER_CONFIGS[0]
    assert (full.name, full.train, full.validation) == ("full", 6000, 1200)
    assert full.train % 12 == full.validation % 12 == 0


def thumbnail(picture):
    """Averages the central square over 16x16 blocks."""
    side = min(picture.shape[:2]) // 16
    top, left = (np.array(picture.shape[:2]) - 16 * side) // 2
    square = picture[top : top + 16 * side, left : left + 16 * side]
    return square.reshape(16, side, 16, side, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def thumbnails():
    """Thumbnails of 2,400 training and 600 validation pictures."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:

        def drawn(split, count):
            jobs = pool.map(lambda i: thumbnail(draw(split, i)), range(count))
            return np.array(list(jobs))

        return drawn("train", 2400), drawn("validation", 600)


def linear_error(train, validation):
    """Returns the validation error of the best of some ridge regressions."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    train, validation = (train - mean) / std, (validation - mean) / std
    targets = np.eye(12)[np.arange(len(train)) % 12]
    moments, products = train.T @ train, train.T @ targets
    errors = []
    for decay in (1e-3, 1e-2, 1e-1, 1, 10):
        ridge = decay * len(train) * np.eye(len(moments))
        scores = validation @ np.linalg.solve(moments + ridge, products)
        wrong = scores.argmax(axis=1) != np.arange(len(validation)) % 12
        errors.append(wrong.mean())
    return min(errors)


def test_linear_error_is_small_where_the_class_shows():
    rng = np.random.default_rng(0)
    train, validation = (
        np.eye(12)[np.arange(count) % 12] + rng.normal(0, 0.2, (count, 12))
        for count in (2400, 600)
    )
    assert linear_error(train, validation) < 0.1


@pytest.mark.slow
def test_neither_mean_color_nor_thumbnail_shows_the_class(thumbnails):
    means = [pixels.mean(axis=(1, 2)) for pixels in thumbnails]
    flat = [pixels.reshape(len(pixels), -1) for pixels in thumbnails]
    errors = {"mean RGB": linear_error(*means), "16x16": linear_error(*flat)}
    print(f"validation error of ridge regression, chance 0.917: {errors}")
    assert min(errors.values()) > 0.6
