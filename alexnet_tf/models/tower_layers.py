"""Layers on the device of their tower: Keras's own, and what joins towers."""

from collections.abc import Callable

import keras
import tensorflow as tf

from alexnet_tf.distribution.placement import DeviceLayout

_register = keras.saving.register_keras_serializable("alexnet_tf")


def compiled(function: Callable, name: str) -> Callable:
    """Returns a function of tensors compiled by XLA, as one loop or few.

    Args:
        function: The function.
        name: Its name in traces of a step.
    """

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

    def __init__(self, *args, tower=0, layout=None, **kwargs):
        # Inputs cast outside `on_device` would have the gradients of their
        # casts on the lead.
        super().__init__(*args, autocast=False, **kwargs)
        self.tower = tower
        self.layout = layout or DeviceLayout()

    def __call__(self, *args, **kwargs):
        """Calls the layer, and makes its variables, on its tower's device."""
        with self.layout.scope(self.tower):
            return super().__call__(*args, **kwargs)

    def call(self, inputs):
        """Returns what the layer makes of its inputs."""
        return self.on_device(super().call, inputs)

    def on_device(self, function, inputs):
        """Calls `function(inputs)`; its gradient runs on the device too.

        Inputs and weights are cast to the layer's compute dtype.
        """
        tensors = tf.nest.flatten(inputs)
        variables = self.weights  # Frozen ones, too.

        def of_tensors(*all_tensors):
            cast = [
                tf.cast(tensor, self.compute_dtype)
                for tensor in all_tensors[: len(tensors)]
            ]
            inputs_again = tf.nest.pack_sequence_as(inputs, cast)
            values = all_tensors[len(tensors) :]
            with keras.StatelessScope(zip(variables, values, strict=True)):
                return function(inputs_again)

        # Not v.value, which would be cast here and not in the function.
        values = [tf.convert_to_tensor(v._value) for v in variables]
        return self.layout.run(self.tower, of_tensors, *tensors, *values)

    def get_config(self):
        """Returns the constructor's arguments, less the layout."""
        return {**super().get_config(), "tower": self.tower}


@_register
class Conv2D(OnTower, keras.layers.Conv2D):
    """Convolution on a tower."""


@_register
class Dense(OnTower, keras.layers.Dense):
    """Fully connected layer on a tower."""


@_register
class Activation(OnTower, keras.layers.Activation):
    """Nonlinearity on a tower."""


@_register
class MaxPooling2D(OnTower, keras.layers.MaxPooling2D):
    """Max pooling on a tower."""


@_register
class Flatten(OnTower, keras.layers.Flatten):
    """Flattening on a tower."""


@_register
class Concatenate(OnTower, keras.layers.Concatenate):
    """Concatenation on a tower: where it sees the others' outputs."""


@_register
class Add(OnTower, keras.layers.Add):
    """Sum on a tower."""


@_register
class Channels(OnTower, keras.layers.Layer):
    """Some of the channels, one after another.

    Args:
        start: The first one.
        stop: The one after the last.
        **kwargs: As for any layer.

    Input shape: (..., channels). Output shape: (..., stop - start).
    """

    def __init__(self, start, stop, **kwargs):
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs):
        """Returns the channels."""
        return self.on_device(lambda x: x[..., self.start : self.stop], inputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}


# Its name in .keras files, which those of version 0.1 have.
@keras.saving.register_keras_serializable("alexnet_tf", name="Fork")
class Replicate(OnTower, keras.layers.Layer):
    """Gives one output to several consumers.

    The consumers' gradients are summed here, on the tower's device; without
    a fork the tape would sum them on the lead.

    Args:
        copies: Number of consumers.
        **kwargs: As for any layer.
    """

    def __init__(self, copies, **kwargs):
        super().__init__(**kwargs)
        self.copies = copies

    def call(self, inputs):
        """Returns a list of `copies` tensors equal to `inputs`."""
        return list(
            self.on_device(
                lambda x: tuple(tf.identity(x) for _ in range(self.copies)),
                inputs,
            )
        )

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "copies": self.copies}
