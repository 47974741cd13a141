"""Which weights a network begins with, and which of them stay."""

import collections
from pathlib import Path

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage import checkpoints, variables
from alexnet_tf.storage.dataset_info import read_facts
from alexnet_tf.storage.run_dir import RunDir


def best_checkpoint(run: RunDir) -> Path:
    """Returns the best checkpoint of a run.

    Raises:
        UserError: if there is no such run, or it has none.
    """
    read_facts(run)
    checkpoint = checkpoints.best(run.checkpoints)
    if checkpoint is None:
        raise UserError(
            f"{run.path} has no checkpoint yet; the first one is written "
            "after the first epoch."
        )
    return checkpoint


def restore_best(model: keras.Model, run: RunDir) -> dict:
    """Gives a model the weights of a run's best checkpoint.

    Returns:
        The checkpoint's state.

    Raises:
        UserError: if there is no such run, it has no checkpoint, or its
            network is another one.
    """
    checkpoint = best_checkpoint(run)
    variables.restore(checkpoint, model.variables)
    return checkpoints.read_state(checkpoint)


def start_from(checkpoint: Path, model: keras.Model) -> None:
    """Gives layers another run's weights where they fit, and says which.

    Raises:
        UserError: if none fits.
    """
    taken, left = variables.restore_fitting(checkpoint, model)
    if not taken:
        raise UserError(
            f"--init_from: no layer of {checkpoint} fits this network; its "
            "names and shapes come from --width, --towers, --kernels and "
            "--crop_size."
        )
    print(f"Weights from {checkpoint}: {', '.join(taken)}")
    print(f"Weights drawn anew: {', '.join(left) or 'none'}")


def freeze(model: keras.Model, names: str) -> None:
    """Excludes layers from training.

    Args:
        model: The network.
        names: Names of layers without the tower, as "conv1,conv2".

    Raises:
        UserError: if there is no such layer, or nothing is left to train.
    """
    layers = collections.defaultdict(list)
    for layer in model.layers:
        if layer.trainable_variables:
            layers[layer.name.split("_tower")[0]].append(layer)
    for name in filter(None, names.split(",")):
        if name not in layers:
            raise UserError(
                f"--freeze={names}: there is no layer {name!r} with weights; "
                f"this network has {', '.join(layers)}."
            )
        for layer in layers[name]:
            layer.trainable = False
    if not model.trainable_variables:
        raise UserError(
            f"--freeze={names} leaves nothing to train; leave fc8 out."
        )
