"""What `benchmark --target=input` measures: the ways to read training images."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks.step import speeds
from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import folders, prepared
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples, pipeline_options
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.models.layers import InputNormalization

_CORES = os.cpu_count() or 1
_FILES = 256
# What a measurement goes through.
_IMAGES = 4096
_MEAN = (120.0, 115.0, 105.0)
# Standard deviations of a color noise of about the paper's size.
_NOISE = np.diag((5.0, 4.0, 3.0)).tolist()

DECODING = "decoding the files only"
PLAIN = "plain: an image at a time, float32"
FILES = "JPEG files"
PREPARED = "prepared, JPEG"
RAW = "prepared, raw"
LAYER = "the first layer, of patches"


def write_examples(
    directory: Path, geometry: Geometry, batch_size: int
) -> dict[str, Examples]:
    """Writes images, and prepared sets of them, and opens them.

    Args:
        directory: Where to write the files, 500x375 pixels like ImageNet's.
        geometry: Sizes of the patches.
        batch_size: There are at least so many images.

    Returns:
        Splits by name, `FILES`, `PREPARED` and `RAW`.
    """
    print("Writing images...", flush=True)
    _write_images(directory / "files", max(_FILES, batch_size))
    files = folders.open_split(directory / "files", "train")
    splits = {FILES: files}
    for name, encoding in ((PREPARED, "jpeg"), (RAW, "raw")):
        manifest = {
            "format_version": prepared.FORMAT_VERSION,
            "image_size": geometry.image_size,
            "resize": "shorter_side",
            "encoding": encoding,
            "class_names": files.class_names,
            "splits": {},
        }
        target = directory / encoding
        prepared.write_split(target, manifest, "train", files, BadExamples())
        splits[name] = prepared.open_split(target, manifest, "train")
    return splits


def make_subjects(
    splits: dict[str, Examples],
    *,
    geometry: Geometry,
    batch_size: int,
) -> dict[str, Callable[[], int]]:
    """Returns the ways to read images.

    Args:
        splits: Of `write_examples`.
        geometry: Sizes of the patches.
        batch_size: Images in a batch.

    Returns:
        Functions that read some images and return how many, by name.
    """
    files = splits[FILES]
    names = next(iter(files.in_order(files.count)))["image"]
    datasets = {
        DECODING: _decode_only(names, batch_size),
        PLAIN: _plain(names, geometry, batch_size),
    }
    for name, examples in splits.items():
        datasets[name] = training_batches(
            examples,
            Data(image_size=geometry.image_size, crop_size=geometry.crop_size),
            batch_size=batch_size,
            steps=range(math.ceil(_IMAGES / batch_size)),
            seed=1,
        )
    return {
        **{name: _counting(dataset) for name, dataset in datasets.items()},
        LAYER: _first_layer(
            InputNormalization(_MEAN, _NOISE, seed=1),
            tf.zeros((batch_size, *geometry.patch_shape), tf.uint8),
        ),
    }


def _write_images(root, count):
    """Writes smooth images with grain, files of about 110 KB."""
    random = np.random.default_rng(0)
    (root / "train" / "class").mkdir(parents=True)
    for number in range(count):
        colors = random.integers(0, 256, (12, 16, 3))
        image = tf.image.resize(colors, (375, 500), method="bicubic").numpy()
        image += random.normal(0, 17.5, (375, 500, 1))
        encoded = tf.io.encode_jpeg(
            np.clip(image, 0, 255).astype(np.uint8), quality=92
        )
        file = root / "train" / "class" / f"{number:03d}.jpg"
        file.write_bytes(encoded.numpy())


def _repeated(names):
    return tf.data.Dataset.from_tensor_slices(names).repeat(
        math.ceil(_IMAGES / len(names))
    )


def _decode_only(names, batch_size):
    def decode(name):
        return tf.shape(tf.io.decode_jpeg(tf.io.read_file(name), channels=3))

    dataset = _repeated(names).map(decode, num_parallel_calls=_CORES)
    return dataset.batch(batch_size).with_options(pipeline_options())


def _plain(names, geometry, batch_size):
    """The paper's steps one after another, as most programs have them."""

    def patch(number, name):
        image = tf.io.decode_jpeg(tf.io.read_file(name), channels=3)
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = shape * geometry.image_size / tf.reduce_min(shape)
        image = tf.image.resize(image, tf.cast(tf.round(scaled), tf.int32))
        image = tf.image.resize_with_crop_or_pad(
            image, geometry.image_size, geometry.image_size
        )
        seeds = tf.stack((number, 0))
        image = tf.image.stateless_random_crop(
            image, geometry.patch_shape, seeds
        )
        image = tf.image.stateless_random_flip_left_right(image, seeds)
        noise = tf.random.stateless_normal((1, 3), seeds) @ tf.constant(_NOISE)
        return image - tf.constant(_MEAN) + noise[0]

    dataset = _repeated(names).enumerate().map(patch, num_parallel_calls=_CORES)
    return (
        dataset.batch(batch_size).prefetch(2).with_options(pipeline_options())
    )


def _counting(dataset):
    def count():
        images = 0
        for batch in dataset:
            images += tf.nest.flatten(batch)[0].shape[0]
        return images

    return count


def _first_layer(layer, images):
    """Makes conv1's input: subtracts the mean and adds noise."""
    call = tf.function(lambda images: layer(images, training=True))

    def measure():
        batches = math.ceil(_IMAGES / len(images))
        for _ in range(batches):
            call(images)
        return batches * len(images)

    return measure


def compare(measured: dict[str, np.ndarray]) -> list[dict]:
    """Returns a row for each way, with medians and spreads.

    Args:
        measured: Seconds and seconds of processor time an image, (rounds, 2).
    """
    wall = {name: np.median(times[:, 0]) for name, times in measured.items()}
    cpu = {name: np.median(times[:, 1]) for name, times in measured.items()}
    rows = []
    for name, times in measured.items():
        row = {
            "what": name,
            **speeds(times[:, 0]),
            "cpu_ms": 1000 * cpu[name],
        }
        if name in (FILES, PREPARED, RAW):
            row |= {
                "of_decoding": wall[DECODING] / wall[name],
                "of_plain": cpu[PLAIN] / cpu[name],
                # Plain patches are the network's input as they are.
                "of_plain_with_layer": cpu[PLAIN] / (cpu[name] + cpu[LAYER]),
            }
        rows.append(row)
    return rows


def as_table(rows: list[dict], batch_size: int) -> str:
    """Returns the rows of `compare` as text."""
    lines = [
        f"500x375 JPEG files, batches of {batch_size}, {_CORES} cores",
        f"{'':36}{'images/s':>9}{'(spread)':>16}{'CPU ms':>8}"
        f"{'of decoding':>13}{'of plain':>10}{'with layer':>12}",
    ]
    for row in rows:
        spread = f"({row['lowest']:.0f}-{row['highest']:.0f})"
        line = f"{row['what']:36}{row['images_per_second']:9.0f}{spread:>16}"
        line += f"{row['cpu_ms']:8.3f}"
        if "of_plain" in row:
            line += f"{row['of_decoding']:13.0%}{row['of_plain']:10.2f}"
            line += f"{row['of_plain_with_layer']:12.2f}"
        lines.append(line)
    lines.append(
        "of decoding: share of the rate of decoding only. of plain: how much "
        "less processor time\nan image takes than in the plain pipeline; with "
        "layer: counting what the network's first\nlayer does. A core feeds "
        "1000 / (CPU ms) images a second."
    )
    return "\n".join(lines)
