"""The parts of AlexNet, each added to all towers (Sec. 3)."""

import math

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import NEURONS
from alexnet_tf.models.convolution import CoveringConv2D, relu
from alexnet_tf.models.layers import Dropout
from alexnet_tf.models.normalization import (
    LocalResponseNormalization,
    SpatialResponseNormalization,
)
from alexnet_tf.models.tower_layers import (
    Activation,
    Add,
    Channels,
    Concatenate,
    Conv2D,
    Dense,
    MaxPooling2D,
    Replicate,
)

# Layers whose biases start at one, so that their ReLUs start alive (Sec. 5).
_BIAS_ONE = ("conv2", "conv2b", "conv4", "conv5", "conv6", "fc6", "fc7")
# Layers that the 2012 source gives larger weights than the paper says.
_MIDDLE_LAYERS = ("conv3", "conv4", "conv5")


class TowerBuilder:
    """Adds layers to all towers of a network.

    Methods take and return lists with one tensor per tower.

    Args:
        network: The architecture.
        layout: The devices; None to place nothing.
        dtype: Keras's dtype policy.
    """

    def __init__(self, network, *, layout, dtype):
        self.network = network
        self.layout = layout
        self.dtype = dtype
        self.kernel_counts = network.kernel_counts()
        self.kernel_counts["conv2b"] = self.kernel_counts["conv2"]

    def per_tower(self, kind, x, name, **arguments):
        """Adds a layer with the same arguments to each tower."""
        return [
            self._add(kind, tensor, name, tower, **arguments)
            for tower, tensor in enumerate(x)
        ]

    def conv(self, x, name, *, size, strides=1):
        """Adds a convolution and its nonlinearity, unless it is left out."""
        if not self.kernel_counts[name]:
            return x
        kind, padding = Conv2D, "same"
        activation = self.network.activation
        if activation == "relu":
            activation = relu
        if name == "conv1":
            kind, padding = CoveringConv2D, "valid"
            if self.network.conv1_activation == "after_pool":
                activation = None
        return self.per_tower(
            kind,
            x,
            name,
            filters=self._units_per_tower(self.kernel_counts[name]),
            kernel_size=size,
            strides=strides,
            padding=padding,
            activation=activation,
            **self._initializers(name),
        )

    def normalize_and_pool(self, x, number):
        """Adds what follows conv1 and conv2 (Sec. 3.3 and 3.4)."""
        if self.network.lrn == "before_pool":
            x = self.normalize(x, number)
        x = self.pool(x, number)
        if number == 1 and self.network.conv1_activation == "after_pool":
            activation = self.network.activation
            x = self.per_tower(Activation, x, "relu1", activation=activation)
        if self.network.lrn == "after_pool":
            x = self.normalize(x, number)
        return x

    def normalize(self, x, number):
        """Adds response normalization (Sec. 3.3)."""
        network, name = self.network, f"norm{number}"
        maps, reach = x[0].shape[-1], network.lrn_size // 2
        across_towers = network.lrn_across_towers and len(x) > 1
        if across_towers:
            x = self._add_neighboring_maps(x, reach, name)
        x = self.per_tower(
            LocalResponseNormalization,
            x,
            name,
            size=network.lrn_size,
            k=network.lrn_k,
            alpha=network.lrn_alpha,
            beta=network.lrn_beta,
            divide_alpha=network.lrn_divide_alpha,
        )
        if across_towers:
            x = self._keep_own_maps(x, reach, maps, name)
        if number == 2 and network.spatial_norm2:
            # The numbers of the 2012 source.
            constants = dict(size=5, k=1.0, alpha=1e-3, beta=0.75)
            x = self.per_tower(
                SpatialResponseNormalization,
                x,
                "spatial_norm2",
                divide_alpha=True,
                **constants,
            )
        return x

    def _add_neighboring_maps(self, x, reach, name):
        """Adds the `reach` nearest maps of either neighboring tower.

        Only these cross between devices. The first and the last tower have one
        neighbor.
        """
        maps, last_tower = x[0].shape[-1], len(x) - 1
        if reach > maps:
            raise UserError(
                f"--lrn_across_towers: a window reaches {reach} kernel maps "
                f"into the neighboring tower, which has {maps}; use an "
                f"--lrn_size of at most {2 * maps + 1}."
            )
        copies = []
        for tower, tensor in enumerate(x):
            # An unused copy's gradient would be zeros, made on the primary
            # device.
            used = 3 if 0 < tower < last_tower else 2
            copies.append(
                self._add(Replicate, tensor, f"fork_{name}", tower, copies=used)
            )
        first = [tensors[1] for tensors in copies]
        first = self.per_tower(
            Channels, first, f"first_{name}", start=0, stop=reach
        )
        last = [tensors[-1] for tensors in copies]
        last = self.per_tower(
            Channels, last, f"last_{name}", start=maps - reach, stop=maps
        )
        neighborhoods = []
        for tower, tensors in enumerate(copies):
            neighborhood = [tensors[0]]
            if tower > 0:
                neighborhood.insert(0, last[tower - 1])
            if tower < last_tower:
                neighborhood.append(first[tower + 1])
            neighborhoods.append(neighborhood)
        return self.per_tower(Concatenate, neighborhoods, f"shared_{name}")

    def _keep_own_maps(self, x, reach, maps, name):
        """Removes the neighbors' maps again."""
        own = []
        for tower, tensor in enumerate(x):
            start = reach if tower > 0 else 0
            bounds = dict(start=start, stop=start + maps)
            own.append(
                self._add(Channels, tensor, f"own_{name}", tower, **bounds)
            )
        return own

    def pool(self, x, number):
        """Adds max pooling (Sec. 3.4)."""
        size = self.network.pool_size
        return self.per_tower(
            MaxPooling2D, x, f"pool{number}", pool_size=size, strides=2
        )

    def exchange(self, x, number):
        """Gives every tower the outputs of all towers (Sec. 3.2)."""
        towers = len(x)
        if towers == 1 or not self.network.tower_communication:
            return x
        copies = self.per_tower(Replicate, x, f"fork{number}", copies=towers)
        # Copy t of every tower goes to tower t.
        received = zip(*copies, strict=True)
        return self.per_tower(Concatenate, received, f"shared{number}")

    def dense(self, x, name):
        """Adds a fully connected layer and its nonlinearity."""
        return self.per_tower(
            Dense,
            x,
            name,
            units=self._units_per_tower(NEURONS),
            activation=self.network.activation,
            **self._initializers(name),
        )

    def dropout(self, x, number):
        """Adds dropout (Sec. 4.2)."""
        return self.per_tower(
            Dropout,
            x,
            f"dropout{number}",
            rate=self.network.dropout_rate,
            inverted=self.network.dropout_form == "inverted",
        )

    def sum_of_dense(self, x, name, units):
        """Adds the output layer, to which all towers contribute.

        Each tower multiplies its own neurons by its own weights, and the
        primary device adds the products, so that `units` numbers cross between
        devices instead of the neurons. The layer is in float32 at any
        precision: the loss takes differences of logits.

        Returns:
            One tensor, the logits.
        """
        shared = dict(units=units, dtype="float32", **self._initializers(name))
        products = [
            self._add(Dense, tensor, name, tower, use_bias=tower == 0, **shared)
            for tower, tensor in enumerate(x)
        ]
        if len(products) == 1:
            return products[0]
        return Add(name=name, layout=self.layout)(products)

    def _add(self, kind, tensor, name, tower, **arguments):
        """Adds a layer to one tower."""
        arguments = {"dtype": self.dtype, **arguments}
        name = f"{name}_tower{tower}"
        layer = kind(name=name, tower=tower, layout=self.layout, **arguments)
        return layer(tensor)

    def _units_per_tower(self, count):
        return max(1, round(count * self.network.width / self.network.towers))

    def _initializers(self, name):
        """Returns the initializers of a layer (Sec. 5), as configurations.

        Layers that shared an initializer would start with equal weights; from
        a configuration each makes its own.
        """
        if self.network.initialization == "glorot":
            return dict(
                kernel_initializer="glorot_uniform", bias_initializer="zeros"
            )
        stddev = 0.01
        in_2012 = self.network.initialization == "code_2012"
        if in_2012 and name in _MIDDLE_LAYERS:
            stddev = 0.03
        if name != "conv1":  # conv1 has three input channels at any width.
            stddev /= math.sqrt(self.network.width)
        normal = {"class_name": "RandomNormal", "config": {"stddev": stddev}}
        return dict(
            kernel_initializer=normal,
            bias_initializer="ones" if name in _BIAS_ONE else "zeros",
        )
