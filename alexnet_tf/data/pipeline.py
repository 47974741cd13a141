"""Batches of training and evaluation patches, with tf.data."""

import time
from functools import partial

import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.config.errors import printable
from alexnet_tf.data import decoding
from alexnet_tf.data.bad_examples import (
    BadExamples,
    decode_with_fallback,
    replace_bad,
    report_failures,
)
from alexnet_tf.data.examples import CORES, Examples, pipeline_options
from alexnet_tf.data.shuffling import shuffled_rows

# The label of what fills up the last batch.
PADDING_LABEL = -2


class InputClock:
    """Records when batches are ready, to measure how late they are."""

    def __init__(self):
        self._ready = {}

    def watch(self, batches: tf.data.Dataset, first: int) -> tf.data.Dataset:
        """Returns the same batches, with times recorded from number `first`."""

        def record(number, batch):
            recorded = tf.py_function(self._record, [number], ())
            with tf.control_dependencies([recorded]):
                return tf.nest.map_structure(tf.identity, batch)

        return batches.enumerate(first).map(record)

    def _record(self, number):
        self._ready[int(number)] = time.perf_counter()

    def waited(self, number: int, since: float) -> float:
        """Returns the seconds from `since` until a batch was ready, at least 0.

        `since` is when it was needed, by `time.perf_counter`. The batch's time
        is then discarded.
        """
        return max(0.0, self._ready.pop(number, since) - since)


