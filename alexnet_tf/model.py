"""AlexNet, layer by layer as in the paper's Figure 2."""

import math
from collections.abc import Sequence

import keras

from alexnet_tf import layers, tower_layers
from alexnet_tf.errors import UserError
from alexnet_tf.towers import Placement

# Layers whose biases start at one, so that their ReLUs start alive (Sec. 5).
_BIAS_ONE = ("conv2", "conv4", "conv5", "fc6", "fc7")
# Layers that the 2012 source gives larger weights than the paper says.
_MIDDLE_LAYERS = ("conv3", "conv4", "conv5")
# The largest number of towers that divides all of the paper's kernel counts.
_MOST_TOWERS = 32


def alexnet(
    num_classes: int,
    *,
    crop_size: int = 224,
    mean_rgb: Sequence[float] = (127.3, 119.7, 104.9),
    noise_basis: Sequence[Sequence[float]] | None = None,
    towers: int = 2,
    width: float = 1.0,
    lrn_size: int = 5,
    lrn_k: float = 2.0,
    lrn_alpha: float = 1e-4,
    lrn_beta: float = 0.75,
    dropout_rate: float = 0.5,
    initialisation: str = "paper",
    seed: int = 0,
    placement: Placement | None = None,
) -> keras.Model:
    """Builds the network.

    Its input are uint8 images (batch, crop_size, crop_size, 3), its output
    logits (batch, num_classes). Layers are named after the paper's figure and
    the tower they are in, as `conv1_tower0`.

    Args:
        num_classes: Number of classes.
        crop_size: Side of the images [pixels].
        mean_rgb: Mean colour of the training set, in 0..255; by default
            ImageNet's.
        noise_basis: 3x3, see `layers.Pixels`; None for no colour noise.
        towers: Number of towers.
        width: Factor on the number of kernels and neurons.
        lrn_size: n of the response normalisation.
        lrn_k: k of the response normalisation.
        lrn_alpha: alpha of the response normalisation.
        lrn_beta: beta of the response normalisation.
        dropout_rate: Share of neurons dropped after fc6 and fc7.
        initialisation: "paper": weights from N(0, 0.01); "code_2012": 0.03 in
            conv3, conv4 and conv5, as in the 2012 source.
        seed: Seed of the colour noise. Weights and dropout masks follow
            `keras.utils.set_random_seed`.
        placement: The devices; None to place nothing.

    Returns:
        The model, not compiled.

    Raises:
        UserError: if the kernels cannot be divided among the towers.
    """
    if towers < 1 or _MOST_TOWERS % towers:
        raise UserError(
            f"towers={towers} does not divide the 96, 256, 384 and 4096 "
            "kernels and neurons; use 1, 2, 4, 8, 16 or 32."
        )
    build = _TowerBuilder(
        towers, width=width, initialisation=initialisation, placement=placement
    )
    conv, dense, each = build.conv, build.dense, build.each
    pixels = dict(
        mean_rgb=mean_rgb, noise_basis=noise_basis, kernel_size=11, strides=4
    )
    lrn = dict(size=lrn_size, k=lrn_k, alpha=lrn_alpha, beta=lrn_beta)
    pool = dict(pool_size=3, strides=2)

    # x is a list, one tensor a tower; sizes are those of the paper's net.
    images = keras.Input((crop_size, crop_size, 3), dtype="uint8")
    x = [images] * towers  # 224x224x3
    x = each(layers.Pixels, x, "pixels", seed=seed, **pixels)  # 227x227x3

    x = conv(x, "conv1", 96, size=11, strides=4)  # 55x55x48 a tower
    x = each(layers.LocalResponseNormalization, x, "norm1", **lrn)
    x = each(tower_layers.MaxPooling2D, x, "pool1", **pool)  # 27x27x48

    x = conv(x, "conv2", 256, size=5)  # 27x27x128
    x = each(layers.LocalResponseNormalization, x, "norm2", **lrn)
    x = each(tower_layers.MaxPooling2D, x, "pool2", **pool)  # 13x13x128

    x = build.share(x, "2")  # 13x13x256
    x = conv(x, "conv3", 384, size=3)  # 13x13x192
    x = conv(x, "conv4", 384, size=3)  # 13x13x192
    x = conv(x, "conv5", 256, size=3)  # 13x13x128
    x = each(tower_layers.MaxPooling2D, x, "pool5", **pool)  # 6x6x128

    x = each(tower_layers.Flatten, x, "flat5")  # 4608
    x = build.share(x, "5")  # 9216
    x = dense(x, "fc6", 4096)  # 2048
    x = each(layers.Dropout, x, "dropout6", rate=dropout_rate)
    x = build.share(x, "6")  # 4096
    x = dense(x, "fc7", 4096)  # 2048
    x = each(layers.Dropout, x, "dropout7", rate=dropout_rate)
    logits = build.sum_of_dense(x, "fc8", num_classes)  # 1000
    return keras.Model(images, logits, name="alexnet")


