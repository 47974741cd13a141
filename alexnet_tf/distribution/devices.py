"""The devices and workers of a run, as one object."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, to_arguments
from alexnet_tf.distribution.cluster import find_cluster
from alexnet_tf.distribution.placement import DeviceLayout, find_devices, place
from alexnet_tf.distribution.rendezvous import wait_for_workers
from alexnet_tf.distribution.workers import KerasMultiWorkerStrategy, Workers


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a network is trained or evaluated on."""

    layout: DeviceLayout  # Of this worker.
    strategy: tf.distribute.Strategy  # Over the replicas of all workers.
    workers: Workers


def connect(config: Config, run_dir: Path | None = None) -> Devices:
    """Returns the devices of a run, after all its workers have connected.

    Must be called before TensorFlow computes anything; with the run directory
    if --cluster applies.
    """
    if run_dir and (cluster := find_cluster(config.cluster)):
        devices = _connect_workers(cluster, config, run_dir)
    else:
        devices = local(_place(config))
    replicas = devices.strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} cannot be divided among "
            f"{replicas} replicas; use a multiple of {replicas}."
        )
    return devices


def local(layout: DeviceLayout) -> Devices:
    """Returns the devices of a run of one process."""
    if "GPU" in layout.primaries[0]:
        reduction = tf.distribute.NcclAllReduce()
    else:
        # The default for CPUs is a collective, of which a process can have one
        # group only.
        reduction = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(layout.primaries, reduction)
    return Devices(layout, strategy, Workers(strategy))


def _connect_workers(cluster, config, run_dir):
    if config.gpus not in ("auto", "all", "none"):
        raise UserError(
            f"--gpus={config.gpus} with several workers; use auto, all or "
            "none. CUDA_VISIBLE_DEVICES selects the GPUs of each worker."
        )
    task = f"/job:worker/replica:0/task:{cluster.index}"
    layout = _place(config, task, primaries_first=True)
    replicas = len(layout.devices)
    on_gpus = "GPU" in layout.primaries[0]
    if replicas > 1 and not on_gpus:
        count = config.virtual_devices
        raise UserError(
            f"--virtual_devices={count} gives a worker {replicas} replicas, "
            "but on CPUs it can have only one; use "
            f"--virtual_devices={count // replicas} and more workers."
        )
    versions = keras.__version__, tf.__version__
    settings = "\n".join((*to_arguments(config, "train"), *versions))
    wait_for_workers(cluster, run_dir, settings, config.startup_timeout)
    strategy = KerasMultiWorkerStrategy(cluster, replicas if on_gpus else 0)
    return Devices(layout, strategy, Workers(strategy))


def _place(config, task="", primaries_first=False):
    names = find_devices(
        gpus=config.gpus, virtual_devices=config.virtual_devices
    )
    return place(
        [task + name for name in names],
        towers=config.towers,
        devices_per_replica=config.devices_per_replica,
        primaries_first=primaries_first,
    )
