"""Iterators over the batches of several devices, kept until the process ends.

Under a strategy TensorFlow gives each device an iterator that tunes itself,
whatever the dataset's options say, in a thread that sleeps ever longer, at last
a minute at a time. Whoever lets go of such an iterator waits for that thread to
wake up. The end of the process does not wait.
"""

import functools
from collections.abc import Iterator

import keras
import tensorflow as tf

_kept = []


def repeat_forever(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy
) -> Iterator:
    """Returns the batches for a strategy's replicas, over and over again."""
    return _keep(
        iter(strategy.experimental_distribute_dataset(dataset.repeat()))
    )


def keep_those_of_fit(model: keras.Model) -> None:
    """Keeps the iterators that `fit` will make for a compiled model."""
    model.make_train_function()
    step = model.train_function

    @functools.wraps(step)
    def keeping_step(iterator):
        return step(_keep(iterator))

    model.train_function = keeping_step


def _keep(iterator):
    if not any(iterator is kept for kept in _kept):
        _kept.append(iterator)
    return iterator
