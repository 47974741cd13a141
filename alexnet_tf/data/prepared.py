"""Prepared data sets: images rescaled once, read in any order.

    PATH/
      manifest.json     what it is made of, how, and what is in it
      train-00000.npy   images of a shard, uint8: raw (n, size, size, 3), or
                        the bytes of n JPEG files one after another
      train-00000.csv   name, label and length in bytes of each image
      ...
      mean_image.npy    of the training images, float32 (size, size, 3)
      bad_examples.csv  what was left out, and why

Shards are mapped into memory, so what is read of them is all that is loaded.
"""

import csv
import io
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.data.examples import Examples
from alexnet_tf.storage.files import checksum

FORMAT_VERSION = 1
# Flags that say what a set is made of.
_FLAGS = {
    "dataset": "--dataset",
    "image_size": "--image_size",
    "resize": "--resize",
    "encoding": "--prepared_format",
    "source_splits": "--train_split and --validation_split",
}
COLUMNS = ("name", "label", "bytes")


def find(directory: Path, source: dict) -> dict | None:
    """Returns the manifest of a prepared set, None if there is none.

    Args:
        directory: Where it might be.
        source: What it must be made of, see `check_source`.

    Raises:
        UserError: if it is not finished, or made of something else.
    """
    manifest = read_manifest(directory)
    if not manifest:
        return None
    check_source(directory, manifest, source)
    if not manifest["finished"]:
        raise UserError(
            f"--prepared_dir={directory} is not finished; start prepare again "
            "to finish it, or leave out --prepared_dir."
        )
    return manifest


def check_source(directory: Path, manifest: dict, source: dict) -> None:
    """Checks what a prepared set is made of.

    Raises:
        UserError: if the manifest has other values than `source`.
    """
    for name, wanted in source.items():
        if manifest[name] != wanted:
            raise UserError(
                f"--prepared_dir={directory} was made with "
                f"{_FLAGS.get(name, name)} {manifest[name]!r}, now it "
                f"is {wanted!r}; go on with the former, or give another "
                "--prepared_dir."
            )


def read_manifest(directory: Path) -> dict:
    """Returns manifest.json, {} if there is none.

    Raises:
        UserError: if it is of another version.
    """
    file = directory / "manifest.json"
    if not file.exists():
        return {}
    manifest = json.loads(file.read_text())
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{file} has format version {manifest['format_version']}, this "
            f"program reads {FORMAT_VERSION}; prepare the data set again."
        )
    # Of sets that were made before there was a choice.
    manifest.setdefault("resize", "shorter_side")
    return manifest


def open_split(directory: Path, manifest: dict, split: str) -> Examples:
    """Maps the shards of "train" or "validation" into memory.

    Raises:
        UserError: if files are missing or not as long as they were.
    """
    shards = manifest["splits"][split]
    for shard in shards:
        for file, length in shard["bytes"].items():
            _check(directory / file, length, lambda f: f.stat().st_size)
    files = [directory / shard["file"] for shard in shards]
    rows = [
        row
        for file in files
        for row in csv.DictReader(
            io.StringIO(file.with_suffix(".csv").read_text())
        )
    ]
    names = np.array([row["name"] for row in rows])
    labels = np.array([row["label"] for row in rows], np.int64)
    images = _Images(
        [np.load(file, mmap_mode="r") for file in files],
        np.array([shard["examples"] for shard in shards]),
        np.array([int(row["bytes"]) for row in rows]),
    )
    raw = manifest["encoding"] == "raw"

    def fetch(indices):
        return {
            "image": indices if raw else images.fetch(indices),
            "label": tf.gather(labels, indices),
            "name": tf.gather(names, indices),
        }

    return Examples(
        len(rows),
        tuple(manifest["class_names"]),
        fetch=fetch,
        squares=True,
        cut=images.cut if raw else None,
        check_files=lambda: check_files(directory, shards),
    )


class _Images:
    """The images of a split.

    Args:
        shards: The mapped arrays.
        counts: Images in each.
        lengths: Bytes of each image, of the whole split.
    """

    def __init__(self, shards, counts, lengths):
        self.shards = shards
        self.lengths = lengths
        self.homes = np.repeat(np.arange(len(shards)), counts)
        self.places = (
            np.arange(len(lengths)) - (np.cumsum(counts) - counts)[self.homes]
        )
        # Where the bytes of images end in their shard.
        bytes_before = np.array([shard.size for shard in shards]).cumsum()
        bytes_before = np.insert(bytes_before, 0, 0)[self.homes]
        self.ends = np.cumsum(lengths) - bytes_before

    def fetch(self, indices):
        """Returns files, string (n,)."""
        files = tf.numpy_function(self._read, [indices], tf.string)
        return tf.ensure_shape(files, indices.shape)

    def cut(self, indices, offsets, mirrored, size):
        """Returns patches, uint8 (n, size, size, 3)."""
        patches = tf.numpy_function(
            self._cut, [indices, offsets, mirrored, size], tf.uint8
        )
        return tf.ensure_shape(patches, (*indices.shape, size, size, 3))

    def _read(self, indices):
        files = [
            self.shards[home][end - length : end].tobytes()
            for home, end, length in zip(
                self.homes[indices],
                self.ends[indices],
                self.lengths[indices],
                strict=True,
            )
        ]
        # Objects: NumPy's own strings lose zeros at their end.
        return np.array(files, object)

    def _cut(self, indices, offsets, mirrored, size):
        patches = np.empty((len(indices), size, size, 3), np.uint8)
        for patch, home, place, (down, right), is_mirrored in zip(
            patches,
            self.homes[indices],
            self.places[indices],
            offsets,
            mirrored,
            strict=True,
        ):
            part = self.shards[home][place, down:, right:][:size, :size]
            if is_mirrored:
                # NumPy is faster at mirroring one channel than three.
                for channel in range(3):
                    patch[..., channel] = part[:, ::-1, channel]
            else:
                patch[:] = part
        return patches


def check_files(directory: Path, shards: list[dict]) -> None:
    """Compares shards with their checksums.

    Raises:
        UserError: if one differs.
    """
    for shard in shards:
        for file, expected in shard["sha256"].items():
            _check(directory / file, expected, checksum)


def _check(file, expected, measure):
    found = measure(file) if file.exists() else "no such file"
    if found != expected:
        raise UserError(
            f"{file} is damaged: {found}, and it was {expected}.\nRemove it "
            "and start prepare again, with the same flags as before: it makes "
            "what is missing."
        )
