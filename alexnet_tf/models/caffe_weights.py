"""Weights of a Caffe network in AlexNet's towers.

A Caffe network has convolutions in groups; group t is tower t. Its kernels are
(kernels, channels, height, width), its images BGR, and its fully connected
layers see maps as (channels, height, width).
"""

import math
from collections.abc import Mapping

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.storage.caffe_format import CaffeLayer


def check_settings(layers: Mapping[str, CaffeLayer], network: Network) -> None:
    """Checks that the network normalizes as the file's network does."""
    for number in (1, 2):
        for name, theirs in _normalization(layers, number).items():
            ours = getattr(network, name)
            # The file has 32 bits, which hold 0.75 exactly and 0.0001 not.
            same = ours == theirs or (
                isinstance(ours, float)
                and math.isclose(ours, theirs, rel_tol=1e-6)
            )
            if not same:
                raise UserError(
                    f"the file has a network with --{name}={theirs}, the "
                    f"settings have --{name}={ours}; give the former, or "
                    "--flagfile=flags/caffenet.cfg for CaffeNet."
                )


def _normalization(layers, number):
    """Returns the settings that describe normalization 1 or 2 of a file."""
    norm, pool = f"norm{number}", f"pool{number}"
    if pool not in layers:
        return {}  # The file has weights only.
    found = layers[norm].normalization if norm in layers else None
    if not found:
        return {"lrn": "off"}
    names = list(layers)
    pool_first = names.index(pool) < names.index(norm)
    return {
        "lrn": "after_pool" if pool_first else "before_pool",
        "lrn_size": found["local_size"],
        "lrn_k": found["k"],
        "lrn_alpha": found["alpha"],
        "lrn_beta": found["beta"],
        # As in all of Caffe's networks.
        "lrn_divide_alpha": True,
        "lrn_across_towers": True,
    }


def assign(layers: Mapping[str, CaffeLayer], model: keras.Model) -> None:
    """Assigns the weights of a Caffe network to the layers of the same name.

    Args:
        layers: Of `caffe_format.read_network`.
        model: Of `models.alexnet`.
    """
    learned = [layer for layer in model.layers if layer.trainable_variables]
    towers = 1 + max(layer.tower for layer in learned)
    maps = model.get_layer("flat5_tower0").input.shape[1:]
    for layer in learned:
        name, tower = layer.figure_name, layer.tower
        kernel, bias = _find_blobs(layers, name, layer, towers)
        if name == "conv1":
            kernel = kernel[:, ::-1]  # BGR to RGB.
        if name == "fc6":
            kernel = _reorder_inputs(kernel, towers, maps)
        *_, inputs, outputs = layer.kernel.shape
        if name == "fc8":  # Towers divide its inputs, not its outputs.
            kernel = kernel[:, inputs * tower :][:, :inputs]
        else:
            kernel = kernel[outputs * tower :][:outputs]
        layer.kernel.assign(kernel.transpose(*range(2, kernel.ndim), 1, 0))
        if layer.use_bias:
            layer.bias.assign(bias[outputs * tower :][:outputs])


def _find_blobs(layers, name, layer, towers):
    """Returns the kernel and bias of all towers in Caffe's shapes."""
    *window, inputs, outputs = layer.kernel.shape
    if name == "fc8":
        inputs *= towers
    else:
        outputs *= towers
    expected = [(outputs, inputs, *window), (outputs,)]
    blobs = layers[name].blobs if name in layers else []
    if not blobs:
        names = [name for name, layer in layers.items() if layer.blobs]
        raise UserError(
            f"the file has no layer {name} with weights; its layers are "
            f"{', '.join(names)}."
        )
    found = [blob.shape for blob in blobs]
    if found != expected:
        raise UserError(
            f"{name} of the file has weights of {_listed(found)}, this "
            f"network needs {_listed(expected)}; check --towers, --width, "
            "--kernels and --crop_size."
        )
    return blobs


def _listed(shapes):
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def _reorder_inputs(kernel, towers, maps):
    """Reorders inputs (channels, height, width) to those of the towers.

    Towers concatenate their maps (height, width, channels).
    """
    height, width, channels = maps
    kernel = kernel.reshape(-1, towers, channels, height, width)
    return kernel.transpose(0, 1, 3, 4, 2).reshape(len(kernel), -1)
