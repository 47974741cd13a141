"""Files and folders written completely or not at all, and checked if read."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import reprlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from alexnet_tf.config.errors import UserError

if TYPE_CHECKING:
    import numpy as np  # --help and user errors do without it.

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
def reporting_failed_writes(path: Path | str) -> Iterator[None]:
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


def check_writable(flag: str, path: Path) -> None:
    """Checks that the folder (FLAG_dir) or file of a flag can be written."""
    folders = [path, *path.parents]
    with reporting_failed_writes(f"--{flag}={path}"):
        if not flag.endswith("_dir"):
            del folders[0]
            if path.exists() and not path.is_file():
                raise OSError("it is not a regular file")
        elif path.exists() and not path.is_dir():
            raise OSError("it is a file")
        existing = next(folder for folder in folders if folder.exists())
        tempfile.TemporaryFile(dir=existing).close()


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
        size = path.stat().st_size if path.exists() else None
        try:
            with path.open("a", newline="") as file:
                file.write(text)
        except OSError:
            if size is None:
                path.unlink(missing_ok=True)
            else:
                os.truncate(path, size)
            raise


def shortest(number: float) -> str:
    """Returns a number as text: of a float32, the shortest that is equal."""
    import numpy as np

    with np.errstate(over="ignore"):
        rounded = np.float32(number)
    is_float32 = isinstance(number, float) and float(rounded) == number
    return str(rounded if is_float32 else number)


def write_json(path: Path, content: dict) -> None:
    """Writes a dictionary as indented JSON."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file."""
    import numpy as np

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
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:  # One in reading does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _refuse(path: Path, found: str, fix: str) -> NoReturn:
    raise UserError(f"{path} {found}. {fix}")


def _read(path, fix):
    if not path.is_file():
        _refuse(path, "is not a file" if path.exists() else "is missing", fix)
    try:
        content = path.read_bytes()
    except OSError as error:  # Of a failing disk, for example.
        _refuse(path, f"cannot be read: {error.strerror}", fix)
    if not content.strip(b"\0"):
        _refuse(path, "has only NUL bytes" if content else "is empty", fix)
    return content


def read_text(path: Path, fix: str) -> str:
    """Returns the text of a file, UTF-8 without NUL characters.

    `fix` is a sentence that ends the message about a damaged file.
    """
    content = _read(path, fix)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        _refuse(path, f"is not UTF-8 text (byte {error.start})", fix)
    if "\0" in text:
        _refuse(path, "has NUL bytes", fix)
    return text


def read_json(path: Path, entries: Mapping[str, type], fix: str) -> dict:
    """Returns the dictionary in a JSON file, which must have some entries.

    `entries` are their types by name; an integer may stand for a float.
    """
    text = read_text(path, fix)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"is not JSON: {error}", fix)
    if not isinstance(content, dict):
        _refuse(path, "is not a JSON object", fix)
    for name, kind in entries.items():
        kinds = (int, float) if kind is float else kind
        if name not in content:
            _refuse(path, f"has no entry {name}", fix)
        if not isinstance(value := content[name], kinds):
            found = f"has {reprlib.repr(value)} for {name}"
            _refuse(path, f"{found}, not a {kind.__name__}", fix)
    return content


def read_csv(
    path: Path, columns: Sequence[str], fix: str
) -> list[dict[str, str]]:
    """Returns the rows of a CSV file, which must have some columns."""
    text = read_text(path, fix)
    if not text.endswith("\n"):
        _refuse(path, "ends within a line", fix)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        _refuse(path, f"is not CSV: {error}", fix)
    if missing := [name for name in columns if name not in header]:
        _refuse(path, f"has no column {missing[0]}", fix)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            cells = f"{len(row)} cells instead of {len(header)}"
            _refuse(path, f"has {cells} in row {number}", fix)
    return [
        dict(zip(header, map(from_csv_cell, row), strict=True)) for row in rows
    ]


def read_array(path: Path, fix: str) -> np.ndarray:
    """Returns the array in a .npy file."""
    import numpy as np

    content = io.BytesIO(_read(path, fix))
    try:
        return np.lib.format.read_array(content, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        _refuse(path, f"is not a whole .npy file: {error}", fix)
