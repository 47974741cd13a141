"""Prepared data sets: images rescaled once, with random access.

    PATH/
      manifest.json     source, settings and contents of the set
      train-00000.npy   images of a shard, uint8: raw (n, size, size, 3), or
                        the bytes of n JPEG files one after another
      train-00000.csv   name, label, length in bytes and CRC-32 of each image
      ...
      mean_image.npy    of the training images, float32 (size, size, 3)
      bad_examples.csv  what was left out, and why

Each image is read when it is used, and compared with its CRC-32.
"""

import csv
import dataclasses
import io
import math
import os
import sys
import zlib
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
from alexnet_tf.data.examples import (
    CORES,
    Examples,
    as_tensors,
    pipeline_options,
)
from alexnet_tf.data.statistics import PixelStatistics, measure_pixels
from alexnet_tf.storage.files import (
    checksum,
    from_csv_cell,
    read_json,
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
    "max_image_pixels": "--max_image_pixels",
    "encoding": "--prepared_format",
    "source_splits": "--train_split and --validation_split",
}
_TYPES = {
    "dataset": str,
    "source_splits": dict,
    "image_size": int,
    "resize": str,
    "exif_orientation": bool,
    "encoding": str,
    "class_names": list,
    "splits": dict,
    "finished": bool,
}
# What code raises that meets a file with other contents than expected.
_INVALID = (
    ArithmeticError,
    AttributeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    csv.Error,
)
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
    """Returns manifest.json; {} if the directory is empty or missing."""
    file = directory / "manifest.json"
    if not file.exists():
        # What a killed write leaves is hidden.
        if directory.is_file() or any(directory.glob("[!.]*")):
            raise UserError(
                f"--prepared_dir={directory} has other things in it, but no "
                "manifest.json; give a directory that prepare made, or to "
                "prepare an empty or a new one."
            )
        return {}
    fix = f"Restore it, or remove {directory} and run prepare again."
    manifest = read_json(file, {"format_version": int}, fix)
    try:
        version = manifest["format_version"]
        # The first sets do not record them.
        manifest.setdefault("resize", "shorter_side")
        manifest.setdefault("exif_orientation", False)
        manifest.setdefault("max_image_pixels", Geometry.max_image_pixels)
        if version == FORMAT_VERSION:
            _check_manifest(manifest)
    except _INVALID as error:
        raise UserError(
            f"{file} is not the manifest of a prepared set: "
            f"{type(error).__name__}: {error}.\n{fix}"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{file} has format version {version!r:.20}, this program reads "
            f"{FORMAT_VERSION}; prepare the data set again."
        )
    # Nor absolute paths.
    manifest["dataset"] = change_path(
        manifest["dataset"], FOLDER_PATH, os.path.abspath
    )
    return manifest


def _check_manifest(manifest):
    """Raises an exception if an entry is missing or impossible."""
    for name, kind in _TYPES.items():
        _require(type(manifest[name]) is kind, name, manifest[name])
    for name in manifest["class_names"]:
        _require(type(name) is str, "class name", name)
    _require(manifest["image_size"] > 0, "image_size", manifest["image_size"])
    encoding = manifest["encoding"]
    _require(encoding in ("jpeg", "raw"), "encoding", encoding)
    for names in (manifest["splits"], manifest["source_splits"]):
        _require(set(names) == {"train", "validation"}, "splits", names)
    hashed = manifest.get("sha256", {})
    _require(hashed.keys() <= {"mean_image.npy"}, "sha256", hashed)
    for split, shards in manifest["splits"].items():
        _require(type(shards) is list, split, shards)
        _require(shards or not manifest["finished"], split, shards)
        for number, shard in enumerate(shards):
            # No other directory's files, and none twice.
            array = f"{split}-{number:05d}.npy"
            files = {array, f"{array.removesuffix('npy')}csv"}
            _require(shard["file"] == array, "file", shard["file"])
            for entry in ("bytes", "sha256"):
                _require(shard[entry].keys() == files, entry, shard[entry])
            for size in (shard["examples"], *shard["bytes"].values()):
                _require(type(size) is int and size >= 0, "size", size)
    if manifest["finished"]:
        statistics = manifest["statistics"]
        for name, shape in (("mean_rgb", (3,)), ("covariance_rgb", (3, 3))):
            value = np.array(statistics[name])
            _require(value.shape == shape, name, statistics[name])
            _require(value.dtype.kind in "if", name, statistics[name])
            _require(np.isfinite(value).all(), name, statistics[name])


def _require(condition, name, value):
    if not condition:
        raise ValueError(f"{name} is {value!r:.60}")


