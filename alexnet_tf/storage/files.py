"""Files that are written completely or not at all, and checked when read."""

import contextlib
import csv
import hashlib
import io
import json
import os
import reprlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from alexnet_tf.config.errors import UserError


@contextlib.contextmanager
def synced(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file to write; its content is on disk in the end."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is either complete or as it was before."""
    # Always the same name, so that a killed write leaves nothing for long.
    aside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with synced(aside) as file:
            file.write(
                content.encode() if isinstance(content, str) else content
            )
        aside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. Make room, or give "
            "a place that can be written to."
        ) from error


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


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _refuse(path: Path, found: str, fix: str) -> NoReturn:
    raise UserError(f"{path} {found}. {fix}")


def _read(path, fix):
    if not path.is_file():
        _refuse(path, "is not a file" if path.exists() else "is missing", fix)
    content = path.read_bytes()
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
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_array(path: Path, fix: str) -> np.ndarray:
    """Returns the array in a .npy file."""
    content = io.BytesIO(_read(path, fix))
    try:
        return np.lib.format.read_array(content, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        _refuse(path, f"is not a whole .npy file: {error}", fix)