def training_batches(
    examples: Examples,
    data: Data,
    *,
    batch_size: int,
    steps: range,
    seed: int,
    bad: BadExamples | None = None,
    clock: InputClock | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns the training batches of some steps.

    Each batch is a function of the seed and the step, so that a resumed run
    sees the same batches as an uninterrupted one. The preceding good example
    replaces a bad one.

    Args:
        examples: The training split.
        data: Sizes of the patches, augmentation and shuffle buffer.
        batch_size: Images in a batch, over all replicas. Batches are always
            full: the remainder of an epoch is dropped.
        steps: The steps, counted from the start of the run.
        seed: Seed of the order and of the patches.
        bad: Records the examples that cannot be used; default: no record.
        clock: Records when batches are ready.
        shard: Index and number of the equal parts into which the workers
            divide each batch.

    Returns:
        Dataset of (images, labels): uint8 (batch_size, crop_size, crop_size,
        3) and int64 (batch_size,), or the given part of that.
    """
    geometry, bad = data.geometry, bad or BadExamples()
    shape = geometry.patch_shape

    def patch(decode, encoded, offset, mirrored):
        return decoding.mirror(decode(encoded, offset, geometry), mirrored)

    def random_patches(seeds, positions, rows):
        crop, flip = data.random_crop, data.horizontal_flip
        places = decoding.draw_places(
            batch_size, geometry, crop=crop, flip=flip, seed=seeds
        )
        firsts = positions - positions % data.augment_chunk
        offsets, mirrored = (tf.gather(each, firsts) for each in places)
        if examples.cut:
            size = geometry.crop_size
            images = examples.cut(rows["index"], offsets, mirrored, size)
            return images, rows["label"]
        return _decode_views(
            *(patch, examples, rows, shape, bad, data.max_image_pixels),
            *(offsets, mirrored),
        )

    batches = (
        # 1. A few examples at a time, in the order of their epoch.
        shuffled_rows(
            *(examples, batch_size, steps, data.shuffle_buffer, seed, shard),
            order=data.order,
        )
        # 2. A random patch of each: bytes -> uint8 (rows, crop, crop, 3).
        .map(random_patches, num_parallel_calls=CORES)
        # 3. Whole batches of them.
        .rebatch(batch_size // shard[1], drop_remainder=True)
        # 4. Good examples in place of bad ones.
        .map(replace_bad)
        # 5. One batch per step; anything else is an error.
        .apply(tf.data.experimental.assert_cardinality(len(steps)))
    )
    if clock:
        batches = clock.watch(batches, steps.start)
    # 6. Ahead of the devices, while they are busy.
    return batches.prefetch(2).with_options(pipeline_options())


def names_of_step(
    examples: Examples, data: Data, *, batch_size: int, step: int, seed: int
) -> list[str]:
    """Returns the names of a step's examples, see `training_batches`."""
    steps, buffer = range(step, step + 1), data.shuffle_buffer
    chunks = shuffled_rows(
        examples, batch_size, steps, buffer, seed, order=data.order
    )
    return [printable(n) for *_, rows in chunks for n in rows["name"].numpy()]


def evaluation_batches(
    examples: Examples,
    *,
    batch_size: int,
    geometry: Geometry,
    bad: BadExamples,
    ten_crops: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns the center patch, or ten patches, of each example, exactly once.

    Batches and shards are as in `training_batches`; with `ten_crops` images are
    (batch_size, 10, crop_size, crop_size, 3), see `decoding.ten_patches`. The
    label of a bad example is BAD_LABEL. Black patches with the label
    PADDING_LABEL fill up the last batch: a replica without examples fails in
    TensorFlow's convolutions.
    """
    index, num_shards = shard
    rows_per_batch = batch_size // num_shards
    shape = (10, *geometry.patch_shape) if ten_crops else geometry.patch_shape

    def view(decode, encoded):
        if ten_crops:
            return decoding.ten_patches(encoded, geometry, decode)
        return decode(encoded, geometry.center, geometry)

    def views(rows):
        if examples.cut:
            return _cut_views(examples, rows, geometry, shape), rows["label"]
        limit = geometry.max_image_pixels
        return _decode_views(view, examples, rows, shape, bad, limit)

    def pad(images, labels):
        missing = rows_per_batch - tf.size(labels)
        labels = tf.pad(labels, [[0, missing]], constant_values=PADDING_LABEL)
        images = tf.pad(images, [[0, missing], *([[0, 0]] * len(shape))])
        images = tf.ensure_shape(images, (rows_per_batch, *shape))
        return images, tf.ensure_shape(labels, (rows_per_batch,))

    # The last shards may have nothing left in the last batch.
    empty = tf.zeros((0, *shape), tf.uint8), tf.zeros((0,), tf.int64)
    num_batches = -(-examples.count // batch_size)
    return (
        examples.in_order(rows_per_batch)
        .shard(num_shards, index)
        .map(views, num_parallel_calls=CORES)
        .concatenate(tf.data.Dataset.from_tensors(empty))
        .map(pad)
        .take(num_batches)
        .apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(2)
        .with_options(pipeline_options())
    )


def _decode_views(view, examples, rows, shape, bad, max_pixels, *columns):
    """Returns views of some examples, uint8 (n, *shape), and their labels.

    `view` makes one from a decoder such as `decode_patch`, an encoded image,
    and a row of `columns`.
    """

    def load_and_view(decode, image, *values):
        return view(decode, examples.load(image), *values)

    fast = decoding.decode_usual_patch
    if examples.squares:
        fast = decoding.decode_square_patch
    images, ok = decode_with_fallback(
        partial(load_and_view, fast),
        partial(load_and_view, decoding.decode_patch),
        (rows["image"], *columns),
        tf.zeros(shape, tf.uint8),
    )
    return images, report_failures(examples, rows, ok, bad, max_pixels)


def _cut_views(examples, rows, geometry, shape):
    """Cuts the center patches, or the ten, out of decoded squares."""
    offsets, mirrored = [geometry.center], [False]
    if len(shape) > 3:
        offsets = 2 * [geometry.center, *geometry.corners]
        mirrored = 5 * [False] + 5 * [True]
    count = tf.size(rows["index"])
    indices = tf.repeat(rows["index"], len(offsets))
    offsets = tf.tile(offsets, (count, 1))
    mirrored = tf.tile(mirrored, (count,))
    patches = examples.cut(indices, offsets, mirrored, geometry.crop_size)
    return tf.reshape(patches, (-1, *shape))
