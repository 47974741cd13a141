"""From the layers of a Caffe network to the towers of an AlexNet.

Caffe has one network whose convolutions are in groups; group t is tower t.
Its kernels are (kernels, channels, height, width) and its images BGR; its
fully connected layers see maps as (channels, height, width).
"""

import math
import re
from collections.abc import Mapping

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.storage.caffe_format import CaffeLayer

# Settings that Caffe's normalization always has.
_ALWAYS = {"lrn_divide_alpha": True, "lrn_across_towers": True}


def _settings_of(layers, number):
    """Returns the settings that a file tells of layer 1 or 2; {} if none."""
    norm, pool = f"norm{number}", f"pool{number}"
    if pool not in layers:
        return {}  # It has weights only.
    found = layers.get(norm)
    if not found or not found.normalization:
        return {"lrn": "off"}
    order = [name for name in layers if name in (pool, norm)]
    return {
        "lrn": "after_pool" if order[0] == pool else "before_pool",
        "lrn_size": found.normalization["local_size"],
        "lrn_k": found.normalization["k"],
        "lrn_alpha": found.normalization["alpha"],
        "lrn_beta": found.normalization["beta"],
        **_ALWAYS,
    }


def check_settings(layers: Mapping[str, CaffeLayer], network: Network) -> None:
    """Checks that a network normalizes as the file says.

    Raises:
        UserError: if it does not.
    """
    found = [
        *_settings_of(layers, number=1).items(),
        *_settings_of(layers, number=2).items(),
    ]
    for name, theirs in found:
        ours = getattr(network, name)
        # The file has 32 bits, of 0.75 all and of 0.0001 not.
        same = ours == theirs or (
            isinstance(ours, float) and math.isclose(ours, theirs, rel_tol=1e-6)
        )
        if not same:
            raise UserError(
                f"the file has a network with --{name}={theirs}, the settings "
                f"have --{name}={ours}; give the former, or "
                "--flagfile=flags/caffenet.cfg for CaffeNet."
            )


def assign(layers: Mapping[str, CaffeLayer], model: keras.Model) -> None:
    """Gives a network the weights of the layers that have its layers' names.

    Args:
        layers: Of `caffe.read_network`.
        model: Of `model.alexnet`, its layers as `conv1_tower0`.

    Raises:
        UserError: if a layer is missing or has weights of other shapes.
    """
    towers = 1 + max(_tower(layer) for layer in model.layers)
    maps = model.get_layer("flat5_tower0").input.shape[1:]
    for layer in model.layers:
        if not layer.trainable_variables:
            continue
        name, tower = layer.name.split("_tower")[0], _tower(layer)
        kernel, bias = _blobs(layers, name, layer, towers)
        if name == "fc6":
            kernel = _as_towers_see_maps(kernel, towers, maps)
        layer.kernel.assign(_own_kernel(name, kernel, tower, layer))
        if layer.use_bias:
            size = layer.bias.shape[0]
            layer.bias.assign(bias[size * tower :][:size])


def _tower(layer):
    match = re.search(r"_tower(\d+)$", layer.name)
    return int(match[1]) if match else 0


def _blobs(layers, name, layer, towers):
    """Returns a layer's kernel and bias in Caffe's shapes, checked."""
    *window, inputs, outputs = layer.kernel.shape
    if name == "fc8":  # All towers make the same outputs.
        inputs *= towers
    else:
        outputs *= towers
    expected = [(outputs, inputs, *window), (outputs,)]
    found = layers[name].blobs if name in layers else []
    if not found:
        names = [name for name, layer in layers.items() if layer.blobs]
        raise UserError(
            f"the file has no layer {name} with weights; its layers are "
            f"{', '.join(names)}."
        )
    shapes = [blob.shape for blob in found]
    if shapes != expected:
        raise UserError(
            f"{name} of the file has weights of {_listed(shapes)}, this "
            f"network needs {_listed(expected)}; --towers, --width, --kernels "
            "and --crop_size make the difference."
        )
    return found


def _listed(shapes):
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def _as_towers_see_maps(kernel, towers, maps):
    """Reorders inputs (channels, height, width) to those of the towers.

    Towers put their maps, (height, width, channels), one after another.
    """
    height, width, channels = maps
    kernel = kernel.reshape(-1, towers, channels, height, width)
    return kernel.transpose(0, 1, 3, 4, 2).reshape(len(kernel), -1)


def _own_kernel(name, kernel, tower, layer):
    """Returns a tower's part of a kernel, in Keras's shape."""
    if name == "conv1":
        kernel = kernel[:, ::-1]  # BGR to RGB.
    *_, inputs, outputs = layer.kernel.shape
    if name == "fc8":
        kernel = kernel[:, inputs * tower :][:, :inputs]
    else:
        kernel = kernel[outputs * tower :][:outputs]
    return kernel.transpose(*range(2, kernel.ndim), 1, 0)
