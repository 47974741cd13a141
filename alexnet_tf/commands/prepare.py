"""The command prepare: rescales a data set once, for faster training."""

from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, absolute
from alexnet_tf.data import prepared, splits
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.storage.files import check_writable, write_json


def run(config: Config) -> int:
    """Prepares --dataset in --prepared_dir, or checks what is prepared."""
    if not config.prepared_dir:
        raise UserError("give --prepared_dir=DIR, a directory to fill.")
    directory = Path(config.prepared_dir)
    manifest = _open_manifest(config, directory)
    if manifest["finished"]:
        entries = [manifest]
        for name, shards in manifest["splits"].items():
            prepared.open_split(directory, manifest, name)
            entries += shards
        prepared.check_files(directory, entries)
        print(f"{directory} is finished; the checksums of all files match.")
        return 0
    check_writable("prepared_dir", directory)
    sources = {
        name: splits.open_source(config, split)
        for name, split in manifest["source_splits"].items()
    }
    splits.check_classes(config, *sources.values())
    counts = {name: examples.count for name, examples in sources.items()}
    classes = list(sources["train"].class_names)
    info = {"source_examples": counts, "class_names": classes}
    for name, value in info.items():
        manifest.setdefault(name, value)
    prepared.check_source(directory, manifest, info)
    # First: a directory with a manifest is one that can be finished.
    write_json(directory / "manifest.json", manifest)
    bad = BadExamples(directory / "bad_examples.csv")
    with splits.reporting_damaged_files(*sources.values()):
        for name, examples in sources.items():
            prepared.write_split(directory, manifest, name, examples, bad)
    prepared.finish(directory, manifest, bad)
    _report(directory, manifest, bad)
    return 0


def _open_manifest(config, directory):
    """Returns the manifest: a new one, or one that fits the settings."""
    names = {"train": config.train_split, "validation": config.validation_split}
    source = {
        "format_version": prepared.FORMAT_VERSION,
        "dataset": absolute(config).dataset,
        "source_splits": names,
        "image_size": config.image_size,
        "resize": config.resize,
        "exif_orientation": config.exif_orientation,
        "max_image_pixels": config.max_image_pixels,
        "encoding": config.prepared_format,
    }
    manifest = prepared.read_manifest(directory)
    if not manifest:
        empty = {"train": [], "validation": []}
        return source | {"finished": False, "splits": empty}
    prepared.check_source(directory, manifest, source)
    for shards in manifest["splits"].values():
        for number, shard in enumerate(shards):
            if not all((directory / file).exists() for file in shard["bytes"]):
                # It is written again, and those after it.
                del shards[number:]
                manifest["finished"] = False
                break
    if not (directory / "mean_image.npy").exists():
        manifest["finished"] = False
    return manifest


def _report(directory, manifest, bad):
    for name, shards in manifest["splits"].items():
        examples = sum(shard["examples"] for shard in shards)
        size = sum(sum(shard["bytes"].values()) for shard in shards)
        print(f"{name}: {examples:,} images, {size / 1e6:,.1f} MB")
    if bad.listed:
        print(f"{len(bad.listed)} were left out, see {bad.file}")
    print(f"Train with it: --prepared_dir={directory}")
