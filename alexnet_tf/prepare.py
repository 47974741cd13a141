"""Rescales a data set once, into shards that training reads in any order."""

import contextlib
import sys
import time
from pathlib import Path

from tqdm import tqdm

from alexnet_tf import assembly, prepared, shards
from alexnet_tf.config import Config
from alexnet_tf.errors import UserError

# Bad images of a split that are shown; the manifest names all.
_SHOWN = 5


def run(config: Config, words: list[str]) -> int:
    """Prepares --dataset in --prepared_dir, or checks that it is prepared.

    Args:
        config: The settings.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if something else is in the directory, the data set has
            changed since, or a shard is damaged.
    """
    if not config.prepared_dir or prepared.is_prepared(config.dataset):
        raise UserError(
            f"prepare got --dataset={config.dataset} and --prepared_dir="
            f"{config.prepared_dir}; it needs a data set that is not prepared "
            "yet, and a directory for it."
        )
    directory = Path(config.prepared_dir)
    splits = dict(
        zip(
            prepared.SPLITS,
            (config.train_split, config.validation_split),
            strict=True,
        )
    )
    shards.begin(
        directory,
        {
            "dataset": config.dataset,
            "source_splits": splits,
            "image_size": config.image_size,
            "encoding": config.prepared_format,
        },
    )
    if (directory / "manifest.json").exists():
        _verify(directory)
        return 0
    _report(directory, _write(config, directory, splits))
    return 0


def _verify(directory):
    manifest = prepared.read_manifest(directory)
    total = sum(s["examples"] for s in manifest["splits"].values())
    with _progress("checking", total) as advance:
        prepared.verify(directory, manifest, advance)
    print(f"{directory} is finished; all shards have their checksums.")


def _write(config, directory, splits):
    sources = {
        name: assembly.open_split(config, split)
        for name, split in splits.items()
    }
    training, validation = sources.values()
    assembly.check_classes(config, training, validation)
    for name, examples in sources.items():
        with _progress(name, examples.count) as advance:
            shards.write_split(
                directory,
                name,
                examples,
                size=config.image_size,
                encoding=config.prepared_format,
                advance=advance,
            )
    print("Measuring the mean and the colours of all training images...")
    return shards.finish(directory, training.class_names)


def _report(directory, manifest):
    for name, split in manifest["splits"].items():
        size = sum(shard["bytes"] for shard in split["shards"])
        left_out = split["left_out"]
        print(
            f"{name}: {split['examples']:,} images, {size / 1e6:,.1f} MB in "
            f"{len(split['shards'])} shards; left out: {len(left_out)}"
        )
        for bad in left_out[:_SHOWN]:
            print(f"  {bad['name']}: {bad['reason']}")
        if len(left_out) > _SHOWN:
            print(f"  and others, see {directory / 'manifest.json'}")
    print(
        f"Use it with --dataset=prepared:{directory} "
        f"--image_size={manifest['image_size']}"
    )


@contextlib.contextmanager
def _progress(title, total):
    """Shows how far it is: a moving bar on a screen, a line a minute in a log.

    Yields:
        What is to be told of each number of images done.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=title, unit=" images") as bar:
            yield bar.update
        return
    done, told = 0, time.monotonic()

    def advance(images):
        nonlocal done, told
        done += images
        if time.monotonic() > told + 60 or done == total:
            told = time.monotonic()
            print(f"{title}: {done:,} of {total:,} images", flush=True)

    yield advance
