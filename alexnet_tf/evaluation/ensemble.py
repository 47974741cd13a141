"""Weighted averages of several networks' predictions (Sec. 6)."""

from collections.abc import Sequence

import numpy as np

from alexnet_tf.evaluation.predictor import log_probabilities

_SAMPLES = 500
_STEPS = (0.1, 0.03, 0.01)


def average(
    logits: Sequence[np.ndarray], weights: Sequence[float]
) -> np.ndarray:
    """Returns the logarithms of the weighted mean of probabilities.

    `logits` are an array (n, classes) for each network, see
    `predictor.measure`. The result is (n, classes) float64.
    """
    total = np.array(-np.inf)
    for values, weight in zip(logits, weights, strict=True):
        if weight:
            weighted = np.array(log_probabilities(values)) + np.log(weight)
            total = np.logaddexp(total, weighted)
    return total


def search_weights(
    logits: Sequence[np.ndarray], labels: np.ndarray
) -> list[float]:
    """Returns the weights of the best average, which add up to 1.

    That has the lowest top-1 error on these examples and, among equals, the
    lowest loss. Equal weights, single networks and random weights are tried;
    then the best ones change by smaller and smaller steps, one network at a
    time, as long as that helps. The result is always the same.
    """
    count = len(logits)
    measure = _Measure(logits, labels)
    random = np.random.default_rng(0).dirichlet(np.ones(count), _SAMPLES)
    tried = [np.full(count, 1 / count), *np.eye(count), *random]
    best = min(tried, key=measure)  # The first one among equals.
    lowest = measure(best)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for change in (*(step * np.eye(count)), *(-step * np.eye(count))):
                weights = np.maximum(best + change, 0)
                if not weights.any():
                    continue
                weights /= weights.sum()
                if (found := measure(weights)) < lowest:
                    best, lowest, improved = weights, found, True
    return best.tolist()


class _Measure:
    """Top-1 error and loss by the weights, without all of the classes.

    A class can only be as probable as the label in the average if it is so
    for one of the networks; most classes are not.
    """

    def __init__(self, logits, labels):
        self.num_examples = len(labels)
        of_labels, near = [], False
        for values in logits:
            logs = np.array(log_probabilities(values))
            of_labels.append(logs[range(len(labels)), labels])
            near = near | ~(logs < of_labels[-1][:, None])  # Or not a number.
        near[range(len(labels)), labels] = False
        self.examples, _ = np.nonzero(near)
        self.of_labels = np.array(of_labels)
        self.of_others = np.array(
            [np.array(log_probabilities(values))[near] for values in logits]
        )

    def __call__(self, weights):
        """Returns (top-1 error, loss)."""
        used = weights > 0
        logs = np.log(weights[used])[:, None]
        of_labels = np.logaddexp.reduce(self.of_labels[used] + logs)
        of_others = np.logaddexp.reduce(self.of_others[used] + logs)
        wrong = ~(of_others < of_labels[self.examples])
        errors = len(np.unique(self.examples[wrong]))
        # Rounding errors are no improvement.
        loss = round(-float(of_labels.mean()), 9)
        return errors / self.num_examples, loss
