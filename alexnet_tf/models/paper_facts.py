"""What the paper says about its network, compared with a network's counts."""

import collections
import dataclasses
import math

import keras

from alexnet_tf.config.data import Geometry
from alexnet_tf.models.tower_layers import OnTower

# What is counted: section of the paper, and what it says.
_PAPER = {
    "learned layers": ("3", "5 convolutional, 3 fully connected"),
    "parameters": ("abstract", "60 million"),
    "neurons": ("abstract", "650,000"),
    "input numbers": ("3.5", "150,528"),
    "patches of an image": ("4.1", "2,048 = 32 x 32 x 2"),
    "bits of a label": ("4", "10"),
    "conv1 kernels": ("3.5", "96 of 11x11x3"),
    "conv2 kernels": ("3.5", "256 of 5x5x48"),
    "conv3 kernels": ("3.5", "384 of 3x3x256"),
    "conv4 kernels": ("3.5", "384 of 3x3x192"),
    "conv5 kernels": ("3.5", "256 of 3x3x192"),
    "conv1 share of parameters": ("1", "at most 1 %"),
    "conv2 share of parameters": ("1", "at most 1 %"),
    "conv3 share of parameters": ("1", "at most 1 %"),
    "conv4 share of parameters": ("1", "at most 1 %"),
    "conv5 share of parameters": ("1", "at most 1 %"),
    "conv1 neurons": ("Figure 2", "253,440"),
    "conv2 neurons": ("Figure 2", "186,624"),
    "conv3 neurons": ("Figure 2", "64,896"),
    "conv4 neurons": ("Figure 2", "64,896"),
    "conv5 neurons": ("Figure 2", "43,264"),
    "fc6 neurons": ("Figure 2", "4,096"),
    "fc7 neurons": ("Figure 2", "4,096"),
    "fc8 neurons": ("Figure 2", "1,000"),
}
# Why the paper's own network differs from what the paper says of it.
_NOTES = {
    "neurons": "the paper's own counts of layers add up to 622,312; with "
    "290,400 for conv1, to 659,272",
    "multiply-adds an image": "forward, of convolutional and fully connected "
    "layers",
    "patches of an image": "256 - 224 pixels to either side leave 33 positions "
    "along an axis; the 2012 source drew from 33 too",
    "conv1 neurons": "a slip: 253,440 is 55x48x96, the layer has 55x55x96",
    "conv3 share of parameters": "885,120 of 60,965,224 are more than 1 %",
    "conv4 share of parameters": "663,936 of 60,965,224 are more than 1 %",
}


@dataclasses.dataclass(frozen=True)
class PaperFact:
    """A statement of the paper that can be counted.

    Args:
        what: What is counted.
        section: Section of the paper.
        paper: What the paper says, "" if it says nothing.
        counted: What the network has.
        note: Why the two differ.
    """

    what: str
    section: str
    paper: str
    counted: str
    note: str


def count_facts(model: keras.Model, geometry: Geometry) -> list[PaperFact]:
    """Counts in a network what the paper says of its own.

    Args:
        model: Of `models.alexnet`.
        geometry: Sizes of its patches.
    """
    facts = []
    for what, counted in _count(model, geometry).items():
        section, paper = _PAPER.get(what, ("", ""))
        note = _NOTES.get(what, "")
        facts.append(PaperFact(what, section, paper, counted, note))
    return facts


def _count(model, geometry):
    """Returns the counts, formatted, by what is counted."""
    # The towers' parts of each learned layer.
    layers = collections.defaultdict(list)
    for layer in model.layers:
        if isinstance(layer, OnTower) and layer.count_params():
            layers[layer.figure_name].append(layer)
    neurons = {name: _neurons(parts) for name, parts in layers.items()}
    convolutions = [name for name in layers if name.startswith("conv")]
    others = len(layers) - len(convolutions)
    products = sum(map(_multiply_adds, layers.values()))
    patches = 2 * geometry.offsets**2
    parameters = model.count_params()
    counts = {
        "learned layers": f"{len(convolutions)} convolutional, {others} fully "
        "connected",
        "parameters": f"{parameters:,}",
        "neurons": f"{sum(neurons.values()):,}",
        "input numbers": f"{math.prod(model.input_shape[1:]):,}",
        "multiply-adds an image": f"{products:,}",
        "patches of an image": f"{patches:,} = {geometry.offsets} x "
        f"{geometry.offsets} x 2",
        "bits of a label": f"{math.log2(model.output_shape[-1]):.2f}",
    }
    for name, parts in layers.items():
        if name in convolutions:
            height, width, inputs, outputs = parts[0].kernel.shape
            kernels = outputs * len(parts)
            share = sum(part.count_params() for part in parts) / parameters
            counts |= {
                f"{name} kernels": f"{kernels} of {height}x{width}x{inputs}",
                f"{name} share of parameters": f"{share:.2%}",
            }
        counts[f"{name} neurons"] = f"{neurons[name]:,}"
    return counts


def _neurons(parts):
    sizes = [math.prod(part.output.shape[1:]) for part in parts]
    # All towers make the outputs of fc8 together.
    return sizes[0] if parts[0].figure_name == "fc8" else sum(sizes)


def _multiply_adds(parts):
    """Returns the products of one image: positions times kernel numbers."""
    return sum(
        math.prod(part.output.shape[1:-1]) * math.prod(part.kernel.shape)
        for part in parts
    )
