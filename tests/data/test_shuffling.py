"""The order of training examples, which needs no decoding."""

import numpy as np

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
