"""Errors of runs and classes, and confused pairs, as rows and tables.

Logits are (n, classes) arrays, as `measure` takes them, labels (n,) integers.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from alexnet_tf.evaluation.confusion import most_confused
from alexnet_tf.evaluation.predictor import measure_each
from alexnet_tf.evaluation.tables import format_table

# Validation errors of ILSVRC-2012, ten crops (Table 2). Networks with a star
# were pretrained on all of ImageNet.
PUBLISHED = {
    "1 CNN": {"top1_error": 0.407, "top5_error": 0.182},
    "5 CNNs": {"top1_error": 0.381, "top5_error": 0.164},
    "1 CNN*": {"top1_error": 0.390, "top5_error": 0.166},
    "7 CNNs*": {"top1_error": 0.367, "top5_error": 0.154},
}
# Rows of a table of classes or pairs.
_ROWS = 12


def class_errors(
    logits: np.ndarray, labels: np.ndarray, names: list[str]
) -> list[dict]:
    """Returns the errors of each class that has examples, worst first."""
    each = measure_each(logits, labels)
    counts = np.bincount(labels, minlength=len(names))
    top1, top5 = (
        np.bincount(labels, each[name], len(names)) / np.maximum(counts, 1)
        for name in ("top1_error", "top5_error")
    )
    rows = [
        {
            "class": names[label],
            "top1_error": float(top1[label]),
            "top5_error": float(top5[label]),
            "num_examples": int(counts[label]),
        }
        for label in np.flatnonzero(counts)
    ]
    return sorted(rows, key=lambda row: -row["top1_error"])


def confused_pairs(counts: Counter, names: list[str]) -> list[dict]:
    """Returns how often a class was taken for another, most frequent first.

    `counts` are those of `confusion.count_answers`.
    """
    return [
        {
            "class": names[label],
            "taken_for": names[other],
            "times": counts[label, other],
        }
        for label, other in most_confused(counts)
    ]


def format_errors(
    errors: Mapping[str, Mapping[str, float]], *, num_classes: int
) -> str:
    """Returns a table of `top1_error` and `top5_error` by the rows' titles."""
    # "center crop" has 11 characters; all tables have equal columns.
    rows = [
        (f"{title:11}", *_cells(row, num_classes))
        for title, row in errors.items()
    ]
    return format_table(("", *_titles(num_classes)), rows)


def format_details(
    classes: list[dict], pairs: list[dict], *, num_classes: int
) -> str:
    """Returns the worst classes and the most frequent pairs as tables."""
    header = ("class", "images", *_titles(num_classes))
    rows = [
        (row["class"], f"{row['num_examples']:,}", *_cells(row, num_classes))
        for row in classes[:_ROWS]
    ]
    text = format_table(header, rows)
    if len(classes) > _ROWS:
        text += f"\n... and {len(classes) - _ROWS} better classes; see --json"
    if pairs:
        rows = [
            (row["class"], row["taken_for"], f"{row['times']:,}")
            for row in pairs[:_ROWS]
        ]
        table = format_table(("class", "taken for", "times"), rows, left=(0, 1))
        text += f"\n\nMost confused\n{table}"
    return text


def _ranks(num_classes):
    """Returns the k of the top-k errors that are shown."""
    return (1, 5) if num_classes > 5 else (1,)


def _titles(num_classes):
    return [f"top-{k} error" for k in _ranks(num_classes)]


def _cells(errors, num_classes):
    return [f"{errors[f'top{k}_error']:.1%}" for k in _ranks(num_classes)]
