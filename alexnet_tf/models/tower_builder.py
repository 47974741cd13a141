"""The parts of AlexNet, each added to all towers (Sec. 3)."""

import math

from alexnet_tf.config.errors import UserError
from alexnet_tf.models import tower_layers
from alexnet_tf.models.convolution import CoveringConv2D, relu
from alexnet_tf.models.layers import Dropout
from alexnet_tf.models.normalization import (
    LocalResponseNormalization,
    SpatialResponseNormalization,
)

# Layers whose biases start at one, so that their ReLUs start alive (Sec. 5).
_BIAS_ONE = ("conv2", "conv2b", "conv4", "conv5", "conv6", "fc6", "fc7")
# Layers that the 2012 source gives larger weights than the paper says.
_MIDDLE_LAYERS = ("conv3", "conv4", "conv5", "conv6")
_HALVES = ("float16", "bfloat16")
# The paper's exchanges are named after the layer before them.
_EXCHANGES = {"conv3": "2", "fc6": "5", "fc7": "6"}


class TowerBuilder:
    """Adds layers to all towers of a network.

    Methods take and return lists with one tensor per tower. The arguments are
    those of `alexnet`.
    """

    def __init__(self, network, *, layout, dtype):
        self.network, self.layout, self.dtype = network, layout, dtype
        self.kernel_counts = network.kernel_counts()
        self.kernel_counts["conv2b"] = self.kernel_counts["conv2"]
        # Convolutions whose nonlinearity comes later.
        self.linear = set()
        if network.conv1_activation == "after_pool":
            self.linear.add("conv1")
        if network.conv2_activation == "after_norm":
            self.linear.add("conv2b" if network.factorized_conv2 else "conv2")

    def per_tower(self, kind, x, name, **arguments):
        """Adds a layer with the same arguments to each tower."""
        return [
            self._add(kind, tensor, name, tower, **arguments)
            for tower, tensor in enumerate(x)
        ]

    def conv(self, x, name, *, size, strides=1):
        """Adds a convolution and what belongs to it, unless it is left out.

        That is the exchange before it, its nonlinearity and dropout.
        """
        if not (count := self.kernel_counts[name]):
            return x
        zeros = self.network.zeros_around()[name]
        x = self.exchange(x, name)
        kind, padding = tower_layers.Conv2D, "valid"
        activation = self.network.activation
        if activation == "relu":
            activation = relu
        arguments = self._initializers(name)
        if strides > 1:
            kind = CoveringConv2D
            arguments["zeros_before"] = zeros
        elif zeros == size // 2:
            padding = "same"
        elif zeros:
            kind_of_zeros = tower_layers.ZeroPadding2D
            x = self.per_tower(kind_of_zeros, x, f"pad_{name}", padding=zeros)
        if padding == "valid":
            _check_side(x, name, size)
        arguments["filters"] = self._units_per_tower(count)
        arguments |= dict(kernel_size=size, strides=strides, padding=padding)
        if name not in self.linear:
            arguments["activation"] = activation
        x = self.per_tower(kind, x, name, **arguments)
        return self.dropout(x, name)

    def normalize_and_pool(self, x, number):
        """Adds what follows conv1 and conv2 (Sec. 3.3 and 3.4)."""
        position = self.network.lrn_position(number)
        if position == "before_pool":
            x = self.normalize(x, number)
        x = self.pool(x, number)
        if number == 1 and self.network.conv1_activation == "after_pool":
            x = self.activate(x, number)
        if position == "after_pool":
            x = self.normalize(x, number)
        return x

    def activate(self, x, number):
        """Adds the nonlinearity of a linear convolution (Sec. 3.1)."""
        kind, activation = tower_layers.Activation, self.network.activation
        return self.per_tower(kind, x, f"relu{number}", activation=activation)

    def normalize(self, x, number):
        """Adds the normalizations of layer 1 or 2."""
        if number in self.network.layers_with_lrn():
            x = self.local_response_normalization(x, f"norm{number}")
        if number == 2 and self.network.conv2_activation == "after_norm":
            x = self.activate(x, number)
        if number == 2 and self.network.spatial_norm2:
            kind = SpatialResponseNormalization
            # The numbers of the 2012 source.
            constants = dict(size=5, k=1.0, alpha=1e-3, beta=0.75)
            constants["divide_alpha"] = True
            x = self.per_tower(kind, x, "spatial_norm2", **constants)
        return x

    def local_response_normalization(self, x, name):
        """Adds response normalization across kernel maps (Sec. 3.3)."""
        network = self.network
        maps, reach = x[0].shape[-1], network.lrn_size // 2
        constants = dict(
            size=network.lrn_size,
            k=network.lrn_k,
            alpha=network.lrn_alpha,
            beta=network.lrn_beta,
            divide_alpha=network.lrn_divide_alpha,
        )
        across_towers = network.lrn_across_towers and len(x) > 1
        if across_towers:
            x = self._add_neighboring_maps(x, reach, name)
        x = self.per_tower(LocalResponseNormalization, x, name, **constants)
        if across_towers:
            x = self._keep_own_maps(x, reach, maps, name)
        return x

    def _add_neighboring_maps(self, x, reach, name):
        """Adds the `reach` nearest maps of the towers before and after.

        Only these cross between devices.
        """
        maps = x[0].shape[-1]
        if reach > maps:
            raise UserError(
                f"--lrn_across_towers: a window reaches {reach} kernel maps "
                f"into the neighboring tower, which has {maps}; use an "
                f"--lrn_size of at most {2 * maps + 1}."
            )
        received = [[] for _ in x]
        for tower, tensor in enumerate(x):
            neighbors = [n for n in (tower - 1, tower + 1) if 0 <= n < len(x)]
            # No copy is unused: its gradient would be zeros, made on the
            # primary device.
            kind, count = tower_layers.Replicate, 1 + len(neighbors)
            own, *copies = self._add(
                kind, tensor, f"fork_{name}", tower, copies=count
            )
            received[tower].append(own)
            for neighbor, copy in zip(neighbors, copies, strict=True):
                if neighbor < tower:
                    edge_name, start = f"first_{name}", 0
                else:
                    edge_name, start = f"last_{name}", maps - reach
                edge = self._channels(copy, edge_name, tower, start, reach)
                edge = self._send(edge, name, tower, neighbor)
                received[neighbor].append(edge)
        return self.per_tower(
            tower_layers.Concatenate, received, f"shared_{name}"
        )

    def _keep_own_maps(self, x, reach, maps, name):
        """Removes the neighbors' maps again."""
        return [
            self._channels(t, f"own_{name}", tower, reach if tower else 0, maps)
            for tower, t in enumerate(x)
        ]

    def _channels(self, tensor, name, tower, start, count):
        bounds = dict(start=start, stop=start + count)
        return self._add(tower_layers.Channels, tensor, name, tower, **bounds)

    def pool(self, x, number, kind=tower_layers.MaxPooling2D):
        """Adds pooling (Sec. 3.4)."""
        size = self.network.pool_size
        name, padding = f"pool{number}", "valid"
        # Where the last window ends one place beyond the edge, TensorFlow's
        # "same" adds nothing else.
        if self.network.pool_overhang and (x[0].shape[1] - size) % 2:
            padding = "same"
        else:
            _check_side(x, name, size)
        window = dict(pool_size=size, strides=2, padding=padding)
        return self.per_tower(kind, x, name, **window)

    def exchange(self, x, name):
        """Gives each tower the outputs of all, if layer `name` sees them.

        Sec. 3.2. This adds fork2 and shared2 before conv3, fork_conv4 and
        shared_conv4 before conv4, and so on.
        """
        towers = len(x)
        if towers == 1 or name not in self.network.layers_that_see_all_towers():
            return x
        suffix = _EXCHANGES.get(name, f"_{name}")
        copies = self.per_tower(
            tower_layers.Replicate, x, f"fork{suffix}", copies=towers
        )
        # Copy t of every tower goes to tower t.
        received = [
            [
                self._send(sent[receiver], name, tower, receiver)
                for tower, sent in enumerate(copies)
            ]
            for receiver in range(towers)
        ]
        return self.per_tower(
            tower_layers.Concatenate, received, f"shared{suffix}"
        )

    def _send(self, tensor, name, tower, receiver):
        """Returns a tensor in the precision in which another tower reads it.

        It is rounded on the sender's device, and its gradient on that of the
        receiver, whose layers cast their inputs: both cross in that precision.
        """
        halved = self.network.link_precision == "float16"
        if tower == receiver or not halved or tensor.dtype in _HALVES:
            return tensor
        kind, name = tower_layers.Activation, f"send{receiver}_{name}"
        return self._add(
            kind, tensor, name, tower, activation="linear", dtype="float16"
        )

    def dense(self, x, name):
        """Adds a fully connected layer, and what belongs to it as in `conv`."""
        x = self.exchange(x, name)
        arguments = self._initializers(name)
        neurons = self.network.neuron_counts()[name]
        arguments["units"] = self._units_per_tower(neurons)
        arguments["activation"] = self.network.activation
        x = self.per_tower(tower_layers.Dense, x, name, **arguments)
        return self.dropout(x, name)

    def dropout(self, x, name):
        """Adds dropout after layer `name`, if it has it (Sec. 4.2)."""
        if name not in self.network.layers_with_dropout():
            return x
        suffix = {"fc6": "6", "fc7": "7"}.get(name, f"_{name}")
        inverted = self.network.dropout_form == "inverted"
        arguments = dict(rate=self.network.dropout_rate, inverted=inverted)
        return self.per_tower(Dropout, x, f"dropout{suffix}", **arguments)

    def sum_of_dense(self, x, name, units):
        """Adds the output layer, to which all towers contribute: the logits.

        Each tower multiplies its own neurons by its own weights, and the
        primary device adds the products, so that `units` numbers cross between
        devices instead of the neurons. The layer is in float32 at any
        precision: the loss takes differences of logits.
        """
        kind = tower_layers.Dense
        shared = dict(units=units, dtype="float32", **self._initializers(name))
        products = [
            self._add(kind, tensor, name, tower, use_bias=tower == 0, **shared)
            for tower, tensor in enumerate(x)
        ]
        if len(products) == 1:
            return products[0]
        products = [
            self._send(product, name, tower, receiver=0)
            for tower, product in enumerate(products)
        ]
        return tower_layers.Add(name=name, layout=self.layout)(products)

    def _add(self, kind, tensor, name, tower, **arguments):
        """Adds a layer to one tower."""
        arguments = {"dtype": self.dtype, "layout": self.layout, **arguments}
        layer = kind(name=f"{name}_tower{tower}", tower=tower, **arguments)
        return layer(tensor)

    def _units_per_tower(self, count):
        return max(1, round(count * self.network.width / self.network.towers))

    def _initializers(self, name):
        """Returns the initializers of a layer (Sec. 5), as configurations.

        Layers that shared an initializer would start with equal weights; from
        a configuration each makes its own.
        """
        form = self.network.initialization
        if form == "glorot":
            return dict(
                kernel_initializer="glorot_uniform", bias_initializer="zeros"
            )
        stddev = 0.01
        if form == "code_2012" and name in _MIDDLE_LAYERS:
            stddev = 0.03
        if name != "conv1":  # conv1 has three input channels at any width.
            stddev /= math.sqrt(self.network.width)
        normal = {"class_name": "RandomNormal", "config": {"stddev": stddev}}
        return dict(
            kernel_initializer=normal,
            bias_initializer="ones" if name in _BIAS_ONE else "zeros",
        )


def _check_side(x, name, size):
    """Checks that the windows of a layer fit into its inputs."""
    side = x[0].shape[1]
    if side < size:
        raise UserError(
            f"{name} has windows of {size}x{size}, but its inputs have "
            f"{side}x{side} places; make --crop_size larger, or change "
            "--padding, --pool_size or --pool_overhang."
        )
