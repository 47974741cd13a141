"""Which devices there are, and which tower runs on which."""

import re

import pytest
import tensorflow as tf

from alexnet_tf import towers
from alexnet_tf.errors import UserError
from alexnet_tf.model import alexnet
from alexnet_tf.towers import find_devices, make_strategy, place

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
    assert placement.leads == [replica[0] for replica in named]


def test_devices_that_leave_a_rest_are_refused():
    with pytest.raises(UserError, match="3 devices.*multiple of 2"):
        place(CPUS[:3], towers=2)


def test_virtual_devices_divide_the_cpu():
    assert find_devices(gpus="all", virtual_devices=3) == CPUS[:3]
    with pytest.raises(UserError, match="already runs .* with 4"):
        find_devices(gpus="all", virtual_devices=5)


def test_a_gpu_that_is_not_there_is_an_error_not_a_cpu_run():
    assert find_devices(gpus="none", virtual_devices=0) == CPUS[:1]
    for gpus in ("7", "0,x"):
        with pytest.raises(UserError, match="sees .* GPUs.*and-cuda"):
            find_devices(gpus=gpus, virtual_devices=0)


def trace_on(placement):
    """Returns {layer: its devices} for a traced forward pass in training."""
    strategy = make_strategy(placement)
    with strategy.scope():
        model = alexnet(5, crop_size=67, width=0.1, placement=placement)

    @tf.function
    def step():
        images = tf.zeros((2, 67, 67, 3), tf.uint8)
        return strategy.run(lambda: model(images, training=True))

    placed = {}
    for operation in step.get_concrete_function().graph.get_operations():
        layer = re.search(r"\w+_tower\d", operation.name)
        if layer and operation.device:
            device = "CPU:" + operation.device.rsplit(":", 1)[1]
            placed.setdefault(layer.group(), set()).add(device)
    return placed


@pytest.mark.parametrize("lead", [0, 2])
def test_the_forward_pass_of_a_tower_runs_on_its_device(lead):
    placed = trace_on(place(CPUS[lead : lead + 2], towers=2))
    for name in ("conv1", "norm1", "pool1", "conv3", "fc6", "dropout7", "fc8"):
        for tower in (0, 1):
            assert placed[f"{name}_tower{tower}"] == {f"CPU:{lead + tower}"}


def test_both_towers_share_a_single_device():
    placed = trace_on(place(CPUS[:1], towers=2))
    assert set().union(*placed.values()) == {"CPU:0"}
    assert towers.Placement().leads == []
