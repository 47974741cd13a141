"""Which classes are wrong, and taken for which, counted by hand."""

import numpy as np

from alexnet_tf.evaluation import error_report

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


def test_the_most_frequent_pairs_come_first():
    assert error_report.confused_pairs(*some_predictions(), NAMES) == [
        {"class": "cat", "taken_for": "dog", "times": 2},
        {"class": "owl", "taken_for": "cat", "times": 1},
    ]


def test_a_tie_is_taken_for_the_other_class():
    logits = np.array([[0.0, 3.0, 3.0, 1.0], [1.0, 1.0, 0.0, 2.0]])
    labels = np.array([1, 3])
    assert error_report.confused_pairs(logits, labels, NAMES) == [
        {"class": "dog", "taken_for": "owl", "times": 1}
    ]
    rows = error_report.class_errors(logits, labels, NAMES)
    assert [row["top1_error"] for row in rows] == [1, 0]


def test_no_pairs_have_no_table():
    labels = np.array([3, 2])
    logits = np.eye(4)[labels]
    assert error_report.confused_pairs(logits, labels, NAMES) == []
    rows = error_report.class_errors(logits, labels, NAMES)
    text = error_report.format_details(rows, [])
    assert "confused" not in text and "owl" in text


def test_a_hundred_classes_take_a_few_lines():
    names = [f"class {number}" for number in range(100)]
    labels = np.arange(100)
    logits = np.eye(100)[(labels + 1) % 100]
    rows = error_report.class_errors(logits, labels, names)
    pairs = error_report.confused_pairs(logits, labels, names)
    text = error_report.format_details(rows, pairs)
    assert len(rows) == len(pairs) == 100
    assert len(text.splitlines()) < 40 and "88 better classes" in text
