"""Batches of training and evaluation patches, with tf.data."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from alexnet_tf.examples import Examples, PixelStatistics
from alexnet_tf.preprocessing import (
    Geometry,
    decode_patch,
    random_patch,
    slice_patch,
    ten_patches,
)

_CORES = os.cpu_count() or 1


def training_batches(
    examples: Examples,
    *,
    batch_size: int,
    epochs: range,
    geometry: Geometry,
    crop: bool,
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
        crop: Whether their places are random; if not, they are the centre.
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
            crop=crop,
            flip=flip,
            seed=tf.stack((tf.cast(seed, tf.int64), number)),
            decode=_decoder(examples),
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
    examples: Examples,
    *,
    batch_size: int,
    geometry: Geometry,
    ten_crops: bool = False,
) -> tf.data.Dataset:
    """Returns the centre patch, or the ten, of each example, exactly once.

    The last batch is filled up with black patches whose label is -1: a
    replica without examples fails in TensorFlow's convolutions.

    Args:
        examples: The split.
        batch_size: Examples in a batch.
        geometry: Sizes of the patches.
        ten_crops: Whether to return `preprocessing.ten_patches`.

    Returns:
        As for `training_batches`; with ten crops the images have the shape
        (batch_size, 10, crop_size, crop_size, 3).
    """

    def patches_and_label(example):
        encoded, label = example["image"], example["label"]
        decode = _decoder(examples)
        if ten_crops:
            return ten_patches(encoded, geometry, decode=decode), label
        return decode(encoded, geometry.centre, geometry), label

    batches = examples.records.map(patches_and_label, num_parallel_calls=_CORES)
    images, label = batches.element_spec
    filling = tf.data.Dataset.from_tensors(
        (tf.zeros(images.shape, images.dtype), tf.constant(-1, label.dtype))
    )
    return (
        batches.concatenate(filling.repeat(-examples.count % batch_size))
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
        .with_options(_options())
    )


def _decoder(examples):
    return slice_patch if examples.raw_size else decode_patch


def _options():
    options = tf.data.Options()
    # Autotuning blocks for up to seconds when an iterator ends, and that is
    # after each validation.
    options.autotune.enabled = False
    return options


def measure_pixels(
    examples: Examples, *, num_images: int, geometry: Geometry, stride: int = 4
) -> PixelStatistics:
    """Measures the means and the covariance of RGB pixels of centre patches.

    All sums are of integers and exact, so their order makes no difference.

    Args:
        examples: The training split.
        num_images: Images to measure, the first ones of the split.
        geometry: Sizes of the patches.
        stride: The colours are those of every so many-th pixel along both
            axes.
    """
    sample = dataclasses.replace(
        examples,
        records=examples.records.take(num_images),
        count=min(num_images, examples.count),
    )

    def sums(images, labels):
        images = tf.boolean_mask(images, labels >= 0)
        colours = tf.reshape(images[:, ::stride, ::stride], (-1, 3))
        colours = tf.cast(colours, tf.float64)
        return (
            tf.reduce_sum(tf.cast(images, tf.int64), axis=0),
            tf.reduce_sum(colours, axis=0),
            tf.matmul(colours, colours, transpose_a=True),
            len(colours),
        )

    # Small batches: several are measured at a time, in float64.
    batches = evaluation_batches(sample, batch_size=20, geometry=geometry)
    image_sum, colour_sum, products, pixels = 0, 0, 0, 0
    for part in batches.map(
        sums, num_parallel_calls=_CORES
    ).as_numpy_iterator():
        image_sum += part[0]
        colour_sum += part[1]
        products += part[2]
        pixels += part[3]
    mean = colour_sum / pixels
    return PixelStatistics(
        mean_image=image_sum / sample.count,
        mean_rgb=mean,
        covariance_rgb=products / pixels - np.outer(mean, mean),
    )
