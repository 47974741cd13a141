"""The shapes data set: the same each time, balanced, and not solved cheaply."""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.datasets.shapes.render import CLASS_NAMES, render
from alexnet_tf.datasets.shapes.shapes import Shapes

CLASSES = len(CLASS_NAMES)


def draw(*, split, index):
    return render(index % CLASSES, np.random.default_rng([split, index]))


def build(data_dir):
    builder = Shapes(config="tiny", data_dir=data_dir)
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tiny"))


def records(builder, split):
    """Returns the examples of a split as they stand on disk, in order.

    TFDS writes the fields of an example in an order that changes from process
    to process; here they are sorted.
    """
    files = builder.info.splits[split].filepaths
    return [
        tf.train.Example.FromString(record).SerializeToString(
            deterministic=True
        )
        for record in tf.data.TFRecordDataset(
            [str(file) for file in files]
        ).as_numpy_iterator()
    ]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_two_builds_are_the_same_on_disk(tiny, tmp_path, split):
    again = build(tmp_path)
    assert records(again, split) == records(tiny, split)


def test_picture_is_the_one_of_its_split_and_index(tiny): ...


def test_equal_seeds_give_equal_pictures_and_others_do_not():
    picture = draw(split=0, index=5)
    np.testing.assert_array_equal(draw(split=0, index=5), picture)
    for split, index in ((1, 5), (0, 5 + CLASSES)):
        other = draw(split=split, index=index)
        assert not np.array_equal(other, picture)
