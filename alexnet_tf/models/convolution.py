"""What convolutions have of their own: the first one's strides, and ReLU."""

import functools

import keras
import tensorflow as tf

from alexnet_tf.models import tower_layers

_register = keras.saving.register_keras_serializable("alexnet_tf")


@_register
def relu(x: tf.Tensor) -> tf.Tensor:
    """Returns max(0, x) (Sec. 3.1).

    In 16 bits XLA makes its gradient, which takes two thirds of the time of
    TensorFlow's own.
    """
    return _relu_of_16_bits(x) if x.dtype.size == 2 else tf.nn.relu(x)


@tf.custom_gradient
def _relu_of_16_bits(x):
    y = tf.nn.relu(x)
    # The last part is the layer's name.
    mask = _compiled_mask(tf.get_current_name_scope().split("/")[-1])
    return y, lambda upstream: mask(y, upstream)


@functools.cache
def _compiled_mask(layer):
    def mask(y, upstream):
        return tf.where(y > 0, upstream, tf.zeros_like(upstream))

    return tower_layers.compiled(mask, f"{layer}_backward")


@_register
class CoveringConv2D(tower_layers.Conv2D):
    """Convolution with strides whose kernel gets to see all places: conv1.

    Zeros below and on the right make room for the last stride: 224 places
    become 227, which an 11x11 kernel with stride 4 turns into the 55 of the
    paper.

    In 16 bits it is done on the places that a stride passes over, as channels:
    4x4 places of 3 channels are one of 48. Processors multiply longer rows
    faster; in float32 they have less to gain than the zeros cost that make the
    kernel's size a multiple of the stride. (float64 is for tests, and goes the
    way that needs them.)
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
