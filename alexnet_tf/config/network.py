"""Settings of the network; their defaults are the paper's numbers.

Section numbers are those of Krizhevsky, Sutskever and Hinton, "ImageNet
Classification with Deep Convolutional Neural Networks", 2012.
"""

import dataclasses

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.field import setting

# Neurons of fc6, and of fc7.
NEURONS = 4096
# The layers that --kernels counts, with the kernels of their source.
_KERNELS = {
    "alexnet": dict(conv1=96, conv2=256, conv3=384, conv4=384, conv5=256),
    "conv_local": dict(conv1=64, conv2=64, local3=32, local4=32),
    "conv_small": dict(conv1=32, conv2=32, conv3=64),
}
# Sides of the smallest patches that leave something for the last pooling.
_SMALLEST_CROPS = {"alexnet": 64, "conv_local": 4, "conv_small": 8}
# Settings that the architectures for CIFAR-10 have, too.
_COMMON = {
    *("architecture", "towers", "kernels", "activation", "pool_size"),
    *("lrn", "lrn_size", "lrn_k", "lrn_alpha", "lrn_beta", "lrn_divide_alpha"),
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
    conv1_padding: int = setting(
        0,
        "Zeros above and to the left of conv1's input; those below and to the "
        "right complete the last stride: 3 for 224 pixels. Sec. 3.5.",
        lower=0,
        upper=10,
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
    tower_communication: bool = setting(
        True,
        "Feed the outputs of all towers to conv3, fc6 and fc7; otherwise "
        "towers only meet in fc8 (and for --lrn_across_towers). Sec. 3.2.",
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
    lrn: str = setting(
        "before_pool",
        "Position of local response normalization in layers 1 and 2; "
        "before_pool is the paper's. Sec. 3.3 and 3.5. after_pool1: after "
        "pooling in layer 1, before it in layer 2, as in cuda-convnet's "
        "network for CIFAR-10.",
        choices=("before_pool", "after_pool", "after_pool1", "off"),
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
    dropout_rate: float = setting(
        0.5, "Dropout in fc6 and fc7. Sec. 4.2.", lower=0.0, upper=0.99
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
        "conv3, conv4 and conv5, as in the 2012 source; glorot: Keras's "
        "default, with all biases zero. Sec. 5.",
        choices=("paper", "code_2012", "glorot"),
    )

    def kernel_counts(self) -> dict[str, int]:
        """Returns the kernels of each layer, 0 for one left out."""
        usual = _KERNELS[self.architecture]
        texts = self.kernels.split(",")
        if len(texts) != len(usual) or not all(
            text.strip().isdecimal() for text in texts
        ):
            raise UserError(
                f"--kernels={self.kernels}; for --architecture="
                f"{self.architecture} give {len(usual)} whole numbers from 0 "
                f"up, as {','.join(map(str, usual.values()))}."
            )
        counts = [int(text) for text in texts]
        if not counts[0] or (self.conv6 and not counts[-1]):
            raise UserError(
                f"--kernels={self.kernels} leaves "
                f"{'conv6' if counts[0] else 'conv1'} without kernels, which "
                "must have some; leave out another layer."
            )
        for count in (*counts, NEURONS):
            if count % self.towers:
                raise UserError(
                    f"--towers={self.towers} does not divide {count} kernels "
                    f"or neurons; --kernels={self.kernels} and {NEURONS} must "
                    "all be multiples of it."
                )
        named = dict(zip(usual, counts, strict=True))
        return {**named, "conv6": counts[-1] if self.conv6 else 0}

    def check_architecture(self, crop_size: int) -> None:
        """Checks that all settings apply to the architecture."""
        smallest = _SMALLEST_CROPS[self.architecture]
        if crop_size < smallest:
            raise UserError(
                f"--crop_size={crop_size} is too small for the poolings of "
                f"--architecture={self.architecture}; give at least {smallest}."
            )
        if self.architecture == "alexnet":
            return
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
