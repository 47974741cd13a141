"""Losses and errors, against a count in Python and extended precision."""

import numpy as np
import pytest

from alexnet_tf.evaluation import predictor
from alexnet_tf.evaluation.predictor import (
    log_probabilities,
    measure,
    top_k_error,
)


def errors_of_metrics(logits, labels):
    """Returns what `fit` reports, of batches of 7."""
    found = {}
    for k in (1, 5):
        metric = top_k_error(k)
        for start in range(0, len(labels), 7):
            batch = slice(start, start + 7)
            metric.update_state(labels[batch], logits[batch])
        found[metric.name] = float(metric.result())
    return found


def is_error(row, label, k):
    """Counts as the documentation of `top_k_errors` says."""
    ranked = [
        other
        for other, value in enumerate(row.tolist())
        if other != label and not value < row[label]
    ]
    return len(ranked) >= k or np.isnan(row[label])


def check(logits, labels):
    expected = {
        f"top{k}_error": np.mean(
            [is_error(*pair, k) for pair in zip(logits, labels, strict=True)]
        )
        for k in (1, 5)
    }
    found = measure(logits, labels)
    of_metrics = errors_of_metrics(logits, labels)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value)
        assert of_metrics[name] == pytest.approx(value)
    return found


@pytest.mark.parametrize("classes", [3, 12, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 104.0, 1e4, 1e30])
def test_errors_and_loss_at_any_scale(classes, scale):
    random = np.random.default_rng(0)
    logits = (scale * random.normal(size=(60, classes))).astype(np.float32)
    labels = random.integers(0, classes, 60)
    # The label is among the best ten of about half of the images.
    best = np.argsort(-logits, axis=1)[:30, : min(classes, 10)]
    labels[:30] = [random.choice(row) for row in best]
    found = check(logits, labels)
    exact = logits.astype(np.longdouble)
    highest = exact.max(axis=1)
    sums = np.exp(exact - highest[:, None]).sum(axis=1)
    losses = np.log(sums) + highest - exact[range(60), labels]
    assert found["loss"] == pytest.approx(float(losses.mean()))
    np.testing.assert_allclose(
        np.array(log_probabilities(logits))[range(60), labels],
        -losses.astype(float),
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_network_that_is_certain_may_be_wrong():
    """In float32, all of its probabilities but one are zero."""
    logits = np.zeros((12, 12), np.float32)
    logits[:, 0] = 500
    logits[:, 1:] = -np.arange(11)
    found = check(logits, np.arange(12))
    assert found["top1_error"] == pytest.approx(11 / 12)
    assert found["top5_error"] == pytest.approx(7 / 12)


@pytest.mark.parametrize("value", [0.0, 1e30, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [3, 4, 5, 6, 1000])
def test_equal_logits_are_no_hits(value, classes):
    logits = np.full((9, classes), value, np.float32)
    found = check(logits, np.arange(9) % classes)
    assert found["top1_error"] == 1
    # Any label is one of five, unless it is NaN.
    assert found["top5_error"] == (classes > 5 or np.isnan(value))
    if np.isnan(value):
        assert np.isnan(found["loss"])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 0.0])
def test_some_equal_or_nonfinite_logits(special):
    random = np.random.default_rng(1)
    logits = random.integers(-2, 3, (70, 8)).astype(np.float32)
    logits[random.random(logits.shape) < 0.2] = special
    check(logits, random.integers(0, 8, 70))


def test_many_logits_are_measured_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    logits = random.normal(size=(1000, 7)).astype(np.float32)
    labels = random.integers(0, 7, 1000)
    whole = predictor.measure(logits, labels)
    monkeypatch.setattr(predictor, "_ELEMENTS", 100)
    assert predictor.measure(logits, labels) == whole
    exact = logits.astype(np.float64)
    losses = np.log(np.exp(exact).sum(axis=1)) - exact[range(1000), labels]
    each = predictor.measure_each(logits, labels)
    np.testing.assert_allclose(each["loss"], losses, rtol=1e-12)
