"""Response normalization (Sec. 3.3)."""

import functools

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.models.tower_layers import OnTower, compiled

_register = keras.saving.register_keras_serializable("alexnet_tf")


@_register
class LocalResponseNormalization(OnTower, keras.layers.Layer):
    """Local response normalization across kernel maps (Sec. 3.3).

    y_i = x_i / (k + alpha sum_j x_j^2)^beta, where j runs over the `size`
    channels around i that exist. As the paper prints it, the sum is not
    divided by `size`; the 2012 source and Caffe divide.

    Args:
        size: n, number of channels in the window; odd.
        k, alpha, beta: Those of the formula.
        divide_alpha: Whether to divide alpha by the number of responses in a
            full window.

    Input and output shape: (..., channels), floating. The arithmetic is in
    float32.

    Raises:
        ValueError: if `size` is even.
    """

    arguments = ("size", "k", "alpha", "beta", "divide_alpha")
    axes: tuple[int, ...] = (-1,)  # That the window extends along.

    def __init__(
        self, size=5, k=2.0, alpha=1e-4, beta=0.75, divide_alpha=False, **kwargs
    ):
        super().__init__(**kwargs)
        if size % 2 == 0:
            raise ValueError(
                f"size={size} has no middle channel; use an odd number."
            )
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta
        self.divide_alpha = divide_alpha
        responses = size ** len(self.axes)
        self._scaled_alpha = alpha / responses if divide_alpha else alpha

    def call(self, inputs, training=False):
        """Returns the normalized responses."""
        function = self._in_training if training else self._at_test_time
        return self.on_device(function, inputs)

    def _at_test_time(self, x):
        """Uses TensorFlow's own operation, which takes a single pass.

        But not beyond the limits of cuDNN, which computes it on GPUs.
        """
        if self.size > 15 or self.beta < 0.01 or self.k < 1e-5:
            return self._respond(x)[0]
        rows = tf.reshape(tf.cast(x, tf.float32), (-1, 1, 1, x.shape[-1]))
        y = tf.nn.local_response_normalization(
            rows, self.size // 2, self.k, self._scaled_alpha, self.beta
        )
        y = tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)
        return tf.cast(y, self.compute_dtype)

    def _in_training(self, inputs):
        """Uses XLA: one loop for the responses, two for their gradient."""
        respond, gradient_of = self._compiled

        @tf.custom_gradient
        def normalize(x):
            # Stopped, or a tape would make XLA return all intermediate
            # tensors, in a loop each.
            y, factor = respond(tf.stop_gradient(x))

            def gradient(upstream):
                # Named as TensorFlow names others, for traces of a step.
                with tf.name_scope(f"gradient_tape/{self.name}"):
                    return gradient_of(x, factor, upstream)

            return y, gradient

        return normalize(inputs)

    @functools.cached_property
    def _compiled(self):
        return (
            compiled(self._respond, f"{self.name}_forward"),
            compiled(self._gradient_of, f"{self.name}_backward"),
        )

    def _respond(self, x):
        """Returns the responses, and the factors they are inputs times."""
        x = tf.cast(x, tf.float32)
        scale = self._scale(x)
        if self.beta == 0.75:  # The paper's, which needs no logarithm.
            factor = tf.sqrt(tf.sqrt(scale)) / scale
        else:
            factor = tf.pow(scale, -self.beta)
        return tf.cast(x * factor, self.compute_dtype), factor

    def _gradient_of(self, x, factor, upstream):
        """Returns the gradient in closed form."""
        x, upstream = tf.cast(x, tf.float32), tf.cast(upstream, tf.float32)
        crossed = self._window_sum(upstream * x * factor / self._scale(x))
        slope = 2 * self._scaled_alpha * self.beta
        gradient = upstream * factor - slope * x * crossed
        return tf.cast(gradient, self.compute_dtype)

    def _scale(self, x):
        return self.k + self._scaled_alpha * self._window_sum(x, tf.square)

    def _window_sum(self, x, function=tf.identity):
        """Sums function(x) over the window around each response.

        Each neighbor is shifted separately, before the function is applied:
        XLA makes one loop of that, and several of other orders.
        """
        reach = self.size // 2
        for axis in self.axes:
            shifts = range(-reach, reach + 1)
            x = tf.add_n([function(_shifted(x, by, axis)) for by in shifts])
            function = tf.identity
        return x


def _shifted(x, by, axis):
    """Returns x moved along an axis, with zeros moved in."""
    by = max(-x.shape[axis], min(x.shape[axis], by))
    kept = [slice(None)] * x.shape.rank
    kept[axis] = slice(max(by, 0), x.shape[axis] + min(by, 0))
    padding = np.zeros((x.shape.rank, 2), np.int32)
    padding[axis] = (max(-by, 0), max(by, 0))
    return tf.pad(x[tuple(kept)], padding)


@_register
class SpatialResponseNormalization(LocalResponseNormalization):
    """Response normalization over neighboring positions of each map.

    The window has `size` x `size` positions of one channel. The 2012 source
    has it in layer 2, the paper does not.

    Input and output shape: (batch, height, width, channels), floating.
    """

    axes = (1, 2)

    def _at_test_time(self, x):
        return self._respond(x)[0]  # TensorFlow has no operation for them.
