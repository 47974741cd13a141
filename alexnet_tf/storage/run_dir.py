"""The run directory: the name of each file, and the small ones' contents."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import itertools
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from alexnet_tf import __version__
from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.files import (
    read_csv,
    read_json,
    read_text,
    reporting_failed_writes,
    write_whole,
)

HISTORY_COLUMNS = tuple(
    "epoch step learning_rate loss top1_error top5_error val_loss "
    "val_top1_error val_top5_error gradient_norm images_per_second "
    "input_wait".split()
)
# Entries of result.json after a training.
_MEASURED = {
    **dict.fromkeys(("loss", "top1_error", "top5_error"), float),
    **dict.fromkeys(("num_examples", "best_epoch", "epochs", "steps"), int),
}
_RUNS = Path("runs")
_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


@dataclasses.dataclass(frozen=True)
class RunDir:
    """A directory for everything about a run; it need not exist yet."""

    path: Path
    worker: int = 0  # This process; 0 writes all but the others' own files.

    lock = property(lambda self: self.path / ".lock")
    flags = property(lambda self: self.path / "flags.cfg")
    environment = property(lambda self: self.path / "environment.json")
    dataset = property(lambda self: self.path / "dataset.json")
    mean_image = property(lambda self: self.path / "mean_image.npy")
    history = property(lambda self: self.path / "history.csv")
    checkpoints = property(lambda self: self.path / "checkpoints")
    tensorboard = property(lambda self: self.path / "tensorboard")
    saved_model = property(lambda self: self.path / "saved_model")
    result = property(lambda self: self.path / "result.json")
    labels = property(lambda self: self.path / "labels.txt")
    model_card = property(lambda self: self.path / "model_card.md")

    @property
    def fix(self) -> str:
        """What to do about a damaged file that cannot be made again."""
        return (
            "Restore it from a copy, or start a new run with "
            f"--init_from={self.path}."
        )

    @property
    def is_imported(self) -> bool:
        """Whether its weights come from elsewhere: finished, never trained."""
        return "imported_from" in self.read_result()

    def has_settings(self) -> bool:
        """Returns whether there is a flags.cfg, which must be whole."""
        made = (self.environment, self.history, self.result, self.checkpoints)
        files = (self.flags, self.dataset, self.mean_image, self.bad_examples)
        for path in (*made[:3], *files, self.labels, self.model_card):
            if path.is_dir():
                raise UserError(f"{path} is a directory; remove or rename it.")
        for path in (self.checkpoints, self.tensorboard, self.saved_model):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file; remove or rename it.")
        if not any(path.exists() for path in (self.flags, *made)):
            return False
        text = read_text(self.flags, self.fix)
        # The last line that all versions write.
        if not re.search(r"^--keep_checkpoints=\d+\n", text, re.MULTILINE):
            raise UserError(
                f"{self.flags} is not complete: it has no whole line "
                f"--keep_checkpoints=N. {self.fix}"
            )
        return True

    def read_result(self) -> dict:
        """Returns result.json, {} if the run is not finished."""
        if not self.result.exists():
            return {}
        fix = "The command that trains the run writes it anew."
        result = read_json(self.result, {"parameters": int}, fix)
        if "imported_from" not in result:
            # The first epoch was not recorded when it was 0.
            counted = {"first_epoch": int} if "first_epoch" in result else {}
            read_json(self.result, _MEASURED | counted, fix)
            # Earlier versions counted from 0.
            result["best_epoch"] += 1 - result.get("first_epoch", 0)
            result["first_epoch"] = 1
        return result

    def read_environment(self) -> dict:
        """Returns environment.json, which no numbers depend on.

        A line reports a damaged one.
        """
        try:
            return read_json(self.environment, {}, "Its versions are lost.")
        except UserError as error:
            print(error)
            return {}

    @property
    def bad_examples(self) -> Path:
        """The list of the examples that cannot be used."""
        worker = f"-worker{self.worker}" if self.worker else ""
        return self.path / f"bad_examples{worker}.csv"

    def worker_log(self, index: int) -> Path:
        """Returns the output file of a worker under `launch`."""
        return self.path / f"worker-{index}.log"

    def nonfinite(self, step: int) -> Path:
        """Returns the list of the examples of a nonfinite step."""
        return self.path / f"nonfinite-{step:08d}.txt"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here; only the chief locks.

        The lock ends with the process, however that ends.
        """
        if self.worker:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise UserError(
                    f"another process ({file.read().strip()}) trains in "
                    f"{self.path}; wait for it, stop it, or give another "
                    "--run_dir."
                ) from error
            with reporting_failed_writes(self.lock):
                file.truncate(0)
                file.write(f"{os.getpid()} on {platform.node()}\n")
                file.flush()
            yield

    def read_history(self) -> list[dict[str, str]]:
        """Returns the rows of history.csv, none if there is no such file.

        The first epoch is 1, also in files of versions that counted from 0.
        """
        if not self.history.exists():
            return []
        fix = "The command that trains the run writes it anew."
        rows = count_from_one(read_csv(self.history, ("epoch",), fix))
        epochs = [row["epoch"] for row in rows]
        if epochs != [str(epoch) for epoch in range(1, len(rows) + 1)]:
            raise UserError(
                f"{self.history} has rows of the epochs {', '.join(epochs)}, "
                f"expected 1 to {len(rows)}. {fix}"
            )
        return rows

    def write_history(self, rows: list[dict]) -> None:
        """Writes history.csv; columns that a row lacks stay empty."""
        lines = [",".join(HISTORY_COLUMNS)]
        for row in rows:
            cells = (str(row.get(column, "")) for column in HISTORY_COLUMNS)
            lines.append(",".join(cells))
        write_whole(self.history, "\n".join(lines) + "\n")

    def read_columns(self, columns: Sequence[str]) -> dict[str, list[float]]:
        """Returns columns of history.csv, NaN where empty or not finite."""
        from alexnet_tf.storage import checkpoints  # Imports NumPy.

        if not (self.history.exists() or self.dataset.exists()):
            raise UserError(
                f"{self.path} is not a run directory: it has no "
                f"{self.history.name}. Give the --run_dir of a training."
            )
        rows = self.read_history()
        done = self.read_result().get("epochs")
        states = checkpoints.states(self.checkpoints)
        least = done or max((s["epochs_done"] for s in states), default=0)
        if len(rows) < least or done not in (None, len(rows)):
            raise UserError(
                f"{self.history} has {len(rows)} rows, but {least} epochs are "
                "done. The command that trains the run writes it anew."
            )
        # Checkpoints of 0.1 have no rows.
        parts = states[-1].get("parts", {}) if states else {}
        kept = parts.get("history") or []
        for column in HISTORY_COLUMNS:
            known = [row.get(column, "") for row in kept]
            if known != [row.get(column, "") for row in rows[: len(kept)]]:
                raise UserError(
                    f"{self.history} has other rows than the checkpoints. The "
                    "command that trains the run writes it anew."
                )
        if self.is_imported:
            raise UserError(
                f"{self.path} is imported, so that it has no epochs; leave it "
                "out."
            )
        if not rows:
            raise UserError(
                f"{self.history} has no rows yet; the first one is written "
                "after the first epoch."
            )
        file = self.history
        return {c: [_number(row, c, file) for row in rows] for c in columns}


