"""The order of training examples: a function of the seed and the step."""

import os

import tensorflow as tf

from alexnet_tf.examples import Examples

_CORES = os.cpu_count() or 1
# At most so many examples are handed on at a time.
_ROWS = 128


def shuffled_rows(
    examples: Examples,
    *,
    batch_size: int,
    steps: range,
    shuffle_buffer: int,
    seed: int,
) -> tf.data.Dataset:
    """Returns the training examples of some steps, in their order.

    Each epoch has another order, without what does not fill a batch. It is a
    permutation of the split where that can be read in any order; else a
    buffer is shuffled, which is one too if it holds the whole split.

    Args:
        examples: The training split.
        batch_size: Examples in a step.
        steps: The steps, counted from the start of the run.
        shuffle_buffer: Examples in the buffer.
        seed: Seed of the order.

    Returns:
        Dataset of (seeds, rows): int64 (2,), for random draws of the rows'
        own, and n examples with n a divisor of `batch_size`.
    """
    size = max(n for n in range(1, _ROWS + 1) if batch_size % n == 0)
    epoch = examples.count // batch_size * batch_size // size
    first = steps.start * batch_size // size
    last = steps.stop * batch_size // size

    def seeds(number):
        return tf.stack((tf.constant(seed, tf.int64), number))

    def fetch(number):
        places = tf.range(size, dtype=tf.int64) + number % epoch * size
        indices = tf.random.experimental.index_shuffle(
            places,
            seeds(number // epoch),
            max_index=tf.constant(examples.count - 1, tf.int64),
        )
        return seeds(number), examples.fetch(indices)

    def read(number):
        """Returns the rows of an epoch; number is the epoch's."""
        start = tf.maximum(number * epoch, first)
        stop = tf.minimum((number + 1) * epoch, last)
        return (
            examples.records.shuffle(
                shuffle_buffer,
                seed=seed + number * 1_000_003,
                reshuffle_each_iteration=False,
            )
            .batch(size, drop_remainder=True)
            # Skipped before they are decoded.
            .skip(start - number * epoch)
            .take(stop - start)
            .enumerate(start)
            .map(lambda place, rows: (seeds(place), rows))
        )

    if examples.fetch:
        return tf.data.Dataset.range(first, last).map(
            fetch, num_parallel_calls=_CORES
        )
    epochs = tf.data.Dataset.range(first // epoch, -(-last // epoch))
    return epochs.flat_map(read)
