"""Data sets that are folders of class folders."""

import collections
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data.examples import Examples, as_tensors

_SUFFIXES = {*".jpg .jpeg .jpe .jfif .png .gif .bmp .webp".split()}
# Folders of validation images, in any case; the first one is the default.
_VALIDATION = ("validation", "valid", "val", "eval", "test")
# Without such a folder every tenth image of a class is held out.
_HELD_OUT = slice(9, None, 10)
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


def open_split(path: Path, split: str) -> Examples:
    """Opens PATH/CLASS/IMAGE, or PATH/SPLIT/CLASS/IMAGE.

    `split` is the name of a split folder in any case, or a TFDS expression
    such as "train[:90%]"; "" is the validation split. Without a folder for
    validation, "train" and "validation" divide the images. Names of examples
    are paths relative to PATH.
    """
    splits = _find_splits(path)
    split = (split or _default(splits)).lower()
    wanted = {split, *re.findall(r"[\w-]+", split)}
    read = {n: _read_split(path, splits, n) for n in splits if n in wanted}
    infos = {
        name: tfds.core.SplitInfo(name, [len(labels)], num_bytes=0)
        for name, (_, _, labels) in read.items()
    }
    try:
        parse = tfds.core.ReadInstruction
        spec = parse(split) if split in read else parse.from_spec(split)
        parts = spec.to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        raise UserError(
            f"split {split!r} of --dataset=folder:{path} does not exist; it "
            f"has {', '.join(splits)}, or parts such as {next(iter(splits))}"
            "[:90%].\nA split is a folder of class folders, as in "
            "PATH/SPLIT/CLASS/IMAGE."
        ) from error
    ranges = [(read[p.splitname], slice(p.from_, p.to)) for p in parts]
    paths = np.concatenate([files[part] for (_, files, _), part in ranges])
    numbers = np.concatenate([labels[part] for (*_, labels), part in ranges])
    names, *_ = next(iter(read.values()))
    if not len(paths):
        raise UserError(
            f"split {split!r} of --dataset=folder:{path} is empty.\nEvery "
            "tenth image of a class is held out for validation, unless you "
            "give --train_split=train[:80%] --validation_split=train[80%:]."
        )
    counts = np.bincount(numbers, minlength=len(names))
    missing = [names[label] for label in np.flatnonzero(counts == 0)]
    if missing:
        print(
            f"{path}: {len(missing)} of {len(names)} classes have no {split} "
            f"images: {_some(missing)}"
        )
    all_paths, all_labels = as_tensors(paths, numbers)

    def fetch(indices):
        chosen = tf.gather(all_paths, indices)
        label = tf.gather(all_labels, indices)
        return {"image": chosen, "label": label, "name": chosen}

    def load(image):
        return tf.io.read_file(tf.strings.join([f"{path}/", image]))

    digest = hashlib.sha256(b"\0".join(paths.tolist())).hexdigest()
    return Examples(
        len(paths), names, fetch=fetch, load=load, names_sha256=digest
    )


def class_names(path: Path) -> tuple[str, ...]:
    """Returns the names of the classes in the order of their labels."""
    home = _home_of_classes(_find_splits(path))
    return tuple(map(printable, _find_classes(path, home)))


