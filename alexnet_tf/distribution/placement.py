"""Which device runs which tower of which replica (Sec. 3.2).

A replica is one whole network. Its towers share one device, or have one device
each; tower 0's device is the replica's lead. MirroredStrategy is told of the
primaries only and copies the network onto each of them; the layers put the other
towers, their variables and gradients where they belong with a `DeviceLayout`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.private_api import VariableDevices


@dataclasses.dataclass(frozen=True)
class DeviceLayout:
    """The devices of a run.

    Args:
        devices: For each replica the names of its devices, lead first; either
            one device or as many as there are towers. No replicas: nothing is
            placed, as for an exported model. With several workers: those of
            this one.
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

    def scope(self, tower: int) -> contextlib.AbstractContextManager:
        """Returns a context that places ops and variables with a tower.

        Ops go to the tower's device of the replica that is being traced, so
        that this must be entered inside a layer's call: around the
        construction of a functional model tf.device places nothing. Variables
        made inside get one copy a replica, on the tower's devices.
        """
        stack = contextlib.ExitStack()
        if self.devices:
            stack.enter_context(tf.variable_creator_scope(self._creator(tower)))
        device = self._current_device(tower)
        if device:
            stack.enter_context(tf.device(device))
        return stack

    def run(
        self, tower: int, function: Callable, *tensors: tf.Tensor
    ) -> tf.Tensor | tuple[tf.Tensor, ...]:
        """Calls a function of floating tensors, inside `scope`.

        Its gradient runs on the tower's device, too. (By itself a tape puts it
        where the tape is asked for it, on the lead, and ships all it needs
        there.)
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
        # While a step is traced this is a constant tensor. It counts the
        # replicas of all workers, who have as many each.
        replica = tf.get_static_value(context.replica_id_in_sync_group)
        return self.device(int(replica) % len(self.devices), tower)

    def _creator(self, tower):
        devices = [
            self.device(replica, tower) for replica in range(len(self.devices))
        ]

        def creator(next_creator, **arguments):
            return next_creator(
                **arguments | {"colocate_with": VariableDevices(devices)}
            )

        return creator


def find_devices(*, gpus: str, virtual_devices: int) -> list[str]:
    """Returns the names of the devices to train on.

    Args:
        gpus: "auto" (all GPUs, or the CPU), "all", "none", or GPU numbers
            such as "0,1".
        virtual_devices: Number of devices to divide the CPU into; 0 to leave
            it whole. It cannot be divided into more once the process has
            computed something.

    Raises:
        UserError: if a GPU is asked for that TensorFlow does not see, or the
            CPU was divided into fewer before.
    """
    if virtual_devices:
        return _find_virtual_devices(virtual_devices)
    seen = tf.config.list_logical_devices("GPU")
    cpu = tf.config.list_logical_devices("CPU")[:1]
    numbered = dict(enumerate(seen))  # Each to be taken once.
    try:
        chosen = {
            "auto": seen or cpu,
            "none": cpu,
            "all": seen,
        }.get(gpus) or [numbered.pop(int(n)) for n in gpus.split(",")]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"--gpus={gpus}, but TensorFlow sees {len(seen)} GPUs; give "
            'different numbers from 0 up, "auto" or "none". Without a driver '
            "and `pip install tensorflow[and-cuda]` it sees none."
        ) from error
    return [device.name for device in chosen]


def divide_cpu(count: int) -> None:
    """Divides the CPU into devices, unless TensorFlow has started."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    with contextlib.suppress(RuntimeError):
        tf.config.set_logical_device_configuration(cpu, parts)


def _find_virtual_devices(count):
    divide_cpu(count)
    devices = tf.config.list_logical_devices("CPU")[:count]
    if len(devices) < count:
        raise UserError(
            f"--virtual_devices={count}, but TensorFlow already runs in this "
            f"process with {len(devices)}; start a new process."
        )
    return [device.name for device in devices]


def place(
    devices: Sequence[str], *, towers: int, devices_per_replica: int = 0
) -> DeviceLayout:
    """Divides devices among replicas.

    Args:
        devices: Device names.
        towers: Towers of the network.
        devices_per_replica: 1, or `towers`; 0 for `towers` if there are so
            many devices, else 1.

    Raises:
        UserError: if the devices cannot be divided evenly.
    """
    size = devices_per_replica or (towers if len(devices) >= towers else 1)
    if len(devices) % size:
        raise UserError(
            f"{len(devices)} devices cannot be divided into replicas of "
            f"{size}; use a multiple of {size}, or --devices_per_replica=1."
        )
    return DeviceLayout(
        tuple(
            tuple(devices[first : first + size])
            for first in range(0, len(devices), size)
        )
    )