def open_split(directory: Path, manifest: dict, split: str) -> Examples:
    """Opens "train" or "validation".

    Checks the lengths of all its files, and the content of those with labels.
    """
    shards = manifest["splits"][split]
    _check(directory, shards, "bytes", lambda file: file.stat().st_size)
    tables = [name for s in shards for name in s["sha256"] if ".csv" in name]
    _check(directory, shards, "sha256", checksum, only=tables)
    side = manifest["image_size"]
    shape = (side, side, 3) if manifest["encoding"] == "raw" else ()
    num_classes = len(manifest["class_names"])
    opened = [_open_shard(directory, s, shape, num_classes) for s in shards]
    columns = {n: np.concatenate([s[n] for s in opened]) for n in opened[0]}
    labels, names = as_tensors(columns.pop("labels"), columns.pop("names"))
    images = StoredImages(**columns)

    def fetch(indices):
        image = {"index": indices} if shape else {"image": images.read(indices)}
        label, name = tf.gather(labels, indices), tf.gather(names, indices)
        return {"label": label, "name": name, **image}

    return Examples(
        len(images.files),
        tuple(map(printable, manifest["class_names"])),
        fetch=fetch,
        squares=True,
        cut=partial(images.cut, side) if shape else None,
        check_files=partial(check_files, directory, shards),
    )


def _open_shard(directory, shard, shape, num_classes):
    """Returns columns with an entry for each image of a shard.

    `shape` is that of an image; () for JPEG files.
    """
    file = directory / shard["file"]
    table = file.with_suffix(".csv")
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
        count = shard["examples"]
        _require(len(rows) == count, "number of images", len(rows))
        numbers = {
            name: np.array([row.get(name, -1) for row in rows], np.int64)
            for name in ("label", "bytes", "crc32")
        }
        labels, lengths = numbers["label"], numbers["bytes"]
        for label in labels[(labels < 0) | (labels >= num_classes)]:
            _require(False, f"a label of {num_classes} classes", label)
        expected = math.prod(shape)
        for length in lengths[(lengths != expected) if shape else lengths < 0]:
            _require(False, "length of an image", length)
        names = [from_csv_cell(row["name"]).encode() for row in rows]
        # Unmapped again: a mapped file keeps a descriptor.
        array = np.load(file, mmap_mode="r")
        total = (count, *shape) if shape and count else (lengths.sum(),)
        _require(array.shape == total, f"shape of {file.name}", array.shape)
        _require(array.dtype == np.uint8, f"dtype of {file.name}", array.dtype)
        offset = getattr(array, "offset", 0)  # One without images has no map.
    except _INVALID as error:
        raise UserError(
            f"{table} and {file.name} do not fit together: "
            f"{type(error).__name__}: {error}.\nRemove both and run prepare "
            "again with the same flags: it writes what is missing."
        ) from error
    return {
        "names": np.array(names, np.bytes_),
        "labels": labels,
        "files": np.full(count, str(file), object),
        "starts": offset + np.cumsum(lengths) - lengths,
        "lengths": lengths,
        "checksums": numbers["crc32"],
    }


