"""Steps to measure, and their operations by hand."""

import keras
import pytest

from alexnet_tf.benchmarks import step as step_benchmark
from alexnet_tf.config.flags import parse
from alexnet_tf.distribution.devices import connect
from tests.support import SMALL


def test_variants_of_the_network_are_measured_too(monkeypatch):
    flags = ["--virtual_devices=2", "--precision=bfloat16", "--batch_size=8"]
    config, _ = parse([*SMALL, *flags])
    networks = step_benchmark.make_networks(config, connect(config))
    devices = {
        name: model.get_layer("conv1_tower1").layout.device(0, 1)
        for name, model in networks.items()
    }
    assert devices == {
        "this network, bfloat16": "/device:CPU:1",
        "this network, float32": "/device:CPU:1",
        "this network, bfloat16, one device": "/device:CPU:0",
    }
    for name, model in networks.items():
        assert model.get_layer("conv1_tower1").compute_dtype in name
    monkeypatch.setattr(step_benchmark, "step_in_loop", lambda *_: None)
    monkeypatch.setattr(step_benchmark, "_MATRIX_SIZE", 64)
    subjects = step_benchmark.make_subjects(config, networks, flops=2.0)
    assert list(subjects) == [
        "matrix product, bfloat16",
        "matrix product, float32",
        "this network, bfloat16",
        "this network, float32",
        "this network, bfloat16, one device",
        "this network, bfloat16, with fit",
        step_benchmark.STOCK,
    ]
    assert subjects["matrix product, bfloat16"]() == 64**3


def test_operations_are_those_of_the_papers_network(monkeypatch):
    """Worked out by hand from Figure 2, with 1,000 classes."""
    zeros = keras.initializers.Zeros()
    monkeypatch.setattr(
        keras.initializers.GlorotUniform,
        "__call__",
        lambda self, shape, dtype=None: zeros(shape, dtype),
    )
    stock = step_benchmark.make_stock_network(224)
    forward = (
        2 * 55 * 55 * 11 * 11 * 3 * 96
        + 2 * 27 * 27 * 5 * 5 * 48 * 256
        + 2 * 13 * 13 * 9 * (256 * 384 + 192 * 384 + 192 * 256)
        + 2 * (9216 * 4096 + 4096 * 4096 + 4096 * 1000)
    )
    assert step_benchmark.count_flops(stock) == 3 * forward
    assert 3 * forward / 1e9 == pytest.approx(4.346, abs=1e-3)
