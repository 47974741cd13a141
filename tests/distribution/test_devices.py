"""Which devices there are, and which tower runs on which."""

import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.placement import DeviceLayout, find_devices, place

CPUS = [f"/device:CPU:{number}" for number in range(4)]


@pytest.mark.parametrize(
    ("count", "towers", "devices_per_replica", "expected"),
    [
        (1, 2, 0, [[0]]),
        (2, 2, 0, [[0, 1]]),
        (4, 2, 0, [[0, 1], [2, 3]]),
        (2, 2, 1, [[0], [1]]),
        (3, 2, 1, [[0], [1], [2]]),
        (4, 1, 0, [[0], [1], [2], [3]]),
        (4, 4, 0, [[0, 1, 2, 3]]),
    ],
)
def test_devices_are_divided_among_replicas(
    count, towers, devices_per_replica, expected
):
    placement = place(
        CPUS[:count], towers=towers, devices_per_replica=devices_per_replica
    )
    named = tuple(tuple(CPUS[n] for n in replica) for replica in expected)
    assert placement.devices == named
    assert placement.primaries == [replica[0] for replica in named]


def test_devices_that_leave_a_rest_are_refused():
    with pytest.raises(UserError, match="3 devices.*multiple of 2"):
        place(CPUS[:3], towers=2)


def test_virtual_devices_divide_the_cpu():
    assert find_devices(gpus="auto", virtual_devices=3) == CPUS[:3]
    with pytest.raises(UserError, match="already runs .* with 4"):
        find_devices(gpus="auto", virtual_devices=5)


def test_a_gpu_that_is_not_there_is_an_error_not_a_cpu_run():
    assert find_devices(gpus="none", virtual_devices=0) == CPUS[:1]
    unavailable = ["7", "0,x", "-9"]
    if not tf.config.list_physical_devices("GPU"):
        assert find_devices(gpus="auto", virtual_devices=0) == CPUS[:1]
        unavailable += ["all", "0"]
    for gpus in unavailable:
        with pytest.raises(UserError, match="sees .* GPUs.*and-cuda"):
            find_devices(gpus=gpus, virtual_devices=0)


def test_no_devices_place_nothing():
    assert DeviceLayout().primaries == []
    with DeviceLayout().scope(1):
        pass
    assert DeviceLayout().run(1, lambda x: 2 * x, 3) == 6
