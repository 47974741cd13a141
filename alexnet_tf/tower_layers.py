"""Layers on the device of their tower: Keras's own, and what joins towers."""

import keras
import tensorflow as tf

from alexnet_tf.towers import Placement

_register = keras.saving.register_keras_serializable("alexnet_tf")


class OnTower:
    """Mixin: runs a layer on the device of one tower of the current replica.

    Args:
        tower: The tower the layer belongs to, from 0.
        placement: The devices of the run. Not part of the layer's config: a
            saved model is not bound to the devices it was trained on.
    """

    def __init__(self, *args, tower=0, placement=None, **kwargs):
        # Inputs cast outside `on_device` would have the gradients of their
        # casts on the lead.
        super().__init__(*args, autocast=False, **kwargs)
        self.tower = tower
        self.placement = placement or Placement()

    def __call__(self, *args, **kwargs):
        """Calls the layer, and makes its variables, on its tower's device."""
        with self.placement.scope(self.tower):
            return super().__call__(*args, **kwargs)

    def call(self, inputs):
        """Returns what the layer makes of its inputs."""
        return self.on_device(super().call, inputs)

    def on_device(self, function, inputs):
        """Calls `function(inputs)`; its gradient runs on the device too.

        Inputs and weights are cast to the layer's compute dtype.
        """
        tensors = tf.nest.flatten(inputs)
        variables = self.trainable_variables

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
        return self.placement.run(self.tower, of_tensors, *tensors, *values)

    def compiled(self, function, name):
        """Returns a function of tensors compiled by XLA, as one loop or few.

        Args:
            function: The function.
            name: What it does, which traces of a step tell with the layer.
        """

        def named(*arguments):
            return function(*arguments)

        named.__name__ = f"{self.name}_{name}"
        return tf.function(named, jit_compile=True)

    def get_config(self):
        """Returns the constructor's arguments, less the placement."""
        return {**super().get_config(), "tower": self.tower}


@_register
class Conv2D(OnTower, keras.layers.Conv2D):
    """Convolution on a tower."""


@_register
class CoveringConv2D(Conv2D):
    """Convolution with strides whose kernel gets to see all places: conv1.

    Zeros below and on the right make room for the last stride: 224 places
    become 227, which an 11x11 kernel with stride 4 turns into the 55 of the
    paper.

    In 16 bits it is done on the places that a stride passes over, as channels:
    4x4 places of 3 channels are one of 48. Processors multiply longer rows
    faster; in float32 they have less to gain than the zeros cost that make the
    kernel's size a multiple of the stride.
    """

    def compute_output_shape(self, input_shape):
        """Returns (batch, rows, columns, kernels)."""
        batch, height, width, _ = input_shape
        padded = [_covered(n, *self._size_and_stride) for n in (height, width)]
        return super().compute_output_shape((batch, *padded, input_shape[-1]))

    def convolution_op(self, inputs, kernel):
        """Returns the convolution; Keras calls this."""
        size, stride = self._size_and_stride
        sides = [_covered(side, size, stride) for side in inputs.shape[1:3]]
        if self.compute_dtype == "float32":
            # The operation's own padding makes its gradient twice as slow.
            return tf.nn.conv2d(
                _fill_up(inputs, sides), kernel, stride, "VALID"
            )
        # Zeros that make a kernel's size a multiple of the stride.
        added = -size % stride
        images = _blocks(inputs, [side + added for side in sides], stride)
        # A kernel is like an image, its first and last axes at other places.
        kernel = tf.transpose(kernel, (3, 0, 1, 2))
        kernel = _blocks(kernel, 2 * [size + added], stride)
        kernel = tf.transpose(kernel, (1, 2, 3, 0))
        return tf.nn.conv2d(images, kernel, 1, "VALID")

    @property
    def _size_and_stride(self):
        return self.kernel_size[0], self.strides[0]


def _covered(side, size, stride):
    """Returns `side` and the zeros that the last stride needs."""
    return side + (size - side) % stride


def _fill_up(images, sides):
    """Adds zeros below and on the right."""
    below, right = (
        wanted - side
        for wanted, side in zip(sides, images.shape[1:3], strict=True)
    )
    return tf.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))


def _blocks(images, sides, stride):
    """Returns (batch, rows, columns, stride * stride * channels)."""
    rows, columns = (side // stride for side in sides)
    # Faster than `tf.nn.space_to_depth`.
    images = tf.reshape(
        _fill_up(images, sides),
        (-1, rows, stride, columns, stride * images.shape[-1]),
    )
    images = tf.transpose(images, (0, 1, 3, 2, 4))
    return tf.reshape(images, (-1, rows, columns, stride * images.shape[-1]))


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
class Fork(OnTower, keras.layers.Layer):
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
