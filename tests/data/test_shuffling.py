"""The order of training examples, which needs no decoding."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.data.examples import Examples
from alexnet_tf.data.shuffling import shuffled_rows


def epoch_of(split, epoch, seed=1):
    """Returns the names and labels of one epoch, in their order."""
    chunks = shuffled_rows(
        split,
        batch_size=240,
        steps=range(epoch, epoch + 1),
        shuffle_buffer=240,
        seed=seed,
    )
    rows = [rows for *_, rows in chunks.as_numpy_iterator()]
    return (
        np.concatenate([chunk["name"] for chunk in rows]).tolist(),
        np.concatenate([chunk["label"] for chunk in rows]),
    )


def test_an_epoch_is_a_permutation_without_correlation(split):
    (rows,) = split.in_order(240).as_numpy_iterator()
    numbers = {name: number for number, name in enumerate(rows["name"])}
    orders = []
    for epoch in range(3):
        names, labels = epoch_of(split, epoch)
        assert np.all(np.bincount(labels) == 20)
        orders.append([numbers[name] for name in names])
    for order in orders:
        assert sorted(order) == list(range(240))
        # Neighbors: of 239 independent pairs the correlation is about 0.065.
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.25
        assert abs(np.corrcoef(order, range(240))[0, 1]) < 0.25
    for one, other in [(0, 1), (1, 2), (0, 2)]:
        assert abs(np.corrcoef(orders[one], orders[other])[0, 1]) < 0.25


def test_epochs_and_seeds_differ(split):
    _, labels = epoch_of(split, 0)
    assert np.any(labels != epoch_of(split, 1)[1])
    assert np.any(labels != epoch_of(split, 0, seed=2)[1])


def numbers(count, is_indexed=True):
    """Returns a split whose examples are the numbers below `count`."""
    if is_indexed:
        return Examples(count, (), fetch=lambda indices: indices)
    return Examples(count, (), records=tf.data.Dataset.range(count))


def batches_of(split, batch_size, steps, seeds=(1,)):
    """Returns the examples of each step of each seed, as tuples."""
    rows = (
        tf.data.Dataset.from_tensor_slices(np.array(seeds, np.int64))
        .flat_map(
            lambda seed: shuffled_rows(
                split, batch_size, steps, split.count, seed
            )
        )
        .map(lambda seeds, positions, rows: rows)
        .rebatch(batch_size)
    )
    return list(map(tuple, rows.as_numpy_iterator()))


@pytest.mark.parametrize(
    ("count", "is_indexed"),
    [
        pytest.param(300, True, marks=pytest.mark.slow),
        pytest.param(30, False, marks=pytest.mark.slow),
    ],
)
def test_no_two_of_2000_epochs_and_seeds_are_equal(count, is_indexed):
    split = numbers(count, is_indexed)
    epochs = batches_of(split, count, range(2000))
    assert {tuple(sorted(order)) for order in epochs} == {tuple(range(count))}
    assert len(set(epochs)) == 2000
    first_steps = batches_of(split, 20, range(1), seeds=range(1, 2001))
    assert len(set(first_steps)) == 2000


@pytest.mark.parametrize("count", [12, 300, 70_000, 1_281_167])
def test_epochs_and_seeds_have_no_period(count):
    """A key of the shuffle has 8 to 11 bits that matter, at these sizes."""
    split, batch_size = numbers(count), 12
    per_epoch = split.steps_per_epoch(batch_size)
    seeds = [1, *(1 + (1 << bit) for bit in range(8, 30))]
    found = batches_of(split, batch_size, range(1), seeds)
    for bit in (8, 11, 16):
        start = per_epoch << bit
        found += batches_of(split, batch_size, range(start, start + 1))
    assert len(set(found)) == len(seeds) + 3


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_all_orders_are_equally_frequent(count):
    """Chi-square: at most 4 standard deviations above its mean."""
    orders = math.factorial(count)
    found = collections.Counter(
        batches_of(numbers(count), count, range(20 * orders))
    )
    assert len(found) == orders
    chi_square = sum((times - 20) ** 2 / 20 for times in found.values())
    assert chi_square <= orders - 1 + 4 * math.sqrt(2 * (orders - 1))
