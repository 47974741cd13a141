"""Devices, and the ops and transfers of the traced training step on them."""

import collections
import re

import pytest
import tensorflow as tf

from alexnet_tf.benchmarks import traffic
from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.placement import DeviceLayout, find_devices, place
from tests.support import LAYOUTS, SMALL, make_trainer, zero_weights

CPUS = [f"/device:CPU:{number}" for number in range(4)]
# Ops of the compute-heavy and of our own layers, forward and backward.
COMPUTING = {
    "Conv2D",
    "Conv2DBackpropFilter",
    "Conv2DBackpropInput",
    "MaxPool",
    "MaxPoolGrad",
    "MatMul",
    "PartitionedCall",  # XLA: response normalization, input.
    "ReluGrad",
    "StatelessRandomUniformV2",
}


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
def test_place_divides_devices_among_replicas(
    count, towers, devices_per_replica, expected
):
    layout = place(
        CPUS[:count], towers=towers, devices_per_replica=devices_per_replica
    )
    named = tuple(tuple(CPUS[n] for n in replica) for replica in expected)
    assert layout.devices == named
    assert layout.primaries == [replica[0] for replica in named]


def test_place_with_the_primary_devices_first():
    layout = place(CPUS, towers=2, primaries_first=True)
    assert layout.devices == ((CPUS[0], CPUS[2]), (CPUS[1], CPUS[3]))


def test_place_refuses_a_remainder():
    with pytest.raises(UserError, match=r"3 devices.*multiple of 2"):
        place(CPUS[:3], towers=2)


def test_virtual_devices_divide_the_cpu():
    assert find_devices(gpus="auto", virtual_devices=3) == CPUS[:3]
    with pytest.raises(UserError, match=r"already runs .* with 4"):
        find_devices(gpus="auto", virtual_devices=5)


def test_device_names_are_tensorflows():
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    assert find_devices(gpus="auto", virtual_devices=4) == names
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    assert find_devices(gpus="auto", virtual_devices=0) == (gpus or CPUS[:1])


def test_missing_gpu_is_an_error_instead_of_a_cpu_run():
    assert find_devices(gpus="none", virtual_devices=0) == CPUS[:1]
    unavailable = ["7", "0,x", "-9", "0,0"]
    if not tf.config.list_physical_devices("GPU"):
        assert find_devices(gpus="auto", virtual_devices=0) == CPUS[:1]
        unavailable += ["all", "0"]
    for gpus in unavailable:
        with pytest.raises(UserError, match=r"sees .* GPUs.*and-cuda"):
            find_devices(gpus=gpus, virtual_devices=0)


def test_without_devices_nothing_is_placed():
    assert DeviceLayout().primaries == []
    with DeviceLayout().scope(1):
        pass
    assert DeviceLayout().run(1, lambda x: 2 * x, 3) == 6


def device_of(name):
    """Returns the number of a virtual device, None if the name has none."""
    match = re.search(r"CPU:(\d+)", name)
    return match and int(match.group(1))


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def trainer(layout):
    return make_trainer(layout, *SMALL)


@pytest.fixture(scope="module")
def graph(trainer):
    return traffic.trace_training_step(trainer[1], images_per_replica=2)


def test_ops_of_a_tower_run_on_its_device(graph, layout):
    """Forward, backward and update ops; their names contain the tower."""
    devices_per_replica, replicas = layout
    placed = collections.Counter()
    for operation in graph.get_operations():
        tower = re.search(r"_tower(\d)", operation.name)
        if not tower:
            continue
        device = device_of(operation.device)
        if device is None:
            # References to variables, and reads, which run beside them.
            assert operation.type in ("Placeholder", "ReadVariableOp")
            continue
        place = int(tower.group(1)) % devices_per_replica
        assert device % devices_per_replica == place, operation.name
        placed[operation.type, device] += 1
    for kind in COMPUTING:
        counts = [
            placed[kind, device]
            for device in range(devices_per_replica * replicas)
        ]
        assert min(counts) > 0, kind
    # Each replica, and so each device, runs its part of both passes.
    towers_per_device = 2 // devices_per_replica
    for device in range(devices_per_replica * replicas):
        assert placed["Conv2D", device] == 5 * towers_per_device
        assert placed["Conv2DBackpropFilter", device] == 5 * towers_per_device
        assert placed["MaxPoolGrad", device] == 3 * towers_per_device


