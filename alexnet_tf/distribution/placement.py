"""Which device runs which tower of which replica (Sec. 3.2).

A replica is one copy of the whole network. Its towers share one device or have
one each; tower 0 runs on the primary device. MirroredStrategy only sees the
primary devices and copies the network onto each. With a `DeviceLayout` the
layers place the other towers, variables and gradients included, on the others.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.private_api import colocate_with


@dataclasses.dataclass(frozen=True)
class DeviceLayout:
    """The devices of each replica: one, or one per tower, primary one first.

    Without replicas nothing is placed, as in an exported model.
    """

    devices: tuple[tuple[str, ...], ...] = ()

    @property
    def primaries(self) -> list[str]:
        """The device of tower 0 of each replica."""
        return [replica[0] for replica in self.devices]

    def device(self, replica: int, tower: int) -> str:
        """Returns the device of a replica's tower."""
        devices = self.devices[replica]
        return devices[tower % len(devices)]

    @contextlib.contextmanager
    def scope(self, tower: int) -> Iterator[None]:
        """Places the ops and variables created inside with a tower.

        Ops go to the tower's device in the replica being traced, variables get
        a copy on the tower's device of each replica. To be entered in a
        layer's call: while a functional model is built, tf.device has no
        effect.
        """
        if not self.devices:
            yield
            return
        replicas = range(len(self.devices))
        places = colocate_with(self.device(n, tower) for n in replicas)

        def create(next_creator, **arguments):
            return next_creator(**{**arguments, "colocate_with": places})

        name = self._current_device(tower)
        device = tf.device(name) if name else contextlib.nullcontext()
        with tf.variable_creator_scope(create), device:
            yield

    def run(
        self, tower: int, function: Callable, *tensors: tf.Tensor
    ) -> tf.Tensor | tuple[tf.Tensor, ...]:
        """Calls a function of floating-point tensors, inside `scope`.

        Its gradient runs on the tower's device, too, not where a tape's
        gradient is requested, on the primary device.
        """
        device = self._current_device(tower)
        if device is None:
            return function(*tensors)

        @tf.custom_gradient
        def function_with_gradient(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                outputs = function(*tensors)

            def gradient(*upstream):
                with tf.device(device):
                    return tape.gradient(outputs, tensors, upstream)

            return outputs, gradient

        return function_with_gradient(*tensors)

    def _current_device(self, tower):
        """Returns a tower's device in the replica being traced, or None."""
        context = tf.distribute.get_replica_context()
        if not self.devices or context is None:
            return None
        # A constant tensor while a step is traced. It counts the replicas of
        # all workers, which have equally many each.
        replica = tf.get_static_value(context.replica_id_in_sync_group)
        return self.device(int(replica) % len(self.devices), tower)


def find_devices(*, gpus: str, virtual_devices: int) -> list[str]:
    """Returns the names of the devices to train on; does not start TensorFlow.

    `gpus` are "auto" (all GPUs, or the CPU if there is none), "all", "none", or
    numbers such as "0,1"; `virtual_devices` divide the CPU instead, 0 do not.
    """
    if virtual_devices:
        _divide_cpu(virtual_devices)
        return [f"/device:CPU:{number}" for number in range(virtual_devices)]
    seen = [f"/device:GPU:{number}" for number in range(_count("GPU"))]
    cpu = ["/device:CPU:0"]
    named = {"auto": seen or cpu, "none": cpu, "all": seen}
    rest = dict(enumerate(seen))  # A number given twice is missing then.
    try:
        return named.get(gpus) or [rest.pop(int(n)) for n in gpus.split(",")]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"--gpus={gpus}, but TensorFlow sees {len(seen)} GPUs; use "
            'different numbers from 0 up, "auto" or "none". It sees none '
            "without a driver and `pip install tensorflow[and-cuda]`."
        ) from error


def _divide_cpu(count):
    if _count("CPU") >= count:
        return
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, parts)
    except RuntimeError as error:
        raise UserError(
            f"--virtual_devices={count}, but TensorFlow already runs in this "
            f"process with {_count('CPU')}; start a new process."
        ) from error


def _count(kind):
    return sum(
        len(tf.config.get_logical_device_configuration(device) or [device])
        for device in tf.config.get_visible_devices(kind)
    )


def place(
    devices: Sequence[str],
    *,
    towers: int,
    devices_per_replica: int = 0,
    primaries_first: bool = False,
) -> DeviceLayout:
    """Divides devices among replicas: `towers` each, or one.

    By default each has `towers` if there are enough. Replicas have consecutive
    devices; with `primaries_first`, as MultiWorkerMirroredStrategy needs it,
    the first devices are the primary ones.
    """
    size = devices_per_replica or (towers if len(devices) >= towers else 1)
    replicas, rest = divmod(len(devices), size)
    if rest:
        raise UserError(
            f"{len(devices)} devices cannot be divided into replicas of "
            f"{size}; use a multiple of {size}, or --devices_per_replica=1."
        )
    if primaries_first:
        groups = [devices[n::replicas] for n in range(replicas)]
    else:
        groups = [devices[n * size : (n + 1) * size] for n in range(replicas)]
    return DeviceLayout(tuple(tuple(group) for group in groups))
