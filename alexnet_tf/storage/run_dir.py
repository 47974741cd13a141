"""The files of a run: what each is called, and how it is written."""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from alexnet_tf.config.errors import UserError

HISTORY_COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "top1_error",
    "top5_error",
    "val_loss",
    "val_top1_error",
    "val_top5_error",
    "gradient_norm",
    "images_per_second",
    "input_wait",
)


@dataclasses.dataclass(frozen=True)
class RunDir:
    """A run directory; it holds everything about a run.

    Args:
        path: The directory; it need not exist yet.
        worker: Which of the processes of the run this is. The first one
            writes all but what each has for itself.
    """

    path: Path
    worker: int = 0

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

    @property
    def is_imported(self) -> bool:
        """Whether its weights come from elsewhere: finished, never trained."""
        return self.result.exists() and not self.history.exists()

    @property
    def bad_examples(self) -> Path:
        """The file that names the examples that cannot be used."""
        worker = f"-worker{self.worker}" if self.worker else ""
        return self.path / f"bad_examples{worker}.csv"

    def worker_log(self, index: int) -> Path:
        """Returns the file with what `launch` lets a worker say."""
        return self.path / f"worker-{index}.log"

    def nonfinite(self, step: int) -> Path:
        """Returns the file that names the examples of a step gone wrong."""
        return self.path / f"nonfinite-{step:08d}.txt"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this directory.

        The lock ends with the process, however that ends.

        Raises:
            UserError: if another process trains here.
        """
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
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}\n")
            file.flush()
            yield

    def read_history(self) -> list[dict[str, str]]:
        """Returns the rows of history.csv, none if there is no such file."""
        if not self.history.exists():
            return []
        with self.history.open(newline="") as file:
            return list(csv.DictReader(file))

    def write_history(self, rows: list[dict]) -> None:
        """Writes history.csv anew; `rows` have `HISTORY_COLUMNS` as keys.

        What a row does not have, as those of earlier versions, stays empty.
        """
        lines = [",".join(HISTORY_COLUMNS)]
        lines += [
            ",".join(str(row.get(column, "")) for column in HISTORY_COLUMNS)
            for row in rows
        ]
        write_whole(self.history, "\n".join(lines) + "\n")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either complete or as it was before.

    Raises:
        UserError: if it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode()
    # Always the same name, so that a killed write leaves nothing for long.
    aside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. Make room, or give "
            "a place that can be written to."
        ) from error


def write_report(file: str, content: dict) -> None:
    """Writes what a command found to its --json file, and says so.

    Args:
        file: The file; empty for none.
        content: JSON values.
    """
    if file:
        write_json(Path(file), content)
        print(f"Written to {file}.", file=sys.stderr)


def write_json(path: Path, content: dict) -> None:
    """Writes a dictionary as indented JSON, completely or not at all."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def checksum(file: Path) -> str:
    """Returns the SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
