"""What a table of errors does not tell: which classes, and taken for which."""

import numpy as np

from alexnet_tf.evaluation.predictor import measure

# Validation errors of ILSVRC-2012, ten crops (Table 2): top-1, top-5. Networks
# with a star were trained on all of ImageNet first.
PUBLISHED = {
    "1 CNN": (0.407, 0.182),
    "5 CNNs": (0.381, 0.164),
    "1 CNN*": (0.390, 0.166),
    "7 CNNs*": (0.367, 0.154),
}
# Rows that are printed of the classes, and of the pairs.
_ROWS = 12


def class_errors(
    probabilities: np.ndarray, labels: np.ndarray, names: list[str]
) -> list[dict]:
    """Returns the errors of each class that has examples, worst first.

    Args:
        probabilities: (n, classes).
        labels: (n,) integers.
        names: Names of the classes.

    Returns:
        For each `class`, `num_examples`, `top1_error` and `top5_error`.
    """
    rows = []
    for number in np.unique(labels):
        some = labels == number
        errors = measure(probabilities[some], labels[some])
        del errors["loss"]
        rows.append({"class": names[number], **errors})
    return sorted(rows, key=lambda row: -row["top1_error"])


def confused_pairs(
    probabilities: np.ndarray, labels: np.ndarray, names: list[str]
) -> list[dict]:
    """Returns which class was taken for which, the most frequent pairs first.

    Returns:
        `class`, `taken_for` and `times`.
    """
    best = probabilities.argmax(axis=1)
    wrong = best != labels
    pairs, times = np.unique(
        np.stack([labels[wrong], best[wrong]]), axis=1, return_counts=True
    )
    return [
        {
            "class": names[pairs[0, place]],
            "taken_for": names[pairs[1, place]],
            "times": int(times[place]),
        }
        for place in np.argsort(-times, kind="stable")
    ]


def as_text(classes: list[dict], pairs: list[dict]) -> str:
    """Returns the worst classes and the most frequent pairs as tables."""
    width = max(len(row["class"]) for row in classes)
    lines = [f"{'class':{width}}  images  top-1 error  top-5 error"]
    lines += [
        f"{row['class']:{width}}{row['num_examples']:8,}"
        f"{row['top1_error']:13.4f}{row['top5_error']:13.4f}"
        for row in classes[:_ROWS]
    ]
    if len(classes) > _ROWS:
        lines.append(f"... and {len(classes) - _ROWS} better ones, see --json")
    if pairs:
        lines.append("\nmost confused")
    lines += [
        f"{row['class']:{width}}  taken for {row['taken_for']:{width}}"
        f"{row['times']:6,} times"
        for row in pairs[:_ROWS]
    ]
    return "\n".join(lines)


def published_text() -> str:
    """Returns the paper's own errors as a table."""
    lines = ["published: ILSVRC-2012 validation, ten crops, Table 2"]
    lines += [
        f"{name:14}{top1:12.4f}{top5:12.4f}"
        for name, (top1, top5) in PUBLISHED.items()
    ]
    return "\n".join(lines)
