"""Writes prepared data sets, see `prepared`."""

import csv
import io
import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.data import prepared
from alexnet_tf.data.bad_examples import BadExamples, decode_each
from alexnet_tf.data.decoding import decode_square
from alexnet_tf.data.examples import Examples, pipeline_options
from alexnet_tf.data.statistics import measure_pixels
from alexnet_tf.storage.files import (
    checksum,
    write_array,
    write_json,
    write_whole,
)

_CORES = os.cpu_count() or 1
# Examples that one core works on at a time, and those of a shard.
_ROWS = 32
_SHARD = 16 * _ROWS


def write_split(
    directory: Path,
    manifest: dict,
    split: str,
    examples: Examples,
    bad: BadExamples,
) -> None:
    """Writes the shards of a split that the manifest does not have yet.

    Args:
        directory: The prepared set.
        manifest: Its manifest; it is written again after each shard.
        split: "train" or "validation".
        examples: What to write, always in the same order.
        bad: Where examples are noted that cannot be used; they are left out.
    """
    shards = manifest["splits"].setdefault(split, [])
    done = len(shards) * _SHARD
    print(f"{split}: {examples.count:,} images", flush=True)
    bar = keras.utils.Progbar(
        examples.count,
        unit_name="image",
        # A moving bar on a screen, a line a minute in a log file.
        interval=0.2 if sys.stdout.isatty() else 60,
    )
    batches = _square_batches(examples, done, manifest, bad)
    images, rows = [], []
    for decoded, labels, names in batches.as_numpy_iterator():
        done += len(names)
        bar.update(done)
        good = labels >= 0
        images += list(decoded[good])
        rows += zip(names[good], labels[good], strict=True)
        if done % _SHARD == 0 or done == examples.count:
            file = f"{split}-{len(shards):05d}.npy"
            shards.append(_write_shard(directory / file, images, rows))
            write_json(directory / "manifest.json", manifest)
            images, rows = [], []


def _square_batches(examples, start, manifest, bad):
    """Returns (squares, labels, names) of a few examples each."""
    size, raw = manifest["image_size"], manifest["encoding"] == "raw"
    geometry = Geometry(size, size, manifest["resize"] == "squash")

    def encode(image):
        square = decode_square(image, geometry)
        return square if raw else tf.io.encode_jpeg(square, quality=95)

    def squares(rows):
        instead = tf.zeros((size, size, 3), tf.uint8) if raw else ""
        decoded = decode_each(
            [encode, encode], examples, rows, instead=instead, bad=bad
        )
        return *decoded, rows["name"]

    return (
        examples.in_order(_ROWS, start)
        .map(squares, num_parallel_calls=_CORES)
        .prefetch(2)
        .with_options(pipeline_options())
    )


def _write_shard(file, images, rows):
    """Writes both files of a shard and returns its part of the manifest."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(prepared.COLUMNS)
    for (name, label), image in zip(rows, images, strict=True):
        length = len(image) if isinstance(image, bytes) else image.nbytes
        writer.writerow((name.decode(errors="replace"), label, length))
    if images and isinstance(images[0], bytes):
        images = np.frombuffer(b"".join(images), np.uint8)
    array = io.BytesIO()
    np.save(array, np.asarray(images, np.uint8))
    files = {
        file: array.getvalue(),
        file.with_suffix(".csv"): table.getvalue().encode(),
    }
    for path, content in files.items():
        write_whole(path, content)
    return {
        "file": file.name,
        "examples": len(rows),
        "bytes": {path.name: len(content) for path, content in files.items()},
        "sha256": {path.name: checksum(path) for path in files},
    }


def finish(directory: Path, manifest: dict, bad: BadExamples) -> None:
    """Adds the statistics of all training images to the manifest.

    Args:
        directory: The prepared set, with all its shards.
        manifest: Its manifest.
        bad: As for `write_split`.
    """
    print("Measuring the mean and the colors of all training images...")
    size = manifest["image_size"]
    training = prepared.open_split(directory, manifest, "train")
    measured = measure_pixels(
        training,
        num_images=training.count,
        geometry=Geometry(size, size),
        bad=bad,
    )
    eigenvalues, eigenvectors = np.linalg.eigh(measured.covariance_rgb)
    manifest["statistics"] = {
        "mean_rgb": measured.mean_rgb.tolist(),
        "covariance_rgb": measured.covariance_rgb.tolist(),
        "eigenvalues": eigenvalues.tolist(),
        # One a column, as NumPy has them.
        "eigenvectors": eigenvectors.tolist(),
    }
    write_array(
        directory / "mean_image.npy", measured.mean_image.astype(np.float32)
    )
    manifest["finished"] = True
    write_json(directory / "manifest.json", manifest)
