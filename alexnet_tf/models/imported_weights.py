"""Weights of Caffe's and torchvision's networks in AlexNet's towers.

Both programs have kernels (kernels, channels, height, width). Group t of
Caffe's convolutions is tower t.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.models import caffe_layers
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
# Settings of a network that computes as the programs do, and that files do not
# show.
_COMMON_SETTINGS = {
    "architecture": "alexnet",
    "dropout_form": "inverted",
    "factorized_conv2": False,
    "link_precision": "float32",
}
_CAFFE_SETTINGS = {
    **_COMMON_SETTINGS,
    "lrn_divide_alpha": True,
    "lrn_across_towers": True,
    "spatial_norm2": False,
    "conv1_activation": "before_norm",
    "conv2_activation": "before_norm",
}
_TORCHVISION_SETTINGS = {
    **_COMMON_SETTINGS,
    "lrn": "off",
    "padding": "2,2,1,1,1",
    "activation": "relu",
    "pool_size": 3,
    "pool_overhang": False,
}
_MEAN_BGR = [104.0, 117.0, 123.0]  # Caffe's mean color of ImageNet.


@dataclasses.dataclass(frozen=True)
class ImportedWeights:
    """A file's kernel and bias of each layer, in the shapes it has there."""

    blobs: dict[str, list[np.ndarray]]
    mean_rgb: list[float]  # In 0..255, to subtract from images.
    # From conv1's kernel to the one for RGB images in 0..255 minus the mean.
    convert_conv1: Callable[[np.ndarray], np.ndarray]


def read_caffe(file: Path, network: Network, crop_size: int) -> ImportedWeights:
    """Reads a .caffemodel; checks that the network computes the same."""
    _check_settings(network, _CAFFE_SETTINGS)
    layers = read_network(file)
    mean_bgr = caffe_layers.check_images(file, layers, crop_size) or _MEAN_BGR
    _check_conv1_outputs(network, crop_size)
    seen = network.layers_that_see_all_towers()
    if network.towers > 1 and not {"fc6", "fc7"} <= {*seen}:
        raise UserError(
            f"--tower_communication={network.tower_communication}: in Caffe, "
            "fc6 and fc7 see all towers; add them."
        )
    if all(layer.blobs for layer in layers):
        print(
            f"{file} has weights only: nothing in it shows whether its "
            "activations, poolings and so on are those of this network."
        )
        blobs = {layer.name: layer.blobs for layer in layers}
    else:
        blobs = caffe_layers.check_layers(file, layers, network)
    return ImportedWeights(
        blobs,
        list(reversed(mean_bgr)),
        lambda kernel: kernel[:, ::-1],  # BGR to RGB.
    )


def read_torchvision(
    file: Path, network: Network, crop_size: int
) -> ImportedWeights:
    """Reads a .safetensors file; checks the settings that it does not show."""
    _check_settings(network, _TORCHVISION_SETTINGS)
    _check_conv1_outputs(network, crop_size)
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


def _check_settings(network, expected):
    for name, theirs in expected.items():
        ours = getattr(network, name)
        if ours != theirs:
            raise UserError(
                f"the file has a network with --{name}={theirs}, the settings "
                f"have --{name}={ours}; give the former."
            )


def _check_conv1_outputs(network, crop_size):
    """Checks that conv1 has as many outputs as with equal zeros on all sides.

    The others round their number down, this network up.
    """
    zeros = network.zeros_around()["conv1"]
    theirs = (crop_size + 2 * zeros - 11) // 4 + 1
    ours = -(-(crop_size + zeros - 11) // 4) + 1
    if ours != theirs:
        raise UserError(
            f"--crop_size={crop_size}: conv1 of the file's network has "
            f"{theirs}x{theirs} outputs there, that of this network "
            f"{ours}x{ours}; use the size that it was trained with, 227 for "
            "Caffe's and 224 for torchvision's."
        )


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
