"""Weights of a Caffe network in AlexNet's towers.

Group t of its convolutions is tower t. Its kernels are (kernels, channels,
height, width), its images BGR.
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
            same = ours == theirs
            if isinstance(ours, float):
                same = math.isclose(ours, theirs, rel_tol=1e-6)
            if not same:
                raise UserError(
                    f"the file has a network with --{name}={theirs}, the "
                    f"settings have --{name}={ours}; give the former, or "
                    "--flagfile=flags/caffenet.cfg for CaffeNet."
                )


def _normalization(layers, number):
    """Returns the file's settings of normalization 1 or 2, {} if unknown."""
    norm, pool = f"norm{number}", f"pool{number}"
    if pool not in layers:
        return {}  # The file has weights only.
    found = layers[norm].normalization if norm in layers else None
    if not found:
        return {"lrn": "off"}
    order = [name for name in layers if name in (norm, pool)]
    return {
        "lrn": "after_pool" if order == [pool, norm] else "before_pool",
        "lrn_size": found["local_size"],
        "lrn_k": found["k"],
        "lrn_alpha": found["alpha"],
        "lrn_beta": found["beta"],
        "lrn_divide_alpha": True,  # As in all of Caffe's networks.
        "lrn_across_towers": True,
    }


def assign(layers: Mapping[str, CaffeLayer], model: keras.Model) -> None:
    """Assigns a file's weights to the layers of `alexnet` of the same name."""
    learned = [layer for layer in model.layers if layer.trainable_variables]
    towers = 1 + max(layer.tower for layer in learned)
    maps = model.get_layer("flat5_tower0").input.shape[1:]
    for layer in learned:
        name, tower = layer.figure_name, layer.tower
        kernel, bias = _find_blobs(layers, layer, towers)
        if name == "conv1":
            kernel = kernel[:, ::-1]  # BGR to RGB.
        if name == "fc6":
            # Caffe concatenates maps (channels, height, width), a tower
            # (height, width, channels).
            height, width, channels = maps
            kernel = kernel.reshape(-1, towers, channels, height, width)
            kernel = kernel.transpose(0, 1, 3, 4, 2).reshape(len(kernel), -1)
        *_, inputs, outputs = layer.kernel.shape
        if name == "fc8":  # Towers divide its inputs, not its outputs.
            kernel = kernel[:, inputs * tower :][:, :inputs]
        else:
            kernel = kernel[outputs * tower :][:outputs]
        layer.kernel.assign(kernel.transpose(*range(2, kernel.ndim), 1, 0))
        if layer.use_bias:
            layer.bias.assign(bias[outputs * tower :][:outputs])


def _find_blobs(layers, layer, towers):
    """Returns the kernel and bias of all towers in Caffe's shapes."""
    name = layer.figure_name
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
        theirs, ours = (
            " and ".join("x".join(map(str, shape)) for shape in shapes)
            for shapes in (found, expected)
        )
        raise UserError(
            f"{name} of the file has weights of {theirs}, this network needs "
            f"{ours}; check --towers, --width, --kernels and --crop_size."
        )
    return blobs
