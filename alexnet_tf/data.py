"""Batches of training and evaluation patches, with tf.data."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from alexnet_tf.preprocessing import Geometry, decode_patch, random_patch
from alexnet_tf.sources import Examples

_CORES = os.cpu_count() or 1


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    epochs: range,
    geometry: Geometry,
    flip: bool,
    shuffle_buffer: int,
    seed: int,
) -> tf.data.Dataset:
    """Returns the training batches of several epochs, one after another.

    Each batch is a function of the seed, the epoch and its place in it, so
    that a run that starts at a later epoch sees what it would have seen.

    Args:
        examples: The training split.
        batch_size: Images in a batch, over all replicas. Batches are always
            full: what is left of an epoch is dropped.
        epochs: The epochs to go through.
        geometry: Sizes of the patches.
        flip: Whether to mirror half of them.
        shuffle_buffer: Encoded images held for shuffling.
        seed: Seed of the order and of the patches.

    Returns:
        Dataset of (images, labels): uint8 (batch_size, crop_size, crop_size,
        3) and int64 (batch_size,).
    """
    full = examples.count // batch_size * batch_size

    def epoch_of_examples(epoch):
        return (
            # 1. All examples, in another order each epoch.
            examples.records.shuffle(
                shuffle_buffer,
                seed=seed + epoch * 1_000_003,
                reshuffle_each_iteration=False,
            )
            # 2. Full batches only.
            .take(full)
            # 3. A number for each example of the whole run.
            .enumerate(epoch * full)
        )

    def patch_and_label(number, example):
        patch = random_patch(
            example["image"],
            geometry,
            flip=flip,
            seed=tf.stack((tf.cast(seed, tf.int64), number)),
        )
        return patch, example["label"]

    return (
        tf.data.Dataset.range(epochs.start, epochs.stop)
        .flat_map(epoch_of_examples)
        # 4. A random patch of each: bytes -> uint8 (crop, crop, 3).
        .map(patch_and_label, num_parallel_calls=_CORES)
        # 5. (batch, crop, crop, 3), while the devices are busy with the last.
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
        .with_options(_options())
    )


def evaluation_batches(
    examples: Examples, *, batch_size: int, geometry: Geometry
) -> tf.data.Dataset:
    """Returns the centre patch of each example, exactly once.

    Args:
        examples: The split.
        batch_size: Images in a batch; the last one may be smaller.
        geometry: Sizes of the patches.

    Returns:
        As for `training_batches`.
    """
    return (
        examples.records.map(
            lambda example: (
                decode_patch(example["image"], geometry.centre, geometry),
                example["label"],
            ),
            num_parallel_calls=_CORES,
        )
        .batch(batch_size)
        .prefetch(2)
        .with_options(_options())
    )


def _options():
    options = tf.data.Options()
    # Autotuning blocks for up to seconds when an iterator ends, and that is
    # after each validation.
    options.autotune.enabled = False
    return options


def measure_colours(
    examples: Examples, *, num_images: int, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Measures the mean and covariance of RGB pixels.

    Args:
        examples: The training split.
        num_images: Images to measure, the first ones of the split.
        geometry: Sizes; centre patches are measured, every fourth pixel along
            both axes.

    Returns:
        Mean (3,) and covariance (3, 3), float64, of pixels in 0..255.
    """
    sums, products, pixels = np.zeros(3), np.zeros((3, 3)), 0
    for colours in _pixel_batches(examples, num_images, geometry):
        sums += colours.sum(axis=0)
        products += colours.T @ colours
        pixels += len(colours)
    mean = sums / pixels
    return mean, products / pixels - np.outer(mean, mean)


def _pixel_batches(examples, num_images, geometry) -> Iterator[np.ndarray]:
    sample = dataclasses.replace(
        examples, records=examples.records.take(num_images)
    )
    for images, _ in evaluation_batches(
        sample, batch_size=100, geometry=geometry
    ):
        yield images.numpy()[:, ::4, ::4].reshape(-1, 3).astype(np.float64)
