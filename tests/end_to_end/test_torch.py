"""The network in PyTorch that speeds are compared with, where that exists."""

import sys

import numpy as np
import pytest

from alexnet_tf.benchmarks import timing
from alexnet_tf.models.alexnet import alexnet
from tests.support import zero_weights


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.slow
def test_it_is_the_same_network(torch):
    from examples import torch_alexnet

    with zero_weights():
        ours = alexnet(1000)
    network = torch_alexnet.make_network()
    assert ours.count_params() == sum(p.numel() for p in network.parameters())
    images = torch.randn(2, 3, 228, 228, dtype=torch.float64)
    conv1, _, normalization = network[:3]
    # 4x4 pixels, row by row, of one color after the other.
    blocks = images.unflatten(3, (57, 4)).unflatten(2, (57, 4))
    blocks = blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    kernels = conv1.kernels.double()
    expected = torch.nn.functional.conv2d(images, kernels, stride=4)
    maps = conv1(blocks.float())
    assert (maps - expected).abs().max() < 1e-5
    x = 100 * maps.detach().numpy().astype(np.float64)
    squares = np.pad(x**2, [(0, 0), (2, 2), (0, 0), (0, 0)])
    sums = sum(squares[:, first : first + 96] for first in range(5))
    normalized = normalization(100 * maps).detach().numpy()
    expected = x / (2 + 1e-4 * sums) ** 0.75
    np.testing.assert_allclose(normalized, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_speeds_in_turns(torch, monkeypatch, capsys):
    from examples import torch_speed

    monkeypatch.setattr(timing, "_MIN_SECONDS", 0.0)
    monkeypatch.setattr(sys, "argv", ["", "--rounds=1"])
    torch_speed.main()
    table = capsys.readouterr().out.splitlines()[-4:]
    names = [line.split("  ")[0] for line in table]
    assert names == [
        *("float32", "PyTorch, float32", "bfloat16", "PyTorch, bfloat16")
    ]
    for line in table:
        assert "1.00  (1.00-1.00)" in line or "PyTorch" in line
