"""Files that are written completely or not at all."""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from alexnet_tf.config.errors import UserError

# The start of a formula, or of a text that would be read as a quoted one.
_FORMULA = re.compile("'*[-=+@]")


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
