"""The update rule against its definition, in float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.optimizer import MomentumSGD


def reference(w, gradients, rates, momentum=0.9, decay=0.0005):
    v = np.zeros_like(w)
    for gradient, rate in zip(gradients, rates, strict=True):
        v = momentum * v - decay * rate * w - rate * gradient
        w = w + v
    return w


@pytest.mark.parametrize("decay", [0.0, 0.0005, 0.1])
def test_fifty_steps_with_a_drop_of_the_rate(decay):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(20, 3))
    gradients = rng.normal(size=(50, 20, 3))
    rates = [0.01] * 25 + [0.001] * 25
    variable = keras.Variable(start.astype("float32"))
    optimizer = MomentumSGD(0.01, momentum=0.9, decay=decay)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    expected = reference(start, gradients, rates, decay=decay)
    # 50 float32 roundings of numbers of about 1.
    np.testing.assert_allclose(variable.numpy(), expected, atol=50 * 2**-24)


def test_keras_own_weight_decay_is_another_rule():
    start, gradients = np.ones((1,)), np.zeros((50, 1))
    variable = keras.Variable(start.astype("float32"))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.0005)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    expected = reference(start, gradients, [0.01] * 50)
    assert abs(variable.numpy() - expected) > 1e-4


def test_its_config_makes_it_again():
    optimizer = MomentumSGD(0.02, momentum=0.8, decay=0.3)
    again = MomentumSGD.from_config(optimizer.get_config())
    assert (again.momentum, again.decay) == (0.8, 0.3)
    assert again.get_config() == optimizer.get_config()
