"""The authors' networks for CIFAR-10 (Figure 1 and Sec. 3.3).

The paper does not describe them; they are cuda-convnet's
layers-conv-local-13pct.cfg and -11pct.cfg (conv_local) and layers-19pct.cfg
(conv_small), which its authors published with their code.
"""

from collections.abc import Sequence

import keras
import numpy as np

from alexnet_tf.config.network import Network
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models import tower_layers
from alexnet_tf.models.convolution import LocallyConnected2D
from alexnet_tf.models.layers import InputNormalization
from alexnet_tf.models.tower_builder import TowerBuilder

# Standard deviations of the initial weights; biases start at zero.
_STDDEVS = {
    "conv1": 0.0001,
    "conv2": 0.01,
    "conv3": 0.01,
    "local3": 0.04,
    "local4": 0.04,
    "fc10": 0.01,
}


def cifar_network(
    num_classes: int,
    network: Network,
    *,
    crop_size: int,
    mean: np.ndarray | Sequence[float],
    layout: DeviceLayout | None = None,
    dtype: str = "float32",
    **noise,
) -> keras.Model:
    """Builds `network.architecture`, not compiled.

    Inputs, outputs and arguments are those of `alexnet`, `noise` being its
    arguments of that name and `seed`. The layers have cuda-convnet's names, as
    `local3_tower0`.
    """
    build = _Builder(network, layout=layout, dtype=dtype)
    images = keras.Input((crop_size, crop_size, 3), dtype="uint8")
    x = build.per_tower(
        InputNormalization, [images], "pixels", mean=mean, **noise
    )  # 24x24x3, or 32x32x3 without random patches.
    add_hidden = {"conv_local": _conv_local, "conv_small": _conv_small}
    x = add_hidden[network.architecture](build, x)
    logits = build.sum_of_dense(x, "fc10", num_classes)  # 10
    return keras.Model(images, logits, name=network.architecture)


def _conv_local(build, x):
    """Adds the hidden layers of the 13% and the 11% network (Sec. 3.3)."""
    # Of patches of 24x24. Those of 32x32 become 16x16 and 8x8.
    x = build.conv(x, "conv1", size=5)  # 24x24x64
    x = build.normalize_and_pool(x, 1)  # 12x12x64
    x = build.conv(x, "conv2", size=5)  # 12x12x64
    x = build.normalize_and_pool(x, 2)  # 6x6x64
    x = build.local(x, "local3", size=3)  # 6x6x32, in the 11% network 6x6x64
    x = build.local(x, "local4", size=3)  # 6x6x32
    return build.per_tower(tower_layers.Flatten, x, "flat4")  # 1152


def _conv_small(build, x):
    """Adds the hidden layers of the 19% network."""
    # Of images of 32x32. cuda-convnet has conv1's ReLU after the pooling,
    # which gives the same maxima.
    x = build.conv(x, "conv1", size=5)  # 32x32x32
    x = build.normalize_and_pool(x, 1)  # 16x16x32
    x = build.conv(x, "conv2", size=5)  # 16x16x32
    x = build.normalize_and_pool(x, 2)  # 8x8x32
    x = build.conv(x, "conv3", size=5)  # 8x8x64
    x = build.pool(x, 3)  # 4x4x64
    return build.per_tower(tower_layers.Flatten, x, "flat3")  # 1024


class _Builder(TowerBuilder):
    """Adds layers as in cuda-convnet."""

    def local(self, x, name, *, size):
        """Adds a locally connected layer, unless it is left out."""
        count = self.kernel_counts[name]
        if not count:
            return x
        return self.per_tower(
            LocallyConnected2D,
            x,
            name,
            filters=count,
            kernel_size=size,
            padding="same",
            activation=self.network.activation,
            **self._initializers(name),
        )

    def pool(self, x, number):
        """Adds pooling: in layers 2 and 3 of conv_small, means.

        They are those of the pixels that exist.
        """
        if self.network.architecture == "conv_small" and number > 1:
            return super().pool(x, number, tower_layers.AveragePooling2D)
        return super().pool(x, number)

    def _initializers(self, name):
        stddev = _STDDEVS[name]
        normal = {"class_name": "RandomNormal", "config": {"stddev": stddev}}
        return dict(kernel_initializer=normal, bias_initializer="zeros")
