"""What the paper says of its network, beside what is counted in this one."""

import dataclasses
import math
import re

import keras

from alexnet_tf.config.data import Geometry

_COUNTED = "models/test_paper_facts.py::test_what_is_counted_is_the_papers"
_SHAPES = "models/test_alexnet.py::test_layers_are_those_of_figure_2"
_PARAMETERS = "models/test_alexnet.py::test_number_of_parameters"
_PLACES = "data/test_decoding.py::test_all_places_of_the_patch_are_drawn"

# Layers of Figure 2: name, kernels and their size, neurons.
_FIGURE_2 = {
    "conv1": ("96 of 11x11x3", "253,440"),
    "conv2": ("256 of 5x5x48", "186,624"),
    "conv3": ("384 of 3x3x256", "64,896"),
    "conv4": ("384 of 3x3x192", "64,896"),
    "conv5": ("256 of 3x3x192", "43,264"),
    "fc6": (None, "4,096"),
    "fc7": (None, "4,096"),
    "fc8": (None, "1,000"),
}


@dataclasses.dataclass(frozen=True)
class PaperFact:
    """A statement of the paper that can be counted.

    Args:
        about: What is counted.
        section: Section of the paper.
        paper: What the paper says, "" if it says nothing.
        here: What this network has.
        test: The test that holds it, in tests/.
        note: Why the two differ.
    """

    about: str
    section: str
    paper: str
    here: str
    test: str
    note: str = ""


def count_facts(model: keras.Model, geometry: Geometry) -> list[PaperFact]:
    """Counts what the paper says of its network in a network.

    Args:
        model: Of `model.alexnet`.
        geometry: Sizes of its patches.
    """
    layers = _learned_layers(model)
    neurons = {name: _neurons(parts) for name, parts in layers.items()}
    return [
        *_of_the_whole(model, layers, neurons, geometry),
        *_of_each_layer(model, layers, neurons),
    ]


def _of_the_whole(model, layers, neurons, geometry):
    convolutions = [name for name in layers if name.startswith("conv")]
    others = len(layers) - len(convolutions)
    classes = model.output_shape[-1]
    places = geometry.offsets
    return [
        PaperFact(
            "learned layers",
            "3",
            "5 convolutional, 3 fully connected",
            f"{len(convolutions)} convolutional, {others} fully connected",
            _SHAPES,
        ),
        PaperFact("parameters", "abstract", "60 million",
              f"{model.count_params():,}", _PARAMETERS),
        PaperFact("neurons", "abstract", "650,000",
              f"{sum(neurons.values()):,}", _COUNTED,
              "the paper's own counts of layers add up to 622,312; with "
              "290,400 for conv1, to 659,272"),
        PaperFact("input numbers", "3.5", "150,528",
              f"{math.prod(model.input_shape[1:]):,}", _COUNTED),
        PaperFact("multiply-adds an image", "", "",
              f"{sum(map(_multiply_adds, layers.values())):,}", _COUNTED,
              "forward, of convolutional and fully connected layers"),
        PaperFact("patches of an image", "4.1", "2,048 = 32 x 32 x 2",
              f"{2 * places**2:,} = {places} x {places} x 2", _PLACES,
              "256 - 224 pixels to either side leave 33 places along an axis; "
              "the 2012 source drew from 33 too"),
        PaperFact("bits of a label", "4", "10", f"{math.log2(classes):.2f}",
              _COUNTED),
    ]  # fmt: skip


def _of_each_layer(model, layers, neurons):
    for name, parts in layers.items():
        kernels_in_paper, neurons_in_paper = _FIGURE_2.get(name, ("", ""))
        if name.startswith("conv"):
            height, width, inputs, outputs = parts[0].kernel.shape
            yield PaperFact(
                f"{name} kernels",
                "3.5",
                kernels_in_paper,
                f"{outputs * len(parts)} of {height}x{width}x{inputs}",
                _SHAPES,
            )
            parameters = sum(part.count_params() for part in parts)
            share = parameters / model.count_params()
            yield PaperFact(
                f"{name} share of parameters",
                "1",
                "at most 1 %",
                f"{share:.2%}",
                _COUNTED,
                f"of {model.count_params():,}; more than 1 %"
                if share > 0.01
                else "",
            )
        yield PaperFact(
            f"{name} neurons",
            "Figure 2",
            neurons_in_paper,
            f"{neurons[name]:,}",
            _COUNTED,
            "a slip: 253,440 is 55x48x96, the layer has 55x55x96"
            if name == "conv1"
            else "",
        )


def _learned_layers(model):
    """Returns the towers' layers that have kernels, by the paper's name."""
    found = {}
    for layer in model.layers:
        match = re.fullmatch(r"((?:conv|fc)\w+)_tower\d+", layer.name)
        if match:
            found.setdefault(match[1], []).append(layer)
    return found


def _neurons(parts):
    sizes = [math.prod(part.output.shape[1:]) for part in parts]
    # All towers make the outputs of fc8 together.
    return sizes[0] if parts[0].name.startswith("fc8") else sum(sizes)


def _multiply_adds(parts):
    """Returns the products of one image: places times kernel numbers."""
    return sum(
        math.prod(part.output.shape[1:-1]) * math.prod(part.kernel.shape)
        for part in parts
    )