@dataclasses.dataclass(frozen=True)
class StoredImages:
    """Where the images of a split are; no file stays open between reads."""

    files: np.ndarray  # Of each image the path of its file, str (n,).
    starts: np.ndarray  # Position of its first byte there, int64 (n,).
    lengths: np.ndarray  # In bytes, int64 (n,).
    checksums: np.ndarray  # Its CRC-32, -1 if not recorded, int64 (n,).

    def load(self, index: int) -> np.ndarray:
        """Returns the bytes of an image, uint8 (length,)."""
        file, length = self.files[index], self.lengths[index]
        found = np.fromfile(file, np.uint8, length, offset=self.starts[index])
        expected = self.checksums[index]
        if len(found) != length or (
            expected >= 0 and zlib.crc32(found.data) != expected
        ):
            raise OSError(f"image {index} in {file} is damaged")
        return found

    def read(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns JPEG files, string (n,)."""
        files = tf.numpy_function(self._read, [indices], tf.string)
        return tf.ensure_shape(files, indices.shape)

    def _read(self, indices):
        # Objects: NumPy's own strings lose zeros at their end.
        return np.array([self.load(i).tobytes() for i in indices], object)

    def cut(self, side: int, indices, offsets, mirrored, size: int):
        """Returns patches of images (side, side, 3), see `Examples.cut`."""
        patches = tf.numpy_function(
            partial(self._cut, side),
            [indices, offsets, mirrored, size],
            tf.uint8,
        )
        return tf.ensure_shape(patches, (*indices.shape, size, size, 3))

    def _cut(self, side, indices, offsets, mirrored, size):
        patches = np.empty((len(indices), size, size, 3), np.uint8)
        places = zip(patches, indices, offsets, mirrored, strict=True)
        for patch, index, (down, right), is_mirrored in places:
            image = self.load(index).reshape(side, side, 3)
            part = image[down:, right:][:size, :size]
            if is_mirrored:
                # NumPy is faster at mirroring one channel than three.
                for channel in range(3):
                    patch[..., channel] = part[:, ::-1, channel]
            else:
                patch[:] = part
        return patches


def read_statistics(
    directory: Path, manifest: dict, geometry: Geometry
) -> PixelStatistics:
    """Returns `prepare`'s statistics: all images, colors of whole squares."""
    file = directory / "mean_image.npy"
    _check(directory, [manifest], "sha256", checksum)
    side = manifest["image_size"]
    try:
        mean = np.load(file)
        _require(mean.shape == (side, side, 3), "shape", mean.shape)
        _require(np.isfinite(mean).all(), "a value", "not finite")
    except (OSError, *_INVALID) as error:
        raise UserError(
            f"{file} is not a mean image: {error}.\nRemove it and run prepare "
            "again with the same flags: it writes what is missing."
        ) from error
    colors = manifest["statistics"]
    mean_rgb, covariance = colors["mean_rgb"], colors["covariance_rgb"]
    return PixelStatistics(
        geometry.cut_center(mean), np.array(mean_rgb), np.array(covariance)
    )


def check_files(directory: Path, entries: list[dict]) -> None:
    """Compares the files of shards, or of a manifest, with their checksums."""
    print(f"Checking the files of {directory}...", flush=True)
    bar = _progress_bar(sum(len(e.get("sha256", {})) for e in entries), "file")

    def measure(file):
        found = checksum(file)
        bar.add(1)
        return found

    _check(directory, entries, "sha256", measure)


def _check(directory, entries, kind, measure, only=None):
    """Compares a measure of files, or of `only` some, with that recorded."""
    files = {n: value for e in entries for n, value in e.get(kind, {}).items()}
    for name in files if only is None else only:
        file, expected = directory / name, files[name]
        found = measure(file) if file.is_file() else "no such file"
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
    bar = _progress_bar(count, "image")
    images: list = []
    rows: list = []
    batches = _square_batches(examples, done, manifest, bad)
    for decoded, labels, names in batches.as_numpy_iterator():
        done += len(names)
        bar.update(done)
        bad.check()
        good = labels >= 0
        images += list(decoded[good])
        rows += zip(names[good], labels[good], strict=True)
        if done % _SHARD == 0 or done == count:
            file = f"{split}-{len(shards):05d}.npy"
            shards.append(_write_shard(directory / file, images, rows))
            write_json(directory / "manifest.json", manifest)
            images, rows = [], []


def _progress_bar(count, unit):
    # A moving bar on a screen, a line a minute in a log file.
    interval = 0.2 if sys.stdout.isatty() else 60
    return keras.utils.Progbar(count, unit_name=unit, interval=interval)


def _square_batches(examples, start, manifest, bad):
    """Returns a dataset of (squares, labels, names) of `_ROWS` examples."""
    size, is_raw = manifest["image_size"], manifest["encoding"] == "raw"
    geometry = Geometry(
        size,
        size,
        squash=manifest["resize"] == "squash",
        exif_orientation=manifest["exif_orientation"],
        max_image_pixels=manifest["max_image_pixels"],
    )
    placeholder = tf.zeros((size, size, 3), tf.uint8) if is_raw else ""

    def encode(image):
        square = decode_square(examples.load(image), geometry)
        return square if is_raw else tf.io.encode_jpeg(square, quality=95)

    def squares(rows):
        images, ok = decode_rows(encode, [rows["image"]], placeholder)
        limit = geometry.max_image_pixels
        labels = report_failures(examples, rows, ok, bad, limit)
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
    writer.writerow(("name", "label", "bytes", "crc32"))
    for (name, label), image in zip(rows, images, strict=True):
        length, crc32 = memoryview(image).nbytes, zlib.crc32(image)
        writer.writerow((to_csv_cell(printable(name)), label, length, crc32))
    if images and isinstance(images[0], bytes):
        images = np.frombuffer(b"".join(images), np.uint8)
    write_array(file, np.asarray(images, np.uint8))
    csv_file = file.with_suffix(".csv")
    write_whole(csv_file, table.getvalue())
    files = (file, csv_file)
    return {
        "file": file.name,
        "examples": len(rows),
        "bytes": {path.name: path.stat().st_size for path in files},
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
    file = directory / "mean_image.npy"
    write_array(file, measured.mean_image.astype(np.float32))
    manifest["sha256"] = {file.name: checksum(file)}
    manifest["finished"] = True
    write_json(directory / "manifest.json", manifest)
