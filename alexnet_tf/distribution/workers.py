"""Training one network with several processes, usually on several machines.

TensorFlow's MultiWorkerMirroredStrategy copies the network onto the primary
devices of all workers and sums their gradients. Here it is adapted to Keras's
`fit`, and what else the workers must agree on is synchronized.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import LostWorkerError, UserError
from alexnet_tf.distribution.cluster import RAY, Cluster

_Result = TypeVar("_Result")
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)
# TensorFlow numbers its own groups of devices from 1.
_FIRST_GROUP = 1_000_000
_REMOTE_TASK = r"remote target /job:worker/replica:\d+/task:(\d+)"


class KerasMultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """MultiWorkerMirroredStrategy that works with `fit` of Keras 3.15.

    `fit` calls `reduce` in two ways that the strategy refuses (keras-team/keras
    issue 20585): with a whole batch, to learn its shapes, and along an axis of
    scalars. test_keras_still_needs_our_strategy fails once Keras does not.
    """

    def __init__(self, cluster: Cluster, gpus: int):
        # `gpus` of each worker are primary devices; 0 for the CPU.
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
            task_type="worker",
            task_id=cluster.index,
            rpc_layer="grpc",
            num_accelerators={"GPU": gpus} if gpus else {},
        )
        super().__init__(resolver)
        self.cluster = cluster

    def reduce(self, reduce_op, value, axis):
        """Reduces over all replicas; see the base class."""

        def first_local(value):
            return self.experimental_local_results(value)[0]

        if isinstance(value, (tuple, list, dict)):
            return tf.nest.map_structure(first_local, value)
        if first_local(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)

    def sum_where_they_are(
        self, tensors: Sequence[tf.Tensor], group: int
    ) -> list[tf.Tensor]:
        """Sums tensors of one device over all replicas, on that device.

        TensorFlow's own sums run on the primary devices. `group` is another
        positive number for each of a replica's devices, one call a step each.
        """
        total = tf.raw_ops.CollectiveReduceV2(
            input=tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0),
            group_size=self.num_replicas_in_sync,
            group_key=_FIRST_GROUP + group,
            instance_key=1,
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
        )
        parts = tf.split(total, [tf.size(t) for t in tensors])
        return [
            tf.reshape(part, tensor.shape)
            for part, tensor in zip(parts, tensors, strict=True)
        ]


class Workers:
    """The processes of a run, which must all call the same methods."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self.index, self.count, self.in_ray = 0, 1, False
        if isinstance(strategy, KerasMultiWorkerStrategy):
            self.index = strategy.cluster.index
            self.count = len(strategy.cluster.addresses)
            self.in_ray = strategy.cluster.source == RAY
        # The chief writes the files that the workers share.
        self.is_chief = self.index == 0
        # This worker's part of each batch, and the number of parts.
        self.shard = self.index, self.count
        self._strategy = strategy
        self._local_replicas = strategy.num_replicas_in_sync // self.count

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Concatenates the workers' arrays, which have one row per replica."""
        if self.count == 1:
            return values

        def row_of(context):
            replica = context.replica_id_in_sync_group
            return tf.constant(values[None, replica % len(values)])

        strategy = self._strategy
        rows = strategy.experimental_distribute_values_from_function(row_of)
        return strategy.gather(rows, axis=0).numpy()

    def total(self, number: int) -> int:
        """Returns the sum of the workers' numbers; waits for all of them."""
        values = np.zeros(self._local_replicas, np.int32)
        values[0] = number
        return int(self.gather(values).sum())

    def wait(self) -> None:
        """Waits for all workers."""
        self.total(0)

    def chief_first(self, function: Callable[[], _Result]) -> _Result:
        """Calls a function on the chief first; it leaves its result on disk.

        A mistake of the user that the chief finds ends all workers alike, not
        as if they had lost it.
        """
        mistake = None
        if self.is_chief:
            try:
                result = function()
            except UserError as error:
                mistake = error
        if self.total(mistake is not None):
            raise mistake or UserError("the chief found a mistake; see there.")
        return result if self.is_chief else function()

    def distribute(
        self, dataset: tf.data.Dataset
    ) -> tf.distribute.DistributedDataset:
        """Divides this worker's part of each batch among its replicas."""
        if self.count == 1:
            return self._strategy.experimental_distribute_dataset(dataset)
        size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
        per_replica = dataset.rebatch(size // self._local_replicas)
        return self._strategy.distribute_datasets_from_function(
            lambda context: per_replica
        )

    @contextlib.contextmanager
    def reporting_lost_workers(self) -> Iterator[None]:
        """Raises a LostWorkerError if another worker is lost."""
        try:
            yield
        except _LOST as error:
            if self.count == 1:
                raise
            remote = re.search(_REMOTE_TASK, str(error))
            suspect = f", probably worker {remote[1]}" if remote else ""
            raise LostWorkerError(
                f"worker {self.index} lost another one{suspect}.\nCheck the "
                "end of its output. Restart all workers with the same command; "
                "they resume from the newest checkpoint."
            ) from error
