"""Response normalisation (Sec. 3.3)."""

import functools

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.tower_layers import OnTower

_register = keras.saving.register_keras_serializable("alexnet_tf")


@_register
class LocalResponseNormalization(OnTower, keras.layers.Layer):
    """Local response normalisation across kernel maps (Sec. 3.3).

    y_i = x_i / (k + alpha sum_j x_j^2)^beta, where j runs over the `size`
    channels around i that exist. As the paper prints it, the sum is not
    divided by `size`; the 2012 source and Caffe divide.

    Args:
        size: n, number of channels in the window; odd.
        k: k.
        alpha: alpha.
        beta: beta.
        divide_alpha: Whether alpha is divided by the number of responses in
            a whole window.
        **kwargs: As for any layer.

    Input and output shape: (..., channels), floating. The arithmetic is in
    float32.

    Raises:
        ValueError: if `size` is even.

    Reference:
        Krizhevsky, Sutskever and Hinton, 2012, Sec. 3.3.
    """

    # Axes that the window extends along.
    axes = (-1,)

    def __init__(
        self,
        size=5,
        k=2.0,
        alpha=1e-4,
        beta=0.75,
        divide_alpha=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size % 2 == 0:
            raise ValueError(
                f"size={size} has no middle channel; use an odd number."
            )
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta
        self.divide_alpha = divide_alpha

    def call(self, inputs, training=False):
        """Returns the normalised responses.

        In training XLA makes one loop each of them and of their gradient.
        """
        return self.on_device(
            functools.partial(self._normalise, jit_compile=training), inputs
        )

    def _normalise(self, inputs, jit_compile):
        alpha = self.alpha
        if self.divide_alpha:
            alpha /= self.size ** len(self.axes)

        def respond(x):
            """Returns the responses, and the root that the gradient needs."""
            x = tf.cast(x, tf.float32)
            root = tf.math.rsqrt(self.k + alpha * self._window_sum(x * x))
            y = x * self._power(root)
            return tf.cast(y, self.compute_dtype), root

        # The closed form of the gradient takes half the time of the native op.
        def gradient_of(x, root, upstream):
            x, upstream = tf.cast(x, tf.float32), tf.cast(upstream, tf.float32)
            factor = self._power(root)
            crossed = self._window_sum(upstream * x * factor * root * root)
            gradient = upstream * factor - 2 * alpha * self.beta * x * crossed
            return tf.cast(gradient, self.compute_dtype)

        if jit_compile:
            respond = self.compiled(respond, "forward")
            gradient_of = self.compiled(gradient_of, "backward")

        @tf.custom_gradient
        def normalise(x):
            y, root = respond(x)

            def named_gradient(upstream):
                # Named as TensorFlow names others, for traces of a step.
                with tf.name_scope(f"gradient_tape/{self.name}"):
                    return gradient_of(x, root, upstream)

            return y, named_gradient

        return normalise(inputs)

    def _window_sum(self, x):
        """Sums over the window around each response, where there is any."""
        reach = self.size // 2
        for axis in self.axes:
            padding = np.zeros((x.shape.rank, 2), np.int32)
            padding[axis] = reach
            padded = tf.pad(x, padding)
            whole = [slice(None)] * x.shape.rank
            length = x.shape[axis]
            windows = []
            for start in range(self.size):
                whole[axis] = slice(start, start + length)
                windows.append(padded[tuple(whole)])
            x = tf.add_n(windows)
        return x

    def _power(self, root):
        """Returns scale^-beta of root = scale^-1/2; 3/4 needs no logarithm."""
        if self.beta == 0.75:
            return root * tf.sqrt(root)
        return tf.pow(root, 2 * self.beta)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "k": self.k,
            "alpha": self.alpha,
            "beta": self.beta,
            "divide_alpha": self.divide_alpha,
        }


@_register
class SpatialResponseNormalization(LocalResponseNormalization):
    """Response normalisation over neighbouring places of each map.

    The window has `size` x `size` places of one channel. It stands in layer 2
    of the 2012 source and not in the paper.

    Input and output shape: (batch, height, width, channels), floating.
    """

    axes = (1, 2)
