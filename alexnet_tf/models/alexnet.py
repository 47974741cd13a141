"""AlexNet, layer by layer as in the paper's Figure 2."""

from collections.abc import Sequence

import keras
import numpy as np

from alexnet_tf.config.network import Network
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models.layers import InputNormalization
from alexnet_tf.models.tower_builder import TowerBuilder
from alexnet_tf.models.tower_layers import Flatten

# Mean color of the 2012 source's mean image of ImageNet, RGB in 0..255.
_IMAGENET_MEAN = (127.3, 119.7, 104.9)


def alexnet(
    num_classes: int,
    network: Network | None = None,
    *,
    crop_size: int = 224,
    mean: np.ndarray | Sequence[float] = _IMAGENET_MEAN,
    noise_basis: Sequence[Sequence[float]] | None = None,
    noise_shrink: float = 1.0,
    seed: int = 0,
    layout: DeviceLayout | None = None,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the network, not compiled.

    Its inputs are uint8 images (batch, crop_size, crop_size, 3), its outputs
    float32 logits (batch, num_classes). Layers have the names of Figure 2 and
    the number of their tower, as `conv1_tower0`.

    Args:
        num_classes: Number of classes.
        network: The architecture; None for the paper's.
        crop_size: Side of the images [pixels].
        mean: Mean color (3,) or mean image of the training set, in 0..255.
        noise_basis: 3x3, see `layers.InputNormalization`; None for no noise.
        noise_shrink: Training images are divided by this after the noise.
        seed: Seed of the color noise. Weights and dropout masks follow
            `keras.utils.set_random_seed`.
        layout: The devices; None to place nothing.
        dtype: Keras's dtype policy, float32, mixed_bfloat16 or mixed_float16.

    Raises:
        ValueError: if `network.lrn_size` is even.
    """
    network = network or Network()
    build = TowerBuilder(network, layout=layout, dtype=dtype)
    images = keras.Input((crop_size, crop_size, 3), dtype="uint8")

    # x is a list with one tensor per tower. Shapes are those of one of the
    # paper's two towers.
    x = [images] * network.towers  # 224x224x3
    noise = dict(noise_basis=noise_basis, noise_shrink=noise_shrink, seed=seed)
    x = build.per_tower(InputNormalization, x, "pixels", mean=mean, **noise)

    x = build.conv(x, "conv1", size=11, strides=4)  # 55x55x48
    x = build.normalize_and_pool(x, 1)  # 27x27x48
    if network.factorized_conv2:
        x = build.conv(x, "conv2", size=3)
        x = build.conv(x, "conv2b", size=3)
    else:
        x = build.conv(x, "conv2", size=5)  # 27x27x128
    x = build.normalize_and_pool(x, 2)  # 13x13x128

    # conv3, fc6 and fc7 see both towers; fc6 and fc7 have dropout.
    x = build.conv(x, "conv3", size=3)  # 13x13x192, from 13x13x256
    x = build.conv(x, "conv4", size=3)  # 13x13x192
    x = build.conv(x, "conv5", size=3)  # 13x13x128
    x = build.pool(x, 5)  # 6x6x128
    x = build.conv(x, "conv6", size=3)  # Not in the network of Figure 2.

    x = build.per_tower(Flatten, x, "flat5")  # 4608
    x = build.dense(x, "fc6")  # 2048, from 9216
    x = build.dense(x, "fc7")  # 2048, from 4096
    logits = build.sum_of_dense(x, "fc8", num_classes)  # 1000
    return keras.Model(images, logits, name="alexnet")
