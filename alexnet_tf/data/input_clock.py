"""How long training waits for its input."""

import time

import tensorflow as tf


class InputClock:
    """Notes when each batch is ready, and how long after it was wanted."""

    def __init__(self):
        self._ready = {}

    def watch(self, batches: tf.data.Dataset, first: int) -> tf.data.Dataset:
        """Returns the same dataset, with its batches noted as they come.

        Args:
            batches: A dataset of (images, labels).
            first: Number of its first batch.
        """

        def note(number, batch):
            noted = tf.py_function(self._note, [number], ())
            with tf.control_dependencies([noted]):
                return tf.nest.map_structure(tf.identity, batch)

        return batches.enumerate(first).map(note)

    def _note(self, number):
        self._ready[int(number)] = time.perf_counter()

    def waited(self, number: int, since: float) -> float:
        """Returns the seconds that a batch came after it was wanted.

        Args:
            number: The batch; it is forgotten.
            since: When it was wanted, by `time.perf_counter`.
        """
        return max(0.0, self._ready.pop(number, since) - since)
