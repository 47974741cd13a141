"""Predicted speeds: by hand, and against what is counted in the graph."""

import dataclasses

import pytest

from alexnet_tf.benchmarks import scaling, traffic
from alexnet_tf.config.flags import Config
from alexnet_tf.models.build import build_network
from alexnet_tf.storage.dataset_info import placeholder_info
from tests.support import SMALL, make_trainer

MACHINES = scaling.Machines(
    rate=1000.0, input_rate=5000.0, devices=4, link=1e9, device_link=10e9
)
TRAFFIC = scaling.Traffic(gradients=200e6, between_towers=250e3)


def predict(devices, towers):
    return scaling.predict(
        TRAFFIC, MACHINES, 100, devices=devices, towers=towers
    )


def test_one_device_is_what_was_measured():
    alone = predict(1, 1)
    assert (alone.lowest, alone.highest) == (1000.0, 1000.0)
    assert not alone.starves


def test_replicas_of_one_machine_sum_over_their_own_links():
    # 100 ms of layers; 2 * 3 / 4 of 200 MB at 10 GB/s are 30 ms.
    four = predict(4, 1)
    assert four.lowest == pytest.approx(400 / 0.130)
    assert four.highest == pytest.approx(400 / 0.100)


def test_machines_sum_over_the_network():
    # 30 ms within machines, and 2 * 1 / 2 of 200 MB at 1 GB/s: 200 ms.
    eight = predict(8, 1)
    assert eight.lowest == pytest.approx(800 / 0.330)
    assert eight.highest == pytest.approx(800 / 0.230)
    assert eight.input_limit == 10_000 and not eight.starves


def test_towers_halve_the_layers_and_the_gradients_of_a_device():
    # 50 ms of layers and 2.5 ms of 25 MB between towers; two replicas sum
    # 2 * 1 / 2 of 100 MB: 10 ms.
    four = predict(4, 2)
    assert four.replicas == 2 and four.global_batch == 200
    assert four.lowest == pytest.approx(200 / 0.0625)
    assert four.highest == pytest.approx(200 / 0.0525)


def test_a_slow_input_is_reported():
    slow = dataclasses.replace(MACHINES, input_rate=1500.0)
    found = scaling.predict(TRAFFIC, slow, 100, devices=4, towers=1)
    assert found.starves and "1,500" in scaling.as_table([found])


def test_device_counts_are_multiples_of_the_towers():
    assert scaling.device_counts(1) == [2**n for n in range(11)]
    assert scaling.device_counts(2) == [2**n for n in range(1, 11)]
    assert scaling.device_counts(3) == [3 * 2**n for n in range(9)]


@pytest.mark.parametrize(
    "flags",
    [
        ["--precision=bfloat16", "--tower_communication=conv2,conv4,fc7"],
        ["--lrn_across_towers", "--link_precision=float16", "--conv6"],
    ],
)
def test_the_bytes_between_towers_are_those_of_the_graph(flags):
    _, model = make_trainer((2, 1), *flags, *SMALL)
    found = traffic.find_transfers(traffic.trace_training_step(model, 1))
    sent = sum(t.bytes for t in found if t.source == "CPU:0")
    assert scaling.bytes_between_towers(model) == sent


def test_towers_without_communication_send_their_logits_only():
    config = Config(tower_communication="", width=0.1)
    model = build_network(config, placeholder_info(["a", "b", "c"]))
    assert scaling.bytes_between_towers(model) == 4 * 3


def test_one_tower_sends_nothing():
    config = Config(towers=1, width=0.1)
    model = build_network(config, placeholder_info(["a", "b", "c"]))
    assert scaling.bytes_between_towers(model) == 0
