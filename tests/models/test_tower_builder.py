"""Layers that settings move, add or leave out, against float64 references."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.models.tower_builder import TowerBuilder

# Layers of tower 0 that compute nothing that a test here is about.
_OTHERS = ("pixels", "flat", "fc8")


def build(shape, add, **settings):
    """Returns a model of what `add(builder, x)` adds to one tower."""
    network = Network(towers=1, **settings)
    builder = TowerBuilder(network, layout=None, dtype="float64")
    inputs = keras.Input(shape, dtype="float64")
    (outputs,) = add(builder, [inputs])
    return keras.Model(inputs, outputs)


def draw(shape):
    return np.random.default_rng(4).normal(size=shape)


def max_pooling(x, size):
    """Sizes rounded up; windows end at the edge."""
    places = [-(-(side - size) // 2) + 1 for side in x.shape[1:3]]
    y = np.empty((len(x), *places, x.shape[-1]))
    for i, j in np.ndindex(*places):
        window = x[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size]
        y[:, i, j] = window.max(axis=(1, 2))
    return y


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("side", [2, 3, 4, 11, 26, 55])
def test_pooling_windows_that_overhang(side, size):
    """All numbers are negative, so that a zero beyond the edge would show."""
    x = -np.abs(draw((2, side, side, 3)))
    settings = dict(pool_size=size, pool_overhang=True)
    model = build(x.shape[1:], lambda b, x: b.pool(x, 1), **settings)
    np.testing.assert_array_equal(model(x), max_pooling(x, size))


def convolution(x, kernel, zeros):
    size, padded = len(kernel), ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0))
    x = np.pad(x, padded)
    places = [side - size + 1 for side in x.shape[1:3]]
    y = np.empty((len(x), *places, kernel.shape[-1]))
    for i, j in np.ndindex(*places):
        y[:, i, j] = np.tensordot(x[:, i : i + size, j : j + size], kernel, 3)
    return y


@pytest.mark.parametrize(
    ("name", "size", "zeros"),
    [("conv2", 5, n) for n in (0, 1, 2, 4)]
    + [("conv5", 3, n) for n in (0, 1, 3)],
)
def test_zeros_around_the_inputs_of_a_convolution(name, size, zeros):
    numbers = {"conv2": f"0,{zeros},1,1,1", "conv5": f"0,2,1,1,{zeros}"}
    model = build(
        (9, 9, 2),
        lambda b, x: b.conv(x, name, size=size),
        padding=numbers[name],
        width=0.02,
    )
    layer = model.get_layer(f"{name}_tower0")
    kernel = draw(layer.kernel.shape)
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(layer.bias.shape))
    x = draw((2, 9, 9, 2))
    # The weights are float32.
    expected = np.maximum(convolution(x, kernel, zeros), 0)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


def small_network(dtype="float32", **settings):
    network = Network(width=0.05, **settings)
    return alexnet(3, network, crop_size=96, dtype=dtype)


def names_of_tower_0(net):
    """Returns the names from conv1 to fc7 in the order of computation."""
    return [
        layer.figure_name
        for layer in net.layers
        if getattr(layer, "tower", None) == 0
        and not layer.figure_name.startswith(_OTHERS)
    ]


FIRST = ["conv1", "norm1", "pool1"]
MIDDLE = ["conv3", "conv4", "conv5", "pool5"]
LAST = ["fc6", "dropout6", "fc7", "dropout7"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            dict(lrn_layers="1", spatial_norm2=True),
            [*FIRST, "conv2", "spatial_norm2", "pool2", *MIDDLE, *LAST],
        ),
        (
            dict(lrn_layers="2", lrn="after_pool"),
            ["conv1", "pool1", "conv2", "pool2", "norm2", *MIDDLE, *LAST],
        ),
        (
            dict(lrn_layers="", conv1_activation="after_pool"),
            ["conv1", "pool1", "relu1", "conv2", "pool2", *MIDDLE, *LAST],
        ),
        (
            dict(conv2_activation="after_norm", spatial_norm2=True),
            [*FIRST, "conv2", "norm2", "relu2", "spatial_norm2", "pool2"]
            + [*MIDDLE, *LAST],
        ),
        (
            dict(conv2_activation="after_norm", factorized_conv2=True)
            | dict(lrn="after_pool"),
            ["conv1", "pool1", "norm1", "conv2", "conv2b", "pool2", "norm2"]
            + ["relu2", *MIDDLE, *LAST],
        ),
        (
            dict(dropout_layers="conv4,conv6,fc7", conv6=True),
            [*FIRST, "conv2", "norm2", "pool2", "conv3", "conv4"]
            + ["dropout_conv4", "conv5", "pool5", "conv6", "dropout_conv6"]
            + ["fc6", "fc7", "dropout7"],
        ),
    ],
    ids=str,
)
def test_layers_come_in_this_order(settings, expected):
    net = small_network(tower_communication="", **settings)
    assert names_of_tower_0(net) == expected


def test_a_nonlinearity_that_comes_later_is_not_there_before():
    for name, settings in [
        ("conv1", dict(conv1_activation="after_pool")),
        ("conv2", dict(conv2_activation="after_norm")),
        (
            "conv2b",
            dict(conv2_activation="after_norm", factorized_conv2=True),
        ),
    ]:
        net = small_network(initialization="glorot", **settings)
        images = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3))
        for layer in net.layers:
            if getattr(layer, "figure_name", "").startswith(("conv", "relu")):
                part = keras.Model(net.input, layer.output)
                has_negative = (part(images).numpy() < 0).any()
                assert has_negative == (layer.figure_name == name), layer.name


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["conv3", "fc6", "fc7"]),
        ({"conv6": True}, ["conv3", "conv6", "fc6", "fc7"]),
        ({"tower_communication": ""}, []),
        ({"tower_communication": "fc7, conv4"}, ["conv4", "fc7"]),
        (
            {"tower_communication": "conv2,conv5,conv6,fc7"},
            ["conv2", "conv5", "fc7"],
        ),
        # The next layer sees all towers instead, and once.
        ({"kernels": "96,256,0,384,256"}, ["conv4", "fc6", "fc7"]),
        (
            {"kernels": "96,256,0,384,256", "tower_communication": "conv3"}
            | {"lrn_across_towers": True},
            ["conv4"],
        ),
        (
            {"kernels": "96,256,0,0,256"}
            | {"tower_communication": "conv3,conv4,conv5"},
            ["conv5"],
        ),
        ({"towers": 1}, []),
    ],
    ids=str,
)
def test_layers_that_see_all_towers(settings, expected):
    """They have as many inputs as all towers of the layer before together."""
    net = small_network(**settings)
    towers = settings.get("towers", 2)
    found = []
    for layer in net.layers:
        if getattr(layer, "tower", None) != 0 or not layer.trainable_variables:
            continue
        (source,) = tf.nest.flatten(layer.input)
        operation = source._keras_history.operation
        if isinstance(operation, keras.layers.Concatenate):
            senders = [
                t._keras_history.operation
                for t in tf.nest.flatten(operation.input)
            ]
            assert [sender.tower for sender in senders] == list(range(towers))
            found.append(layer.figure_name)
    assert found == expected


def test_the_sixth_convolution_starts_like_those_before_it():
    net = alexnet(
        3,
        Network(width=0.5, conv6=True, initialization="code_2012"),
        crop_size=96,
    )
    layer = net.get_layer("conv6_tower1")
    # Both towers' 64 maps; 0.03 / sqrt(width).
    assert layer.kernel.shape == (3, 3, 128, 64)
    stddev = 0.03 / np.sqrt(0.5)
    assert layer.kernel.numpy().std() == pytest.approx(stddev, rel=0.02)
    assert np.all(layer.bias.numpy() == 1)


def rounded(x):
    return x.astype(np.float16).astype(x.dtype)


@pytest.mark.parametrize("towers", [2, 3])
def test_what_crosses_in_half_precision(towers):
    """Of an exchange: other towers' outputs and gradients are rounded."""
    network = Network(
        towers=towers,
        kernels="96,96,96,96,96",
        neurons="96,96",
        link_precision="float16",
    )
    builder = TowerBuilder(network, layout=None, dtype="float32")
    inputs = [keras.Input((5,)) for _ in range(towers)]
    model = keras.Model(inputs, builder.exchange(inputs, "fc6"))
    x = [
        tf.constant(draw((4, 5)) * 3.0**tower, tf.float32)
        for tower in range(towers)
    ]
    upstream = [
        tf.constant(draw((4, 5 * towers)) * 1e-3 * 2.0**tower, tf.float32)
        for tower in range(towers)
    ]
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x)
    gradients = tape.gradient(outputs, x, upstream)
    for tower in range(towers):
        expected = [
            part.numpy() if sender == tower else rounded(part.numpy())
            for sender, part in enumerate(x)
        ]
        assert outputs[tower].dtype == tf.float32
        np.testing.assert_array_equal(outputs[tower], np.hstack(expected))
        parts = [
            of_one.numpy()[:, 5 * tower : 5 * tower + 5] for of_one in upstream
        ]
        own, others = parts[tower], parts[:tower] + parts[tower + 1 :]
        np.testing.assert_allclose(
            gradients[tower], own + sum(map(rounded, others)), rtol=1e-6
        )
        assert np.any(gradients[tower] != sum(parts))


