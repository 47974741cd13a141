"""What a split of a data set is, wherever it comes from."""

import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Parallel calls of tf.data's maps, see `pipeline_options`.
CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split of a data set.

    An example is a dictionary of `label` (int64), `name` (string), and either
    `image`, from which `load` makes the bytes of an image file, or, if the
    split is stored decoded, `index`, from which `cut` makes patches.
    """

    count: int  # Number of examples.
    class_names: tuple[str, ...]  # In the order of the labels.
    # Examples of a split that is read in order.
    records: tf.data.Dataset | None = None
    # Otherwise, for random access: maps indices, int64 (n,), to examples with
    # tensors of n rows.
    fetch: Callable[[tf.Tensor], dict[str, tf.Tensor]] | None = None
    # Maps `image` to a scalar string, the bytes of an image file.
    load: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    # Whether images already are the central squares: patches need no rescaling.
    squares: bool = False
    # Maps indices (n,), offsets of patches (n, 2), whether to mirror them (n,),
    # and their size to patches, uint8 (n, size, size, 3).
    cut: Callable[..., tf.Tensor] | None = None
    # Reads the split's files; raises a `UserError` that names a damaged one.
    check_files: Callable[[], None] = lambda: None
    names_sha256: str = ""  # Of the names in their order, if known.

    def steps_per_epoch(self, batch_size: int) -> int:
        """Number of full batches in an epoch."""
        return self.count // batch_size

    def in_order(self, rows: int, start: int = 0) -> tf.data.Dataset:
        """Returns the examples from `start` on, `rows` at a time."""
        if self.records is not None:
            return self.records.take(self.count).skip(start).batch(rows)
        indices = tf.data.Dataset.range(start, self.count).batch(rows)
        return indices.map(self.fetch)


def as_tensors(*arrays: np.ndarray) -> list[tf.Tensor]:
    """Returns tensors in the memory of the CPU, which graphs refer to.

    Of an array itself each graph would contain a copy: 20 s of processor time
    per million names.
    """
    with tf.device("CPU:0"):
        return [tf.constant(array) for array in arrays]


def pipeline_options() -> tf.data.Options:
    """Returns the options of all pipelines.

    Autotuning is off: it blocks for up to seconds when an iterator ends, which
    happens after each validation. Rewriting the pipeline is off: it makes none
    of these faster, and takes most of the time to make an iterator.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
