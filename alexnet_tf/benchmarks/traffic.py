"""Traffic between devices in a training step, read off its graph."""

import dataclasses
import re

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A tensor that is made on one device and used on another."""

    layer: str  # Such as fork2_tower0.
    backward: bool  # Whether it is a gradient.
    source: str  # Device that makes it, such as CPU:0.
    destination: str  # Device that uses it, however often.
    numbers: int  # Number of elements.
    bytes: int


def trace_training_step(
    model: keras.Model, images_per_replica: int
) -> tf.Graph:
    """Returns the graph of a training step of a compiled model, not run.

    It has the forward and backward passes, the sum of the gradients over the
    replicas and the update of all variables.
    """
    strategy = model.distribute_strategy

    @tf.function
    def step(images, labels):
        return strategy.run(model.train_step, args=((images, labels),))

    (images,) = model.inputs
    shape = (images_per_replica, *images.shape[1:])
    labels = tf.TensorSpec((images_per_replica,), tf.int64)
    images = tf.TensorSpec(shape, images.dtype)
    return step.get_concrete_function(images, labels).graph


def find_transfers(graph: tf.Graph) -> list[Transfer]:
    """Returns the tensors that cross between devices.

    A tensor counts once for each other device that uses it. Variables' handles,
    which are references, constants, which every device has, and the inputs of
    the graph, which have no device, do not count.
    """
    found = {}
    for operation in graph.get_operations():
        destination = _device(operation)
        for tensor in operation.inputs:
            source = _device(tensor.op)
            if (
                source and destination and source != destination
                and tensor.dtype != tf.resource
                and tensor.op.type != "Const"
            ):  # fmt: skip
                key = (tensor.name, destination)
                found[key] = _transfer(tensor, operation, source, destination)
    return list(found.values())


def _transfer(tensor, operation, source, destination):
    # A gradient of the loss has no layer's name; the layer it goes to has.
    layer = re.search(r"\w+?_tower\d+", f"{tensor.name} {operation.name}")
    numbers = tensor.shape.num_elements() or 0
    return Transfer(
        layer=layer.group() if layer else tensor.op.name,
        backward=tensor.name.startswith("gradient_tape"),
        source=source,
        destination=destination,
        numbers=numbers,
        bytes=numbers * tensor.dtype.size,
    )


def _device(operation):
    """Returns a device as CPU:0, or "" if none is given."""
    match = re.search(r"[CG]PU:\d+", operation.device)
    return match.group() if match else ""
