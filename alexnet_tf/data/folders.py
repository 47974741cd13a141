"""Data sets that are folders of class folders."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data.class_folders import (
    default_split,
    find_classes,
    find_splits,
    folders_in,
    home_of_classes,
    images_in,
    list_images,
    report_left_out,
    some,
)
from alexnet_tf.data.examples import Examples, as_tensors

# Without such a folder every tenth image of a class is held out.
_HELD_OUT = slice(9, None, 10)


def open_split(path: Path, split: str) -> Examples:
    """Opens PATH/CLASS/IMAGE, or PATH/SPLIT/CLASS/IMAGE.

    `split` is the name of a split folder in any case, or a TFDS expression
    such as "train[:90%]"; "" is the validation split. Without a folder for
    validation, "train" and "validation" divide the images. Names of examples
    are paths relative to PATH.
    """
    splits = find_splits(path)
    split = (split or default_split(splits)).lower()
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
            "give --train_split=train[:80%] --validation_split=train[80%:]; "
            "evaluate\nmeasures all images with --split=train."
        )
    counts = np.bincount(numbers, minlength=len(names))
    missing = [names[label] for label in np.flatnonzero(counts == 0)]
    if missing:
        print(
            f"{path}: {len(missing)} of {len(names)} classes have no {split} "
            f"images: {some(missing)}"
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


def _read_split(path, splits, name):
    """Returns class names, and files and labels of a split in mixed order."""
    home, part = splits[name]
    classes_in = home_of_classes(splits)
    images, left_out = list_images(home)
    names = list(images) if home == classes_in else []
    if len(names) < 2:
        names = find_classes(path, classes_in)
    unknown = sorted(images.keys() - set(names))
    if unknown:
        raise UserError(
            f"{home} has classes without training images: {some(unknown)}; "
            f"{classes_in} has {some(names)}.\nUse the same class folders in "
            "both, or divide the training images: --train_split=train[:90%] "
            "--validation_split=train[90%:]."
        )
    if part == "validation":
        print(
            f"{path}: split validation is every tenth image of a class, "
            "train+validation all images"
        )
    else:  # Or train reports it.
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
    empty = [f.name for f in folders_in(home) if f.name not in images]
    if empty:
        print(f"Folders without images are no classes: {some(empty)}")
    if left_out:
        print(report_left_out(home, left_out))
    inside = [{os.path.dirname(f) for f in files} for files in images.values()]
    mixed = sorted(
        set().union(*(f for f in inside if len(f) > 1)) - set(images)
    )
    if mixed:
        print(f"{home}: folders inside a class belong to it: {some(mixed)}")
    if part == "train" and home != path:
        others = [f for f in folders_in(path) if f != home]
        unused = [f.name for f in others if any(images_in(f))]
        print(
            f"{path}: split train leaves out every tenth image of a class, "
            "for validation"
            + (f"; in neither: {some(unused)}" if unused else "")
        )
