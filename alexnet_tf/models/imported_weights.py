"""Weights of Caffe's and torchvision's networks in AlexNet's towers.

Both programs have kernels (kernels, channels, height, width). Group t of
Caffe's convolutions is tower t.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.storage.caffe_format import read_network
from alexnet_tf.storage.safetensors_format import read_safetensors

# The module of torchvision's AlexNet for each layer.
_TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
# What torchvision subtracts from RGB images in 0..1, and then divides them by.
_MEAN, _STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


@dataclasses.dataclass(frozen=True)
class ImportedWeights:
    """A file's kernel and bias of each layer, in the shapes it has there."""

    blobs: dict[str, list[np.ndarray]]
    mean_rgb: list[float]  # In 0..255, to subtract from images.
    # From conv1's kernel to the one for RGB images in 0..255 minus the mean.
    convert_conv1: Callable[[np.ndarray], np.ndarray]


def read_caffe(file: Path, network: Network) -> ImportedWeights:
    """Reads a .caffemodel; checks that the network normalizes as its own."""
    layers = read_network(file)
    for number in (1, 2):
        _check_settings(_normalization(layers, number), network)
    return ImportedWeights(
        {name: layer.blobs for name, layer in layers.items() if layer.blobs},
        [123.0, 117.0, 104.0],  # Caffe's mean color of ImageNet.
        lambda kernel: kernel[:, ::-1],  # BGR to RGB.
    )


def read_torchvision(file: Path, network: Network) -> ImportedWeights:
    """Reads a .safetensors file; checks the settings that it does not show."""
    _check_settings({"lrn": "off", "padding": "2,2,1,1,1"}, network)
    arrays = read_safetensors(file)
    names = {
        layer: [f"{module}.weight", f"{module}.bias"]
        for layer, module in _TORCHVISION.items()
    }
    differing = sorted(arrays.keys() ^ set(sum(names.values(), [])))
    if differing:
        raise UserError(
            f"{file} is not torchvision's AlexNet: only one of them has "
            f"{', '.join(differing[:4])}."
        )
    return ImportedWeights(
        {layer: [arrays[name] for name in names[layer]] for layer in names},
        (255 * _MEAN).tolist(),
        lambda kernel: kernel / (255 * _STD)[:, None, None],
    )


def _check_settings(expected, network):
    """Checks settings that the shapes of weights do not determine."""
    for name, theirs in expected.items():
        ours = getattr(network, name)
        # A file has 32 bits, which hold 0.75 exactly and 0.0001 not.
        same = ours == theirs
        if isinstance(ours, float):
            same = math.isclose(ours, theirs, rel_tol=1e-6)
        if not same:
            raise UserError(
                f"the file has a network with --{name}={theirs}, the settings "
                f"have --{name}={ours}; give the former, or "
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


def assign(weights: ImportedWeights, model: keras.Model) -> None:
    """Assigns a file's weights to the layers of `alexnet` of the same name."""
    learned = [layer for layer in model.layers if layer.trainable_variables]
    towers = 1 + max(layer.tower for layer in learned)
    maps = model.get_layer("flat5_tower0").input.shape[1:]
    for layer in learned:
        name, tower = layer.figure_name, layer.tower
        kernel, bias = _find_blobs(weights.blobs, layer, towers)
        if name == "conv1":
            kernel = weights.convert_conv1(kernel)
        if name == "fc6":
            # Its inputs are maps (channels, height, width), a tower's (height,
            # width, channels).
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


def _find_blobs(blobs, layer, towers):
    """Returns the kernel and bias of all towers in the file's shapes."""
    name = layer.figure_name
    *window, inputs, outputs = layer.kernel.shape
    if name == "fc8":
        inputs *= towers
    else:
        outputs *= towers
    expected = [(outputs, inputs, *window), (outputs,)]
    if name not in blobs:
        raise UserError(
            f"the file has no layer {name} with weights; its layers are "
            f"{', '.join(blobs)}."
        )
    found = [blob.shape for blob in blobs[name]]
    if found != expected:
        theirs, ours = (
            " and ".join("x".join(map(str, shape)) for shape in shapes)
            for shapes in (found, expected)
        )
        raise UserError(
            f"{name} of the file has weights of {theirs}, this network needs "
            f"{ours}; check --towers, --width, --kernels and --crop_size."
        )
    return blobs[name]
