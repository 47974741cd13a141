"""Rates, noise and freezing by date: optimizer, callback and network."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.commands import inspect
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.distribution.devices import connect, local
from alexnet_tf.distribution.placement import place
from alexnet_tf.training.callbacks import ScheduleDates
from alexnet_tf.training.optimizer import MomentumSGD
from alexnet_tf.training.trainer import build_trainer
from tests.support import INFO

TINY = ("--width=0.02", "--image_size=72", "--crop_size=64")
# First and last epoch, counted from 1; rates of weights and of biases, then
# those of conv1's; whether there is color noise. From the 2012 source.
RECIPES = {
    "code_2012": [
        (1, 25, 1e-2, 2e-2, 1e-2, 2e-2, True),
        (26, 51, 1e-3, 2e-2, 1e-3, 2e-2, True),
        (52, 67, 1e-4, 2e-2, 1e-4, 2e-2, True),
        (68, 72, 1e-4, 2e-2, 1e-5, 2e-2, False),
        (73, 79, 1e-4, 2e-2, 0, 0, False),
        (80, 91, 1e-5, 2e-2, 0, 0, False),
    ],
    "code_2010": [
        (1, 23, 1e-2, 2e-2, 1e-2, 2e-2, True),
        (24, 51, 1e-3, 2e-2, 1e-3, 2e-2, True),
        (52, 68, 1e-4, 2e-2, 1e-4, 2e-2, True),
        (69, 72, 1e-4, 2e-2, 1e-4, 2e-2, False),
        (73, 78, 1e-4, 2e-2, 0, 0, False),
        (79, 93, 1e-5, 2e-3, 0, 0, False),
    ],
}


def of_recipe(name, *flags):
    files = ("paper", "code_2012", name)
    flagfiles = [f"--flagfile=flags/{file}.cfg" for file in files]
    return parse([*flagfiles, *flags])[0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_layer_in_every_epoch(name):
    """The steps of the optimizer from zero, and the pixels of the network."""
    config = of_recipe(name, *TINY, "--virtual_devices=2")
    model = build_trainer(config, INFO, connect(config), steps_per_epoch=2)
    optimizer, variables = model.optimizer, model.trainable_variables
    assert len(variables) == 2 * 2 * 8 - 1  # fc8 has one bias.

    @tf.function
    def step():
        for variable in (*variables, *optimizer.momentums):
            variable.assign(tf.zeros(variable.shape))
        optimizer.apply([tf.ones(v.shape) for v in variables], variables)
        return [tf.reduce_max(-v.value) for v in variables]

    pixels = [model.get_layer(f"pixels_tower{tower}") for tower in (0, 1)]
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3))
    callback = ScheduleDates(config.rate_schedule)
    callback.set_model(model)
    rows = RECIPES[name]
    assert config.epochs == rows[-1][1]
    for epoch in range(config.epochs):
        callback.on_epoch_begin(epoch)
        (row,) = [row for row in rows if row[0] <= epoch + 1 <= row[1]]
        weights, biases, conv1_weights, conv1_biases, has_noise = row[2:]
        for _ in range(2):
            for variable, rate in zip(variables, step(), strict=True):
                is_conv1 = variable.path.startswith("conv1_")
                expected = conv1_weights if is_conv1 else weights
                if variable.name == "bias":
                    expected = conv1_biases if is_conv1 else biases
                assert rate.numpy() == np.float32(expected), variable.path
            assert optimizer.last_rate() == weights
        assert optimizer.learning_rate == np.float32(weights)
        for layer in pixels:
            # No noise and no division by 1.1.
            plain, seen = layer(image), layer(image, training=True)
            assert np.array_equal(plain, seen) is not has_noise


def reference(w, gradients, rates, decay):
    """The update in float64; a rate of zero forgets the momentum."""
    v = np.zeros_like(w)
    for gradient, rate in zip(gradients, rates, strict=True):
        v = 0.9 * v - decay * rate * w - rate * gradient if rate else 0 * v
        w = w + v
    return w


@pytest.mark.parametrize("replicas", [1, 2])
def test_fifty_steps(replicas):
    """With freezing for some steps, and decays by layer."""
    rng = np.random.default_rng(0)
    names = [(a, b) for a in ("conv1_tower0", "fc8_tower1") for b in "wb"]
    start = rng.normal(size=(4, 20, 3)).astype("float32")
    gradients = rng.normal(size=(50, replicas, 20, 3))
    devices = [f"/device:CPU:{number}" for number in range(replicas)]
    strategy = local(place(devices, towers=1)).strategy
    with strategy.scope():
        optimizer = MomentumSGD(
            decay_biases=False,
            schedule="0: weights=0.01, biases=0.02; 1: weights=0.001;"
            "1.5: conv1.weights=0, conv1.biases=0; 3: biases=0.003;"
            "4: conv1.weights=0.005, conv1.biases=0.004; 4.7: weights=0",
            steps_per_epoch=10,
            layer_decay={"conv1": 0.1},
        )
        variables = []
        for (layer, kind), value in zip(names, start, strict=True):
            with keras.name_scope(layer):
                name = {"w": "kernel", "b": "bias"}[kind]
                variables.append(keras.Variable(value, name=name))
        optimizer.build(variables)

    @tf.function
    def step(gradients):
        def on_replica(shares):
            context = tf.distribute.get_replica_context()
            share = shares[context.replica_id_in_sync_group]
            optimizer.apply([share] * 4, variables)

        strategy.run(on_replica, args=(gradients,))

    frozen = []
    for number, gradient in enumerate(gradients):
        step(tf.constant(gradient, tf.float32))
        if number in (14, 39):
            frozen.append([variable.numpy() for variable in variables[:2]])
    np.testing.assert_array_equal(*frozen)
    expected = {
        ("conv1_tower0", "w"): (
            [0.01] * 10 + [0.001] * 5 + [0] * 25 + [0.005] * 10,
            0.1,
        ),
        ("conv1_tower0", "b"): ([0.02] * 15 + [0] * 25 + [0.004] * 10, 0),
        ("fc8_tower1", "w"): ([0.01] * 10 + [0.001] * 37 + [0] * 3, 0.0005),
        ("fc8_tower1", "b"): ([0.02] * 30 + [0.003] * 20, 0),
    }
    sums = gradients.sum(axis=1)
    for name, value, variable in zip(names, start, variables, strict=True):
        wanted = reference(value.astype("float64"), sums, *expected[name])
        np.testing.assert_allclose(
            variable.numpy(), wanted, atol=100 * 2**-24, err_msg=str(name)
        )


@pytest.mark.slow
def test_two_replicas_of_two_towers_train_like_one():
    """Two steps an epoch; from epoch 2 on without noise, conv1 frozen."""
    schedule = (
        "--schedule=0: weights=0.01, biases=0.02; 0.5: fc6.weights=0.001;"
        "1: conv1.weights=0, conv1.biases=0, color_noise=off"
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, 16)
    found = []
    for devices in (1, 4):
        flags = (*TINY, f"--virtual_devices={devices}", schedule)
        config = of_recipe("code_2012", *flags, "--batch_size=8")
        model = build_trainer(config, INFO, connect(config), steps_per_epoch=2)
        weights = []
        for epoch in (0, 1):
            model.fit(
                tf.data.Dataset.from_tensor_slices((images, labels)).batch(8),
                shuffle=False,
                verbose=0,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=[ScheduleDates(config.rate_schedule)],
            )
            weights.append(
                {v.path: v.numpy() for v in model.trainable_variables}
            )
        for name, before in weights[0].items():
            same = np.array_equal(before, weights[1][name])
            assert same is name.startswith("conv1_"), name
        for variable in model.trainable_variables:
            for copy in model.distribute_strategy.experimental_local_results(
                variable.value
            ):
                np.testing.assert_array_equal(copy, variable.numpy())
        found.append(weights[1])
    for name, value in found[0].items():
        np.testing.assert_allclose(
            found[1][name], value, rtol=1e-3, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(
    "flag",
    [
        "--schedule=0: weights=1, conv9.weights=0",
        "--layer_weight_decay=conv9=0",
    ],
)
@pytest.mark.parametrize("devices", [1, 2])
def test_unknown_layers_are_refused(flag, devices):
    flags = [flag, *TINY, f"--virtual_devices={devices}"]
    config, _ = parse(flags)
    for call in (
        lambda: build_trainer(config, INFO, connect(config)),
        lambda: inspect.run(config),
    ):
        with pytest.raises(UserError, match="no layer 'conv9'") as caught:
            call()
        assert "network has conv1, conv2, conv3" in str(caught.value)
        assert flag.split("=")[0] in str(caught.value)
