"""What a split of a data set is, wherever it comes from."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split of a data set.

    An example is a dictionary of `image`, `label` (int64) and `name` (string).

    Args:
        count: Number of examples.
        class_names: Names in the order of the labels.
        records: Dataset of examples, for a split that is read in order.
        fetch: Maps indices, int64 (n,), to examples with tensors of n rows,
            for a split that is read in any order. A split has one of both.
        load: Makes the bytes of an image file of `image`, a string.
        squares: Whether images are the central squares already, so that a
            patch needs no rescaling.
        cut: For a split that is stored decoded, where `image` is an index:
            maps indices (n,), offsets of patches (n, 2), whether they are
            mirrored (n,), and their size to uint8 (n, size, size, 3).
        check_files: Reads the split's files and raises a `UserError` that
            names a damaged one.
    """

    count: int
    class_names: tuple[str, ...]
    records: tf.data.Dataset | None = None
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]] | None = None
    load: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    squares: bool = False
    cut: Callable[..., tf.Tensor] | None = None
    check_files: Callable[[], None] = lambda: None

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of full batches in an epoch."""
        return self.count // batch_size

    def in_order(self, rows: int, start: int = 0) -> tf.data.Dataset:
        """Returns the examples from `start` on, `rows` at a time."""
        if self.fetch is None:
            return self.records.take(self.count).skip(start).batch(rows)
        indices = tf.data.Dataset.range(start, self.count).batch(rows)
        return indices.map(self.fetch)


def pipeline_options() -> tf.data.Options:
    """Returns the options of all our pipelines.

    Autotuning blocks for up to seconds when an iterator ends, and that is
    after each validation.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options
