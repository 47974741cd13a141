"""The order of training examples: a function of the seed and the step."""

import tensorflow as tf

from alexnet_tf.data.examples import CORES, Examples

# Recorded in checkpoints; a change of the order changes it.
ORDER_VERSION = 2
# Examples in a chunk, at most.
_ROWS = 128


def shuffled_rows(
    examples: Examples,
    batch_size: int,
    steps: range,
    shuffle_buffer: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    order: str = "shuffled",
) -> tf.data.Dataset:
    """Returns the training examples of some steps, in their order.

    Each epoch has another order, unless that is "fixed", and drops what does
    not fill a batch. The order is a permutation of the split if that has
    random access. Otherwise a buffer is shuffled, which is the same if it
    holds the whole split. Steps count from the start of the run; `shard` is as
    for `training_batches`.

    Returns:
        Dataset of chunks, (seeds, positions, rows): int64 (2,), the seed of
        the step's random draws; int64 (n,), the examples' positions in the
        whole batch; and n examples. All chunks are equal parts of a shard.
    """
    index, num_shards = shard
    shard_size = batch_size // num_shards
    chunk_size = max(n for n in range(1, _ROWS + 1) if shard_size % n == 0)
    per_shard, per_batch = shard_size // chunk_size, batch_size // chunk_size
    per_epoch = examples.steps_per_epoch(batch_size) * per_batch
    # Chunks are numbered like the steps, over all shards.
    numbers = range(steps.start * per_batch, steps.stop * per_batch)

    def draw(epoch, shape, dtype):
        """Returns random bits for the order of an epoch."""
        seeds = _seeds(seed, 0 * epoch if order == "fixed" else epoch)
        return tf.random.stateless_uniform(
            shape, seeds, minval=None, maxval=None, dtype=dtype
        )

    if examples.fetch:
        chunks = _indexed_chunks(examples, chunk_size, numbers, per_epoch, draw)
    else:
        chunks = _buffered_chunks(
            examples, chunk_size, numbers, per_epoch, draw, shuffle_buffer
        )

    def complete(number, rows):
        first = number % per_batch * chunk_size
        positions = first + tf.range(chunk_size, dtype=tf.int64)
        if examples.fetch:
            rows = examples.fetch(rows)  # They were indices.
        return _seeds(seed, number // per_batch), positions, rows

    chunks = chunks.filter(lambda n, _: n % per_batch // per_shard == index)
    return chunks.map(complete, num_parallel_calls=CORES)


def _indexed_chunks(examples, chunk_size, numbers, per_epoch, draw):
    """Returns (number, indices) of chunks of a split with random access."""
    last = tf.constant(examples.count - 1, tf.int64)

    def add_indices(number):
        first = number % per_epoch * chunk_size
        indices = first + tf.range(chunk_size, dtype=tf.int64)
        # Of each word of its key, a shuffle of up to 65,537 examples uses only
        # the lowest 8 bits: with the seed and the epoch as its key it would
        # repeat itself every 256 of them. Two hashed keys have 48 such bits.
        keys = draw(number // per_epoch, (2, 3), tf.uint32)
        for key in tf.unstack(keys):
            indices = tf.raw_ops.RandomIndexShuffle(
                index=indices, seed=key, max_index=last, rounds=4
            )
        return number, indices

    return tf.data.Dataset.range(numbers.start, numbers.stop).map(add_indices)


def _buffered_chunks(examples, chunk_size, numbers, per_epoch, draw, buffer):
    """Returns (number, rows) of chunks, shuffled in a buffer."""

    def read_epoch(epoch):
        first = epoch * per_epoch
        start = tf.maximum(first, numbers.start)
        stop = tf.minimum(first + per_epoch, numbers.stop)
        seed = draw(epoch, (), tf.int64)
        return (
            examples.records.shuffle(
                buffer, seed, reshuffle_each_iteration=False
            )
            .batch(chunk_size, drop_remainder=True)
            # Skipped before they are decoded.
            .skip(start - first)
            .take(stop - start)
            .enumerate(start)
        )

    first, stop = numbers.start // per_epoch, -(-numbers.stop // per_epoch)
    return tf.data.Dataset.range(first, stop).flat_map(read_epoch)


def _seeds(seed, number):
    return tf.stack((tf.cast(seed, tf.int64), number))
