"""Weighted averages of predictions, against a search of a whole grid."""

import itertools

import numpy as np
import pytest

from alexnet_tf.evaluation.ensemble import average, search_weights
from alexnet_tf.evaluation.predictor import measure


def make_logits(count, *, skills, classes=6, seed=0):
    """Returns networks' logits, and labels; a skill shifts that of the label.

    Each network is certain about some images that it gets wrong.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(0, 2, (len(skills), count, classes))
    logits[:, range(count), labels] += np.array(skills)[:, None]
    logits *= random.uniform(0.5, 4, (len(skills), count, 1))
    return list(logits.astype(np.float32)), labels


def exact(logits, labels, weights):
    """Returns the top-1 error and the loss, from extended probabilities."""
    total = np.zeros(logits[0].shape, np.longdouble)
    for values, weight in zip(logits, weights, strict=True):
        values = values.astype(np.longdouble)
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        total += weight * powers / powers.sum(axis=1, keepdims=True)
    of_labels = total[range(len(labels)), labels]
    others = total.copy()
    others[range(len(labels)), labels] = -1
    errors = (others.max(axis=1) >= of_labels).mean()
    return float(errors), float(-np.log(of_labels).mean())


@pytest.mark.parametrize(
    "weights", [(0.5, 0.3, 0.2), (1, 0, 0), (0, 0.25, 0.75)]
)
@pytest.mark.parametrize("scale", [1, 100])
def test_an_average_is_that_of_the_probabilities(weights, scale):
    """Also of networks with probabilities that float64 rounds to zero."""
    logits, labels = make_logits(80, skills=(1, 2, 0))
    logits = [scale * values for values in logits]
    found = measure(average(logits, weights), labels)
    errors, loss = exact(logits, labels, weights)
    assert found["top1_error"] == pytest.approx(errors)
    assert found["loss"] == pytest.approx(loss)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("skills", [(1, 1.5, 2), (2, 0, -2), (1.5, 1.5)])
def test_the_search_is_as_good_as_a_grid(skills, seed):
    logits, labels = make_logits(150, skills=skills, seed=seed)
    weights = search_weights(logits, labels)
    assert weights == search_weights(logits, labels)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    found = exact(logits, labels, weights)
    grid = [
        np.array(parts) / 20
        for parts in itertools.product(range(21), repeat=len(skills))
        if sum(parts) == 20
    ]
    best = min(exact(logits, labels, parts) for parts in grid)
    equal = exact(logits, labels, len(skills) * [1 / len(skills)])
    single = min(exact(logits, labels, row) for row in np.eye(len(skills)))
    assert found[0] <= best[0] <= min(equal[0], single[0])
    assert found <= equal and found <= single
    measured = measure(average(logits, weights), labels)
    assert measured["top1_error"] == pytest.approx(found[0])


def test_of_equal_errors_the_lowest_loss_counts():
    """All averages are right; the best one is that of the surer network."""
    labels = np.arange(12) % 3
    sure = 9 * np.eye(3, dtype=np.float32)[labels]
    weights = search_weights([sure / 9, sure, sure / 3], labels)
    assert weights == pytest.approx([0, 1, 0])


def test_a_tie_is_an_error_in_the_search_too():
    """Two networks that contradict each other: equal weights are wrong."""
    labels = np.zeros(4, int)
    right = np.tile(np.float32([1, 0, 0]), (4, 1))
    wrong = right[:, ::-1].copy()
    weights = search_weights([wrong, right], labels)
    assert exact([wrong, right], labels, (0.5, 0.5))[0] == 1
    assert weights == pytest.approx([0, 1])


def test_networks_that_are_all_wrong():
    labels = np.zeros(4, int)
    nothing = np.zeros((4, 3), np.float32)
    weights = search_weights([nothing, nothing - 1], labels)
    assert weights == [0.5, 0.5]
