"""Rescales a data set once, so that training reads it many times faster."""

import csv
import io
import itertools
import math
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np

from alexnet_tf import assembly, data, prepared
from alexnet_tf.bad_examples import BadExamples
from alexnet_tf.config import Config
from alexnet_tf.errors import UserError
from alexnet_tf.pixel_statistics import measure_pixels
from alexnet_tf.preprocessing import Geometry
from alexnet_tf.run_dir import write_json, write_whole

# Images in a shard, a multiple of what data.square_batches has in one.
_SHARD = 512


def run(config: Config, words: list[str]) -> int:
    """Prepares --dataset in --prepared_dir, or checks that it is prepared.

    Args:
        config: The settings.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if something else is in the directory, or a shard is
            damaged.
    """
    directory = _check_directory(config)
    manifest = _begin(config, directory)
    if manifest["finished"]:
        for shards in manifest["splits"].values():
            prepared.check_files(directory, shards)
        print(f"{directory} is finished; all files have their checksums.")
        return 0
    sources = {
        name: assembly.open_source(config, split)
        for name, split in manifest["source_splits"].items()
    }
    assembly.check_classes(config, *sources.values())
    _remember(directory, manifest, sources)
    bad = BadExamples(directory / "bad_examples.csv", limit=math.inf)
    with assembly.naming_damaged_files(*sources.values()):
        for name, examples in sources.items():
            _write_split(directory, manifest, name, examples, bad)
    _measure(directory, manifest, bad)
    manifest["finished"] = True
    write_json(directory / "manifest.json", manifest)
    _report(directory, manifest, bad)
    return 0


def _check_directory(config):
    if not config.prepared_dir:
        raise UserError("give --prepared_dir=DIR, a directory to fill.")
    directory = Path(config.prepared_dir)
    if directory.is_file() or (
        directory.exists()
        and any(directory.iterdir())
        and not prepared.read_manifest(directory)
    ):
        raise UserError(
            f"--prepared_dir={directory} has other things in it; give an "
            "empty or a new directory."
        )
    return directory


def _begin(config, directory):
    """Returns the manifest: a new one, or one that fits the settings."""
    source = {
        "format_version": prepared.FORMAT_VERSION,
        "dataset": config.dataset,
        "source_splits": {
            "train": config.train_split,
            "validation": config.validation_split,
        },
        "image_size": config.image_size,
        "encoding": config.prepared_format,
    }
    manifest = prepared.read_manifest(directory)
    if not manifest:
        empty = {"train": [], "validation": []}
        return source | {"finished": False, "splits": empty}
    prepared.check_source(directory, manifest, source)
    for shards in manifest["splits"].values():
        there = list(itertools.takewhile(partial(_exists, directory), shards))
        manifest["finished"] &= len(there) == len(shards)
        shards[:] = there
    return manifest


def _exists(directory, shard):
    return all((directory / file).exists() for file in shard["bytes"])


def _remember(directory, manifest, sources):
    """Adds what the sources are, or checks that they are still the same."""
    facts = {
        "source_examples": {n: e.count for n, e in sources.items()},
        "class_names": [*sources["train"].class_names],
    }
    manifest |= {n: f for n, f in facts.items() if n not in manifest}
    prepared.check_source(directory, manifest, facts)


def _write_split(directory, manifest, split, examples, bad):
    """Writes the shards of a split that the manifest does not have yet."""
    shards = manifest["splits"].setdefault(split, [])
    done = len(shards) * _SHARD
    print(f"{split}: {examples.count:,} images", flush=True)
    bar = keras.utils.Progbar(
        examples.count,
        unit_name="image",
        # A moving bar on a screen, a line a minute in a log file.
        interval=0.2 if sys.stdout.isatty() else 60,
    )
    batches = data.square_batches(
        examples,
        start=done,
        size=manifest["image_size"],
        encoding=manifest["encoding"],
        bad=bad,
    )
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
        "sha256": {path.name: prepared.checksum(path) for path in files},
    }


def _measure(directory, manifest, bad):
    """Adds the statistics of all training images to the manifest."""
    print("Measuring the mean and the colours of all training images...")
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
    encoded = io.BytesIO()
    np.save(encoded, measured.mean_image.astype(np.float32))
    write_whole(directory / "mean_image.npy", encoded.getvalue())


def _report(directory, manifest, bad):
    for name, shards in manifest["splits"].items():
        examples = sum(shard["examples"] for shard in shards)
        size = sum(sum(shard["bytes"].values()) for shard in shards)
        print(f"{name}: {examples:,} images, {size / 1e6:,.1f} MB")
    if bad.reasons:
        print(f"{len(bad.reasons)} were left out, see {bad.file}")
    print(f"Train with it: --prepared_dir={directory}")
