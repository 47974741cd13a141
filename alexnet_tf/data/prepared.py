"""Prepared data sets: images rescaled once, with random access.

    PATH/
      manifest.json     source, settings and contents of the set
      train-00000.npy   images of a shard, uint8: raw (n, size, size, 3), or
                        the bytes of n JPEG files one after another
      train-00000.csv   name, label and length in bytes of each image
      ...
      mean_image.npy    of the training images, float32 (size, size, 3)
      bad_examples.csv  what was left out, and why

Shards are mapped into memory: only what is used of them is read.
"""

import csv
import io
import json
import os
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.config.data import Geometry
from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.config.field import FOLDER_PATH, change_path
from alexnet_tf.data.bad_examples import (
    BadExamples,
    decode_rows,
    report_failures,
)
from alexnet_tf.data.decoding import decode_square
from alexnet_tf.data.examples import CORES, Examples, pipeline_options
from alexnet_tf.data.statistics import measure_pixels
from alexnet_tf.storage.files import (
    checksum,
    from_csv_cell,
    to_csv_cell,
    write_array,
    write_json,
    write_whole,
)

FORMAT_VERSION = 1
# The flags behind entries of the manifest.
_FLAGS = {
    "dataset": "--dataset",
    "image_size": "--image_size",
    "resize": "--resize",
    "exif_orientation": "--exif_orientation",
    "encoding": "--prepared_format",
    "source_splits": "--train_split and --validation_split",
}
# Examples that one core works on at a time, and those of a shard.
_ROWS = 32
_SHARD = 16 * _ROWS


def check_source(directory: Path, manifest: dict, source: dict) -> None:
    """Checks that a manifest has the entries of `source`."""
    for name, expected in source.items():
        if manifest[name] != expected:
            raise UserError(
                f"--prepared_dir={directory} was made with "
                f"{_FLAGS.get(name, name)} {manifest[name]!r}, now it "
                f"is {expected!r}; use the former, or give another "
                "--prepared_dir."
            )


def read_manifest(directory: Path) -> dict:
    """Returns manifest.json, {} if there is none."""
    file = directory / "manifest.json"
    if not file.exists():
        return {}
    manifest = json.loads(file.read_text())
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{file} has format version {manifest['format_version']}, this "
            f"program reads {FORMAT_VERSION}; prepare the data set again."
        )
    # The first sets do not record them.
    manifest.setdefault("resize", "shorter_side")
    manifest.setdefault("exif_orientation", False)
    # Nor absolute paths.
    manifest["dataset"] = change_path(
        manifest["dataset"], FOLDER_PATH, os.path.abspath
    )
    return manifest


def open_split(directory: Path, manifest: dict, split: str) -> Examples:
    """Opens "train" or "validation"; checks the lengths of its files."""
    shards = manifest["splits"][split]
    _check(directory, shards, "bytes", lambda file: file.stat().st_size)
    arrays, lengths, rows = [], [], []
    for shard in shards:
        file = directory / shard["file"]
        arrays.append(np.load(file, mmap_mode="r"))
        table = io.StringIO(file.with_suffix(".csv").read_text())
        added = list(csv.DictReader(table))
        lengths.append(np.array([row["bytes"] for row in added], np.int64))
        rows += added
    names = np.array([from_csv_cell(row["name"]) for row in rows])
    labels = np.array([row["label"] for row in rows], np.int64)
    is_raw = manifest["encoding"] == "raw"
    cut = RawShards(arrays).read if is_raw else None
    read = None if is_raw else JpegShards(arrays, lengths).read

    def fetch(indices):
        image = {"image": read(indices)} if read else {"index": indices}
        label, name = tf.gather(labels, indices), tf.gather(names, indices)
        return {"label": label, "name": name, **image}

    count, classes = len(rows), tuple(map(printable, manifest["class_names"]))
    check = partial(check_files, directory, shards)
    return Examples(
        count, classes, fetch=fetch, squares=True, cut=cut, check_files=check
    )


class JpegShards:
    """The JPEG files of a split.

    Each shard is the bytes of some files, one after another, uint8 (bytes,),
    and has the lengths of these files in bytes, int64 (files,).
    """

    def __init__(self, shards: list[np.ndarray], lengths: list[np.ndarray]):
        self.shards = shards
        self.shard_of = _shard_of(lengths)
        self.lengths = np.concatenate(lengths)
        self.ends = np.concatenate([np.cumsum(each) for each in lengths])

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns files, string (n,)."""
        files = tf.numpy_function(self._read, [indices], tf.string)
        return tf.ensure_shape(files, indices.shape)

    def _read(self, indices):
        files = []
        for index in indices:
            shard, end = self.shards[self.shard_of[index]], self.ends[index]
            files.append(shard[end - self.lengths[index] : end].tobytes())
        # Objects: NumPy's own strings lose zeros at their end.
        return np.array(files, object)


class RawShards:
    """The decoded images of a split.

    Each shard is some images, uint8 (images, image_size, image_size, 3).
    """

    def __init__(self, shards: list[np.ndarray]):
        self.shards = shards
        self.shard_of = _shard_of(shards)
        self.row_of = np.concatenate([np.arange(len(s)) for s in shards])

    def read(self, indices, offsets, mirrored, size: int) -> tf.Tensor:
        """Returns patches, uint8 (n, size, size, 3), see `Examples.cut`."""
        patches = tf.numpy_function(
            self._read, [indices, offsets, mirrored, size], tf.uint8
        )
        return tf.ensure_shape(patches, (*indices.shape, size, size, 3))

    def _read(self, indices, offsets, mirrored, size):
        patches = np.empty((len(indices), size, size, 3), np.uint8)
        places = zip(patches, indices, offsets, mirrored, strict=True)
        for patch, index, (down, right), is_mirrored in places:
            shard, row = self.shards[self.shard_of[index]], self.row_of[index]
            part = shard[row, down:, right:][:size, :size]
            if is_mirrored:
                # NumPy is faster at mirroring one channel than three.
                for channel in range(3):
                    patch[..., channel] = part[:, ::-1, channel]
            else:
                patch[:] = part
        return patches


def _shard_of(parts):
    """Returns for each row of some arrays the number of its array."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def check_files(directory: Path, shards: list[dict]) -> None:
    """Compares the files of shards with their checksums."""
    _check(directory, shards, "sha256", checksum)


