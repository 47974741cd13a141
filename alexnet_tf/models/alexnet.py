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
    """Builds the network.

    Its input are uint8 images (batch, crop_size, crop_size, 3), its output
    float32 logits (batch, num_classes). Layers are named after the paper's
    figure and the tower they are in, as `conv1_tower0`.

    Args:
        num_classes: Number of classes.
        network: What the network is made of; None for the paper's.
        crop_size: Side of the images [pixels].
        mean: Mean color (3,) or mean image (crop_size, crop_size, 3) of the
            training set, in 0..255.
        noise_basis: 3x3, see `layers.InputNormalization`; None for no color noise.
        noise_shrink: Training images are divided by this after the noise.
        seed: Seed of the color noise. Weights and dropout masks follow
            `keras.utils.set_random_seed`.
        layout: The devices; None to place nothing.
        dtype: Keras's dtype policy, "float32", "mixed_bfloat16" or
            "mixed_float16".

    Returns:
        The model, not compiled.

    Raises:
        UserError: if the kernels are none or cannot be divided among the
            towers, or a window of --lrn_across_towers reaches beyond the tower
            beside.
        ValueError: if `network.lrn_size` is even.
    """
    network = network or Network()
    build = TowerBuilder(network, layout=layout, dtype=dtype)
    conv, dense, each = build.conv, build.dense, build.each
    pixels = dict(
        mean=mean,
        noise_basis=noise_basis,
        noise_shrink=noise_shrink,
        seed=seed,
    )

    # x is a list, one tensor a tower; sizes are those of the paper's net.
    images = keras.Input((crop_size, crop_size, 3), dtype="uint8")
    x = [images] * network.towers  # 224x224x3
    x = each(InputNormalization, x, "pixels", **pixels)
    x = conv(x, "conv1", size=11, strides=4)  # 55x55x48 a tower
    x = build.normalize_and_pool(x, "1")  # 27x27x48
    if network.factorized_conv2:
        x = conv(x, "conv2", size=3)
        x = conv(x, "conv2b", size=3)
    else:
        x = conv(x, "conv2", size=5)  # 27x27x128
    x = build.normalize_and_pool(x, "2")  # 13x13x128

    x = build.share(x, "2")  # 13x13x256
    x = conv(x, "conv3", size=3)  # 13x13x192
    x = conv(x, "conv4", size=3)  # 13x13x192
    x = conv(x, "conv5", size=3)  # 13x13x128
    x = build.pool(x, "5")  # 6x6x128
    x = conv(x, "conv6", size=3)  # Not in the paper's net of one ImageNet.

    x = each(Flatten, x, "flat5")  # 4608
    x = build.share(x, "5")  # 9216
    x = dense(x, "fc6")  # 2048
    x = build.dropout(x, "6")
    x = build.share(x, "6")  # 4096
    x = dense(x, "fc7")  # 2048
    x = build.dropout(x, "7")
    logits = build.sum_of_dense(x, "fc8", num_classes)  # 1000
    return keras.Model(images, logits, name="alexnet")
