"""Checkpoints: every variable of a run by its name, complete or absent.

A checkpoint is a directory `step-00000930` with `variables.npz`, which maps
the paths of Keras variables (conv1_tower0/kernel, ...) to arrays, and
`state.json` with what is not a variable. It is written aside, synced to disk
and renamed, so that one with that name is always whole. Paths do not depend on
devices: a checkpoint made with any number of replicas serves any other.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from alexnet_tf.errors import UserError


def save(
    directory: Path, variables: Iterable[keras.Variable], state: dict
) -> None:
    """Writes a checkpoint.

    Args:
        directory: Where the run keeps its checkpoints.
        variables: The variables to save.
        state: JSON values, among them `step` and `val_top1_error`.
    """
    target = directory / f"step-{state['step']:08d}"
    aside = directory / f".writing-{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with (aside / "variables.npz").open("wb") as file:
        np.savez(file, **{v.path: v.numpy() for v in variables})
        _sync(file)
    with (aside / "state.json").open("w") as file:
        json.dump(state, file, indent=2)
        _sync(file)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def _sync(file):
    file.flush()
    os.fsync(file.fileno())


def newest(directory: Path) -> Path | None:
    """Returns the newest checkpoint, None if there is none."""
    found = _all(directory)
    return found[-1] if found else None


def best(directory: Path) -> Path | None:
    """Returns the checkpoint with the lowest error, the older of equals."""
    return min(_all(directory), key=_error, default=None)


def prune(directory: Path, *, keep: int) -> None:
    """Removes all but the `keep` newest checkpoints and the best one."""
    found = _all(directory)
    kept = {*found[-keep:], best(directory)}
    for checkpoint in found:
        if checkpoint not in kept:
            shutil.rmtree(checkpoint)


def _all(directory):
    return sorted(directory.glob("step-*"))


def _error(checkpoint):
    return read_state(checkpoint)["val_top1_error"]


def read_state(checkpoint: Path) -> dict:
    """Returns what `save` was given as `state`."""
    return json.loads((checkpoint / "state.json").read_text())


def restore(checkpoint: Path, variables: Iterable[keras.Variable]) -> None:
    """Gives variables the values they had.

    Args:
        checkpoint: The checkpoint.
        variables: Variables with the same paths and shapes as those saved;
            some of them may be left out.

    Raises:
        UserError: if a variable is not in the checkpoint or has another shape.
    """
    with np.load(checkpoint / "variables.npz") as saved:
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
    with np.load(checkpoint / "variables.npz") as saved:
        for layer in model.layers:
            weights = layer.trainable_variables
            fits = all(
                v.path in saved and saved[v.path].shape == tuple(v.shape)
                for v in weights
            )
            for variable in weights if fits else ():
                variable.assign(saved[variable.path])
            if weights:
                (taken if fits else left).append(layer.name)
    return taken, left
