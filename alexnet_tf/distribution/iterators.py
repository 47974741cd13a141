"""Iterators of distributed datasets that are never deleted.

Under a strategy TensorFlow gives each device an autotuned iterator, whatever
the dataset's options. Its autotuning thread sleeps longer and longer, up to a
minute, and deleting the iterator waits for it, at interpreter exit, too.
"""

import ctypes
import functools
from collections.abc import Iterator

import keras

_kept: set[int] = set()  # The `id` of each kept iterator.


def keep_those_of_fit(model: keras.Model) -> None:
    """Keeps the iterators that `fit` of a compiled model will create."""
    model.make_train_function()
    step = model.train_function

    @functools.wraps(step)
    def keeping_step(iterator):
        return step(keep(iterator))

    model.train_function = keeping_step


def keep(iterator: Iterator) -> Iterator:
    """Returns the iterator, which from now on outlives the interpreter."""
    if id(iterator) not in _kept:
        _kept.add(id(iterator))
        # A reference held by Python would be released at interpreter exit.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(iterator))
    return iterator
