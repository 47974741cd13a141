"""Waiting for input, in a real pipeline that is slow or fast."""

import time

import pytest
import tensorflow as tf

from alexnet_tf.data.pipeline import InputClock


@pytest.mark.parametrize(
    ("making", "training", "waits"), [(0.1, 0.0, True), (0.0, 0.1, False)]
)
def test_it_tells_who_waits_for_whom(making, training, waits):
    """Most of the time one sleeps, and the other has nothing to do."""

    def slow(n):
        time.sleep(making)
        return n

    clock = InputClock()
    batches = tf.data.Dataset.range(12).map(
        lambda n: (tf.ensure_shape(tf.py_function(slow, [n], tf.int64), ()), n)
    )
    waited = 0.0
    start = last = time.perf_counter()
    for number, (batch, _) in enumerate(clock.watch(batches, 100).prefetch(1)):
        assert batch == number
        waited += clock.waited(100 + number, last)
        time.sleep(training)
        last = time.perf_counter()
    assert (waited > 0.5 * (last - start)) == waits


def test_a_batch_that_was_not_noted_has_not_been_waited_for():
    assert InputClock().waited(3, time.perf_counter()) == 0
