"""Variables of a model, to and from the arrays in a checkpoint."""

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from alexnet_tf.config.errors import UserError

# The file of a checkpoint that has them, by their paths.
VARIABLES = "variables.npz"


def values_of(variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Returns the values of variables by their paths."""
    return {variable.path: variable.numpy() for variable in variables}


def restore(checkpoint: Path, variables: Iterable[keras.Variable]) -> None:
    """Gives variables the values they had.

    Args:
        checkpoint: The checkpoint.
        variables: Variables with the same paths and shapes as those saved;
            some of them may be left out.

    Raises:
        UserError: if a variable is not in the checkpoint or has another shape.
    """
    with np.load(checkpoint / VARIABLES) as saved:
        for variable in variables:
            if variable.path not in saved:
                raise UserError(
                    f"{checkpoint} has no variable {variable.path}; it is of "
                    "another network. Use the settings it was made with."
                )
            value = saved[variable.path]
            if value.shape != tuple(variable.shape):
                raise UserError(
                    f"{variable.path} has shape {value.shape} in {checkpoint} "
                    f"but {tuple(variable.shape)} in this network. Use the "
                    "settings the checkpoint was made with."
                )
            variable.assign(value)


def restore_fitting(
    checkpoint: Path, model: keras.Model
) -> tuple[list[str], list[str]]:
    """Gives layers the weights of another network's, where they fit.

    Args:
        checkpoint: A checkpoint of any network.
        model: The network to change.

    Returns:
        The names of the layers that were given weights of the same shapes by
        the layer of the same name, and of the other layers with weights.
    """
    taken, left = [], []
    with np.load(checkpoint / VARIABLES) as saved:
        for layer in model.layers:
            weights = layer.weights  # Frozen ones, too.
            found = {v.path: saved[v.path] for v in weights if v.path in saved}
            fits = all(
                v.path in found and found[v.path].shape == tuple(v.shape)
                for v in weights
            )
            for variable in weights if fits else ():
                variable.assign(found[variable.path])
            if weights:
                (taken if fits else left).append(layer.name)
    return taken, left


def read_prefixed(checkpoint: Path, prefix: str) -> dict[str, np.ndarray]:
    """Returns the values whose names begin with `prefix`."""
    with np.load(checkpoint / VARIABLES) as saved:
        return {name: saved[name] for name in saved if name.startswith(prefix)}