def _check(directory, shards, entry, measure):
    files = {name: value for s in shards for name, value in s[entry].items()}
    for name, expected in files.items():
        file = directory / name
        found = measure(file) if file.exists() else "no such file"
        if found != expected:
            raise UserError(
                f"{file} is damaged: {found} instead of {expected}.\nRemove it "
                "and run prepare again with the same flags: it writes what is "
                "missing."
            )


def write_split(
    directory: Path,
    manifest: dict,
    split: str,
    examples: Examples,
    bad: BadExamples,
) -> None:
    """Writes the shards of a split that the manifest does not have yet.

    The manifest is rewritten after each shard. The order of `examples` must
    always be the same; those that cannot be used are recorded and left out.
    """
    shards = manifest["splits"].setdefault(split, [])
    done, count = len(shards) * _SHARD, examples.count
    print(f"{split}: {count:,} images", flush=True)
    # A moving bar on a screen, a line a minute in a log file.
    interval = 0.2 if sys.stdout.isatty() else 60
    bar = keras.utils.Progbar(count, unit_name="image", interval=interval)
    images: list = []
    rows: list = []
    batches = _square_batches(examples, done, manifest, bad)
    for decoded, labels, names in batches.as_numpy_iterator():
        done += len(names)
        bar.update(done)
        good = labels >= 0
        images += list(decoded[good])
        rows += zip(names[good], labels[good], strict=True)
        if done % _SHARD == 0 or done == count:
            file = f"{split}-{len(shards):05d}.npy"
            shards.append(_write_shard(directory / file, images, rows))
            write_json(directory / "manifest.json", manifest)
            images, rows = [], []


def _square_batches(examples, start, manifest, bad):
    """Returns a dataset of (squares, labels, names) of `_ROWS` examples."""
    size, is_raw = manifest["image_size"], manifest["encoding"] == "raw"
    geometry = Geometry(
        size,
        size,
        squash=manifest["resize"] == "squash",
        exif_orientation=manifest["exif_orientation"],
    )
    placeholder = tf.zeros((size, size, 3), tf.uint8) if is_raw else ""

    def encode(image):
        square = decode_square(examples.load(image), geometry)
        return square if is_raw else tf.io.encode_jpeg(square, quality=95)

    def squares(rows):
        images, ok = decode_rows(encode, [rows["image"]], placeholder)
        labels = report_failures(examples, rows, ok, bad)
        return images, labels, rows["name"]

    return (
        examples.in_order(_ROWS, start)
        .map(squares, num_parallel_calls=CORES)
        .prefetch(2)
        .with_options(pipeline_options())
    )


def _write_shard(file, images, rows):
    """Writes both files of a shard and returns its entry in the manifest."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("name", "label", "bytes"))
    for (name, label), image in zip(rows, images, strict=True):
        length = memoryview(image).nbytes
        writer.writerow((to_csv_cell(printable(name)), label, length))
    if images and isinstance(images[0], bytes):
        images = np.frombuffer(b"".join(images), np.uint8)
    array = io.BytesIO()
    np.save(array, np.asarray(images, np.uint8))
    csv_file, csv_bytes = file.with_suffix(".csv"), table.getvalue().encode()
    files = {file: array.getvalue(), csv_file: csv_bytes}
    for path, content in files.items():
        write_whole(path, content)
    return {
        "file": file.name,
        "examples": len(rows),
        "bytes": {path.name: len(content) for path, content in files.items()},
        "sha256": {path.name: checksum(path) for path in files},
    }


def finish(directory: Path, manifest: dict, bad: BadExamples) -> None:
    """Adds the statistics of all training images to a set with all shards."""
    print("Measuring the mean and the colors of all training images...")
    whole = Geometry(manifest["image_size"], manifest["image_size"])
    training = open_split(directory, manifest, "train")
    measured = measure_pixels(
        training, num_images=training.count, geometry=whole, bad=bad
    )
    eigenvalues, eigenvectors = np.linalg.eigh(measured.covariance_rgb)
    manifest["statistics"] = {
        "mean_rgb": measured.mean_rgb.tolist(),
        "covariance_rgb": measured.covariance_rgb.tolist(),
        "eigenvalues": eigenvalues.tolist(),
        # In columns, as NumPy returns them.
        "eigenvectors": eigenvectors.tolist(),
    }
    mean_image = measured.mean_image.astype(np.float32)
    write_array(directory / "mean_image.npy", mean_image)
    manifest["finished"] = True
    write_json(directory / "manifest.json", manifest)
