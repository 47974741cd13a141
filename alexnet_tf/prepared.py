"""Prepared data sets: small squares in shards that are read in any order.

    PATH/
      source.json               what is prepared, and how; written first
      train/00000.arrayrecord   serialized tf.train.Example, at most 1,000:
                                image (JPEG or raw bytes), label, name
      train/00000.json          what is in it; written after it
      validation/...
      mean_image.npy
      manifest.json             all of it in one file; written last

`shards.py` writes them.
"""

import contextlib
import hashlib
import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from array_record.python import array_record_data_source

from alexnet_tf.errors import UserError
from alexnet_tf.examples import Examples, PixelStatistics
from alexnet_tf.preprocessing import Geometry

FORMAT_VERSION = 1
SPLITS = ("train", "validation")
_PREFIX = "prepared:"
# Images fetched at a time when they are read in their order.
_BATCH = 64
_FEATURES = {
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
    "name": tf.io.FixedLenFeature((), tf.string),
}


def is_prepared(dataset: str) -> bool:
    """Returns whether --dataset names a prepared data set."""
    return dataset.startswith(_PREFIX)


def open_split(dataset: str, split: str, *, image_size: int = 0) -> Examples:
    """Opens a split of a prepared data set.

    Args:
        dataset: "prepared:PATH".
        split: "train" or "validation"; "" is the latter.
        image_size: What the images must have been rescaled to; 0 if that
            does not matter [pixels].

    Raises:
        UserError: if there is no such set or split, it is of another size, or
            shards are missing or not as long as they were.
    """
    directory, split = _directory(dataset), split or "validation"
    if split not in SPLITS:
        raise UserError(
            f"split {split!r} of --dataset={dataset} does not exist; use "
            f"{' or '.join(SPLITS)}."
        )
    manifest = read_manifest(directory)
    if image_size not in (0, manifest["image_size"]):
        raise UserError(
            f"--dataset={dataset} was prepared with --image_size="
            f"{manifest['image_size']}, but --image_size={image_size} is "
            "asked for.\nGive the former, or prepare another set."
        )
    for shard in manifest["splits"][split]["shards"]:
        file = directory / shard["file"]
        length = file.stat().st_size if file.exists() else 0
        if length != shard["bytes"]:
            raise UserError(
                f"{file} is {'damaged' if length else 'missing'}: {length:,} "
                f"bytes, expected {shard['bytes']:,}.\n{how_to_mend(file)}"
            )
    return as_examples(directory, manifest, split)


def class_names(dataset: str) -> tuple[str, ...]:
    """Returns the class names of "prepared:PATH"."""
    return tuple(read_manifest(_directory(dataset))["class_names"])


def read_statistics(dataset: str, geometry: Geometry) -> PixelStatistics:
    """Returns what was measured on all training images of "prepared:PATH".

    Args:
        dataset: The data set; its colours are those of whole squares.
        geometry: Sizes of the patches; the mean image is that of the centre.
    """
    directory = _directory(dataset)
    colours = read_manifest(directory)["statistics"]
    down, right = geometry.centre
    size = geometry.crop_size
    mean_image = np.load(directory / "mean_image.npy")
    return PixelStatistics(
        mean_image=mean_image[down : down + size, right : right + size],
        mean_rgb=np.array(colours["mean_rgb"]),
        covariance_rgb=np.array(colours["covariance_rgb"]),
    )


def read_manifest(directory: Path) -> dict:
    """Returns manifest.json.

    Raises:
        UserError: if there is none, or it is of another version.
    """
    file = directory / "manifest.json"
    if not file.exists():
        raise UserError(
            f"{directory} is not a prepared data set, or not a finished one: "
            f"it has no {file.name}.\nMake or finish it with prepare "
            f"--prepared_dir={directory}."
        )
    manifest = json.loads(file.read_text())
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{file} has format version {version}, expected {FORMAT_VERSION};"
            " prepare the data set again."
        )
    return manifest


def as_examples(directory: Path, manifest: dict, split: str) -> Examples:
    """Returns a split of a manifest, unchecked."""
    shards = manifest["splits"][split]["shards"]
    count = sum(shard["count"] for shard in shards)
    fetch = _make_fetch(directory, shards)
    raw = manifest["encoding"] == "raw"
    return Examples(
        tf.data.Dataset.range(count).batch(_BATCH).map(fetch).unbatch(),
        count,
        tuple(manifest["class_names"]),
        fetch,
        raw_size=manifest["image_size"] if raw else 0,
    )


def verify(
    directory: Path, manifest: dict, advance: Callable[[int], None]
) -> None:
    """Compares all shards with their checksums.

    Args:
        directory: The prepared set.
        manifest: Its manifest.
        advance: Is told the number of images of each shard compared.

    Raises:
        UserError: if one differs.
    """
    for split in SPLITS:
        for shard in manifest["splits"][split]["shards"]:
            file = directory / shard["file"]
            if not is_whole(file, shard):
                raise UserError(
                    f"{file} is missing or damaged: it has not the checksum "
                    f"that manifest.json gives.\n{how_to_mend(file)}"
                )
            advance(shard["count"])


def is_whole(file: Path, shard: dict) -> bool:
    """Returns whether a shard has the checksum it was written with."""
    return file.exists() and checksum(file) == shard["sha256"]


def checksum(file: Path) -> str:
    """Returns the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def how_to_mend(file: Path) -> str:
    """Returns what to do about a damaged shard."""
    return (
        f"Delete it and {file.parent.parent / 'manifest.json'} and start "
        "prepare again: it makes only what is missing."
    )


def _directory(dataset):
    return Path(dataset.removeprefix(_PREFIX))


def _make_fetch(directory, shards):
    # A reader keeps its file open, and ImageNet has 1,282 shards; 1,024 files
    # is a usual limit, which a process may raise.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(shards) + 1024
    if 0 <= soft < wanted:  # -1 is no limit.
        with contextlib.suppress(ValueError):  # It may not so far.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    source = array_record_data_source.ArrayRecordDataSource(
        # With their counts given, files are opened when first read.
        [f"{directory / s['file']}[0:{s['count']}]" for s in shards]
    )

    def read(indices):
        # Objects: NumPy's own strings lose zeros at their end.
        return np.array(source.__getitems__(indices.tolist()), object)

    def fetch(indices):
        serialized = tf.numpy_function(read, [indices], tf.string)
        serialized = tf.ensure_shape(serialized, indices.shape)
        return tf.io.parse_example(serialized, _FEATURES)

    return fetch
