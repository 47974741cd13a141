"""The layers of a Caffe network, compared with those of this network."""

import itertools
import math
from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.storage.caffe_format import CaffeLayer

# Types of layers after the logits, which no other layer uses.
_OUTPUTS = ("Softmax", "SoftmaxWithLoss", "Accuracy", "ArgMax", "Silence")
# Settings that types of layers depend on; the first one that applies counts.
_OF_TYPES = {
    "Convolution": "--kernels and --conv6",
    "Dropout": "--dropout_rate and --dropout_layers",
    "ReLU": "--activation",
    "TanH": "--activation",
    "LRN": "--lrn and --lrn_layers, or give --flagfile=flags/caffenet.cfg",
    "Pooling": "--lrn, or give --flagfile=flags/caffenet.cfg",
}
# Settings that parameters of layers depend on.
_OF_PARAMETERS = {
    **{f"conv{number} pad": "--padding" for number in range(1, 6)},
    "Pooling kernel_size": "--pool_size",
    "LRN local_size": "--lrn_size",
    "LRN k": "--lrn_k",
    "LRN alpha": "--lrn_alpha",
    "LRN beta": "--lrn_beta",
    "Dropout dropout_ratio": "--dropout_rate",
    **{
        f"conv{number} group": "--towers and --tower_communication"
        for number in range(2, 7)
    },
}


def check_images(
    file: Path, layers: list[CaffeLayer], crop_size: int
) -> list[float]:
    """Checks how a network reads images; returns its mean color, if given.

    That is blue, green and red in 0..255, or nothing.
    """
    mean_bgr: list[float] = []
    for layer in layers:
        if layer.inputs:
            continue
        found = layer.parameters
        if found["scale"] != 1:
            raise UserError(
                f"{file}: {layer.name} has scale: {found['scale']:g}; only "
                "networks of pixels in 0..255 minus the mean can be imported."
            )
        if found["crop_size"] not in (0, crop_size):
            raise UserError(
                f"{file}: {layer.name} has crop_size: {found['crop_size']}, "
                f"this network --crop_size={crop_size}; give the former."
            )
        mean_bgr = mean_bgr or found["mean_value"]
    return 3 * mean_bgr if len(mean_bgr) == 1 else mean_bgr


def check_layers(
    file: Path, layers: list[CaffeLayer], network: Network
) -> dict[str, list[np.ndarray]]:
    """Checks that Caffe's network computes the same as this one.

    Returns the blobs of layers by their names in this network.
    """
    blobs, before = {}, "the images"
    for theirs, ours in itertools.zip_longest(
        _main_path(file, layers), _expected_layers(network)
    ):
        layer_type, name, parameters = ours or ("nothing", "", {})
        if not theirs or theirs.type != layer_type:
            found = f"{theirs.name} ({theirs.type})" if theirs else "nothing"
            types = {layer_type, theirs.type} if theirs else {layer_type}
            settings = [s for key, s in _OF_TYPES.items() if key in types]
            is_known = types <= _OF_TYPES.keys()
            raise UserError(
                f"{file}: {found} follows {before}, in this network "
                f"{name or layer_type}; {_advice(is_known and settings[0])}"
            )
        for parameter, value in parameters.items():
            other = theirs.parameters[parameter]
            same = other == value
            if isinstance(value, float):  # The file has 32 bits.
                same = math.isclose(other, value, rel_tol=1e-6)
            if not same:
                setting = _OF_PARAMETERS.get(
                    f"{name or layer_type} {parameter}"
                )
                raise UserError(
                    f"{file}: {theirs.name} ({theirs.type}) has {parameter}: "
                    f"{_text(other)}, this network {_text(value)}; "
                    f"{_advice(setting)}"
                )
        if theirs.blobs:
            blobs[name] = theirs.blobs
        before = theirs.name
    return blobs


def _main_path(file, layers):
    """Returns the layers from the images to the logits.

    Each must take what the one before it returns.
    """
    path, originals = [], {}  # Originals of blobs that are copies.
    for layer in layers:
        inputs = [originals.get(name, name) for name in layer.inputs]
        if layer.type == "Split":
            originals |= dict.fromkeys(layer.outputs, inputs[0])
        elif inputs and layer.type not in _OUTPUTS:
            if path and inputs != path[-1].outputs:
                raise UserError(
                    f"{file}: {layer.name} ({layer.type}) takes "
                    f"{', '.join(inputs)}, in this network the output of the "
                    f"layer before, {path[-1].name}; {_advice()}"
                )
            path.append(layer)
    return path


def _expected_layers(network):
    """Returns the layers of the same network in Caffe.

    They are (type, name if the layer has weights, parameters), in order.
    """
    activation = ("ReLU", "", {"negative_slope": 0.0})
    if network.activation == "tanh":
        activation = ("TanH", "", {})
    window = {"kernel_size": network.pool_size, "stride": 2, "pad": 0}
    pool = ("Pooling", "", {"pool": "MAX", **window, "global_pooling": False})
    constants = {
        "norm_region": "ACROSS_CHANNELS",
        "local_size": network.lrn_size,
        "k": network.lrn_k,
        "alpha": network.lrn_alpha,
        "beta": network.lrn_beta,
    }
    norm = ("LRN", "", constants)
    orders = {"before_pool": [norm, pool], "after_pool": [pool, norm]}
    dropout = ("Dropout", "", {"dropout_ratio": network.dropout_rate})
    with_dropout = network.layers_with_dropout() if network.dropout_rate else []
    zeros, seen = network.zeros_around(), network.layers_that_see_all_towers()
    layers = []
    for name, count in network.kernel_counts().items():
        size, stride = {"conv1": (11, 4), "conv2": (5, 1)}.get(name, (3, 1))
        window = {"kernel_size": size, "stride": stride, "pad": zeros[name]}
        sees_all = name in ("conv1", *seen)
        groups = {"dilation": 1, "group": 1 if sees_all else network.towers}
        if count:
            parameters = {**window, **groups, "bias_term": True}
            layers += [("Convolution", name, parameters), activation]
            layers += [dropout] if name in with_dropout else []
        if name in ("conv1", "conv2"):
            number = int(name[-1])
            has_norm = number in network.layers_with_lrn()
            position = has_norm and network.lrn_position(number)
            layers += orders.get(position, [pool])
        elif name == "conv5":
            layers.append(pool)
    dense = {"bias_term": True, "axis": 1, "transpose": False}
    for name in ("fc6", "fc7"):
        layers += [("InnerProduct", name, dense), activation]
        layers += [dropout] if name in with_dropout else []
    return [*layers, ("InnerProduct", "fc8", dense)]


def _advice(setting=None):
    if setting:
        return f"check {setting}."
    return "a network that differs in this cannot be imported."


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value
