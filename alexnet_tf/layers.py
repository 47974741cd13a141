"""The paper's layers that Keras does not have, or has otherwise.

Local response normalisation, the paper's dropout, and `Pixels`, which makes the
network's input of stored images.
"""

import keras
import tensorflow as tf

from alexnet_tf.tower_layers import OnTower

_register = keras.saving.register_keras_serializable("alexnet_tf")


@_register
class Pixels(OnTower, keras.layers.Layer):
    """Makes the network's input of stored images (Sec. 2 and 4.1).

    Subtracts the mean colour, adds colour noise in training, and pads with
    zeros below and on the right, so that a convolution without padding covers
    the image: 224 pixels become 227, which an 11x11 kernel with stride 4 turns
    into the 55 positions of the paper.

    Args:
        mean_rgb: Mean colour, three numbers in 0..255.
        noise_basis: 3x3 nested sequence B or None; each training image gets
            the colour z B added to all its pixels, z being three independent
            standard Gaussians.
        kernel_size: Kernel size of the convolution that follows.
        strides: Its stride.
        seed: Seed of the noise, the same for all towers, which see the same
            image.
        **kwargs: As for any layer.

    Input shape: (batch, height, width, 3), uint8 or float in 0..255.
    Output shape: (batch, height + padding, width + padding, 3), floating.
    """

    def __init__(
        self, mean_rgb, noise_basis, kernel_size, strides, seed, **kwargs
    ):
        super().__init__(**kwargs)
        self.mean_rgb = [float(value) for value in mean_rgb]
        self.noise_basis = noise_basis and [list(row) for row in noise_basis]
        self.kernel_size = kernel_size
        self.strides = strides
        self.seed = seed

    def build(self, input_shape):
        """Makes the noise's state."""
        self.noise_seed = keras.random.SeedGenerator(self.seed, name="noise")
        self.built = True

    def call(self, images, training=False):
        """Returns the padded images around zero."""
        _, height, width, channels = images.shape
        batch = tf.shape(images)[0]
        colour = -tf.constant([self.mean_rgb])  # (1, 3)
        if training and self.noise_basis:
            gaussian = _draw(
                tf.random.stateless_normal, (batch, 3), self.noise_seed
            )
            colour += gaussian @ tf.constant(self.noise_basis)  # (batch, 3)
        # Adding whole rows is several times faster than adding to each pixel.
        row = tf.tile(colour[:, None], (1, 1, width))
        rows = tf.reshape(images, (batch, height, width * channels))
        rows = tf.cast(rows, tf.float32) + row
        images = tf.reshape(rows, (batch, height, width, channels))
        below, right = (
            (self.kernel_size - size) % self.strides for size in (height, width)
        )
        images = tf.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        return tf.cast(images, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "mean_rgb": self.mean_rgb,
            "noise_basis": self.noise_basis,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "seed": self.seed,
        }


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
        **kwargs: As for any layer.

    Input and output shape: (..., channels), floating. The arithmetic is in
    float32.

    Raises:
        ValueError: if `size` is even.

    Reference:
        Krizhevsky, Sutskever and Hinton, 2012, Sec. 3.3.
    """

    def __init__(self, size=5, k=2.0, alpha=1e-4, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        if size % 2 == 0:
            raise ValueError(
                f"size={size} has no middle channel; use an odd number."
            )
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def call(self, inputs):
        """Returns the normalised responses."""
        return self.on_device(self._normalise, inputs)

    def _normalise(self, inputs):
        # The closed form of the gradient takes half the time of the native op.
        @tf.custom_gradient
        def normalise(x):
            scale = self.k + self.alpha * self._window_sum(tf.square(x))
            factor = self._power(scale)

            def gradient(upstream):
                crossed = self._window_sum(upstream * x * factor / scale)
                return (
                    upstream * factor - 2 * self.alpha * self.beta * x * crossed
                )

            return x * factor, gradient

        outputs = normalise(tf.cast(inputs, tf.float32))
        return tf.cast(outputs, self.compute_dtype)

    def _window_sum(self, x):
        """Sums over the window of channels around each channel."""
        reach = self.size // 2
        channels = x.shape[-1]
        padded = tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[reach, reach]])
        return tf.add_n(
            [padded[..., j : j + channels] for j in range(self.size)]
        )

    def _power(self, scale):
        """Returns scale^-beta; the paper's 3/4 needs no logarithm."""
        if self.beta == 0.75:
            root = tf.math.rsqrt(scale)
            return root * tf.sqrt(root)
        return tf.pow(scale, -self.beta)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.size,
            "k": self.k,
            "alpha": self.alpha,
            "beta": self.beta,
        }


@_register
class Dropout(OnTower, keras.layers.Layer):
    """Dropout as the paper has it (Sec. 4.2).

    Training sets a share `rate` of the inputs to zero and leaves the others as
    they are; at test time all are multiplied by 1 - rate. Keras's own layer
    divides by 1 - rate in training instead, which doubles what the next layer
    sees, and gives all replicas the same mask.

    Args:
        rate: Share of inputs to drop, in [0, 1).
        seed: Seed of the masks; a random one by default.
        **kwargs: As for any layer.

    Input and output shape: (batch, units), floating.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed

    def build(self, input_shape):
        """Makes the masks' state."""
        self.mask_seed = keras.random.SeedGenerator(self.seed, name="masks")
        self.built = True

    def call(self, inputs, training=False):
        """Returns the masked (training) or scaled (test) inputs."""
        if not training:
            return inputs * (1 - self.rate)
        uniform = _draw(
            tf.random.stateless_uniform, tf.shape(inputs), self.mask_seed
        )
        mask = tf.cast(uniform >= self.rate, inputs.dtype)
        return self.on_device(lambda x: x * mask, inputs)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _draw(sampler, shape, seed_generator):
    """Draws random numbers for this replica's share of the global batch.

    The numbers belong to an example's place in the global batch: they differ
    between replicas and do not depend on how many there are.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    replica = context.replica_id_in_sync_group if context else 0
    seed = tf.cast(seed_generator.next(), tf.int64)
    of_all_replicas = sampler(tf.concat(([replicas], shape), axis=0), seed)
    return of_all_replicas[replica]