def test_all_heavy_ops_belong_to_a_tower(graph):
    for operation in graph.get_operations():
        if operation.type in COMPUTING:
            assert "_tower" in operation.name, operation.name


def test_variables_and_momentum_are_on_their_towers_device(trainer, layout):
    devices_per_replica, replicas = layout
    _, model = trainer
    variables = model.variables + model.optimizer.variables
    towers = collections.Counter()
    for variable in variables:
        tower = re.search(r"_tower(\d)", variable.path)
        if not tower:
            continue
        place = int(tower.group(1)) % devices_per_replica
        copies = [device_of(copy.device) for copy in variable.value.values]
        assert copies == [
            replica * devices_per_replica + place for replica in range(replicas)
        ], variable.path
        towers[tower.group(1)] += 1
    # Kernel, bias, their momenta and squared gradients of 8 layers, and 3
    # seeds; the biases of fc8 belong to tower 0.
    assert towers == {"0": 3 * 16 + 3, "1": 3 * 15 + 3}


def test_variables_are_updated_on_their_device(graph, layout):
    devices_per_replica, replicas = layout
    updates = collections.Counter(
        device_of(operation.device)
        for operation in graph.get_operations()
        if operation.type.startswith(("Assign", "ResourceApply"))
    )
    assert set(updates) == set(range(devices_per_replica * replicas))
    if devices_per_replica == 2:
        for replica in range(replicas):
            # 15 variables, their momenta and squared gradients; 3 seeds.
            assert updates[2 * replica + 1] == 3 * 15 + 3


def test_images_reach_each_device_once_and_as_uint8(graph, layout):
    devices_per_replica, replicas = layout
    uses = {
        (tensor.dtype.name, device_of(operation.device))
        for operation in graph.get_operations()
        for tensor in operation.inputs
        if tensor.op.type == "Placeholder" and tensor.shape.rank == 4
    }
    devices = range(devices_per_replica * replicas)
    assert uses == {("uint8", number) for number in devices}


def test_gradients_are_summed_between_the_devices_of_a_tower(graph, layout):
    devices_per_replica, replicas = layout
    for transfer in traffic.find_transfers(graph):
        ends = device_of(transfer.source), device_of(transfer.destination)
        replica = {end // devices_per_replica for end in ends}
        tower = {end % devices_per_replica for end in ends}
        # Between the towers of a replica or the replicas of a tower.
        assert len(replica) == 1 or len(tower) == 1, transfer


@pytest.fixture(scope="module", params=["float32", "float16"])
def full_size_transfers(request):
    flag = f"--link_precision={request.param}"
    with zero_weights():
        _, model = make_trainer((2, 1), flag, classes=1000)
    return request.param, traffic.find_transfers(
        traffic.trace_training_step(model, 1)
    )


@pytest.mark.parametrize(
    ("source", "destination"), [("CPU:0", "CPU:1"), ("CPU:1", "CPU:0")]
)
def test_least_possible_traffic_between_the_towers(
    full_size_transfers, source, destination
):
    precision, transfers = full_size_transfers
    crossing = [
        t
        for t in transfers
        if (t.source, t.destination) == (source, destination)
    ]
    # What the other tower reads before conv3, fc6 and fc7, and the gradients of
    # what it sent there; one way the products of fc8, the other way the
    # gradient of their sum. No weights and no gradients of weights.
    activations = 13 * 13 * 128 + 6 * 6 * 128 + 2048
    assert sum(t.numbers for t in crossing) == 2 * activations + 1000
    assert 2 * activations + 1000 == 57_576
    sizes = {"float32": 230_304, "float16": 115_152}
    assert sum(t.bytes for t in crossing) == sizes[precision]
    assert len(crossing) == 7


def test_bfloat16_halves_all_traffic_but_the_logits():
    _, model = make_trainer((2, 1), *SMALL, "--precision=bfloat16")
    transfers = traffic.find_transfers(traffic.trace_training_step(model, 1))
    for source in ("CPU:0", "CPU:1"):
        sizes = [
            (t.bytes // t.numbers, t.numbers)
            for t in transfers
            if t.source == source
        ]
        assert len(sizes) == 7
        assert [numbers for size, numbers in sizes if size == 4] == [10]
        assert all(size == 2 for size, numbers in sizes if numbers != 10)
