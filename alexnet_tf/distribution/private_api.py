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

from collections.abc import Sequence

import keras
import tensorflow as tf


class VariableDevices:
    """Where MirroredStrategy puts the copies of a new variable.

    A variable creator passes it on as `colocate_with`; MirroredStrategy reads
    its attribute `_devices` and nothing else.

    Args:
        devices: Device names, one per replica.
    """

    def __init__(self, devices: Sequence[str]):
        self._devices = tuple(devices)


def uncast_value(variable: keras.Variable) -> tf.Tensor:
    """Returns a variable's value in its own dtype.

    `variable.value` casts it to the dtype of the active autocast scope.
    """
    return tf.convert_to_tensor(variable._value)
