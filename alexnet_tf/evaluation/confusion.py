"""The confusion matrix: its counts, most frequent confusions and figure.

`counts[i, j]` is the number of images of class i that were taken for class j.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.evaluation.plots import make_figure, shortened
from alexnet_tf.evaluation.predictor import top_k_errors

# Classes that a figure shows, and characters of their names.
_SHOWN, _LONGEST = 20, 24


def count_answers(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the confusion matrix, (classes, classes) int64.

    Args:
        logits: (n, classes), as `measure` takes them. A tie with the label
            counts as the other class.
        labels: (n,) integers.
    """
    answers = np.array(labels)
    wrong = np.flatnonzero(top_k_errors(labels, logits, 1))
    others = logits[wrong]
    others[np.arange(len(wrong)), answers[wrong]] = -np.inf
    answers[wrong] = others.argmax(axis=1)
    counts = np.zeros(2 * logits.shape[1:], np.int64)
    np.add.at(counts, (labels, answers), 1)
    return counts


def most_confused(counts: np.ndarray) -> np.ndarray:
    """Returns (class, taken for) pairs, (n, 2), the most frequent first."""
    wrong = counts - np.diag(counts.diagonal())
    pairs = np.argwhere(wrong)
    return pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]


def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws the matrix in percent of the images of each class.

    Of more than 20 classes, it shows those of the most frequent confusions,
    and all other answers in a last column.
    """
    shown = list(range(len(names)))
    if len(names) > _SHOWN:
        pairs = most_confused(counts).ravel().tolist()
        # In this order, so that confused classes are side by side.
        shown = list(dict.fromkeys([*pairs, *shown]))[:_SHOWN]
    cells = counts[np.ix_(shown, shown)]
    columns = [shortened(names[index], _LONGEST) for index in shown]
    rows = [
        f"{name} ({counts[index].sum():,})"
        for name, index in zip(columns, shown, strict=True)
    ]
    total = counts.sum()
    error = 1 - counts.trace() / max(total, 1)
    title = f"Confusion matrix of {total:,} images, top-1 error {error:.1%}"
    images = counts[shown].sum(axis=1, keepdims=True)
    shades = cells / np.maximum(images, 1)
    if len(shown) < len(names):
        title += f"\nThe {_SHOWN} of {len(names):,} classes confused most often"
        columns.append("other classes")
        others = images - cells.sum(axis=1, keepdims=True)
        cells = np.hstack([cells, others])
        shades = np.hstack([shades, 0 * others])
    height, width = (0.45 * len(side) for side in (rows, columns))
    figure = make_figure((width + 3.5, height + 2.5), title)
    axes = figure.add_subplot()
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(cells):
        if count:
            color = "white" if shades[row, column] > 0.6 else "black"
            text = axes.text(
                column,
                row,
                f"{count / images[row, 0]:.0%}\n{count:,}",
                ha="center",
            )
            text.set(va="center", fontsize=7.5, color=color)
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
