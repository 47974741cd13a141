"""Rescales a data set once, so that training reads it many times faster."""

import itertools
from functools import partial
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data import prepared, splits
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.shards import finish, write_split
from alexnet_tf.storage.files import write_json


def run(config: Config) -> int:
    """Prepares --dataset in --prepared_dir, or checks that it is prepared.

    Args:
        config: The settings.

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
        name: splits.open_source(config, split)
        for name, split in manifest["source_splits"].items()
    }
    splits.check_classes(config, *sources.values())
    _remember(directory, manifest, sources)
    # First of all: a directory with a manifest is one that can be finished.
    write_json(directory / "manifest.json", manifest)
    bad = BadExamples(directory / "bad_examples.csv")
    with splits.reporting_damaged_files(*sources.values()):
        for name, examples in sources.items():
            write_split(directory, manifest, name, examples, bad)
    finish(directory, manifest, bad)
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
        "resize": config.resize,
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
    manifest["finished"] &= (directory / "mean_image.npy").exists()
    return manifest


def _exists(directory, shard):
    return all((directory / file).exists() for file in shard["bytes"])


def _remember(directory, manifest, sources):
    """Adds what the sources are, or checks that they are still the same."""
    info = {
        "source_examples": {n: e.count for n, e in sources.items()},
        "class_names": [*sources["train"].class_names],
    }
    manifest |= {n: f for n, f in info.items() if n not in manifest}
    prepared.check_source(directory, manifest, info)


def _report(directory, manifest, bad):
    for name, shards in manifest["splits"].items():
        examples = sum(shard["examples"] for shard in shards)
        size = sum(sum(shard["bytes"].values()) for shard in shards)
        print(f"{name}: {examples:,} images, {size / 1e6:,.1f} MB")
    if bad.reasons:
        print(f"{len(bad.reasons)} were left out, see {bad.file}")
    print(f"Train with it: --prepared_dir={directory}")
