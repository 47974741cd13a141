"""Which classes are wrong, and taken for which, counted by hand."""

import numpy as np
import pytest

from alexnet_tf.evaluation import confusion, error_report

NAMES = ["cat", "dog", "owl", "ant"]


def some_predictions():
    """Cats 1 of 3 right, two taken for dogs; owls 1 of 2; the dog right."""
    answers = [0, 1, 1, 1, 2, 0]
    logits = np.zeros((6, 4))
    logits[range(6), answers] = 2.0
    return logits, np.array([0, 0, 0, 1, 2, 2])


def test_classes_with_examples_come_worst_first():
    rows = error_report.class_errors(*some_predictions(), NAMES)
    assert [row["class"] for row in rows] == ["cat", "owl", "dog"]
    assert [row["num_examples"] for row in rows] == [3, 2, 1]
    assert [row["top1_error"] for row in rows] == [2 / 3, 1 / 2, 0]
    assert [row["top5_error"] for row in rows] == [0, 0, 0]


def pairs_of(logits, labels, names):
    counts = confusion.count_answers(logits, labels)
    return error_report.confused_pairs(counts, names)


def test_the_most_frequent_pairs_come_first():
    assert pairs_of(*some_predictions(), NAMES) == [
        {"class": "cat", "taken_for": "dog", "times": 2},
        {"class": "owl", "taken_for": "cat", "times": 1},
    ]


def test_a_tie_is_taken_for_the_other_class():
    logits = np.array([[0.0, 3.0, 3.0, 1.0], [1.0, 1.0, 0.0, 2.0]])
    labels = np.array([1, 3])
    assert pairs_of(logits, labels, NAMES) == [
        {"class": "dog", "taken_for": "owl", "times": 1}
    ]
    rows = error_report.class_errors(logits, labels, NAMES)
    assert [row["top1_error"] for row in rows] == [1, 0]


def test_no_pairs_have_no_table():
    labels = np.array([3, 2])
    logits = np.eye(4)[labels]
    assert pairs_of(logits, labels, NAMES) == []
    rows = error_report.class_errors(logits, labels, NAMES)
    text = error_report.format_details(rows, [], num_classes=4)
    assert "confused" not in text and "owl" in text


def test_a_hundred_classes_take_a_few_lines():
    names = [f"class {number}" for number in range(100)]
    labels = np.arange(100)
    logits = np.eye(100)[(labels + 1) % 100]
    rows = error_report.class_errors(logits, labels, names)
    pairs = pairs_of(logits, labels, names)
    text = error_report.format_details(rows, pairs, num_classes=100)
    assert len(rows) == len(pairs) == 100
    assert len(text.splitlines()) < 40 and "88 better classes" in text


@pytest.mark.parametrize("num_classes", [2, 5, 6])
def test_errors_are_percentages(num_classes):
    """Top-5 errors of more than five classes only."""
    errors = {"ten crops": {"top1_error": 0.40725, "top5_error": 0.18249}}
    text = error_report.format_errors(errors, num_classes=num_classes)
    row = ["ten", "crops", "40.7%", "18.2%"]
    assert text.splitlines()[1].split() == row[: 4 if num_classes > 5 else 3]
    assert ("top-5" in text) == (num_classes > 5)