def find_files(folder: Path | str) -> Iterator[tuple[str, str]]:
    """Yields the files in a folder, then those in the folders inside it.

    Their paths are relative to the folder. With each comes "", or why it
    cannot be an image: "hidden" (files and folders), "broken links", "link
    loops", or what `unreadable` returns.
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
                yield name, unreadable(entry.path)
    for path, name in folders:
        real = os.path.realpath(path)
        if real in above:
            yield name, "link loops"
        else:
            yield from _walk(path, f"{name}/", above | {real})


def _is_hidden(name):
    return name.startswith(".") or name.lower() in _TOOLS


def _is_folder(entry):
    # A link to itself is an error for `DirEntry.is_dir`.
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _real_paths_above(folder):
    real = Path(folder).resolve()
    return {str(real), *map(str, real.parents)}


def _folders(root):
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


def _images_in(folder):
    """Yields the images in a folder, then those in folders inside it."""
    for file, reason in find_files(folder):
        if not reason and _suffix(file) in _SUFFIXES:
            yield file


def _suffix(file):
    return os.path.splitext(file)[1].lower()


def _find_splits(path):
    """Returns {split: (home of its classes, part of their images)}.

    The part is "all", or of images that are divided "train" or "validation".
    Names of splits are in lower case.
    """
    if not path.is_dir():
        raise UserError(
            f"--dataset=folder:{path}: no such folder: {path}. If it has "
            "moved, give the path it has now."
        )
    folders = {folder.name.lower(): folder for folder in _folders(path)}
    known = folders.keys() & {"train", *_VALIDATION}
    splits = {}
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
    for file in _images_in(folder):
        name, _, rest = file.partition("/")
        seen.add(name if rest else "")
        if len(seen - {""}) > 1:
            return True
    return len(seen) == 1 and "" not in seen


def _default(splits):
    """Returns the name of the validation split."""
    return next(name for name in _VALIDATION if name in splits)


def _home_of_classes(splits):
    """Returns the folder whose folders are the classes."""
    home, _ = splits.get("train") or splits[_default(splits)]
    return home


def _find_classes(path, home):
    """Returns the names of the folders that have images, sorted."""
    names = [f.name for f in _folders(home) if any(_images_in(f))]
    if not names:
        _, left_out = _list_images(home)
        raise UserError(
            f"--dataset=folder:{path} has no images in {home}/CLASS/, only "
            f"{_count(left_out) or 'empty folders'}.\nSort images into a "
            f"folder for each class; read are {', '.join(sorted(_SUFFIXES))}."
        )
    if len(names) == 1:
        inner = [f.name for f in _folders(home / names[0])]
        hint = f"; or give folder:{home / names[0]}, which has {_some(inner)}"
        raise UserError(
            f"--dataset=folder:{path} has a single class, {_some(names)}, in "
            f"{home}; a classifier needs two.\nSort images into a folder for "
            f"each class{hint if inner else ''}."
        )
    return names


def _list_images(home):
    """Returns the images of each class, sorted, and what is left out.

    Images are paths relative to `home`; the rest is counted by reason.
    """
    images, left_out = collections.defaultdict(list), collections.Counter()
    for file, reason in find_files(home):
        name, _, rest = file.partition("/")
        suffix = _suffix(file)
        if not reason and suffix not in _SUFFIXES:
            reason = f"{suffix or 'without extension'} (not read)"
        elif not reason and not rest:
            reason = "outside class folders"
        if reason:
            left_out[reason] += 1
        else:
            images[name].append(file)
    return {name: sorted(images[name]) for name in sorted(images)}, left_out


def _read_split(path, splits, name):
    """Returns class names, and files and labels of a split in mixed order."""
    home, part = splits[name]
    classes_in = _home_of_classes(splits)
    images, left_out = _list_images(home)
    names = list(images) if home == classes_in else []
    if len(names) < 2:
        names = _find_classes(path, classes_in)
    unknown = sorted(images.keys() - set(names))
    if unknown:
        raise UserError(
            f"{home} has classes without training images: {_some(unknown)}; "
            f"{classes_in} has {_some(names)}.\nUse the same class folders in "
            "both, or divide the training images: --train_split=train[:90%] "
            "--validation_split=train[90%:]."
        )
    if part != "validation":  # Or train reports it.
        _report(path, home, part, images, left_out)
    prefix = f"{os.path.relpath(home, path)}/" if home != path else ""
    files, labels = [], []
    for label, name in enumerate(names):
        chosen = _take(images.get(name, []), part)
        files += [os.fsencode(prefix + file) for file in chosen]
        labels += [label] * len(chosen)
    # Not sorted by class: statistics are measured on the first ones.
    order = np.random.default_rng(0).permutation(len(files))
    shuffled = np.array(files, np.bytes_)[order]
    names = tuple(map(printable, names))
    return names, shuffled, np.array(labels, np.int64)[order]


def _take(files, part):
    """Returns a part of the images of a class."""
    if part == "validation":
        return files[_HELD_OUT]
    if part == "train":
        files = files.copy()
        del files[_HELD_OUT]
    return files


def _report(path, home, part, images, left_out):
    """Prints what belongs to no class, and what may belong to another."""
    empty = [f.name for f in _folders(home) if f.name not in images]
    if empty:
        print(f"Folders without images are no classes: {_some(empty)}")
    if left_out:
        count = left_out.total()
        print(f"{home}: {count:,} files left out: {_count(left_out)}")
    inside = [{os.path.dirname(f) for f in files} for files in images.values()]
    mixed = sorted(
        set().union(*(f for f in inside if len(f) > 1)) - set(images)
    )
    if mixed:
        print(f"{home}: folders inside a class belong to it: {_some(mixed)}")
    if part == "train" and home != path:
        others = [f for f in _folders(path) if f != home]
        unused = [f.name for f in others if any(_images_in(f))]
        print(
            f"{path}: every tenth image of {home.name} is for validation"
            + (f"; not used: {_some(unused)}" if unused else "")
        )


def _count(left_out):
    """Returns the numbers of files that are left out, with the reasons."""
    reasons = sorted(left_out, key=lambda reason: (-left_out[reason], reason))
    return _some(f"{left_out[reason]:,} {reason}" for reason in reasons)


def _some(names: Iterable[str]) -> str:
    """Returns the first names for a message, and the number of the others."""
    shown = list(map(printable, names))
    more = len(shown) - 5
    return ", ".join(shown[:5]) + (f" and {more:,} more" if more > 0 else "")
