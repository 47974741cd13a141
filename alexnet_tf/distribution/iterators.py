"""Iterators over the batches of several devices, which nobody lets go of.

Under a strategy TensorFlow gives each device an iterator that tunes itself,
whatever the dataset's options say, in a thread that sleeps ever longer, at last
a minute at a time. Whoever lets go of such an iterator waits for that thread to
wake up, the end of the interpreter too.
"""

import ctypes
import functools
from collections.abc import Iterator

import keras

# What `id` says of those that are kept.
_kept = set()


def keep_those_of_fit(model: keras.Model) -> None:
    """Keeps the iterators that `fit` will make for a compiled model."""
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
        # A reference that is never given back. One in a list here would be, in
        # the end, which then takes up to a minute.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(iterator))
    return iterator