class _TowerBuilder:
    """Adds a layer to each tower at a time.

    Takes and returns lists with one tensor a tower.
    """

    def __init__(self, towers, *, width, initialisation, placement):
        self.towers = towers
        self.width = width
        self.initialisation = initialisation
        self.placement = placement

    def each(self, make_layer, x, name, **arguments):
        """Adds a layer made with the same arguments to each tower."""
        return [
            make_layer(
                name=f"{name}_tower{tower}",
                tower=tower,
                placement=self.placement,
                **arguments,
            )(tensor)
            for tower, tensor in enumerate(x)
        ]

    def conv(self, x, name, kernels, *, size, strides=1):
        """Adds a convolution with ReLU; `kernels` counts all towers'."""

        def make_layer(**arguments):
            return tower_layers.Conv2D(
                self._share_of(kernels),
                size,
                strides,
                # conv1's input is padded already, see `layers.Pixels`.
                padding="valid" if name == "conv1" else "same",
                activation="relu",
                **self._initial_values(name),
                **arguments,
            )

        return self.each(make_layer, x, name)

    def dense(self, x, name, units):
        """Adds a fully connected layer with ReLU; `units` counts all."""

        def make_layer(**arguments):
            return tower_layers.Dense(
                self._share_of(units),
                activation="relu",
                **self._initial_values(name),
                **arguments,
            )

        return self.each(make_layer, x, name)

    def share(self, x, name):
        """Lets each tower see the outputs of all, one copy a tower."""
        if self.towers == 1:
            return x
        forks = self.each(
            tower_layers.Fork, x, f"fork{name}", copies=self.towers
        )
        everything = list(zip(*forks, strict=True))
        return self.each(tower_layers.Concatenate, everything, f"shared{name}")

    def sum_of_dense(self, x, name, units):
        """Adds the output layer, which all towers make together.

        Each tower multiplies its own neurons by its own weights, and the lead
        adds the products, so that `units` numbers cross between devices and
        not the neurons.

        Returns:
            One tensor, the logits.
        """

        def make_layer(tower, **arguments):
            return tower_layers.Dense(
                units,
                use_bias=tower == 0,
                tower=tower,
                **self._initial_values(name),
                **arguments,
            )

        products = self.each(make_layer, x, name)
        if self.towers == 1:
            return products[0]
        return tower_layers.Add(name=name, placement=self.placement)(products)

    def _share_of(self, count):
        """Returns one tower's share of `count` kernels or neurons."""
        return max(1, round(count * self.width / self.towers))

    def _initial_values(self, name):
        """Returns the initializers of a layer (Sec. 5).

        Each call makes them anew: two layers that shared one would start with
        equal weights.
        """
        stddev = 0.01
        if self.initialisation == "code_2012" and name in _MIDDLE_LAYERS:
            stddev = 0.03
        if name != "conv1":  # conv1 has three input channels at any width.
            stddev /= math.sqrt(self.width)
        return dict(
            kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
            bias_initializer="ones" if name in _BIAS_ONE else "zeros",
        )
