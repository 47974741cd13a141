"""Data sets that are folders of class folders."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.data.examples import Examples

_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
# Without a validation folder every tenth image is held out.
_HELD_OUT = 10


def open_split(path: Path, split: str) -> Examples:
    """Opens PATH/CLASS/IMAGE, or PATH/SPLIT/CLASS/IMAGE.

    The splits are "train" and "validation"; "" is the latter. Without folders
    for them every tenth image of a class is for validation. The training
    folder may be missing if nothing is trained.
    """
    split = split or "validation"
    if split not in ("train", "validation"):
        raise UserError(
            f"split {split!r} of --dataset=folder:{path} does not exist; "
            "use train or validation."
        )
    names = class_names(path)
    has_splits = _home_of_classes(path) != path
    root = path / split if has_splits else path
    unknown = sorted({f.name for f in _folders(root)} - set(names))
    if has_splits and any(_images_in(root / name, "all") for name in unknown):
        listed = ", ".join(unknown[:3])
        raise UserError(
            f"{root} has classes without training images: {listed}."
        )
    files, labels = [], []
    for label, name in enumerate(names):
        found = _images_in(root / name, "all" if has_splits else split)
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(
            f"--dataset=folder:{path} has no {split} images in {root}; "
            "expected a folder for each class with .jpg or .png files."
        )
    if unknown and split == "train":
        print(f"Folders without images are no classes: {', '.join(unknown)}")
    # Not sorted by class: statistics are measured on the first ones.
    order = np.random.default_rng(0).permutation(len(files))
    paths, numbers = np.array(files)[order], np.array(labels, np.int64)[order]

    def fetch(indices):
        # Gathered once, or the graph would contain all names twice.
        chosen = tf.gather(paths, indices)
        labels = tf.gather(numbers, indices)
        return {"image": chosen, "label": labels, "name": chosen}

    return Examples(len(files), names, fetch=fetch, load=tf.io.read_file)


def class_names(path: Path) -> tuple[str, ...]:
    """Returns the names of the classes in the order of their labels."""
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: no such folder: {path}")
    home = _home_of_classes(path)
    names = tuple(f.name for f in _folders(home) if _images_in(f, "all"))
    if not names:
        raise UserError(
            f"--dataset=folder:{path} has no images in {home}; expected a "
            "folder for each class with .jpg or .png files."
        )
    return names


def _home_of_classes(path):
    """Returns the folder whose folders are the classes."""
    if (path / "train").is_dir():
        return path / "train"
    only_validation = any(_folders(path / "validation"))
    return path / "validation" if only_validation else path


def _folders(root):
    return sorted(f for f in root.glob("*") if f.is_dir())


def _images_in(folder, part):
    """Returns the files of a class: "all", "validation" or "train"."""
    if not folder.is_dir():
        return []
    files = [f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES]
    names = sorted(map(str, files))
    held_out = slice(_HELD_OUT - 1, None, _HELD_OUT)
    if part == "validation":
        return names[held_out]
    if part == "train":
        del names[held_out]
    return names