def count_from_one(rows: list[dict]) -> list[dict]:
    """Returns rows of history.csv, which earlier versions count from 0."""
    if [row["epoch"] for row in rows] != list(map(str, range(len(rows)))):
        return rows
    return [row | {"epoch": str(n)} for n, row in enumerate(rows, start=1)]


def _number(row, column, file):
    if column not in row:
        raise UserError(f"{file} has no column {column}; is it of a run?")
    try:
        value = float(row[column] or "nan")
    except ValueError as error:
        raise UserError(
            f"{file}: {column} is {row[column]!r}, which is not a number; "
            "correct it or leave it empty."
        ) from error
    return value if math.isfinite(value) else math.nan


@contextlib.contextmanager
def new_run(name: str) -> Iterator[str]:
    """Makes runs/NAME-DATE; if nothing is written there, it goes again."""
    start = time.strftime("%Y-%m-%d-%H%M%S")
    for suffix in itertools.chain([""], map("-{}".format, itertools.count(2))):
        path = _RUNS / f"{name}-{start}{suffix}"
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    try:
        yield str(path)
    finally:
        with contextlib.suppress(OSError):
            os.removedirs(path)


def newest_run() -> str:
    """Returns the run in runs/ with the newest checkpoint, "" if none."""
    places = [*_RUNS.glob("*/checkpoints"), *_RUNS.glob("*/*/checkpoints")]
    newest = max(places, key=lambda place: place.stat().st_mtime, default=None)
    return str(newest.parent) if newest else ""


def open_run(path: str) -> RunDir:
    """Returns the run directory given by --run_dir."""
    if not path:
        raise UserError("give --run_dir=DIR, the directory of the run.")
    if Path(path).exists() and not Path(path).is_dir():
        raise UserError(f"--run_dir={path} is a file; give a directory.")
    return RunDir(Path(path))


def describe_environment(
    replicas: Sequence[Sequence[str]], dataset: str, train_examples: int
) -> dict:
    """Returns the content of environment.json."""
    return {
        "alexnet_tf": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "replicas": [list(devices) for devices in replicas],
        "git_commit": _git_commit(),
        "dataset": dataset,
        "train_examples": train_examples,
    }


def _git_commit():
    """Returns the commit of this source code, None outside its repository.

    An installed package may lie in a repository of something else.
    """
    file = Path(__file__)
    command = ["git", "-C", str(file.parent), "rev-parse", "HEAD"]
    command += [f"HEAD:./{file.name}"]  # Fails unless the commit has the file.
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.split()[0] if done.returncode == 0 else None
