"""Files and folders that are written completely or not at all."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError

# The start of a formula, or of a text that would be read as a quoted one.
_FORMULA = re.compile("'*[-=+@]")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yields another path, whose file or folder then replaces that of `path`.

    If writing fails, `path` stays as it was. The other path ends alike, in
    .keras for example, and is always the same, so that a killed write leaves
    nothing for long.
    """
    aside = path.with_name(f".writing-{path.name}")
    former = path.with_name(f".former-{path.name}")
    try:
        with reporting_failed_writes(path):
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise OSError("it is a device, a pipe or a socket")
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(aside)
            yield aside
            for written in (aside, *aside.rglob("*")):
                sync(written)
            if aside.is_dir() and path.is_dir():
                # It cannot be replaced in one step.
                _remove(former)
                path.rename(former)
            aside.replace(path)
            _remove(former)
    finally:
        if former.exists() and not path.exists():
            former.rename(path)
        with contextlib.suppress(OSError):
            _remove(aside)


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def reporting_failed_writes(path: Path) -> Iterator[None]:
    """Turns errors in writing, on a full disk for example, into a `UserError`.

    Both the system's and TensorFlow's.
    """
    try:
        yield
    except _write_errors() as error:
        reason = getattr(error, "strerror", None) or str(error)
        # TensorFlow's: {{node}} FILE; REASON, and the place in the graph.
        reason = reason.splitlines()[0].split(" [Op:")[0].split("; ")[-1]
        raise UserError(
            f"{path} cannot be written: {reason}. Make room, or give a place "
            "that can be written to."
        ) from error


def _write_errors():
    # Without TensorFlow there are no errors of it.
    tensorflow = sys.modules.get("tensorflow")
    return (OSError, tensorflow.errors.OpError) if tensorflow else OSError


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either complete or as it was before."""
    if isinstance(content, str):
        content = content.encode()
    with written_aside(path) as aside:
        aside.write_bytes(content)


def append(path: Path, text: str) -> None:
    """Appends to a file; if that fails, the file stays as it was."""
    with reporting_failed_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", newline="") as file:
                file.write(text)
        except OSError:
            os.truncate(path, size)
            raise


def write_json(path: Path, content: dict) -> None:
    """Writes a dictionary as indented JSON."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file."""
    encoded = io.BytesIO()
    np.save(encoded, array)
    write_whole(path, encoded.getvalue())


def write_report(path: str, content: dict) -> None:
    """Writes the results of a command to its --json file, if one is given."""
    if path:
        write_json(Path(path), content)
        print(f"Written to {path}.", file=sys.stderr)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_csv_cell(text: str) -> str:
    """Returns a text with ' before it if a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv_cell(cell: str) -> str:
    """Returns the text of a cell that `to_csv_cell` made."""
    return cell.removeprefix("'") if _FORMULA.match(cell) else cell


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
