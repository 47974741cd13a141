"""Writes prepared data sets, see `prepared.py`."""

import collections
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from array_record.python import array_record_module

from alexnet_tf import prepared
from alexnet_tf.data import measure_pixels
from alexnet_tf.errors import UserError
from alexnet_tf.examples import Examples
from alexnet_tf.preprocessing import Geometry, decode_square
from alexnet_tf.run_dir import write_json, write_whole

_SHARD = 1000
_CORES = os.cpu_count() or 1
# Images in memory for each thread.
_AHEAD = 8


def begin(directory: Path, source: dict) -> None:
    """Writes source.json, or checks that it says the same.

    Raises:
        UserError: if something else is in the directory.
    """
    file = directory / "source.json"
    source = {"format_version": prepared.FORMAT_VERSION, **source}
    if not file.exists():
        if directory.exists() and any(directory.iterdir()):
            raise UserError(
                f"--prepared_dir={directory} has other files in it; give an "
                "empty or a new directory."
            )
        write_json(file, source)
    before = json.loads(file.read_text())
    for name in source:
        if before[name] != source[name]:
            raise UserError(
                f"{directory} was begun with {name} {before[name]!r}, now it "
                f"is {source[name]!r}; go on with that, or give another "
                "--prepared_dir."
            )


def write_split(
    directory: Path,
    split: str,
    examples: Examples,
    *,
    size: int,
    encoding: str,
    advance: Callable[[int], None],
) -> None:
    """Writes the shards of a split that are not there yet.

    Shard number n is made of the images from 1,000 n on, less those that
    cannot be decoded.

    Args:
        directory: The prepared set.
        split: Its name there.
        examples: Its images, always in the same order.
        size: Side of the squares [pixels].
        encoding: "jpeg" or "raw".
        advance: Is told the number of images dealt with since the last time.

    Raises:
        UserError: if a shard that is there was made of other images.
    """
    convert = _converter(size, encoding)
    records = examples.records.as_numpy_iterator()
    (directory / split).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_CORES) as pool:
        for number in range(-(-examples.count // _SHARD)):
            file = directory / split / f"{number:05d}.arrayrecord"
            source = _Source(itertools.islice(records, _SHARD), advance)
            described = file.with_suffix(".json")
            if described.exists():
                shard = json.loads(described.read_text())
                if prepared.is_whole(file, shard):
                    _check_source(file, source, shard)
                    continue
            shard = _write_shard(file, _in_order(pool, convert, source))
            shard["source"] = source.digest.hexdigest()
            write_json(described, shard)


class _Source:
    """Hands examples through, and notes which they were.

    Names, labels and lengths of files are enough to notice that a folder has
    other images than it had.
    """

    def __init__(self, records, advance):
        self.records, self.advance = records, advance
        self.digest = hashlib.sha256()

    def __iter__(self):
        for example in self.records:
            key = (example["name"], example["label"], len(example["image"]))
            self.digest.update(repr(key).encode())
            yield example
            self.advance(1)


def _check_source(file, source, shard):
    collections.deque(source, maxlen=0)  # To its end, decoding nothing.
    if source.digest.hexdigest() != shard["source"]:
        raise UserError(
            f"{file} was made of other images than --dataset has now.\n"
            f"Delete {file.parent.parent} or give another --prepared_dir."
        )


def _converter(size, encoding):
    """Returns a function from an example to (example, record, reason)."""

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def decode(encoded):
        square = decode_square(encoded, size)
        if encoding == "raw":
            return square
        return tf.io.encode_jpeg(square, quality=95)

    def convert(example):
        try:
            image = decode(example["image"]).numpy()
        except tf.errors.InvalidArgumentError as error:
            return example, None, _reason(error)
        if encoding == "raw":
            image = image.tobytes()
        return example, _serialize({**example, "image": image}), ""

    return convert


def _reason(error):
    """Returns what TensorFlow says of an image, without what it adds."""
    said = error.message.split("\n\t [[")[0].splitlines()[-1]
    return re.sub(r"^{{.*}} ", "", said)


def _serialize(example):
    record = tf.train.Example()
    features = record.features.feature
    features["image"].bytes_list.value.append(example["image"])
    features["label"].int64_list.value.append(example["label"])
    features["name"].bytes_list.value.append(example["name"])
    # Otherwise the order of the three differs between processes.
    return record.SerializeToString(deterministic=True)


def _in_order(pool, function, items):
    """Yields the results of a function, a few of them worked on ahead."""
    waiting = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > _AHEAD * _CORES:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_shard(file, converted):
    """Writes a shard aside and renames it; returns what is in it."""
    aside = file.with_name(f".{file.name}.part")
    labels, left_out = [], []
    writer = array_record_module.ArrayRecordWriter(str(aside), "group_size:1")
    for example, record, reason in converted:
        if record is None:
            name = example["name"].decode(errors="replace")
            left_out.append({"name": name, "reason": reason})
        else:
            writer.write(record)
            labels.append(int(example["label"]))
    writer.close()
    with aside.open("rb") as written:
        os.fsync(written.fileno())
    shard = {
        "file": f"{file.parent.name}/{file.name}",
        "count": len(labels),
        "bytes": aside.stat().st_size,
        "sha256": prepared.checksum(aside),
        "labels": labels,
        "left_out": left_out,
    }
    aside.replace(file)
    return shard


def finish(directory: Path, class_names: Sequence[str]) -> dict:
    """Measures the training images, and writes and returns manifest.json.

    Args:
        directory: A prepared set with all its shards.
        class_names: In the order of the labels.

    Raises:
        UserError: if all images of a split are bad.
    """
    manifest = json.loads((directory / "source.json").read_text())
    manifest["class_names"] = list(class_names)
    manifest["splits"] = {
        split: _describe_split(directory / split) for split in prepared.SPLITS
    }
    training = prepared.as_examples(directory, manifest, "train")
    size = manifest["image_size"]
    measured = measure_pixels(
        training,
        num_images=training.count,
        geometry=Geometry(size, size),
        stride=1,
    )
    eigenvalues, eigenvectors = np.linalg.eigh(measured.covariance_rgb)
    manifest["statistics"] = {
        "mean_rgb": measured.mean_rgb.tolist(),
        "covariance_rgb": measured.covariance_rgb.tolist(),
        "eigenvalues": eigenvalues.tolist(),
        # One a column, as NumPy has them.
        "eigenvectors": eigenvectors.tolist(),
    }
    encoded = io.BytesIO()
    np.save(encoded, measured.mean_image.astype(np.float32))
    write_whole(directory / "mean_image.npy", encoded.getvalue())
    write_json(directory / "manifest.json", manifest)
    return manifest


def _describe_split(directory):
    files = sorted(directory.glob("*.json"))
    shards = [json.loads(file.read_text()) for file in files]
    left_out = [bad for shard in shards for bad in shard.pop("left_out")]
    count = sum(shard["count"] for shard in shards)
    if not count:
        raise UserError(
            f"none of the {len(left_out)} images of {directory} can be "
            f"decoded; of {left_out[0]['name']} TensorFlow says\n"
            f"{left_out[0]['reason']}"
        )
    return {"examples": count, "left_out": left_out, "shards": shards}
