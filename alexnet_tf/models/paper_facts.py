"""What the paper says about its network, compared with a network's counts."""

import dataclasses
import math

import keras

from alexnet_tf.config.data import Geometry
from alexnet_tf.models.convolution import LocallyConnected2D
from alexnet_tf.models.tower_layers import learned_layers

# What is counted: section of the paper, and what it says.
_PAPER = {
    "convolutional layers": ("3", "5"),
    "fully connected layers": ("3", "3"),
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
    **{
        f"conv{number} share of parameters": ("1", "at most 1 %")
        for number in range(1, 6)
    },
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
    "patches of an image": "{image_size} - {crop_size} pixels leave {offsets} "
    "positions along an axis; the 2012 source drew from 33, too",
    "conv1 neurons": "a slip: 253,440 is 55x48x96, the layer has 55x55x96",
    "conv3 share of parameters": "885,120 of the paper's 60,965,224",
    "conv4 share of parameters": "663,936 of the paper's 60,965,224",
}


@dataclasses.dataclass(frozen=True)
class PaperFact:
    """What the paper says, "" for nothing, and what the network has."""

    what: str
    section: str
    paper: str
    counted: str
    note: str  # Why the two differ.


def count_facts(model: keras.Model, geometry: Geometry) -> list[PaperFact]:
    """Counts in a network of `alexnet` what the paper says of its own."""
    facts = []
    for what, counted in _count(model, geometry.offsets).items():
        section, paper = _PAPER.get(what, ("", ""))
        note = _NOTES.get(what, "").format(
            image_size=geometry.image_size,
            crop_size=geometry.crop_size,
            offsets=geometry.offsets,
        )
        facts.append(PaperFact(what, section, paper, counted, note))
    return facts


def count_multiply_adds(model: keras.Model) -> int:
    """Returns a forward pass's multiplications by a weight, per image."""
    count = 0
    for layer in model.layers:
        if getattr(layer, "kernel", None) is None:
            continue
        uses = math.prod(layer.output.shape[1:-1])  # Of each weight.
        if isinstance(layer, LocallyConnected2D):
            uses = 1
        count += uses * math.prod(layer.kernel.shape)
    return count


def _count(model, offsets):
    """Returns the counts, formatted, by what is counted."""
    layers = learned_layers(model)
    parameters = model.count_params()
    convolutions = neurons = 0
    of_layers = {}
    for name, parts in layers.items():
        *window, inputs, outputs = parts[0].kernel.shape
        if window:
            convolutions += 1
            share = sum(part.count_params() for part in parts) / parameters
            size = "x".join(map(str, (*window, inputs)))
            of_layers[f"{name} kernels"] = f"{outputs * len(parts)} of {size}"
            of_layers[f"{name} share of parameters"] = f"{share:.2%}"
        own = math.prod(parts[0].output.shape[1:])
        if name != "fc8":  # All towers make the outputs of fc8 together.
            own *= len(parts)
        neurons += own
        of_layers[f"{name} neurons"] = f"{own:,}"
    patches = f"{2 * offsets**2:,} = {offsets} x {offsets} x 2"
    return {
        "convolutional layers": f"{convolutions}",
        "fully connected layers": f"{len(layers) - convolutions}",
        "parameters": f"{parameters:,}",
        "neurons": f"{neurons:,}",
        "input numbers": f"{math.prod(model.input_shape[1:]):,}",
        "multiply-adds an image": f"{count_multiply_adds(model):,}",
        "patches of an image": patches,
        "bits of a label": f"{math.log2(model.output_shape[-1]):.2f}",
        **of_layers,
    }
