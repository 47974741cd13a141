"""The order of training examples: a function of the seed and the step."""

import os

import tensorflow as tf

from alexnet_tf.data.examples import Examples

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
    shard: tuple[int, int] = (0, 1),
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
        shard: Which part of each batch, from 0, of how many equal ones.

    Returns:
        Dataset of (seeds, places, rows): int64 (2,), for random draws of the
        step's own; int64 (n,), the examples' places in the whole batch; and n
        examples, with n a divisor of the part's size.
    """
    part, parts = shard
    wanted = batch_size // parts
    size = max(n for n in range(1, _ROWS + 1) if wanted % n == 0)
    in_batch = batch_size // size  # Chunks of rows in a batch,
    in_part = wanted // size  # and in the part of it.
    steps_per_epoch = examples.steps_per_epoch(batch_size)

    def seeds(number):
        return tf.stack((tf.constant(seed, tf.int64), number))

    def places(chunk):
        return chunk * size + tf.range(size, dtype=tf.int64)

    def fetch(number):
        step = number // in_part
        in_step = places(number % in_part) + part * wanted
        indices = tf.random.experimental.index_shuffle(
            step % steps_per_epoch * batch_size + in_step,
            seeds(step // steps_per_epoch),
            max_index=tf.constant(examples.count - 1, tf.int64),
        )
        return seeds(step), in_step, examples.fetch(indices)

    def read(number):
        """Returns the rows of an epoch; number is the epoch's."""
        start = tf.maximum(number * steps_per_epoch, steps.start)
        stop = tf.minimum((number + 1) * steps_per_epoch, steps.stop)
        return (
            examples.records.shuffle(
                shuffle_buffer,
                seed=seed + number * 1_000_003,
                reshuffle_each_iteration=False,
            )
            .batch(size, drop_remainder=True)
            # Skipped before they are decoded.
            .skip((start - number * steps_per_epoch) * in_batch)
            .take((stop - start) * in_batch)
            .enumerate(start * in_batch)
            .filter(lambda chunk, _: chunk % in_batch // in_part == part)
            .map(
                lambda chunk, rows: (
                    seeds(chunk // in_batch),
                    places(chunk % in_batch),
                    rows,
                )
            )
        )

    if examples.fetch:
        chunks = tf.data.Dataset.range(
            steps.start * in_part, steps.stop * in_part
        )
        return chunks.map(fetch, num_parallel_calls=_CORES)
    epochs = tf.data.Dataset.range(
        steps.start // steps_per_epoch, -(-steps.stop // steps_per_epoch)
    )
    return epochs.flat_map(read)
