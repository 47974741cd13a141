"""What the network of `model.py` is put together from, tower by tower."""

import math

import keras

from alexnet_tf.config.network import NEURONS
from alexnet_tf.models import borders, tower_layers
from alexnet_tf.models import normalization as normalization
from alexnet_tf.models.convolution import CoveringConv2D, relu
from alexnet_tf.models.layers import Dropout

# Layers whose biases start at one, so that their ReLUs start alive (Sec. 5).
_BIAS_ONE = ("conv2", "conv2b", "conv4", "conv5", "conv6", "fc6", "fc7")
# Layers that the 2012 source gives larger weights than the paper says.
_MIDDLE_LAYERS = ("conv3", "conv4", "conv5")


class TowerBuilder:
    """Adds a layer to each tower at a time.

    Its methods take and return lists with one tensor a tower.

    Args:
        network: What the network is made of.
        layout: The devices; None to place nothing.
        dtype: Keras's dtype policy.

    Raises:
        UserError: see `Network.kernel_counts`.
    """

    def __init__(self, network, *, layout, dtype):
        self.network = network
        self.layout = layout
        self.dtype = dtype
        self.kernel_counts = network.kernel_counts()
        self.kernel_counts["conv2b"] = self.kernel_counts["conv2"]

    def each(self, make_layer, x, name, **arguments):
        """Adds a layer made with the same arguments to each tower."""
        arguments = {"dtype": self.dtype, **arguments}
        return [
            make_layer(
                name=f"{name}_tower{tower}",
                tower=tower,
                layout=self.layout,
                **arguments,
            )(tensor)
            for tower, tensor in enumerate(x)
        ]

    def conv(self, x, name, *, size, strides=1):
        """Adds a convolution with its nonlinearity, unless left out."""
        if not self.kernel_counts[name]:
            return x
        is_first = name == "conv1"
        after_pool = self.network.conv1_activation == "after_pool"
        activation = self.network.activation
        if activation == "relu":
            activation = relu
        kind = CoveringConv2D if is_first else tower_layers.Conv2D

        def make_layer(**arguments):
            return kind(
                self._share_of(self.kernel_counts[name]),
                size,
                strides,
                padding="valid" if is_first else "same",
                activation=None if is_first and after_pool else activation,
                **self._initial_values(name),
                **arguments,
            )

        return self.each(make_layer, x, name)

    def normalize_and_pool(self, x, number):
        """Adds what follows conv1 and conv2 (Sec. 3.3 and 3.4)."""
        if self.network.lrn == "before_pool":
            x = self.normalize(x, number)
        x = self.pool(x, number)
        if number == "1" and self.network.conv1_activation == "after_pool":
            activation = self.network.activation
            x = self.each(
                tower_layers.Activation, x, "relu1", activation=activation
            )
        if self.network.lrn == "after_pool":
            x = self.normalize(x, number)
        return x

    def normalize(self, x, number):
        """Adds response normalization (Sec. 3.3)."""
        across = self.network.lrn_across_towers and len(x) > 1
        count, reach = x[0].shape[-1], self.network.lrn_size // 2
        if across:
            x = borders.add(self.each, x, reach, f"norm{number}")
        x = self.each(
            normalization.LocalResponseNormalization,
            x,
            f"norm{number}",
            size=self.network.lrn_size,
            k=self.network.lrn_k,
            alpha=self.network.lrn_alpha,
            beta=self.network.lrn_beta,
            divide_alpha=self.network.lrn_divide_alpha,
        )
        if across:
            x = borders.remove(self.each, x, reach, count, f"norm{number}")
        if number == "2" and self.network.spatial_norm2:
            # The numbers of the 2012 source.
            constants = dict(size=5, k=1.0, alpha=1e-3, beta=0.75)
            x = self.each(
                normalization.SpatialResponseNormalization,
                x,
                "spatial_norm2",
                divide_alpha=True,
                **constants,
            )
        return x

    def pool(self, x, number):
        """Adds max pooling (Sec. 3.4)."""
        return self.each(
            tower_layers.MaxPooling2D,
            x,
            f"pool{number}",
            pool_size=self.network.pool_size,
            strides=2,
        )

    def dense(self, x, name):
        """Adds a fully connected layer with its nonlinearity."""

        def make_layer(**arguments):
            return tower_layers.Dense(
                self._share_of(NEURONS),
                activation=self.network.activation,
                **self._initial_values(name),
                **arguments,
            )

        return self.each(make_layer, x, name)

    def dropout(self, x, number):
        """Adds dropout (Sec. 4.2)."""
        return self.each(
            Dropout,
            x,
            f"dropout{number}",
            rate=self.network.dropout_rate,
            inverted=self.network.dropout_form == "inverted",
        )

    def share(self, x, name):
        """Lets each tower see the outputs of all, one copy a tower."""
        towers = self.network.towers
        if towers == 1 or not self.network.tower_communication:
            return x
        forks = self.each(
            tower_layers.Replicate, x, f"fork{name}", copies=towers
        )
        everything = list(zip(*forks, strict=True))
        return self.each(tower_layers.Concatenate, everything, f"shared{name}")

    def sum_of_dense(self, x, name, units):
        """Adds the output layer, which all towers make together.

        Each tower multiplies its own neurons by its own weights, and the lead
        adds the products, so that `units` numbers cross between devices and
        not the neurons. It is in float32 at any precision: the loss takes
        differences of logits.

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

        products = self.each(make_layer, x, name, dtype="float32")
        if self.network.towers == 1:
            return products[0]
        return tower_layers.Add(name=name, layout=self.layout)(products)

    def _share_of(self, count):
        """Returns one tower's share of `count` kernels or neurons."""
        return max(1, round(count * self.network.width / self.network.towers))

    def _initial_values(self, name):
        """Returns the initializers of a layer (Sec. 5).

        Each call makes them anew: two layers that shared one would start with
        equal weights.
        """
        if self.network.initialization == "glorot":
            return dict(
                kernel_initializer=keras.initializers.GlorotUniform(),
                bias_initializer="zeros",
            )
        stddev = 0.01
        if (
            self.network.initialization == "code_2012"
            and name in _MIDDLE_LAYERS
        ):
            stddev = 0.03
        if name != "conv1":  # conv1 has three input channels at any width.
            stddev /= math.sqrt(self.network.width)
        return dict(
            kernel_initializer=keras.initializers.RandomNormal(stddev=stddev),
            bias_initializer="ones" if name in _BIAS_ONE else "zeros",
        )
