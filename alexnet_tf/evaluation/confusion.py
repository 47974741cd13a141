"""The confusion matrix: its counts, most frequent confusions and figure.

`counts[i, j]` is the number of images of class i that were taken for class j.
A `Counter` of pairs, it grows with the images and not with the square of the
classes.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.evaluation.plots import make_figure, shortened
from alexnet_tf.evaluation.predictor import measure_each

# Classes that a figure shows, and characters of their names.
_SHOWN, _LONGEST = 20, 24


def count_answers(logits: np.ndarray, labels: np.ndarray) -> Counter:
    """Returns the confusion matrix.

    Args:
        logits: (n, classes), as `measure` takes them. A tie with the label
            counts as the other class.
        labels: (n,) integers.
    """
    answers = logits.argmax(axis=1)
    is_wrong = measure_each(logits, labels)["top1_error"]
    answers[~is_wrong] = labels[~is_wrong]
    ties = np.flatnonzero(is_wrong & (answers == labels))
    others = logits[ties]
    others[np.arange(len(ties)), labels[ties]] = -np.inf
    answers[ties] = others.argmax(axis=1)
    return Counter(zip(labels.tolist(), answers.tolist(), strict=True))


def most_confused(counts: Counter) -> list[tuple[int, int]]:
    """Returns (class, taken for) pairs, the most frequent first."""
    pairs = sorted((i, j) for (i, j) in counts if i != j)
    return sorted(pairs, key=lambda pair: -counts[pair])


def draw_confusion(counts: Counter, names: Sequence[str]) -> Figure:
    """Draws the matrix in percent of the images of each class.

    Of more than 20 classes, it shows those of the most frequent confusions,
    and all other answers in a last column.
    """
    shown = list(range(len(names)))
    if len(names) > _SHOWN:
        pairs = itertools.chain(*most_confused(counts))
        # In this order, so that confused classes are side by side.
        shown = list(dict.fromkeys([*pairs, *shown]))[:_SHOWN]
    cells = np.array([[counts[i, j] for j in shown] for i in shown])
    images = Counter[int]()
    for (label, _), count in counts.items():
        images[label] += count
    columns = [shortened(names[index], _LONGEST) for index in shown]
    rows = [
        f"{name} ({images[index]:,})"
        for name, index in zip(columns, shown, strict=True)
    ]
    total = counts.total()
    right = sum(count for (i, j), count in counts.items() if i == j)
    error = 1 - right / max(total, 1)
    title = f"Confusion matrix of {total:,} images, top-1 error {error:.1%}"
    in_row = np.array([[images[index]] for index in shown])
    shades = cells / np.maximum(in_row, 1)
    if len(shown) < len(names):
        title += f"\nThe {_SHOWN} of {len(names):,} classes confused most often"
        columns.append("other classes")
        others = in_row - cells.sum(axis=1, keepdims=True)
        cells = np.hstack([cells, others])
        shades = np.hstack([shades, 0 * others])
    height, width = (0.45 * len(side) for side in (rows, columns))
    figure = make_figure((width + 3.5, height + 2.5), title)
    axes = figure.add_subplot()
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(cells):
        if count:
            color = "white" if shades[row, column] > 0.6 else "black"
            text = f"{count / in_row[row, 0]:.0%}\n{count:,}"
            drawn = axes.text(column, row, text, color=color, fontsize=7.5)
            drawn.set(ha="center", va="center")
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(rotation_mode="anchor", fontsize=9, parse_math=False)
    axes.set(xlabel="taken for", ylabel="class (its images)")
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    return figure