@pytest.mark.parametrize(
    ("dtype", "count"),
    # Three exchanges, and in 16 bits the products of fc8 alone.
    [("float32", 7), ("mixed_bfloat16", 1), ("mixed_float16", 1)],
)
def test_what_has_16_bits_is_sent_as_it_is(dtype, count):
    net = small_network(dtype, link_precision="float16")
    sent = [layer for layer in net.layers if layer.name.startswith("send")]
    assert len(sent) == count
    assert {layer.output.dtype for layer in sent} == {"float16"}


def test_logits_with_half_precision_between_towers():
    """As the network in float64, but for the rounding of what crosses."""
    images = np.random.default_rng(1).integers(0, 256, (4, 96, 96, 3))
    exact, single, half = (
        small_network(initialization="glorot", **settings)
        for settings in [
            dict(dtype="float64"),
            {},
            dict(link_precision="float16"),
        ]
    )
    values = {v.path: v.numpy() for v in single.trainable_variables}
    for net in (exact, half):
        for variable in net.trainable_variables:
            variable.assign(values[variable.path])
    exact, single, half = (net(images).numpy() for net in (exact, single, half))
    size = np.abs(exact).max()
    single, half = (np.abs(x - exact).max() / size for x in (single, half))
    # Three roundings to 11 bits of half the inputs, and one of the products.
    assert single < 1e-5 < half < 4 * 2**-11


@pytest.mark.parametrize(
    ("settings", "crop_size", "message"),
    [
        (dict(padding="0,0,1,1,1"), 64, "pool5 has windows of 3x3, but .* 1x1"),
        (dict(padding="0,1,1,1,0"), 64, "conv5 has windows of 3x3, .* 2x2"),
        (dict(pool_size=2, padding="0,0,0,0,0"), 96, "conv4 .* 1x1 places"),
    ],
)
def test_windows_larger_than_their_inputs_are_refused(
    settings, crop_size, message
):
    with pytest.raises(UserError, match=message):
        alexnet(3, Network(width=0.05, **settings), crop_size=crop_size)
