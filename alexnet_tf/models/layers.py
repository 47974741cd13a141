"""Input normalization with color noise, and dropout (Sec. 2, 4.1 and 4.2).

Both draw random numbers by an example's position in the global batch.
"""

import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.models.tower_layers import OnTower, compiled


# .keras files of version 0.1 have it as Pixels.
@keras.saving.register_keras_serializable("alexnet_tf", name="Pixels")
class InputNormalization(OnTower, keras.layers.Layer):
    """Subtraction of the mean and, in training, color noise (Sec. 2, 4.1).

    Args:
        mean: Mean color (3,) or mean image (height, width, 3), in 0..255.
        noise_basis: 3x3 nested sequence B or None; the color z B is added to
            all pixels of a training image, z being three independent standard
            Gaussians.
        noise_shrink: Training images are divided by this after the noise.
        seed: Seed of the noise, the same for all towers, which see the same
            image.

    Input shape: (batch, height, width, 3), uint8 or float in 0..255.
    Output shape: the same, floating.
    """

    arguments = ("mean", "noise_basis", "noise_shrink", "seed")

    def __init__(self, mean, noise_basis, seed, noise_shrink=1.0, **kwargs):
        super().__init__(**kwargs)
        self.mean = np.asarray(mean, np.float32)
        self.noise_basis = noise_basis and [list(row) for row in noise_basis]
        self.noise_shrink, self.seed = noise_shrink, seed
        self.has_noise = True  # A schedule may turn it off.

    def build(self, input_shape):
        """Creates the noise's state."""
        self.noise_seed = keras.random.SeedGenerator(self.seed, name="noise")

    def call(self, images, training=False):
        """Returns the normalized images."""
        _, height, width, _ = images.shape
        # Adding whole rows is several times faster than adding to each pixel.
        if self.mean.ndim == 1:
            added = -np.tile(self.mean, width)  # (width * 3,)
        else:
            added = -self.mean.reshape(height, -1)  # (height, width * 3)
        if not training:
            return self._add(images, added, 1.0)
        if not self.has_noise:
            return self._compiled(images, added, 1.0)
        if self.noise_basis:
            shape = (tf.shape(images)[0], 3)
            gaussian = _draw(tf.random.stateless_normal, shape, self.noise_seed)
            color = gaussian @ tf.constant(self.noise_basis)  # (batch, 3)
            added += tf.tile(color[:, None], (1, 1, width))
        return self._compiled(images, added, self.noise_shrink)

    @functools.cached_property
    def _compiled(self):
        # XLA makes one loop of it, in less than half the time.
        return compiled(self._add, f"{self.name}_forward")

    def _add(self, images, added, shrink):
        _, height, width, channels = images.shape
        rows = tf.reshape(images, (-1, height, width * channels))
        rows = tf.cast(rows, tf.float32) + added
        if shrink != 1:
            rows /= shrink
        images = tf.reshape(rows, (-1, height, width, channels))
        return tf.cast(images, self.compute_dtype)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean.tolist()}


def color_noise_basis(
    covariance: Sequence[Sequence[float]], *, reading: str, std: float
) -> list[list[float]] | None:
    """Returns the noise basis B of `InputNormalization`, None for no noise.

    Row i of B [gray levels of 0..255] is `std` times principal component i
    times a size: by the paper's text its eigenvalue, which only makes sense
    for pixels in [0, 1] (on 0..255 it would wipe out the image); in the 2012
    source the eigenvalue's square root, which scales as pixels do.

    Args:
        covariance: (3, 3), of RGB pixels in 0..255.
        reading: "paper", "code_2012" or "off".
        std: Standard deviation of the paper's Gaussian, 0.1.
    """
    if reading == "off" or std == 0:
        return None
    sizes, eigenvectors = np.linalg.eigh(np.array(covariance) / 255**2)
    if reading == "code_2012":
        sizes = np.sqrt(np.maximum(sizes, 0))
    return (255 * std * sizes[:, None] * eigenvectors.T).tolist()


@keras.saving.register_keras_serializable("alexnet_tf")
class Dropout(OnTower, keras.layers.Layer):
    """Dropout as in the paper (Sec. 4.2).

    Training sets the fraction `rate` of the inputs to zero and leaves the
    others as they are; at test time all are multiplied by 1 - rate. Keras's
    own layer divides by 1 - rate in training instead, which doubles what the
    next layer sees, and gives all replicas the same mask.

    Args:
        rate: Fraction of the inputs to drop, in [0, 1).
        inverted: Whether to divide in training as Keras does, instead of
            multiplying at test time.
        seed: Seed of the masks; a random one by default.

    Input and output shape: (batch, ...), floating.
    """

    arguments = ("rate", "inverted", "seed")

    def __init__(self, rate, inverted=False, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.inverted, self.seed = rate, inverted, seed

    def build(self, input_shape):
        """Creates the masks' state."""
        self.mask_seed = keras.random.SeedGenerator(self.seed, name="masks")

    def call(self, inputs, training=False):
        """Returns the masked (training) or scaled (test) inputs."""
        kept = 1 - self.rate
        if not training:
            return inputs if self.inverted else inputs * kept
        sampler, shape = tf.random.stateless_uniform, tf.shape(inputs)
        uniform = _draw(sampler, shape, self.mask_seed)
        mask = tf.cast(uniform >= self.rate, self.compute_dtype)
        if self.inverted:
            mask /= kept
        return self.on_device(lambda x: x * mask, inputs)


def _draw(sampler, shape, seed_generator):
    """Draws this replica's part of the random numbers of the global batch.

    They differ between replicas, and not with the number of replicas.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    replica = context.replica_id_in_sync_group if context else 0
    seed = tf.cast(seed_generator.next(), tf.int64)
    of_all_replicas = sampler(tf.concat(([replicas], shape), axis=0), seed)
    return of_all_replicas[replica]
