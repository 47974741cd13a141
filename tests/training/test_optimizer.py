"""The update rule against its definition, in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.distribution.devices import local
from alexnet_tf.distribution.placement import place
from alexnet_tf.training.optimizer import MomentumSGD


def reference(w, gradients, rates, momentum=0.9, decay=0.0005):
    v = np.zeros_like(w)
    for gradient, rate in zip(gradients, rates, strict=True):
        v = momentum * v - decay * rate * w - rate * gradient
        w = w + v
    return w


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("decay", [0.0, 0.0005, 0.1])
def test_fifty_steps_on_replicas(decay, replicas):
    """Each replica has part of the gradient; weights and biases differ."""
    rng = np.random.default_rng(0)
    start = {name: rng.normal(size=(20, 3)) for name in ("kernel", "bias")}
    gradients = rng.normal(size=(50, replicas, 20, 3))
    rates = np.array([0.01] * 25 + [0.001] * 25)
    devices = [f"/device:CPU:{number}" for number in range(replicas)]
    strategy = local(place(devices, towers=1)).strategy
    with strategy.scope():
        optimizer = MomentumSGD(
            0.01, 0.9, decay, decay_biases=False, bias_learning_rate=2.0
        )
        variables = {
            name: keras.Variable(value.astype("float32"), name=name)
            for name, value in start.items()
        }
        optimizer.build(list(variables.values()))

    @tf.function
    def step(gradients):
        def on_replica(shares):
            context = tf.distribute.get_replica_context()
            share = shares[context.replica_id_in_sync_group]
            optimizer.apply([share, share], list(variables.values()))

        strategy.run(on_replica, args=(gradients,))

    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        step(tf.constant(gradient, tf.float32))
    sums = gradients.sum(axis=1)
    for name, factor, its_decay in [("kernel", 1, decay), ("bias", 2, 0.0)]:
        expected = reference(start[name], sums, factor * rates, decay=its_decay)
        np.testing.assert_allclose(
            variables[name].numpy(), expected, atol=100 * 2**-24
        )


@pytest.mark.parametrize("momentum", [0.9, 0.01, 0.0])
@pytest.mark.parametrize("decay", [0.0, 0.0005, 0.1])
def test_fifty_steps_with_a_drop_of_the_rate(decay, momentum):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(20, 3))
    gradients = rng.normal(size=(50, 20, 3))
    rates = [0.01] * 25 + [0.001] * 25
    variable = keras.Variable(start.astype("float32"))
    optimizer = MomentumSGD(0.01, momentum=momentum, decay=decay)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    expected = reference(start, gradients, rates, momentum, decay)
    # 50 float32 roundings of numbers of about 1.
    np.testing.assert_allclose(variable.numpy(), expected, atol=50 * 2**-24)


def lars_reference(w, gradients, rates, *, trust_coefficient, decay):
    v = np.zeros_like(w)
    for gradient, rate in zip(gradients, rates, strict=True):
        norms = np.linalg.norm(w), np.linalg.norm(gradient)
        rate = rate * trust_coefficient
        if all(norms):
            rate *= norms[0] / (norms[1] + decay * norms[0])
        v = 0.9 * v - rate * (gradient + decay * w)
        w = w + v
    return w


@pytest.mark.parametrize("start_at", [0.0, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.0005, 0.1])
def test_fifty_steps_of_lars(decay, start_at):
    """Each kernel has its own rate; all biases share one."""
    rng = np.random.default_rng(0)
    start = {
        name: start_at * rng.normal(size=shape)
        for name, shape in [("kernel", (20, 3)), ("bias", (3,))]
    }
    gradients = {
        name: rng.normal(size=(50, *value.shape))
        for name, value in start.items()
    }
    rates = np.array([5.0] * 25 + [0.5] * 25)
    variables = {
        name: keras.Variable(value.astype("float32"), name=name)
        for name, value in start.items()
    }
    optimizer = MomentumSGD(
        5.0, decay=decay, decay_biases=False, trust_coefficient=0.001
    )
    for step, rate in enumerate(rates):
        optimizer.learning_rate = rate
        optimizer.apply(
            [tf.constant(g[step], tf.float32) for g in gradients.values()],
            list(variables.values()),
        )
    expected = {
        "kernel": lars_reference(
            start["kernel"],
            gradients["kernel"],
            rates,
            trust_coefficient=1e-3,
            decay=decay,
        ),
        "bias": reference(
            start["bias"], gradients["bias"], 0.001 * rates, decay=0.0
        ),
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(
            variables[name].numpy(), wanted, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("trust", [0.0, 0.01])
def test_the_rate_grows_during_warm_up_and_survives_a_restart(trust):
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(20, 3)), rng.normal(size=(8, 20, 3))
    rates = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1]
    variable = keras.Variable(start.astype("float32"), name="kernel")
    optimizer = MomentumSGD(0.1, warmup_steps=5, trust_coefficient=trust)
    optimizer.build([variable])
    for step, rate in enumerate(rates):
        if step == 3:  # As a checkpoint does.
            values = [v.numpy() for v in optimizer.variables]
            optimizer = MomentumSGD.from_config(optimizer.get_config())
            optimizer.build([variable])
            for v, value in zip(optimizer.variables, values, strict=True):
                v.assign(value)
        optimizer.apply([tf.constant(gradients[step], tf.float32)], [variable])
        assert optimizer.last_rate() == pytest.approx(rate)
    if trust:
        wanted = lars_reference(
            start, gradients, rates, trust_coefficient=trust, decay=0.0005
        )
    else:
        wanted = reference(start, gradients, rates)
    np.testing.assert_allclose(variable.numpy(), wanted, atol=1e-5)


def test_keras_own_weight_decay_is_another_rule():
    start, gradients = np.ones((1,)), np.zeros((50, 1))
    variable = keras.Variable(start.astype("float32"))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.0005)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    expected = reference(start, gradients, [0.01] * 50)
    assert abs(variable.numpy() - expected) > 1e-4


def test_the_optimizer_is_restored_from_its_config():
    optimizer = MomentumSGD(
        0.02,
        0.8,
        decay=0.3,
        decay_biases=False,
        bias_learning_rate=2.0,
        schedule="0: weights=1",
        layer_decay={"fc6": 0.1},
    )
    again = MomentumSGD.from_config(optimizer.get_config())
    assert (again.momentum, again.decay) == (0.8, 0.3)
    assert again.get_config() == optimizer.get_config()


def test_a_scaled_loss_makes_the_same_step_bit_by_bit():
    """A power of two changes no digit."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(20, 3)).astype("float32")
    found = []
    for scale in (1.0, 1024.0):
        variable = keras.Variable(start)
        optimizer = MomentumSGD(0.01, loss_scale=scale)
        for _ in range(5):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.sin(variable.value))
                scaled = optimizer.scale_loss(loss)
            assert scaled == scale * loss
            optimizer.apply(tape.gradient(scaled, [variable.value]), [variable])
        found.append((variable.numpy(), optimizer.gradient_norm()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] > 0


def test_the_norm_of_the_gradient():
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=shape) for shape in ((20, 3), (3,))]
    variables = [keras.Variable(np.ones_like(g, "float32")) for g in gradients]
    optimizer = MomentumSGD(0.01)
    optimizer.apply([tf.constant(g, tf.float32) for g in gradients], variables)
    expected = np.sqrt(sum((g**2).sum() for g in gradients))
    assert optimizer.gradient_norm() == pytest.approx(expected, rel=1e-6)
    gradients[1][1] = np.nan
    optimizer.apply([tf.constant(g, tf.float32) for g in gradients], variables)
    assert np.isnan(optimizer.gradient_norm())
