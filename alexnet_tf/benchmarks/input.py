"""Ways to read training images."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks.timing import Times, speed_table
from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import folders, prepared
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import CORES, Examples, pipeline_options
from alexnet_tf.data.formats import JPEG_OPTIONS
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.models.layers import InputNormalization

_FILES = 256
# Images per measurement.
_IMAGES = 4096
_MEAN = (120.0, 115.0, 105.0)
# Standard deviations of color noise of about the paper's size.
_NOISE = np.diag((5.0, 4.0, 3.0)).tolist()

DECODING = "decoding the files only"
DEFAULT_DCT = "the same, TensorFlow's default method"
PLAIN = "plain: an image at a time, float32"
FILES = "JPEG files"
PREPARED = "prepared, JPEG"
RAW = "prepared, raw"
LAYER = "the first layer, of patches"


def write_examples(
    directory: Path, geometry: Geometry, batch_size: int
) -> dict[str, Examples]:
    """Writes and returns the splits `FILES`, `PREPARED` and `RAW`.

    They have at least a batch of the same images, of 500x375 pixels.
    """
    print("Writing images...", flush=True)
    _write_images(directory / "files", max(_FILES, batch_size))
    files = folders.open_split(directory / "files", "train+validation")
    splits = {FILES: files}
    for name, encoding in ((PREPARED, "jpeg"), (RAW, "raw")):
        manifest = {
            "format_version": prepared.FORMAT_VERSION,
            "image_size": geometry.image_size,
            "resize": "shorter_side",
            "exif_orientation": True,
            "max_image_pixels": geometry.max_image_pixels,
            "encoding": encoding,
            "class_names": files.class_names,
            "splits": {},
        }
        target = directory / encoding
        prepared.write_split(target, manifest, "train", files, BadExamples())
        splits[name] = prepared.open_split(target, manifest, "train")
    return splits


def _write_images(root, count):
    """Writes smooth images with grain, files of about 110 KB."""
    folders = [root / "train" / name for name in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        colors = random.integers(0, 256, (12, 16, 3))
        image = tf.image.resize(colors, (375, 500), method="bicubic").numpy()
        image += random.normal(0, 17.5, (375, 500, 1))
        image = np.clip(image, 0, 255).astype(np.uint8)
        encoded = tf.io.encode_jpeg(image, quality=92)
        file = folders[number % 2] / f"{number:03d}.jpg"
        file.write_bytes(encoded.numpy())


def make_subjects(
    splits: Mapping[str, Examples], geometry: Geometry, batch_size: int
) -> dict[str, Callable]:
    """Returns the ways to read the images of `write_examples`.

    These are functions that read images and return their number, by name.
    """
    files = splits[FILES]
    names = next(iter(files.in_order(files.count)))["image"]
    repeats = math.ceil(_IMAGES / files.count)
    names = tf.data.Dataset.from_tensor_slices(names).repeat(repeats)
    datasets = {
        DECODING: _decode_only(names, files.load, batch_size, JPEG_OPTIONS),
        DEFAULT_DCT: _decode_only(
            names, files.load, batch_size, {"channels": 3}
        ),
        PLAIN: _plain(names, files.load, geometry, batch_size),
    }
    data = Data(image_size=geometry.image_size, crop_size=geometry.crop_size)
    steps = range(math.ceil(_IMAGES / batch_size))
    for name, examples in splits.items():
        datasets[name] = training_batches(
            examples, data, batch_size=batch_size, steps=steps, seed=1
        )
    patches = tf.zeros((batch_size, *geometry.patch_shape), tf.uint8)
    layer = InputNormalization(_MEAN, _NOISE, seed=1)
    normalize = tf.function(partial(layer, training=True))
    subjects = {name: partial(_read, ds) for name, ds in datasets.items()}
    return {**subjects, LAYER: partial(_normalize, normalize, patches)}


def _decode_only(names, load, batch_size, options):
    def decode(name):
        return tf.shape(tf.io.decode_jpeg(load(name), **options))

    dataset = names.map(decode, num_parallel_calls=CORES)
    return dataset.batch(batch_size).with_options(pipeline_options())


def _plain(names, load, geometry, batch_size):
    """Takes the paper's steps one by one, as most programs do."""
    size, patch_shape = geometry.image_size, geometry.patch_shape

    def patch(number, name):
        image = tf.io.decode_jpeg(load(name), **JPEG_OPTIONS)
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = shape * size / tf.reduce_min(shape)
        image = tf.image.resize(image, tf.cast(tf.round(scaled), tf.int32))
        image = tf.image.resize_with_crop_or_pad(image, size, size)
        seeds = tf.stack((number, 0))
        image = tf.image.stateless_random_crop(image, patch_shape, seeds)
        image = tf.image.stateless_random_flip_left_right(image, seeds)
        noise = tf.random.stateless_normal((1, 3), seeds) @ tf.constant(_NOISE)
        return image - tf.constant(_MEAN) + noise[0]

    dataset = names.enumerate().map(patch, num_parallel_calls=CORES)
    dataset = dataset.batch(batch_size).prefetch(2)
    return dataset.with_options(pipeline_options())


def _read(dataset):
    return sum(tf.nest.flatten(batch)[0].shape[0] for batch in dataset)


def _normalize(normalize, patches):
    batches = math.ceil(_IMAGES / len(patches))
    for _ in range(batches):
        normalize(patches)
    return batches * len(patches)


def compare(measured: Mapping[str, Times]) -> list[dict]:
    """Returns a row of speeds for each way to read."""
    wall = {name: np.median(times.wall) for name, times in measured.items()}
    cpu = {name: np.median(times.cpu) for name, times in measured.items()}
    rows = []
    for name, times in measured.items():
        row = {"what": name, **times.speed(), "cpu_ms": 1000 * cpu[name]}
        if name in (DEFAULT_DCT, FILES, PREPARED, RAW):
            row["of_decoding"] = wall[DECODING] / wall[name]
        if name in (FILES, PREPARED, RAW):
            row["of_plain"] = cpu[PLAIN] / cpu[name]
            # Plain patches need no first layer.
            row["of_plain_with_layer"] = cpu[PLAIN] / (cpu[name] + cpu[LAYER])
        rows.append(row)
    return rows


def as_table(rows: list[dict], batch_size: int) -> str:
    """Returns the rows of `compare` as text."""
    columns = {
        "cpu_ms": ("CPU ms", ".3f"),
        "of_decoding": ("of decoding", ".0%"),
        "of_plain": ("of plain", ".2f"),
        "of_plain_with_layer": ("with layer", ".2f"),
    }
    return (
        f"500x375 JPEG files, batches of {batch_size}, {CORES} cores\n"
        f"{speed_table(rows, columns)}\n"
        "of decoding: share of the rate of decoding only. of plain: processor "
        "time of an\nimage in the plain pipeline, relative to this one; with "
        "layer: including the\nnetwork's first layer. A core feeds 1000 / "
        "(CPU ms) images a second."
    )
