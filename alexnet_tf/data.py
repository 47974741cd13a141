"""Batches of training and evaluation patches, with tf.data."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from alexnet_tf.bad_examples import BadExamples, decode_or_note, replace_bad
from alexnet_tf.errors import UserError
from alexnet_tf.preprocessing import (
    Geometry,
    decode_patch,
    random_patch,
    ten_patches,
)
from alexnet_tf.sources import Examples

_CORES = os.cpu_count() or 1
# The label of what fills up a batch.
FILLING = -2
# Examples read at once from a split that can be read in any order.
_FETCHED_AT_ONCE = 64


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    steps: range,
    geometry: Geometry,
    crop: bool,
    flip: bool,
    shuffle_buffer: int,
    seed: int,
    bad: BadExamples,
) -> tf.data.Dataset:
    """Returns the training batches of some steps.

    Each batch is a function of the seed and the step, so that a run that
    starts at a later step sees what it would have seen.

    Args:
        examples: The training split.
        batch_size: Images in a batch, over all replicas. Batches are always
            full: what is left of an epoch is dropped.
        steps: The steps to go through, counted from the start of the run.
        geometry: Sizes of the patches.
        crop: Whether their places are random; if not, they are the centre.
        flip: Whether to mirror half of them.
        shuffle_buffer: Encoded images held for shuffling a split that can
            only be read in order.
        seed: Seed of the order and of the patches.
        bad: Where examples are noted that cannot be used.

    Returns:
        Dataset of (images, labels): uint8 (batch_size, crop_size, crop_size,
        3) and int64 (batch_size,). The place of a bad example is taken by
        another one of its batch.
    """

    def patch_and_label(number, example):
        return decode_or_note(
            lambda encoded, seeds: random_patch(
                encoded, geometry, crop=crop, flip=flip, seed=seeds
            ),
            example,
            tf.stack((tf.cast(seed, tf.int64), number)),
            shape=geometry.patch_shape,
            num_classes=len(examples.class_names),
            bad=bad,
        )

    # 1. The examples of the steps, numbered, in another order each epoch.
    numbers = range(steps.start * batch_size, steps.stop * batch_size)
    per_epoch = examples.count // batch_size * batch_size
    if examples.fetch:
        numbered = _fetched(examples, numbers, per_epoch, seed)
    else:
        numbered = _read(examples, numbers, per_epoch, seed, shuffle_buffer)
    return (
        # 2. A random patch of each: bytes -> uint8 (crop, crop, 3).
        numbered.map(patch_and_label, num_parallel_calls=_CORES)
        # 3. (batch, crop, crop, 3), while the devices are busy with the last.
        .batch(batch_size, drop_remainder=True)
        .map(replace_bad)
        .prefetch(2)
        .with_options(_options())
    )


def _fetched(examples, numbers, per_epoch, seed):
    """Shuffles a split that can be read in any order: a permutation."""

    def index(number):
        epoch, place = number // per_epoch, number % per_epoch
        seeds = tf.stack((tf.cast(seed, tf.int64), epoch))
        return tf.random.experimental.index_shuffle(
            place, seeds, max_index=tf.cast(examples.count - 1, tf.int64)
        )

    dataset = tf.data.Dataset.range(numbers.start, numbers.stop)
    fetched = (
        dataset.map(index)
        .batch(_FETCHED_AT_ONCE)
        .map(examples.fetch, num_parallel_calls=_CORES)
        .unbatch()
    )
    return tf.data.Dataset.zip(dataset, fetched)


def _read(examples, numbers, per_epoch, seed, shuffle_buffer):
    """Shuffles a split that is read in order, as far as the buffer reaches."""

    def epoch_of_examples(epoch):
        first, last = epoch * per_epoch, (epoch + 1) * per_epoch
        done = tf.maximum(first, numbers.start)
        return (
            examples.records.shuffle(
                shuffle_buffer,
                seed=seed + epoch * 1_000_003,
                reshuffle_each_iteration=False,
            )
            # Skipped before they are decoded.
            .skip(done - first)
            .take(tf.minimum(last, numbers.stop) - done)
            .enumerate(done)
        )

    epochs = range(numbers.start // per_epoch, -(-numbers.stop // per_epoch))
    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(
        epoch_of_examples
    )


def evaluation_batches(
    examples: Examples,
    *,
    batch_size: int,
    geometry: Geometry,
    bad: BadExamples,
    ten_crops: bool = False,
) -> tf.data.Dataset:
    """Returns the centre patch, or the ten, of each example, exactly once.

    The last batch is filled up with black patches whose label is FILLING: a
    replica without examples fails in TensorFlow's convolutions.

    Args:
        examples: The split.
        batch_size: Examples in a batch.
        geometry: Sizes of the patches.
        bad: Where examples are noted that cannot be used.
        ten_crops: Whether to return `preprocessing.ten_patches`.

    Returns:
        As for `training_batches`; with ten crops the images have the shape
        (batch_size, 10, crop_size, crop_size, 3).
    """

    def decode(encoded):
        if ten_crops:
            return ten_patches(encoded, geometry)
        return decode_patch(encoded, geometry.centre, geometry)

    def patches_and_label(example):
        shape = geometry.patch_shape
        return decode_or_note(
            decode,
            example,
            shape=(10, *shape) if ten_crops else shape,
            num_classes=len(examples.class_names),
            bad=bad,
        )

    batches = examples.records.map(patches_and_label, num_parallel_calls=_CORES)
    images, _ = batches.element_spec
    filling = tf.data.Dataset.from_tensors(
        (tf.zeros(images.shape, tf.uint8), tf.constant(FILLING, tf.int64))
    )
    return (
        batches.concatenate(filling.repeat(-examples.count % batch_size))
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
        .with_options(_options())
    )


def _options():
    options = tf.data.Options()
    # Autotuning blocks for up to seconds when an iterator ends, and that is
    # after each validation.
    options.autotune.enabled = False
    return options


@dataclasses.dataclass(frozen=True)
class PixelStatistics:
    """What was measured on a sample of centre patches, in 0..255, float64.

    Args:
        mean_image: Mean of each pixel, (crop_size, crop_size, 3).
        mean_rgb: Mean colour, (3,).
        covariance_rgb: Covariance of the colours of pixels, (3, 3).
    """

    mean_image: np.ndarray
    mean_rgb: np.ndarray
    covariance_rgb: np.ndarray


def measure_pixels(
    examples: Examples,
    *,
    num_images: int,
    geometry: Geometry,
    bad: BadExamples,
) -> PixelStatistics:
    """Measures the means and the covariance of RGB pixels.

    Args:
        examples: The training split.
        num_images: Images to measure, the first ones of the split.
        geometry: Sizes of the patches. The colours are those of every fourth
            pixel along both axes.
        bad: Where examples are noted that cannot be used.

    Raises:
        UserError: if none of the images can be used.
    """
    sample = dataclasses.replace(
        examples,
        records=examples.records.take(num_images),
        count=min(num_images, examples.count),
    )
    image_sum, products, images, pixels = 0, np.zeros((3, 3)), 0, 0
    colour_sum = np.zeros(3)
    for batch, labels in evaluation_batches(
        sample, batch_size=100, geometry=geometry, bad=bad
    ):
        batch = batch.numpy()[labels.numpy() >= 0]
        image_sum += batch.sum(axis=0, dtype=np.float64)
        images += len(batch)
        colours = batch[:, ::4, ::4].reshape(-1, 3).astype(np.float64)
        colour_sum += colours.sum(axis=0)
        products += colours.T @ colours
        pixels += len(colours)
        bad.check()
    if not images:
        raise UserError(
            f"none of the first {sample.count} training images can be used; "
            f"{bad.file} says why."
        )
    mean = colour_sum / pixels
    return PixelStatistics(
        mean_image=image_sum / images,
        mean_rgb=mean,
        covariance_rgb=products / pixels - np.outer(mean, mean),
    )
