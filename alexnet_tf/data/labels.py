"""Names of classes that people can read, such as "n01440764 tench"."""

import re
from collections.abc import Sequence
from pathlib import Path

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.config.flags import Config
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir

# The id of a WordNet synset, and possibly a label after it.
_WORDNET_ID = re.compile(r"n\d{8}(?= |$)")
# Ids and first lemmas of the 1,000 classes of ILSVRC-2012.
_IMAGENET = Path(__file__).with_name("imagenet_classes.txt")


def class_labels(names: Sequence[str], file: str = "") -> list[str]:
    """Returns the names of classes, followed by their labels.

    The lines of `file` (--labels) are CLASS LABEL, in any order, or LABEL, in
    the order of `names`. Without a file, the ids of ImageNet's classes have
    labels, and other names stay as they are.
    """
    names = list(map(printable, names))
    if file:
        return _match(names, read_lines(file), file)
    if not any(map(_WORDNET_ID.fullmatch, names)):
        return names
    known = {line.split()[0]: line for line in read_lines(_IMAGENET)}
    return [known.get(name, name) for name in names]


def run_labels(config: Config, run_dir: RunDir) -> list[str]:
    """Returns the labels of a run's classes: those of --labels, or its own."""
    info = read_dataset_info(run_dir)
    if info.labels and not config.labels:
        return list(map(printable, info.labels))
    return class_labels(info.class_names, config.labels)


def without_ids(labels: Sequence[str]) -> list[str]:
    """Returns labels without WordNet ids before them, if they stay unique."""
    short = [_WORDNET_ID.sub("", label).strip() or label for label in labels]
    return short if len(set(short)) == len(short) else list(labels)


def are_imagenets(names: Sequence[str]) -> bool:
    """Returns whether classes are the 1,000 of ILSVRC-2012, by their ids."""
    ids = sorted(line.partition(" ")[0] for line in read_lines(_IMAGENET))
    return sorted(name.partition(" ")[0] for name in names) == ids


def read_lines(file: str | Path) -> list[str]:
    """Returns the lines of a file of labels; none may be empty."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--labels={file} cannot be read: {error}. Give a text file with "
            "one class a line."
        ) from error
    text = text.replace("\t", " ").rstrip()
    lines = [printable(line.strip()) for line in text.split("\n")]
    if "" in lines:
        raise UserError(
            f"line {lines.index('') + 1} of --labels={file} is empty; give "
            "one class a line."
        )
    return lines


def _match(names, lines, file):
    """Returns the line of each name, with the name at its start."""
    if len(lines) != len(names):
        raise UserError(
            f"--labels={file} has {len(lines):,} lines; expected one for each "
            f"of the {len(names):,} classes."
        )
    # A name may have another label already.
    ids = map(_WORDNET_ID.match, names)
    keys = [i[0] if i else n for i, n in zip(ids, names, strict=True)]
    lines_of: dict = {}
    for line in lines:
        lines_of.setdefault(_find_start(line, set(keys)), []).append(line)
    others = lines_of.pop(None, [])
    if len(others) == len(lines):
        return [f"{n} {line}" for n, line in zip(keys, lines, strict=True)]
    if others:
        missing = sorted(set(keys) - lines_of.keys())
        raise UserError(
            f"{others[0]!r} in --labels={file} is none of the classes, such as "
            f"{missing[0]!r}; give CLASS LABEL in each line, or LABEL only."
        )
    for key, found in lines_of.items():
        if len(found) > 1:
            raise UserError(
                f"--labels={file} has {len(found)} lines for the class "
                f"{key!r}; give one for each class."
            )
    return [lines_of[key][0] for key in keys]


def _find_start(line, keys):
    """Returns the longest key that a line starts with, None if none."""
    words = line.split()
    starts = (" ".join(words[:n]) for n in range(len(words), 0, -1))
    return next((start for start in starts if start in keys), None)
