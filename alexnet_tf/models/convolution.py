"""conv1's strided convolution, locally connected layers, and ReLU.

Sections 3.1, 3.3 and 3.5.
"""

import functools

import keras
import tensorflow as tf

from alexnet_tf.models import tower_layers

_register = keras.saving.register_keras_serializable("alexnet_tf")


@_register
def relu(x: tf.Tensor) -> tf.Tensor:
    """Returns max(0, x) (Sec. 3.1).

    In 16 bits XLA compiles its gradient, which takes two thirds of the time of
    TensorFlow's own.
    """
    return _relu_in_16_bits(x) if x.dtype.size == 2 else tf.nn.relu(x)


@tf.custom_gradient
def _relu_in_16_bits(x):
    y = tf.nn.relu(x)
    gradient = _compiled_gradient(tf.get_current_name_scope().split("/")[-1])
    return y, lambda upstream: gradient(y, upstream)


@functools.cache
def _compiled_gradient(layer):
    def gradient(y, upstream):
        return tf.where(y > 0, upstream, tf.zeros_like(upstream))

    return tower_layers.compiled(gradient, f"{layer}_backward")


@_register
class CoveringConv2D(tower_layers.Conv2D):
    """Strided convolution whose windows cover every pixel: conv1.

    Zeros below and on the right make room for the last stride: 224 pixels
    become 227, which an 11x11 kernel with stride 4 turns into the paper's 55.
    `zeros_before` of them come first, above and on the left.

    In 16 bits each block of stride x stride pixels first becomes channels:
    4x4 pixels of 3 channels are one of 48. Processors multiply longer rows
    faster; in float32 that gains less than the zeros cost that make the kernel
    size a multiple of the stride. (float64 is for tests, also by blocks.)
    """

    arguments = ("zeros_before",)

    def __init__(self, *args, zeros_before=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.zeros_before = zeros_before

    def compute_output_shape(self, input_shape):
        """Returns (batch, rows, columns, kernels)."""
        batch, *sides, channels = input_shape
        padded = self._cover(sides)
        return super().compute_output_shape((batch, *padded, channels))

    def convolution_op(self, inputs, kernel):
        """Returns the convolution; Keras calls this."""
        size, stride = self.kernel_size[0], self.strides[0]
        sides = self._cover(inputs.shape[1:3])
        if self.compute_dtype == "float32":
            # The operation's own padding makes its gradient twice as slow.
            padded = _pad(inputs, sides, self.zeros_before)
            return tf.nn.conv2d(padded, kernel, stride, "VALID")
        # Zeros that make the kernel size a multiple of the stride.
        added = -size % stride
        sides = [side + added for side in sides]
        images = _blocks(_pad(inputs, sides, self.zeros_before), stride)
        # A kernel is like an image, with its first and last axes elsewhere.
        kernel = tf.transpose(kernel, (3, 0, 1, 2))
        kernel = _blocks(_pad(kernel, 2 * [size + added]), stride)
        kernel = tf.transpose(kernel, (1, 2, 3, 0))
        return tf.nn.conv2d(images, kernel, 1, "VALID")

    def _cover(self, sides):
        """Returns the sides with the zeros that the last stride needs."""
        size, stride = self.kernel_size[0], self.strides[0]
        sides = [side + self.zeros_before for side in sides]
        return [side + (size - side) % stride for side in sides]


@_register
class LocallyConnected2D(tower_layers.OnTower, keras.layers.Layer):
    """Convolution with a kernel and a bias of its own at each position.

    Such layers are in the networks for CIFAR-10 (Sec. 3.3), with unshared
    biases as is cuda-convnet's default. The stride is 1.

    Args:
        filters: Number of kernels at a position.
        kernel_size: Side of a kernel [pixels].
        padding: "valid", or "same" for zeros around the images.
        activation: As for Keras's layers.
        kernel_initializer: As for Keras's layers; glorot_uniform would count
            the positions as inputs.
        bias_initializer: As for Keras's layers.

    Input shape: (batch, height, width, channels), floating.
    Output shape: (batch, rows, columns, filters).
    Weights: `kernel`, (rows, columns, kernel_size^2 channels, filters), of
    patches by row, column and channel; `bias`, (rows, columns, filters).
    """

    arguments = ("filters", "kernel_size", "padding")

    def __init__(
        self,
        filters,
        kernel_size,
        padding="valid",
        activation=None,
        kernel_initializer="random_normal",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        """Creates the weights."""
        *positions, _ = self.compute_output_shape(input_shape)[1:]
        inputs = self.kernel_size**2 * input_shape[3]
        self.kernel = self.add_weight(
            (*positions, inputs, self.filters),
            self.kernel_initializer,
            name="kernel",
        )
        self.bias = self.add_weight(
            (*positions, self.filters), self.bias_initializer, name="bias"
        )

    def compute_output_shape(self, input_shape):
        """Returns the shape, also while weights have no values."""
        lost = 0 if self.padding == "same" else self.kernel_size - 1
        positions = [side - lost for side in input_shape[1:3]]
        return (input_shape[0], *positions, self.filters)

    def call(self, inputs):
        """Returns the responses."""
        return self.on_device(self._respond, inputs)

    def _respond(self, images):
        size, (rows, columns, *_) = self.kernel_size, self.kernel.shape
        if self.padding == "same":
            margin = ((size - 1) // 2, size // 2)
            images = tf.pad(images, ((0, 0), margin, margin, (0, 0)))
        # Position, image, channel: so each position multiplies matrices.
        images = tf.transpose(images, (1, 2, 0, 3))
        # tf.slice: the gradients of images[...] and tf.image.extract_patches
        # take several times as long.
        patches = [
            tf.slice(images, (y, x, 0, 0), (rows, columns, -1, -1))
            for y in range(size)
            for x in range(size)
        ]
        sums = tf.concat(patches, axis=-1) @ self.kernel.value
        sums = tf.transpose(sums, (2, 0, 1, 3))
        return self.activation(sums + self.bias.value)

    def get_config(self):
        """Returns the constructor's arguments."""
        initialize = keras.initializers.serialize
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": initialize(self.kernel_initializer),
            "bias_initializer": initialize(self.bias_initializer),
        }


def _pad(images, sides, before=0):
    """Adds zeros, `before` of them above and on the left, to reach sides."""
    below, right = sides[0] - images.shape[1], sides[1] - images.shape[2]
    rows, columns = (before, below - before), (before, right - before)
    return tf.pad(images, ((0, 0), rows, columns, (0, 0)))


def _blocks(images, stride):
    """Returns (batch, rows, columns, stride * stride * channels)."""
    _, height, width, channels = images.shape
    rows, columns = height // stride, width // stride
    # Faster than `tf.nn.space_to_depth`.
    shape = (-1, rows, stride, columns, stride * channels)
    images = tf.transpose(tf.reshape(images, shape), (0, 1, 3, 2, 4))
    return tf.reshape(images, (-1, rows, columns, stride * stride * channels))
