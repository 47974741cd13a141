"""The devices and workers of a run, as one object."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, to_arguments
from alexnet_tf.distribution import placement
from alexnet_tf.distribution.cluster import read_cluster
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.distribution.rendezvous import wait_for_workers
from alexnet_tf.distribution.workers import KerasMultiWorkerStrategy, Workers


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a network is trained or evaluated on.

    Args:
        layout: Devices of each replica of this worker.
        strategy: Copies the network onto the primary device of each replica.
        workers: The processes of the run.
    """

    layout: DeviceLayout
    strategy: tf.distribute.Strategy
    workers: Workers


def connect(config: Config, run_dir: Path | None = None) -> Devices:
    """Returns the devices of a run, after all its workers have connected.

    To be called before TensorFlow computes anything.

    Args:
        config: The settings.
        run_dir: The run directory, if --distribution applies.

    Raises:
        UserError: if devices are missing, the towers or the batch cannot be
            divided among them, or other workers do not connect.
    """
    if run_dir and config.distribution == "multi_worker":
        devices = _connect_workers(config, run_dir)
    else:
        devices = _connect_local(config)
    replicas = devices.strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} cannot be divided among "
            f"{replicas} replicas; use a multiple of {replicas}."
        )
    return devices


def local(layout: DeviceLayout) -> Devices:
    """Returns the devices of a run of one process."""
    on_gpus = "GPU" in layout.primaries[0]
    # The default for CPUs is a collective that allows one group per process.
    strategy = tf.distribute.MirroredStrategy(
        layout.primaries,
        cross_device_ops=tf.distribute.NcclAllReduce()
        if on_gpus
        else tf.distribute.ReductionToOneDevice(),
    )
    return Devices(layout, strategy, Workers(strategy))


def _connect_local(config):
    names = placement.find_devices(
        gpus=config.gpus, virtual_devices=config.virtual_devices
    )
    layout = placement.place(
        names,
        towers=config.towers,
        devices_per_replica=config.devices_per_replica,
    )
    return local(layout)


def _connect_workers(config, run_dir):
    cluster = read_cluster()
    kind, count = _count_devices(config.gpus, config.virtual_devices)
    settings = "\n".join(to_arguments(config, "train"))
    settings += f"{keras.__version__} {tf.__version__}"
    wait_for_workers(cluster, run_dir, settings, config.startup_timeout)
    job = f"/job:worker/replica:0/task:{cluster.index}"
    layout = placement.place(
        [f"{job}/device:{kind}:{number}" for number in range(count)],
        towers=config.towers,
        devices_per_replica=config.devices_per_replica,
    )
    replicas = len(layout.devices)
    if kind == "CPU" and replicas > 1:
        raise UserError(
            f"--virtual_devices={count} makes {replicas} replicas of a worker, "
            "but on CPUs a worker has one; give "
            f"--virtual_devices={count // replicas} and more workers."
        )
    # The strategy makes the first devices the primary ones.
    names = sum(layout.devices, ())
    layout = DeviceLayout(
        tuple(names[first::replicas] for first in range(replicas))
    )
    strategy = KerasMultiWorkerStrategy(
        cluster, replicas if kind == "GPU" else 0
    )
    return Devices(layout, strategy, Workers(strategy))


def _count_devices(gpus, virtual_devices):
    """Returns "GPU" or "CPU" and the count, without starting TensorFlow."""
    seen = tf.config.list_physical_devices("GPU")
    if gpus not in ("auto", "all", "none"):
        raise UserError(
            f"--gpus={gpus} with several workers; give auto, all or none. "
            "CUDA_VISIBLE_DEVICES selects the GPUs of each worker."
        )
    if gpus == "all" and not seen:
        raise UserError("--gpus=all, but TensorFlow sees no GPU here.")
    if virtual_devices:
        placement.divide_cpu(virtual_devices)
        return "CPU", virtual_devices
    if seen and gpus != "none":
        return "GPU", len(seen)
    return "CPU", 1
