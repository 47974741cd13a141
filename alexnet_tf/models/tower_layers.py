"""Layers that run on the device of their tower (Sec. 3.2).

Keras and TensorFlow alone would run both towers of a replica on one device:

- Operations. `tf.device` around the construction of a functional model places
  nothing: construction only infers shapes, and the operations are made later,
  each time a replica traces the model. `OnTower.__call__` therefore enters the
  device in every call.
- Variables. Under MirroredStrategy `tf.device` does not place variables
  either; the strategy mirrors each one over the replicas' primary devices.
  `DeviceLayout.scope` has their copies created on the tower's devices.
- Gradients. A tape places gradient operations on the device where
  `tape.gradient` is called, the primary one, and copies the activations that
  they need there. `DeviceLayout.run` wraps a layer's arithmetic in
  `tf.custom_gradient`: an inner tape records it, and its gradient is computed
  on the tower's device.
- Weights. `tf.custom_gradient` takes functions of tensors and rejects
  trainable variables read inside; a frozen Keras weight is still a trainable
  variable of TensorFlow's. `OnTower.on_device` passes the values of all
  weights as tensors, and `keras.StatelessScope` substitutes them for the
  layer's variables.
- Casts. Keras casts inputs before `call` and weights when `value` is read, both
  outside that function: in 16 bits the gradients of the casts would run on the
  primary device, and each step would carry all gradients of the other tower
  there and back. Autocasting is off, and `OnTower.on_device` casts inside.
- Sums. Where several layers use one output, the tape sums their gradients on
  the primary device; `Replicate` sums them on the tower's.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.distribution.private_api import uncast_value

_register = keras.saving.register_keras_serializable("alexnet_tf")


def compiled(function: Callable, name: str) -> Callable:
    """Returns a function of tensors compiled by XLA, with a name for traces."""

    def named(*arguments):
        return function(*arguments)

    named.__name__ = name
    return tf.function(named, jit_compile=True)


class OnTower:
    """Mixin: runs a layer on the device of one tower of the current replica.

    Args:
        tower: The tower the layer belongs to, from 0.
        layout: The devices of the run. Not part of the layer's config: a
            saved model is not bound to the devices it was trained on.
    """

    name: str
    # A layer's own attributes that its constructor takes.
    arguments: tuple[str, ...] = ()

    def __init__(self, *args, tower=0, layout=None, **kwargs):
        super().__init__(*args, autocast=False, **kwargs)
        self.tower = tower
        self.layout = layout or DeviceLayout()

    @property
    def figure_name(self) -> str:
        """The layer's name in Figure 2: conv1 for conv1_tower0."""
        return self.name.removesuffix(f"_tower{self.tower}")

    def __call__(self, *args, **kwargs):
        """Calls the layer, or builds it, on its tower's device."""
        with self.layout.scope(self.tower):
            return super().__call__(*args, **kwargs)

    def call(self, inputs):
        """Returns the layer's outputs."""
        return self.on_device(super().call, inputs)

    def on_device(self, function, inputs):
        """Calls `function(inputs)` on the tower's device, gradient included.

        Inputs and weights are cast to the layer's compute dtype.
        """
        tensors = tf.nest.flatten(inputs)
        variables = self.weights  # With the frozen ones.

        def of_tensors(*all_tensors):
            values = all_tensors[len(tensors) :]
            cast = [
                tf.cast(tensor, self.compute_dtype)
                for tensor in all_tensors[: len(tensors)]
            ]
            with keras.StatelessScope(zip(variables, values, strict=True)):
                return function(tf.nest.pack_sequence_as(inputs, cast))

        values = [uncast_value(variable) for variable in variables]
        return self.layout.run(self.tower, of_tensors, *tensors, *values)

    def get_config(self):
        """Returns the constructor's arguments, without the layout."""
        own = {name: getattr(self, name) for name in self.arguments}
        return {**super().get_config(), "tower": self.tower, **own}


def learned_layers(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Returns the towers' parts of layers with weights, by `figure_name`."""
    layers: dict[str, list[keras.layers.Layer]] = {}
    for layer in model.layers:
        if layer.weights:
            layers.setdefault(layer.figure_name, []).append(layer)
    return layers


def _on_tower(kind):
    """Returns a class of Keras's layers with `OnTower`, of the same name."""
    attributes = {"__doc__": kind.__doc__, "__module__": __name__}
    return _register(type(kind.__name__, (OnTower, kind), attributes))


Activation = _on_tower(keras.layers.Activation)
Add = _on_tower(keras.layers.Add)
AveragePooling2D = _on_tower(keras.layers.AveragePooling2D)
Concatenate = _on_tower(keras.layers.Concatenate)
Conv2D = _on_tower(keras.layers.Conv2D)
Dense = _on_tower(keras.layers.Dense)
Flatten = _on_tower(keras.layers.Flatten)
MaxPooling2D = _on_tower(keras.layers.MaxPooling2D)
ZeroPadding2D = _on_tower(keras.layers.ZeroPadding2D)


@_register
class Channels(OnTower, keras.layers.Layer):
    """The channels from `start` to before `stop`.

    Input shape: (..., channels). Output shape: (..., stop - start).
    """

    arguments = ("start", "stop")

    def __init__(self, start, stop, **kwargs):
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs):
        """Returns the channels."""
        return self.on_device(lambda x: x[..., self.start : self.stop], inputs)


# .keras files of version 0.1 have it as Fork.
@keras.saving.register_keras_serializable("alexnet_tf", name="Fork")
class Replicate(OnTower, keras.layers.Layer):
    """One copy of an output for each of its `copies` consumers.

    The consumers' gradients are summed on the tower's device.
    """

    arguments = ("copies",)

    def __init__(self, copies, **kwargs):
        super().__init__(**kwargs)
        self.copies = copies

    def call(self, inputs):
        """Returns a list of `copies` tensors equal to `inputs`."""

        def copy(x):
            return tuple(tf.identity(x) for _ in range(self.copies))

        return list(self.on_device(copy, inputs))
