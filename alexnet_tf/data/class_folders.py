"""Folders of class folders: which files are images, which folders classes.

Imports neither NumPy nor TensorFlow, so that mistakes are found at once.
"""

import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from alexnet_tf.config.errors import UserError, printable

# {split: (folder of its class folders, part of their images)}.
Splits = dict[str, tuple[Path, str]]
_SUFFIXES = {*".jpg .jpeg .jpe .jfif .png .gif .bmp .webp".split()}
# Folders of validation images, in any case; the first one is the default.
_VALIDATION = ("validation", "valid", "val", "eval", "test")
# Larger files are not read: no photograph is as large [bytes].
_LARGEST = 256 << 20
_SPECIAL = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
# Left by systems and archives, besides names that begin with a dot.
_TOOLS = {
    *("@eadir", "__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"),
    *("system volume information", "lost+found"),
}


def class_names(path: Path) -> tuple[str, ...]:
    """Returns the names of the classes in the order of their labels."""
    home = home_of_classes(find_splits(path))
    return tuple(map(printable, find_classes(path, home)))


def find_files(folder: Path | str) -> Iterator[tuple[str, str]]:
    """Yields the files in a folder, then those in the folders inside it.

    Their paths are relative to the folder. With each comes "", or why it is
    left out: "hidden" (files and folders), "broken links", "link loops", what
    `unreadable` returns, or a suffix that is not read.
    """
    yield from _walk(str(folder), "", _real_paths_above(folder))


def unreadable(file: str) -> str:
    """Returns why a file must not be opened, "" if it may be.

    Opening a FIFO waits for its writer, and devices may be endless.
    """
    try:
        status = os.stat(file)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:  # A name with a NUL.
        return str(error)
    if kind := _SPECIAL.get(stat.S_IFMT(status.st_mode)):
        return f"{kind} (not a regular file)"
    return f"over {_LARGEST >> 20} MB" if status.st_size > _LARGEST else ""


def _walk(folder, inside, above):
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = inside + entry.name
            if _is_hidden(entry.name):
                yield name, "hidden"
            elif _is_folder(entry):
                folders.append((entry.path, name))
            elif entry.is_symlink() and not os.path.exists(entry):
                yield name, "broken links"
            else:
                yield name, unreadable(entry.path) or _unknown_suffix(name)
    for path, name in folders:
        real = os.path.realpath(path)
        if real in above:
            yield name, "link loops"
        else:
            yield from _walk(path, f"{name}/", above | {real})


def _unknown_suffix(file):
    suffix = os.path.splitext(file)[1].lower()
    known = suffix in _SUFFIXES
    return "" if known else f"{suffix or 'without extension'} (not read)"


def _is_hidden(name):
    return name.startswith(".") or name.lower() in _TOOLS


def _is_folder(entry):
    # A link to itself is an error for `DirEntry.is_dir`.
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _real_paths_above(folder):
    real = Path(folder).resolve()
    return {str(real), *map(str, real.parents)}


def folders_in(root: Path) -> list[Path]:
    """Returns the folders in a folder, sorted by name."""
    above = _real_paths_above(root)
    with os.scandir(root) as entries:
        names = [
            entry.name
            for entry in entries
            if not _is_hidden(entry.name) and _is_folder(entry)
            if os.path.realpath(entry) not in above
        ]
    return [root / name for name in sorted(names)]


def images_in(folder: Path) -> Iterator[str]:
    """Returns the images in a folder, then those in folders inside it."""
    return (file for file, reason in find_files(folder) if not reason)


def find_splits(path: Path) -> Splits:
    """Returns the splits of a data set, by their names in lower case.

    Their part is "all", or "train" or "validation" of images that both share.
    """
    if not path.is_dir():
        problem = f": no such folder: {path}. If it has moved, give the path "
        problem += "it has now."
        if path.exists():
            problem = " is a file; give the folder of the class folders."
        raise UserError(f"--dataset=folder:{path}{problem}")
    folders = {folder.name.lower(): folder for folder in folders_in(path)}
    known = folders.keys() & {"train", *_VALIDATION}
    splits: Splits = {}
    if any(_is_split(folders[name]) for name in known):
        splits = {n: (f, "all") for n, f in folders.items() if _is_split(f)}
    if splits.keys() & {*_VALIDATION}:
        return splits
    home, _ = splits.get("train", (path, ""))
    return splits | {part: (home, part) for part in ("train", "validation")}


def _is_split(folder):
    """Returns whether a folder has class folders and is no class itself.

    A class has images, and may have one folder with more of them.
    """
    seen = set()
    for file in images_in(folder):
        name, _, rest = file.partition("/")
        seen.add(name if rest else "")
        if len(seen - {""}) > 1:
            return True
    return len(seen) == 1 and "" not in seen


def default_split(splits: Splits) -> str:
    """Returns the name of the validation split."""
    return next(name for name in _VALIDATION if name in splits)


def home_of_classes(splits: Splits) -> Path:
    """Returns the folder whose folders are the classes."""
    home, _ = splits.get("train") or splits[default_split(splits)]
    return home


def find_classes(path: Path, home: Path) -> list[str]:
    """Returns the names of the folders that have images, sorted."""
    names = [f.name for f in folders_in(home) if any(images_in(f))]
    if not names:
        _, left_out = list_images(home)
        raise UserError(
            f"--dataset=folder:{path} has no images in {home}/CLASS/, only "
            f"{_count_reasons(left_out) or 'empty folders'}.\nSort images into "
            f"a folder for each class; read are {', '.join(sorted(_SUFFIXES))}."
        )
    if len(names) == 1:
        inner = [f.name for f in folders_in(home / names[0])]
        hint = f"; or give folder:{home / names[0]}, which has {some(inner)}"
        raise UserError(
            f"--dataset=folder:{path} has a single class, {some(names)}, in "
            f"{home}; a classifier needs two.\nSort images into a folder for "
            f"each class{hint if inner else ''}."
        )
    return names


def list_images(home: Path) -> tuple[dict[str, list[str]], Counter]:
    """Returns the images of each class, sorted, and what is left out.

    Images are paths relative to `home`; the rest is counted by reason.
    """
    images, left_out = defaultdict(list), Counter[str]()
    for file, reason in find_files(home):
        name, _, rest = file.partition("/")
        if reason := reason or ("" if rest else "outside class folders"):
            left_out[reason] += 1
        else:
            images[name].append(file)
    return {name: sorted(images[name]) for name in sorted(images)}, left_out


def report_left_out(folder: Path | str, left_out: Counter) -> str:
    """Returns a line that counts what is left out of a folder."""
    count = left_out.total()
    return f"{folder}: {count:,} files left out: {_count_reasons(left_out)}"


def _count_reasons(left_out):
    """Returns the numbers of files that are left out, with the reasons."""
    reasons = sorted(left_out, key=lambda reason: (-left_out[reason], reason))
    return some(f"{left_out[reason]:,} {reason}" for reason in reasons)


def some(names: Iterable[str]) -> str:
    """Returns the first names for a message, and the number of the others."""
    shown = list(map(printable, names))
    more = len(shown) - 5
    return ", ".join(shown[:5]) + (f" and {more:,} more" if more > 0 else "")
