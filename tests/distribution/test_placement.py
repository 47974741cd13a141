"""Who computes what, and what crosses, read off the traced training step."""

import collections
import re

import pytest

from alexnet_tf.benchmarks import traffic
from tests.support import LAYOUTS, SMALL, make_trainer

# What the compute-heavy and our own layers are made of, forward and backward.
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


def test_each_op_of_a_tower_is_on_its_device(graph, layout):
    """Forward, backward and update: whatever has a tower in its name."""
    devices_per_replica, replicas = layout
    placed = collections.Counter()
    for operation in graph.get_operations():
        tower = re.search(r"_tower(\d)", operation.name)
        if not tower:
            continue
        device = device_of(operation.device)
        if device is None:
            # References, and reads, which go where the variable is.
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
    # Each replica, and so each device, does its share of both passes.
    each = 2 // devices_per_replica
    for device in range(devices_per_replica * replicas):
        assert placed["Conv2D", device] == 5 * each
        assert placed["Conv2DBackpropFilter", device] == 5 * each
        assert placed["MaxPoolGrad", device] == 3 * each


def test_heavy_ops_without_a_tower_in_their_name_do_not_exist(graph):
    for operation in graph.get_operations():
        if operation.type in COMPUTING:
            assert "_tower" in operation.name, operation.name


def test_variables_and_momentum_are_with_their_tower(trainer, layout):
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
    # 8 layers with kernel and bias, their momentum and their gradients' square;
    # 3 seeds; the biases of fc8 are in tower 0.
    assert towers == {"0": 3 * 16 + 3, "1": 3 * 15 + 3}


def test_variables_are_updated_where_they_are(graph, layout):
    devices_per_replica, replicas = layout
    updates = collections.Counter(
        device_of(operation.device)
        for operation in graph.get_operations()
        if operation.type.startswith(("Assign", "ResourceApply"))
    )
    assert set(updates) == set(range(devices_per_replica * replicas))
    if devices_per_replica == 2:
        for replica in range(replicas):
            # 15 variables, momenta decayed and used; squares; 3 seeds.
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


def test_gradients_of_a_tower_are_summed_among_its_own_devices(graph, layout):
    devices_per_replica, replicas = layout
    for transfer in traffic.find_transfers(graph):
        ends = device_of(transfer.source), device_of(transfer.destination)
        replica = {end // devices_per_replica for end in ends}
        tower = {end % devices_per_replica for end in ends}
        # Between towers of a replica, or between replicas of a tower.
        assert len(replica) == 1 or len(tower) == 1, transfer


@pytest.fixture(scope="module")
def full_size_transfers():
    _, model = make_trainer((2, 1), classes=1000)
    return traffic.find_transfers(traffic.trace_training_step(model, 1))


@pytest.mark.parametrize(
    ("source", "destination"), [("CPU:0", "CPU:1"), ("CPU:1", "CPU:0")]
)
def test_the_least_possible_crosses_between_the_towers(
    full_size_transfers, source, destination
):
    crossing = [
        t
        for t in full_size_transfers
        if (t.source, t.destination) == (source, destination)
    ]
    # What the other tower reads, and the gradients of what it gave: before
    # conv3, fc6 and fc7; and one way the products of fc8, the other way the
    # gradient of their sum. Nothing else: no weight, no gradient of one.
    activations = 13 * 13 * 128 + 6 * 6 * 128 + 2048
    assert sum(t.numbers for t in crossing) == 2 * activations + 1000 == 57_576
    assert sum(t.bytes for t in crossing) == 230_304
    assert len(crossing) == 7


def test_bfloat16_halves_what_crosses_but_the_logits():
    _, model = make_trainer((2, 1), "--precision=bfloat16", classes=1000)
    transfers = traffic.find_transfers(traffic.trace_training_step(model, 1))
    activations = 13 * 13 * 128 + 6 * 6 * 128 + 2048
    for source in ("CPU:0", "CPU:1"):
        crossing = [t for t in transfers if t.source == source]
        assert sum(t.numbers for t in crossing) == 57_576
        assert sum(t.bytes for t in crossing) == 2 * 2 * activations + 4_000
