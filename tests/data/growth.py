"""Cost of starting and resuming a run against the size of its data set.

    python -m tests.data.growth files|prepared [NUMBER...]

prints a row for each number of training files, which are hard links to a few
images, in 1,000 classes. Each is measured in a process of its own, with two
replicas.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

_BATCH = 128
# File systems limit the links to a file, ext4 to 65,000.
_LINKS = 30_000
_SIZES = (10_000, 100_000, 1_280_000)


def write_links(root: Path, files: int, classes: int = 1000) -> None:
    """Writes ROOT/train and ROOT/val, with a twentieth as many files."""
    random, sources = np.random.default_rng(0), []
    for number in range(2 * files // _LINKS + 1):
        pixels = random.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        sources.append(root / f"source{number}.jpg")
        root.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(sources[-1])
    for split, count in (("train", files), ("val", files // 20)):
        for number in range(count):
            folder = root / split / f"n{number % classes:08}"
            if number < classes:
                folder.mkdir(parents=True)
            # Names as long as ImageNet's.
            link = folder / f"{folder.name}_{number}.JPEG"
            os.link(sources[number % len(sources)], link)


def write_prepared(root: Path, directory: Path, files: int) -> None:
    """Prepares ROOT and repeats the shards until they have so many images."""
    from alexnet_tf.main import main

    command = ["prepare", f"--dataset=folder:{root}"]
    main([*command, f"--prepared_dir={directory}", *_flags()])
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    shards = [s for s in manifest["splits"]["train"] if s["examples"] == 512]
    entries = []
    for number in range(files // 512):
        shard, name = shards[number % len(shards)], f"train-{number:05}"
        former = Path(shard["file"]).stem
        entry = {"file": f"{name}.npy", "examples": 512}
        for kind in ("bytes", "sha256"):
            entry[kind] = {
                f"{name}{Path(file).suffix}": value
                for file, value in shard[kind].items()
            }
        for suffix in (".npy", ".csv"):
            link = directory / f"{name}{suffix}"
            if former != name:
                link.unlink(missing_ok=True)
                os.link(directory / f"{former}{suffix}", link)
        entries.append(entry)
    manifest["splits"]["train"] = entries
    (directory / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def measure(root: Path, *flags: str) -> dict[str, float]:
    """Returns CPU seconds of the parts of a start, and peaks of memory [GB].

    The process must be new.
    """
    from alexnet_tf.config.flags import parse
    from alexnet_tf.data import splits
    from alexnet_tf.data.pipeline import training_batches
    from alexnet_tf.distribution.devices import connect
    from alexnet_tf.storage.run_dir import RunDir

    run = RunDir(root / "run")
    run.path.mkdir()
    config, _ = parse(
        [f"--dataset=folder:{root}", f"--run_dir={run.path}", *_flags(), *flags]
    )
    devices = connect(config, run.path)
    costs: dict[str, float] = {}
    since = time.process_time()

    def lap(name):
        nonlocal since
        now = time.process_time()
        costs[name] = now - since
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        costs[f"{name} [GB]"] = peak / 1e6
        since = now

    training, validation = splits.open_run_splits(config, run)
    lap("listing")
    bad = splits.record_bad_examples(config, run, training, validation)
    splits.describe_dataset(config, run, training, validation, bad)
    lap("statistics")
    in_epoch = training.steps_per_epoch(_BATCH)
    for name, first in (("first batch", 0), ("resumed batch", in_epoch // 2)):
        batches = training_batches(
            *(training, config),
            batch_size=_BATCH,
            steps=range(first, 2 * in_epoch),
            seed=1,
            bad=bad,
        )
        next(iter(devices.workers.distribute(batches)))
        lap(name)
    return costs


def _flags():
    sizes = ("--image_size=72", "--crop_size=64", f"--batch_size={_BATCH}")
    return (*sizes, "--virtual_devices=2", "--devices_per_replica=1")


def costs_of(root: Path, *flags: str) -> dict[str, float]:
    """Returns what `measure` returns in a new process."""
    command = [sys.executable, "-m", "tests.data.growth", "--measure", root]
    done = subprocess.run(
        [*command, *flags], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", type=Path)
    parser.add_argument("kind", nargs="?", choices=["files", "prepared"])
    parser.add_argument("files", nargs="*", type=int, default=_SIZES)
    given, flags = parser.parse_known_args()
    if given.measure:
        print(json.dumps(measure(given.measure, *flags)))
        return
    for files in given.files:
        with tempfile.TemporaryDirectory() as directory:
            root, flags = Path(directory) / "files", []
            with contextlib.redirect_stdout(io.StringIO()):
                write_links(root, 10_000 if given.kind == "prepared" else files)
                if given.kind == "prepared":
                    prepared = Path(directory) / "prepared"
                    write_prepared(root, prepared, files)
                    flags = [f"--prepared_dir={prepared}"]
            costs = costs_of(root, *flags)
            row = "  ".join(
                f"{name} {cost:.2f}" for name, cost in costs.items()
            )
            print(f"{files:>9,}  {row}", flush=True)


if __name__ == "__main__":
    main()
