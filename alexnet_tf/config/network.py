"""Settings of the network; their defaults are the paper's numbers.

Section numbers are those of Krizhevsky, Sutskever and Hinton, "ImageNet
Classification with Deep Convolutional Neural Networks", 2012.
"""

import dataclasses

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.field import setting

# The layers that --kernels counts, with the kernels of their source.
_KERNELS = {
    "alexnet": dict(conv1=96, conv2=256, conv3=384, conv4=384, conv5=256),
    "conv_local": dict(conv1=64, conv2=64, local3=32, local4=32),
    "conv_small": dict(conv1=32, conv2=32, conv3=64),
}
# AlexNet's layers after the second pooling.
_LATER_LAYERS = ("conv3", "conv4", "conv5", "conv6", "fc6", "fc7")
# Sides of the smallest patches that leave something for the last pooling.
_SMALLEST_CROPS = {"alexnet": 64, "conv_local": 4, "conv_small": 8}
# Settings that the architectures for CIFAR-10 have, too.
_COMMON = {
    *("architecture", "towers", "kernels", "activation", "pool_size"),
    *("pool_overhang", "lrn", "lrn_size", "lrn_k", "lrn_alpha", "lrn_beta"),
    "lrn_divide_alpha",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """The network (Sec. 3 and Figure 2)."""

    architecture: str = setting(
        "alexnet",
        "alexnet: the network of Figure 2. conv_local, conv_small: the "
        "authors' networks for CIFAR-10, of two convolutional and two locally "
        "connected layers (Sec. 3.3) or of three convolutional layers; with "
        "--towers=1, see flags/cifar10.",
        choices=tuple(_KERNELS),
    )
    towers: int = setting(
        2, "Towers that share the kernels; 1: no split. Sec. 3.2.", lower=1
    )
    kernels: str = setting(
        "96,256,384,384,256",
        "Kernels of conv1 to conv5, over all towers; 0: no layer. Sec. 3.5. Of "
        "conv_local: conv1, conv2, local3, local4; of conv_small: conv1 to "
        "conv3.",
    )
    padding: str = setting(
        "0,2,1,1,1",
        "Zeros on each side of the inputs of conv1 to conv5, 0 to 10. conv1 "
        "has them above and to the left; those below and to the right complete "
        "the last stride: 3 for 224 pixels [pixels].",
    )
    neurons: str = setting(
        "4096,4096", "Neurons of fc6 and fc7, over all towers. Sec. 3.5."
    )
    conv6: bool = setting(
        False,
        "A 3x3 conv6, as wide as conv5, after the last pooling, for "
        "pre-training. Sec. 6.",
    )
    factorized_conv2: bool = setting(
        False, "Two 3x3 convolutions in place of conv2's 5x5."
    )
    width: float = setting(
        1.0,
        "Factor on kernels and neurons of all hidden layers; initial weights "
        "of conv2 to fc8, unless glorot, are scaled by 1 / sqrt(width).",
        lower=0.01,
        upper=4.0,
    )
    tower_communication: str = setting(
        "conv3,conv6,fc6,fc7",
        "Layers from conv2 to fc7 that see all towers, the next one if "
        "--kernels leaves a layer out; others see their own. Empty: towers "
        "only meet in fc8 (and for --lrn_across_towers). Sec. 3.2.",
    )
    link_precision: str = setting(
        "float32",
        "Precision of outputs and gradients that cross between towers. "
        "float16: half the traffic, with loss scaling; also if towers share a "
        "device. What has 16 bits anyway, with --precision, is not changed.",
        choices=("float32", "float16"),
    )
    activation: str = setting(
        "relu", "Hidden nonlinearities. Sec. 3.1.", choices=("relu", "tanh")
    )
    conv1_activation: str = setting(
        "before_norm",
        "Position of conv1's nonlinearity. before_norm: after the convolution, "
        "as in the other layers; after_pool: as in the 2012 source.",
        choices=("before_norm", "after_pool"),
    )
    conv2_activation: str = setting(
        "before_norm",
        "Position of conv2's nonlinearity. after_norm: after norm2, before "
        "--spatial_norm2.",
        choices=("before_norm", "after_norm"),
    )
    lrn: str = setting(
        "before_pool",
        "Position of local response normalization in layers 1 and 2; "
        "before_pool is the paper's. Sec. 3.3 and 3.5. after_pool1: after "
        "pooling in layer 1, before it in layer 2, as in cuda-convnet's "
        "network for CIFAR-10.",
        choices=("before_pool", "after_pool", "after_pool1", "off"),
    )
    lrn_layers: str = setting(
        "1,2", "Layers with local response normalization, of 1 and 2. Sec. 3.5."
    )
    lrn_size: int = setting(
        5,
        "LRN's n, kernel maps in a window; odd. Sec. 3.3.",
        lower=1,
        upper=511,
    )
    lrn_k: float = setting(2.0, "LRN's k, above 0. Sec. 3.3.", lower=1e-6)
    lrn_alpha: float = setting(1e-4, "LRN's alpha. Sec. 3.3.", lower=0.0)
    lrn_beta: float = setting(0.75, "LRN's beta. Sec. 3.3.", lower=0.0)
    lrn_divide_alpha: bool = setting(
        False, "Divide alpha by n, as Caffe and the 2012 source. Sec. 3.3."
    )
    lrn_across_towers: bool = setting(
        False,
        "Extend LRN's windows into the neighboring towers' kernel maps, as in "
        "networks trained on one device; the paper's two GPUs do not.",
    )
    spatial_norm2: bool = setting(
        False,
        "Also normalize the outputs of layer 2 over 5x5 positions of each map, "
        "as in the 2012 source but not in the paper; not with --lrn=off.",
    )
    pool_size: int = setting(
        3,
        "Pooling size at stride 2: 3 overlaps, 2 does not [pixels]. Sec. 3.4.",
        lower=2,
        upper=3,
    )
    pool_overhang: bool = setting(
        False,
        "Pooling windows may extend beyond the bottom and right edges, as in "
        "the 2012 source, which rounds sizes up.",
    )
    dropout_rate: float = setting(
        0.5, "Dropout in --dropout_layers. Sec. 4.2.", lower=0.0, upper=0.99
    )
    dropout_layers: str = setting(
        "fc6,fc7", "Layers with dropout, from conv3 to fc7. Sec. 4.2."
    )
    dropout_form: str = setting(
        "paper",
        "paper: at test time, outputs are multiplied by the fraction kept; "
        "inverted: in training, they are divided by it, as in Keras, which "
        "changes the activations and thus the recipe. Sec. 4.2.",
        choices=("paper", "inverted"),
    )
    initialization: str = setting(
        "paper",
        "Initial weights. paper: N(0, 0.01) in each layer; code_2012: 0.03 in "
        "conv3 to conv6, as in the 2012 source; glorot: Keras's default, with "
        "all biases zero. Sec. 5.",
        choices=("paper", "code_2012", "glorot"),
    )

    def __post_init__(self):
        """Checks what the bounds of a single flag cannot."""
        if self.architecture != "alexnet":
            self._check_common()
            return
        counts = self.kernel_counts() | self.neuron_counts()
        for count in counts.values():
            if count % self.towers:
                raise UserError(
                    f"--towers={self.towers} does not divide {count} kernels "
                    f"or neurons; --kernels={self.kernels} and "
                    f"--neurons={self.neurons} must all be multiples of it."
                )
        self.zeros_around()
        self.layers_that_see_all_towers()
        for name in self.layers_with_dropout():
            if not counts[name]:
                raise UserError(
                    f"--dropout_layers={self.dropout_layers}: this network "
                    f"has no {name}; leave it out here, or add it with "
                    f"{'--conv6' if name == 'conv6' else '--kernels'}."
                )
        has_norm2 = self.lrn != "off" and 2 in self.layers_with_lrn()
        if self.conv2_activation == "after_norm" and not has_norm2:
            raise UserError(
                f"--conv2_activation=after_norm, but --lrn={self.lrn} "
                f"--lrn_layers={self.lrn_layers} has no norm2; leave out one."
            )
        if self.spatial_norm2 and self.lrn == "off":
            raise UserError(
                "--spatial_norm2 follows the normalization of layer 2, but "
                "--lrn=off; add --nospatial_norm2, or leave --lrn=off out."
            )

    def _check_common(self):
        """Checks the settings of an architecture for CIFAR-10."""
        if self.towers > 1:
            raise UserError(
                f"--towers={self.towers}, but --architecture="
                f"{self.architecture} has a single tower; add --towers=1."
            )
        for field in dataclasses.fields(Network):
            value = getattr(self, field.name)
            if field.name not in _COMMON and value != field.default:
                raise UserError(
                    f"--{field.name}={value} has no effect on --architecture="
                    f"{self.architecture}; leave it out."
                )
        self.kernel_counts()

    @property
    def smallest_crop(self) -> int:
        """The smallest --crop_size, for all poolings [pixels]."""
        return _SMALLEST_CROPS[self.architecture]

    def kernel_counts(self) -> dict[str, int]:
        """Returns the kernels of each layer, 0 for one left out."""
        usual = _KERNELS[self.architecture]
        counts = self._read_numbers(
            "kernels", ",".join(map(str, usual.values()))
        )
        if not counts[0] or (self.conv6 and not counts[-1]):
            raise UserError(
                f"--kernels={self.kernels} leaves "
                f"{'conv6' if counts[0] else 'conv1'} without kernels, which "
                "must have some; leave out another layer."
            )
        named = dict(zip(usual, counts, strict=True))
        return {**named, "conv6": counts[-1] if self.conv6 else 0}

    def neuron_counts(self) -> dict[str, int]:
        """Returns the neurons of fc6 and fc7."""
        fc6, fc7 = self._read_numbers("neurons", lowest=1)
        return {"fc6": fc6, "fc7": fc7}

    def zeros_around(self) -> dict[str, int]:
        """Returns the zeros on each side of a convolution's inputs [pixels]."""
        if self.architecture != "alexnet":
            return dict.fromkeys(self.kernel_counts(), 2)
        numbers = self._read_numbers("padding", highest=10)
        zeros = {f"conv{i}": n for i, n in enumerate(numbers, start=1)}
        if self.factorized_conv2:
            if zeros["conv2"] != 2:
                raise UserError(
                    f"--padding={self.padding} has {zeros['conv2']} zeros for "
                    "conv2, but --factorized_conv2 replaces it by layers with "
                    "zeros of their own; give 2, the default."
                )
            zeros |= {"conv2": 1, "conv2b": 1}
        return zeros | {"conv6": 1}

    def layers_that_see_all_towers(self) -> list[str]:
        """Returns the layers whose inputs are the outputs of all towers."""
        layers = ("conv2", *_LATER_LAYERS)
        named = self._read_names("tower_communication", layers)
        counts = self.kernel_counts() | self.neuron_counts()
        found: list[str] = []
        pending = False
        for name in layers:
            pending |= name in named and (name != "conv6" or self.conv6)
            if pending and counts.get(name):
                found.append(name)
                pending = False
        return found

    def layers_with_lrn(self) -> list[int]:
        """Returns the numbers of the layers with response normalization."""
        return list(map(int, self._read_names("lrn_layers", ("1", "2"))))

    def lrn_position(self, number: int) -> str:
        """Returns before_pool, after_pool or off, as --lrn for one layer."""
        if self.lrn == "after_pool1":
            return "after_pool" if number == 1 else "before_pool"
        return self.lrn

    def layers_with_dropout(self) -> list[str]:
        """Returns the layers that dropout follows."""
        return self._read_names("dropout_layers", _LATER_LAYERS)

    def _read_numbers(self, name, example="", lowest=0, highest=10**6):
        """Returns the whole numbers of a setting, as many as in the example.

        That is the default unless another one is given.
        """
        text, example = getattr(self, name), example or getattr(Network, name)
        texts, count = text.split(","), example.count(",") + 1
        if len(texts) == count and all(t.strip().isdecimal() for t in texts):
            numbers = [int(t) for t in texts]
            if lowest <= min(numbers) and max(numbers) <= highest:
                return numbers
        raise UserError(
            f"--{name}={text}; give {count} whole numbers from {lowest} to "
            f"{highest}, separated by commas, as {example}."
        )

    def _read_names(self, name, known):
        """Returns the names in a setting, none if it is empty."""
        text = getattr(self, name)
        names = [n.strip() for n in text.split(",")] if text else []
        for given in names:
            if given not in known:
                raise UserError(
                    f"--{name}={text}: {given!r} is not among "
                    f"{', '.join(known)}; give some of these, separated by "
                    f"commas, as {getattr(Network, name)}, or nothing."
                )
        return names
