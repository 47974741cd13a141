"""Every private TensorFlow and Keras name that the package relies on.

Seen in TensorFlow 2.21 and Keras 3.15. Each has a test that fails when it
changes:

- `_devices` of a new variable's `colocate_with`, in MirroredStrategy:
  test_variables_and_momentum_are_on_their_towers_device (tests/distribution).
- `keras.Variable._value`:
  test_bfloat16_halves_all_traffic_but_the_logits (tests/distribution).
- `keras.optimizers.Optimizer._all_reduce_sum_gradients`, which
  `training.optimizer.MomentumSGD` overrides:
  test_least_possible_traffic_between_the_towers (tests/distribution).
"""

import types
from collections.abc import Iterable

import keras
import tensorflow as tf


def colocate_with(devices: Iterable[str]) -> types.SimpleNamespace:
    """Returns what makes MirroredStrategy put a variable's copies there.

    It reads the attribute `_devices` of that argument and nothing else.
    """
    return types.SimpleNamespace(_devices=tuple(devices))


def uncast_value(variable: keras.Variable) -> tf.Tensor:
    """Returns the value in its own dtype, not in the autocast scope's."""
    return tf.convert_to_tensor(variable._value)
