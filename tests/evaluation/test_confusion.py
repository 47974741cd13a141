"""The confusion matrix, against a count in NumPy, and its figure."""

from collections import Counter

import numpy as np
import pytest

from alexnet_tf.evaluation import confusion


def random_answers(classes, count):
    """Returns logits, labels and the answers that they mean."""
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 2
    return logits, labels, logits.argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_counts_are_exact(classes):
    logits, labels, answers = random_answers(classes, 5000)
    counts = confusion.count_answers(logits, labels)
    flat = np.bincount(labels * classes + answers, minlength=classes**2)
    matrix = flat.reshape(classes, classes)
    assert counts == counter(matrix)
    pairs = confusion.most_confused(counts)
    times = [counts[pair] for pair in pairs]
    assert all(i != j for i, j in pairs) and (np.diff(times) <= 0).all()
    assert sum(times) == (labels != answers).sum()


def test_counts_do_not_grow_with_the_square_of_the_classes():
    """100 answers among 30,000 classes, whose matrix would have 7 GB."""
    logits, labels, answers = random_answers(30_000, 100)
    counts = confusion.count_answers(logits, labels)
    pairs = zip(labels.tolist(), answers.tolist(), strict=True)
    assert counts == Counter(pairs)
    names = [f"c{number}" for number in range(30_000)]
    figure = confusion.draw_confusion(counts, names)
    assert "The 20 of 30,000 classes" in figure.get_suptitle()


def counter(matrix):
    """Returns the counts of a matrix."""
    cells = np.ndenumerate(matrix)
    return Counter({pair: int(count) for pair, count in cells if count})


def cells_of(figure):
    """Returns {(class, taken for): count} as the figure shows them."""
    (axes,) = figure.axes
    columns = [label.get_text() for label in axes.get_xticklabels()]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    shown = {}
    for text in axes.texts:
        column, row = text.get_position()
        percent, count = text.get_text().split("\n")
        shown[rows[row], columns[column]] = (percent, int(count))
    return shown


def test_all_of_a_few_classes_are_shown():
    names = [f"${number}" for number in range(10)]
    logits, labels, answers = random_answers(10, 1000)
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (labels, answers), 1)
    figure = confusion.draw_confusion(
        confusion.count_answers(logits, labels), names
    )
    figure.draw_without_rendering()  # No "$" starts a formula.
    expected = {}
    for (row, column), count in np.ndenumerate(counts):
        if count:
            total = counts[row].sum()
            key = (f"${row} ({total})", f"${column}")
            expected[key] = (f"{count / total:.0%}", count)
    assert cells_of(figure) == expected
    error = 1 - counts.trace() / 1000
    assert f"1,000 images, top-1 error {error:.1%}" in figure.get_suptitle()


def test_of_many_classes_the_most_confused_are_shown():
    counts = 40 * np.eye(1000, dtype=np.int64)
    counts[7, 900], counts[900, 7], counts[3, 4], counts[3, 5] = 9, 8, 5, 1
    names = [f"c{number}" for number in range(1000)]
    figure = confusion.draw_confusion(counter(counts), names)
    cells = cells_of(figure)
    rows = list(dict.fromkeys(row for row, _ in cells))
    assert rows[:4] == ["c7 (49)", "c900 (48)", "c3 (46)", "c4 (40)"]
    assert len(rows) == 20
    assert cells["c7 (49)", "c900"] == ("18%", 9)
    assert cells["c3 (46)", "c5"] == ("2%", 1)
    assert "The 20 of 1,000 classes" in figure.get_suptitle()
    # What is taken for a class that is not shown.
    counts[3, 5:105] = 1
    figure = confusion.draw_confusion(counter(counts), names)
    shown = sum(
        n for (row, _), (_, n) in cells_of(figure).items() if "c3 " in row
    )
    assert shown == counts[3].sum()
    assert ("c3 (145)", "other classes") in cells_of(figure)


def test_a_split_may_lack_a_class():
    counts = np.array([[3, 1], [0, 0]])
    cells = cells_of(confusion.draw_confusion(counter(counts), ["a", "b"]))
    assert cells == {("a (4)", "a"): ("75%", 3), ("a (4)", "b"): ("25%", 1)}
