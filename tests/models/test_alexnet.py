"""The network against the paper's Figure 2: shapes, parameters, start."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.models.alexnet import alexnet
from tests.support import zero_weights

# Layer, output of one tower, parameters of tower 0.
PAPER = [
    ("pixels", (224, 224, 3), 0),
    ("conv1", (55, 55, 48), 11 * 11 * 3 * 48 + 48),
    ("norm1", (55, 55, 48), 0),
    ("pool1", (27, 27, 48), 0),
    ("conv2", (27, 27, 128), 5 * 5 * 48 * 128 + 128),
    ("norm2", (27, 27, 128), 0),
    ("pool2", (13, 13, 128), 0),
    ("shared2", (13, 13, 256), 0),
    ("conv3", (13, 13, 192), 3 * 3 * 256 * 192 + 192),
    ("conv4", (13, 13, 192), 3 * 3 * 192 * 192 + 192),
    ("conv5", (13, 13, 128), 3 * 3 * 192 * 128 + 128),
    ("pool5", (6, 6, 128), 0),
    ("shared5", (9216,), 0),
    ("fc6", (2048,), 9216 * 2048 + 2048),
    ("dropout6", (2048,), 0),
    ("shared6", (4096,), 0),
    ("fc7", (2048,), 4096 * 2048 + 2048),
    ("dropout7", (2048,), 0),
    ("fc8", (1000,), 2048 * 1000 + 1000),
]


@pytest.fixture(scope="module")
def paper_net():
    """The paper's network, at full size, with its random weights."""
    keras.utils.set_random_seed(1)
    return alexnet(1000)


@pytest.mark.parametrize(("name", "shape", "parameters"), PAPER)
def test_layers_are_those_of_figure_2(paper_net, name, shape, parameters):
    for tower in (0, 1):
        layer = paper_net.get_layer(f"{name}_tower{tower}")
        assert layer.output.shape[1:] == shape
        # The output layer has its biases in one tower.
        less = 1000 if (name, tower) == ("fc8", 1) else 0
        assert layer.count_params() == parameters - less


def test_figure_2_has_no_other_layers(paper_net):
    names = {layer.name for layer in paper_net.layers}
    paper = {f"{row[0]}_tower{tower}" for row in PAPER for tower in (0, 1)}
    others = {name for name in names - paper if "input" not in name}
    plumbing = {
        f"{name}_tower{tower}"
        for name in ("flat5", "fork2", "fork5", "fork6")
        for tower in (0, 1)
    }
    assert others == plumbing | {"fc8"}


@pytest.mark.parametrize(
    ("towers", "parameters"),
    [(1, 62_378_344), (2, 60_965_224), (4, 60_258_664)],
)
def test_number_of_parameters(towers, parameters):
    with zero_weights():
        net = alexnet(1000, Network(towers=towers))
    assert net.count_params() == parameters


def test_towers_see_each_other_where_the_paper_says(paper_net):
    def inputs_of(name):
        inputs = tf.nest.flatten(paper_net.get_layer(name).input)
        return [t._keras_history.operation.name for t in inputs]

    for tower in (0, 1):
        both = [f"fork2_tower{t}" for t in (0, 1)]
        assert inputs_of(both[tower]) == [f"pool2_tower{tower}"]
        assert inputs_of(f"shared2_tower{tower}") == both
        assert inputs_of(f"conv3_tower{tower}") == [f"shared2_tower{tower}"]
        assert inputs_of(f"conv2_tower{tower}") == [f"pool1_tower{tower}"]
        assert inputs_of(f"conv4_tower{tower}") == [f"conv3_tower{tower}"]
        assert inputs_of(f"conv5_tower{tower}") == [f"conv4_tower{tower}"]


def test_initial_values_are_those_of_section_5(paper_net):
    kernels = [v for v in paper_net.weights if v.name == "kernel"]
    biases = [v for v in paper_net.weights if v.name == "bias"]
    assert (len(kernels), len(biases)) == (16, 15)
    for kernel in kernels:
        values = kernel.numpy()
        error = 0.01 / np.sqrt(values.size)
        assert abs(values.mean()) < 5 * error, kernel.path
        assert abs(values.std() - 0.01) < 5 * error, kernel.path
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for bias in biases:
        assert np.all(bias.numpy() == bias.path.startswith(ones)), bias.path


def test_towers_never_start_equal(paper_net):
    for net in (
        paper_net,
        alexnet(9, Network(width=0.1, initialization="code_2012")),
        alexnet(9, Network(width=0.1, initialization="glorot")),
    ):
        for name in "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8".split():
            # A million of fc6's values will do.
            one, other = (
                net.get_layer(f"{name}_tower{t}")
                .kernel.numpy()
                .ravel()[: 10**6]
                for t in (0, 1)
            )
            # Of independent draws the correlation is about 1 / sqrt(size).
            bound = 5 / np.sqrt(one.size)
            assert abs(np.corrcoef(one, other)[0, 1]) < bound, name


def test_glorot_is_keras_own_initialization():
    keras.utils.set_random_seed(1)
    net = alexnet(10, Network(width=0.5, initialization="glorot"))
    for name, fan_in, fan_out in [
        ("conv2", 5 * 5 * 24, 5 * 5 * 64),
        ("fc7", 2048, 1024),
    ]:
        layer = net.get_layer(f"{name}_tower1")
        limit = np.sqrt(6 / (fan_in + fan_out))
        kernel = layer.kernel.numpy()
        assert np.abs(kernel).max() <= limit
        # Uniform in that range.
        assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
        assert not layer.bias.numpy().any()


def test_code_2012_has_larger_middle_weights_and_width_is_compensated():
    keras.utils.set_random_seed(1)
    net = alexnet(10, Network(width=0.25, initialization="code_2012"))
    for name, stddev in [("conv1", 0.01), ("conv2", 0.02), ("conv3", 0.06)]:
        kernel = net.get_layer(f"{name}_tower0").kernel.numpy()
        assert kernel.std() == pytest.approx(stddev, rel=0.05), name


@pytest.mark.parametrize("crop_size", [224, 227])
def test_224_and_227_pixels_give_55_places(crop_size):
    net = alexnet(3, Network(width=0.1), crop_size=crop_size)
    assert net.get_layer("conv1_tower0").output.shape[1:3] == (55, 55)


@pytest.mark.parametrize("crop_size", [64, 67, 68, 100])
def test_any_crop_is_covered_by_conv1(crop_size):
    net = alexnet(3, Network(width=0.1), crop_size=crop_size)
    height = net.get_layer("conv1_tower0").output.shape[1]
    assert height == 1 + -(-(crop_size - 11) // 4)


def test_same_seed_same_weights():
    nets = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        nets.append(alexnet(3, Network(width=0.1), crop_size=64))
    for one, other in zip(*(net.variables for net in nets), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_towers_that_do_not_divide_the_kernels_are_refused():
    with pytest.raises(UserError, match="towers=3 does not divide 256"):
        alexnet(10, Network(towers=3))
