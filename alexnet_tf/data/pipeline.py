"""Batches of training and evaluation patches, with tf.data."""

import os
from functools import partial

import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data.bad_examples import BadExamples, decode_each, replace_bad
from alexnet_tf.data.decoding import (
    decode_patch,
    decode_square_patch,
    decode_usual_patch,
    draw_places,
    mirror,
    ten_patches,
)
from alexnet_tf.data.examples import Examples, pipeline_options
from alexnet_tf.data.input_clock import InputClock
from alexnet_tf.data.shuffling import shuffled_rows

_CORES = os.cpu_count() or 1
# The label of what fills up a batch.
PADDING_LABEL = -2


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
    sees what it would have seen.

    Args:
        examples: The training split.
        data: Sizes of the patches, augmentation and shuffle buffer.
        batch_size: Images in a batch, over all replicas. Batches are always
            full: the remainder of an epoch is dropped.
        steps: The steps, counted from the start of the run.
        seed: Seed of the order and of the patches.
        bad: Records the examples that cannot be used; by default they are
            left out without a record.
        clock: Notes when batches are ready.
        shard: Index and number of the equal parts of each batch that workers
            share.

    Returns:
        Dataset of (images, labels): uint8 (batch_size, crop_size, crop_size,
        3) and int64 (batch_size,), or the given part of that. The preceding
        good example replaces a bad one.
    """
    geometry, bad = data.geometry, bad or BadExamples()

    def random_patches(seeds, places, rows):
        offsets, mirrored = (
            tf.gather(of_batch, places)
            for of_batch in draw_places(
                batch_size,
                geometry,
                crop=data.random_crop,
                flip=data.horizontal_flip,
                seed=seeds,
            )
        )
        if examples.cut:
            images = examples.cut(
                rows["image"], offsets, mirrored, geometry.crop_size
            )
            return images, rows["label"]
        return decode_each(
            [
                lambda encoded, offset, mirrored, decode=decode: mirror(
                    decode(encoded, offset, geometry), mirrored
                )
                for decode in _decoders(examples)
            ],
            examples,
            rows,
            offsets,
            mirrored,
            instead=tf.zeros(geometry.patch_shape, tf.uint8),
            bad=bad,
        )

    batches = (
        # 1. Some examples at a time, in another order each epoch.
        shuffled_rows(
            examples,
            batch_size=batch_size,
            steps=steps,
            shuffle_buffer=data.shuffle_buffer,
            seed=seed,
            shard=shard,
        )
        # 2. A random patch of each: bytes -> uint8 (rows, crop, crop, 3).
        .map(random_patches, num_parallel_calls=_CORES)
        # 3. Whole batches of them.
        .rebatch(batch_size // shard[1], drop_remainder=True)
        # 4. Others of them for bad ones.
        .map(replace_bad)
        # 5. Not a batch more or less, or it is an error.
        .apply(tf.data.experimental.assert_cardinality(len(steps)))
    )
    if clock:
        batches = clock.watch(batches, steps.start)
    # 6. While the devices are busy with the last.
    return batches.prefetch(2).with_options(pipeline_options())


def names_of_step(
    examples: Examples, data: Data, *, batch_size: int, step: int, seed: int
) -> list[str]:
    """Returns the names of a step's examples, see `training_batches`."""
    rows = shuffled_rows(
        examples,
        batch_size=batch_size,
        steps=range(step, step + 1),
        shuffle_buffer=data.shuffle_buffer,
        seed=seed,
    )
    return [
        name.decode(errors="replace")
        for *_, some in rows
        for name in some["name"].numpy()
    ]


def evaluation_batches(
    examples: Examples,
    *,
    batch_size: int,
    geometry: Geometry,
    bad: BadExamples,
    ten_crops: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns the center patch, or the ten, of each example, exactly once.

    The last batch is filled up with black patches whose label is PADDING_LABEL: a
    replica without examples fails in TensorFlow's convolutions.

    Args:
        examples: The split.
        batch_size: Examples in a batch.
        geometry: Sizes of the patches.
        bad: Where examples are noted that cannot be used.
        ten_crops: Whether to return `preprocessing.ten_patches`.
        shard: Which part of each batch, from 0, of how many equal ones.

    Returns:
        As for `training_batches`; with ten crops the images have the shape
        (batch_size, 10, crop_size, crop_size, 3). The label of a bad example
        is BAD_LABEL.
    """
    part, parts = shard
    rows = batch_size // parts
    shape = geometry.patch_shape
    if ten_crops:
        shape = (10, *shape)

    def look(encoded, decode):
        if ten_crops:
            return ten_patches(encoded, geometry, decode)
        return decode(encoded, geometry.center, geometry)

    def patches(rows):
        if examples.cut:
            return _cut_views(examples, rows, geometry, shape), rows["label"]
        return decode_each(
            [partial(look, decode=decode) for decode in _decoders(examples)],
            examples,
            rows,
            instead=tf.zeros(shape, tf.uint8),
            bad=bad,
        )

    def fill_up(images, labels):
        missing = rows - tf.size(labels)
        labels = tf.pad(labels, [[0, missing]], constant_values=PADDING_LABEL)
        images = tf.pad(images, [[0, missing], *([[0, 0]] * len(shape))])
        return (
            tf.ensure_shape(images, (rows, *shape)),
            tf.ensure_shape(labels, (rows,)),
        )

    # Of the last batch there may be nothing left for the last parts.
    nothing = tf.zeros((0, *shape), tf.uint8), tf.zeros((0,), tf.int64)
    num_batches = -(-examples.count // batch_size)
    return (
        examples.in_order(rows)
        .shard(parts, part)
        .map(patches, num_parallel_calls=_CORES)
        .concatenate(tf.data.Dataset.from_tensors(nothing))
        .map(fill_up)
        .take(num_batches)
        .apply(tf.data.experimental.assert_cardinality(num_batches))
        .prefetch(2)
        .with_options(pipeline_options())
    )


def _decoders(examples):
    """Returns a fast one and one for all images."""
    fast = decode_square_patch if examples.squares else decode_usual_patch
    return fast, decode_patch


def _cut_views(examples, rows, geometry, shape):
    """Returns the views of decoded squares: the center patches, or the ten."""
    if len(shape) == 3:
        views, mirrored = [geometry.center], [False]
    else:
        views = 2 * [geometry.center, *geometry.corners]
        mirrored = 5 * [False] + 5 * [True]
    count = tf.size(rows["image"])
    patches = examples.cut(
        tf.repeat(rows["image"], len(views)),
        tf.tile(views, (count, 1)),
        tf.tile(mirrored, (count,)),
        geometry.crop_size,
    )
    return tf.reshape(patches, (-1, *shape))
