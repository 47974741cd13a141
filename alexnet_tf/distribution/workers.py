"""Several processes, on as many machines, that train one network together.

TensorFlow's MultiWorkerMirroredStrategy copies the network onto the primaries of
all workers and sums their gradients. This module has what Keras's `fit` lacks
under it, and what workers have to agree on.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import LostWorkerError
from alexnet_tf.distribution.cluster import Cluster

_Result = TypeVar("_Result")
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class KerasMultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """MultiWorkerMirroredStrategy that `fit` of Keras 3.15 can use.

    `fit` calls `reduce` in two ways that the strategy refuses (keras-team/keras
    issue 20585): with a whole batch, of which it wants to know the shapes, and
    with the numbers of a step, along an axis that they do not have.
    tests/test_multi_worker.py says when Keras no longer does so.

    Args:
        cluster: The workers.
        gpus: GPUs of each worker that are primaries; 0 for the CPU.
    """

    def __init__(self, cluster: Cluster, gpus: int):
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
        """Reduces over all replicas, see the base class."""
        if isinstance(value, (tuple, list, dict)):
            return tf.nest.map_structure(self._first_local, value)
        if self._first_local(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis)

    def _first_local(self, value):
        return self.experimental_local_results(value)[0]


class Workers:
    """The processes of a run; all of them must call its methods alike.

    Args:
        strategy: The strategy of the run; of a `KerasMultiWorkerStrategy` this
            process is one worker of several, else, as with None, the only
            one.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        cluster = Cluster(("",), 0)
        if isinstance(strategy, KerasMultiWorkerStrategy):
            cluster = strategy.cluster
        self.index, self.count = cluster.index, len(cluster.addresses)
        self._replicas = 1
        if strategy:
            self._replicas = strategy.num_replicas_in_sync // self.count

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what the workers have in common."""
        return self.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of each batch is this worker's, of how many."""
        return self.index, self.count

    def gather(self, values: np.ndarray) -> np.ndarray:
        """Returns the rows of all replicas, given those of this worker's."""
        if self.count == 1:
            return values
        distributed = (
            self._strategy.experimental_distribute_values_from_function(
                lambda replica: tf.constant(
                    values[None, replica.replica_id_in_sync_group % len(values)]
                )
            )
        )
        return self._strategy.gather(distributed, axis=0).numpy()

    def total(self, number: int) -> int:
        """Returns the sum of the workers' numbers; waits for all of them."""
        once = np.array([number] + [0] * (self._replicas - 1), np.int32)
        return int(self.gather(once).sum())

    def wait(self) -> None:
        """Waits until all workers are here."""
        self.total(0)

    def chief_first(self, function: Callable[[], _Result]) -> _Result:
        """Calls a function that leaves its result on disk for the others."""
        if self.is_chief:
            result = function()
        self.wait()
        return result if self.is_chief else function()

    def distribute(
        self, dataset: tf.data.Dataset
    ) -> tf.distribute.DistributedDataset:
        """Divides batches among replicas.

        Args:
            dataset: This worker's share of each batch.
        """
        if self.count == 1:
            return self._strategy.experimental_distribute_dataset(dataset)
        share = tf.nest.flatten(dataset.element_spec)[0].shape[0]
        of_replicas = dataset.rebatch(share // self._replicas)
        return self._strategy.distribute_datasets_from_function(
            lambda context: of_replicas
        )

    @contextlib.contextmanager
    def reporting_lost_workers(self) -> Iterator[None]:
        """Says so when a step fails since another worker is gone.

        Raises:
            LostWorkerError: if it does.
        """
        try:
            yield
        except _LOST as error:
            if self.count == 1:
                raise
            remote = re.search(
                r"remote target /job:worker/replica:\d+/task:(\d+)", str(error)
            )
            suspect = f", it seems worker {remote[1]}" if remote else ""
            raise LostWorkerError(
                f"worker {self.index} lost another one{suspect}.\nSee what "
                "that one said last. Start all workers again with the same "
                "command; they go on from the newest checkpoint."
            ) from error
