"""Cost of whole commands against what they have more of.

    python -m tests.end_to_end.growth classes|batch|devices|prepare|evaluate|
        checkpoint...

prints a row for each command and size: processor seconds of the command with
all processes that it starts, and the peak memory of the largest. Images have
80x100 pixels, networks a tenth of the width unless it says otherwise. Files
are hard links to a few images.
"""

import argparse
import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.data.growth import write_links

_SMALL = ("--width=0.1", "--image_size=72", "--crop_size=64", "--epochs=1")


def cost_of(*words: str) -> str:
    """Runs a command of the program; returns what it cost."""
    command = [sys.executable, "-m", "alexnet_tf.main", *map(str, words)]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{out.read().decode()}")
    seconds, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000
    return f"{seconds:7.1f} s  {peak:5,.0f} MB"


def links(root: Path, files: int, classes: int) -> str:
    """Writes a data set of links; returns the flag for it."""
    with contextlib.redirect_stdout(io.StringIO()):
        write_links(root, files, classes)
    return f"--dataset=folder:{root}"


def classes(root: Path) -> Iterator[str]:
    """All commands of a run, 20,000 training images."""
    for number in (10, 100, 1_000, 10_000):
        path, run = root / f"{number}", root / f"run{number}"
        # A twentieth as many for validation, but at least one of a class.
        dataset = links(path, max(20_000, 20 * number), number)
        part = f"--train_split=train[:{20_000 / max(20_000, 20 * number):.0%}]"
        start = [dataset, part, f"--run_dir={run}", *_SMALL]
        photo = next((path / "val").glob("*/*"))
        for words in (
            ["train", *start],
            ["evaluate", run, "--split=val[:1000]"],
            ["predict", photo, f"--run_dir={run}"],
            ["figures", run],
            ["export", f"--run_dir={run}", "--format=saved_model,keras"],
        ):
            yield f"{number:6,} classes  {words[0]:9} {cost_of(*words)}"


def batch(root: Path) -> Iterator[str]:
    """An epoch of 8,192 images."""
    start = [links(root / "files", 8_192, 10), *_SMALL]
    for number in (32, 64, 128, 256, 512):
        words = [*start, f"--batch_size={number}", f"--run_dir={root}/{number}"]
        yield f"batch size {number:4}  {cost_of(*words)}"


def devices(root: Path) -> Iterator[str]:
    """An epoch of 8,192 images by more towers, devices, replicas, workers."""
    start = ["--batch_size=128", *_SMALL, links(root / "files", 8_192, 10)]
    for towers, virtual, per_replica, workers in (
        (1, 1, 1, 1),
        (2, 1, 1, 1),
        (4, 1, 1, 1),
        (2, 2, 2, 1),
        (4, 4, 4, 1),
        (1, 2, 1, 1),
        (1, 4, 1, 1),
        (1, 1, 1, 2),
        (1, 1, 1, 4),
    ):
        name = f"{towers}-{virtual}-{per_replica}-{workers}"
        words = [
            *start,
            f"--towers={towers}",
            f"--virtual_devices={virtual}",
            f"--devices_per_replica={per_replica}",
            f"--run_dir={root}/{name}",
        ]
        if workers > 1:
            words = ["launch", f"--workers={workers}", *words]
        row = f"{towers} towers on {per_replica}, {virtual // per_replica} "
        row += f"replicas in each of {workers} processes"
        yield f"{row}  {cost_of(*words)}"


def prepare(root: Path) -> Iterator[str]:
    """More images, as JPEG and raw."""
    for number in (2_000, 8_000, 32_000):
        dataset = links(root / f"{number}", number, 10)
        for kind in ("jpeg", "raw"):
            words = ["prepare", dataset, f"--prepared_format={kind}"]
            words += [f"--prepared_dir={root}/{kind}{number}", *_SMALL[1:3]]
            yield f"prepare {number:6,} {kind:4}  {cost_of(*words)}"


def evaluate(root: Path) -> Iterator[str]:
    """More images, with the center patch and ten."""
    dataset, run = links(root / "files", 32_000, 10), root / "run"
    part = "--train_split=train[:1000]"
    cost_of(dataset, part, f"--run_dir={run}", *_SMALL)
    for number in (2_000, 8_000, 32_000):
        words = ["evaluate", run, f"--split=train[:{number}]"]
        yield f"evaluate {number:6,}  {cost_of(*words)}"


def checkpoint(root: Path) -> Iterator[str]:
    """Checkpoints of wider networks, in seconds of a core and of the clock."""
    from alexnet_tf.config.flags import parse
    from alexnet_tf.distribution.devices import connect
    from alexnet_tf.storage import checkpoints
    from alexnet_tf.storage.dataset_info import placeholder_info
    from alexnet_tf.training.trainer import build_trainer

    info = placeholder_info(list(map(str, range(1000))))
    for width in (0.125, 0.25, 0.5, 1):
        config, _ = parse([f"--width={width}"])
        model = build_trainer(config, info, connect(config))
        variables = [*model.variables, *model.optimizer.variables]
        directory, spent, seconds = root / f"{width}", [], []
        for step in range(5):
            start = time.process_time(), time.perf_counter()
            state = {"step": step, "val_top1_error": None, "val_loss": None}
            checkpoints.save(directory, checkpoints.values_of(variables), state)
            spent.append(time.process_time() - start[0])
            seconds.append(time.perf_counter() - start[1])
            checkpoints.prune(directory, keep=1)
        newest = checkpoints.newest(directory)
        size = sum(file.stat().st_size for file in newest.iterdir()) / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        yield (
            f"width {width:5}  {size:6.1f} MB  "
            f"{statistics.median(spent):.2f} s, "
            f"{statistics.median(seconds):.2f} s by the clock  {peak:,.0f} MB"
        )


def main() -> None:
    """Prints the rows of the parts named on the command line."""
    parts = {
        part.__name__: part
        for part in (classes, batch, devices, prepare, evaluate, checkpoint)
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    for name in parser.parse_args().parts:
        print(name, parts[name].__doc__)
        with tempfile.TemporaryDirectory() as directory:
            for row in parts[name](Path(directory)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
