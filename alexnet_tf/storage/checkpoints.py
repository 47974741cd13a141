"""Checkpoints: the state of a run on disk, complete or absent.

A checkpoint is a directory such as `step-00000930` (`step-00000930-2` if that
step has one already) that contains

    variables.npz   arrays by the path of their variable, conv1_tower0/kernel
    state.json      all other state
    manifest.json   sizes and checksums of both files

It is written under another name, synced to disk, renamed, and never replaced:
one with such a name is complete unless it was damaged later, which the
checksums show. Paths do not depend on devices, so that a checkpoint fits any
number of replicas.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.files import checksum, read_json, sync

if typing.TYPE_CHECKING:
    import keras  # It takes seconds to import, and figures do without it.

_VARIABLES, _STATE = "variables.npz", "state.json"
_FILES = (_VARIABLES, _STATE)
_REMOVED = ".removed-"
_NAME = re.compile(r"step-(\d+)(?:-(\d+))?")


def save(directory: Path, values: dict[str, np.ndarray], state: dict) -> None:
    """Writes a checkpoint; if that fails, earlier ones stay as they are.

    `values` are by the paths of their variables. The `state`, JSON values, has
    `step`, and `val_top1_error` and `val_loss`, None within an epoch.
    """
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise UserError(
                f"{name} has values that are not finite; no checkpoint is "
                f"written. The last good one is {newest(directory)}."
            )
    target = _new_name(directory, state["step"])
    aside = directory / ".writing"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        np.savez(aside / _VARIABLES, allow_pickle=False, **values)
        (aside / _STATE).write_text(json.dumps(state, indent=2))
        manifest = {name: _describe(aside / name) for name in _FILES}
        (aside / "manifest.json").write_text(json.dumps(manifest, indent=2))
        for written in (*aside.iterdir(), aside):
            sync(written)
        aside.rename(target)
        sync(directory)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"checkpoint {target} cannot be written: {error.strerror}.\n"
            "Earlier checkpoints are complete; make room, then start the same "
            "command again to resume from the newest."
        ) from error


def _new_name(directory, step):
    """Returns an unused name that sorts after all others of the step."""
    numbers = [_order(c)[1] for c in _all(directory) if _order(c)[0] == step]
    suffix = f"-{numbers[-1] + 1}" if numbers else ""
    return directory / f"step-{step:08d}{suffix}"


def _describe(file):
    return {"bytes": file.stat().st_size, "sha256": checksum(file)}


def damage(checkpoint: Path, files: Sequence[str] = _FILES) -> str:
    """Returns what is wrong with a checkpoint's files, "" if nothing."""
    try:
        entries = dict.fromkeys(_FILES, dict)
        manifest = read_json(checkpoint / "manifest.json", entries, "")
        for name in files:
            found, expected = _describe(checkpoint / name), manifest[name]
            if found != expected:
                return f"{name} has {found}, not {expected}"
    except (OSError, UserError) as error:
        return str(error).rstrip(". ")
    return ""


# A long run reads a checkpoint once, not at each save.
@functools.lru_cache(maxsize=100)
def _damage_at(checkpoint, *times):
    return damage(checkpoint)


def _times(checkpoint):
    """Returns when each file was changed, and its size."""
    found = [file.lstat() for file in sorted(checkpoint.glob("*"))]
    return [(status.st_mtime_ns, status.st_size) for status in found]


def newest(directory: Path) -> Path | None:
    """Returns the newest checkpoint, None if there is none.

    Damaged ones are reported and skipped; it is an error if all are damaged.
    """
    return _first_undamaged(directory, reversed(_all(directory)))


def best(directory: Path) -> Path | None:
    """Returns the checkpoint with the lowest validation error, then loss.

    None if none has an error; damaged ones are treated as by `newest`.
    """
    found = _all(directory)
    readable = [c for c in found if not damage(c, [_STATE])]
    unreadable = [c for c in found if c not in readable]
    # Whether one of those was better is unknown, so they are reported, too.
    return _first_undamaged(directory, [*unreadable, *_best_first(readable)])


def _first_undamaged(directory, candidates):
    reason = ""
    for checkpoint in candidates:
        reason = damage(checkpoint)
        if not reason:
            return checkpoint
        # Not among results, which may be JSON.
        text = f"{checkpoint} is damaged and skipped: {reason}."
        print(text, file=sys.stderr)
    if reason:
        raise UserError(
            f"all checkpoints in {directory} that may be used are damaged, the "
            f"last one since {reason};\nrestore one from a copy, or start over "
            "in another --run_dir."
        )
    return None


def prune(directory: Path, *, keep: int) -> None:
    """Removes all but the best checkpoint and the last ones of `keep` steps.

    Damaged ones do not count, and stay.
    """
    whole = [c for c in _all(directory) if not _damage_at(c, *_times(c))]
    last_of_step = {_order(c)[0]: c for c in whole}
    kept = _best_first(whole)[:1] + list(last_of_step.values())[-keep:]
    for checkpoint in whole:
        if checkpoint not in kept:  # In one step, so that none is cut.
            checkpoint.rename(directory / f"{_REMOVED}{checkpoint.name}")
    for removed in directory.glob(f"{_REMOVED}*"):
        shutil.rmtree(removed)


def _all(directory):
    """Returns the checkpoints, the oldest first; others' files are ignored."""
    found = [c for c in directory.glob("step-*") if _NAME.fullmatch(c.name)]
    return sorted(found, key=_order)


def _order(checkpoint):
    """Returns the step and the number among those of the step, from 1."""
    step, number = _NAME.fullmatch(checkpoint.name).groups(default=1)
    return int(step), int(number)


def _best_first(candidates):
    """Returns the checkpoints with an error, the lowest first."""
    errors = {}
    for checkpoint in candidates:
        state = read_state(checkpoint)
        error, loss = state["val_top1_error"], state.get("val_loss", 0.0)
        if error is not None:
            errors[checkpoint] = error, loss
    return sorted(errors, key=errors.get)


def states(directory: Path) -> list[dict]:
    """Returns the states that can be read, the oldest first."""
    found = [c for c in _all(directory) if not damage(c, [_STATE])]
    return [read_state(checkpoint) for checkpoint in found]


def read_state(checkpoint: Path) -> dict:
    """Returns the `state` that was saved."""
    return json.loads((checkpoint / _STATE).read_text())


def values_of(variables: Iterable[keras.Variable]) -> dict[str, np.ndarray]:
    """Returns the values of variables by their paths."""
    return {variable.path: variable.numpy() for variable in variables}


def restore(checkpoint: Path, variables: Iterable[keras.Variable]) -> None:
    """Restores variables, all or some of those that were saved."""
    with np.load(checkpoint / _VARIABLES) as saved:
        for variable in variables:
            if variable.path not in saved:
                raise UserError(
                    f"{checkpoint} has no variable {variable.path}; it belongs "
                    "to another network. Use the settings it was saved with."
                )
            value = saved[variable.path]
            if value.shape != tuple(variable.shape):
                raise UserError(
                    f"{variable.path} has shape {value.shape} in {checkpoint} "
                    f"but {tuple(variable.shape)} in this network. Use the "
                    "settings the checkpoint was saved with."
                )
            variable.assign(value)


def restore_fitting(
    checkpoint: Path, model: keras.Model
) -> tuple[list[str], list[str]]:
    """Restores the layers whose names and shapes fit another network's.

    Returns the names of these layers, and of the other layers with weights.
    """
    taken: list[str] = []
    left: list[str] = []
    with np.load(checkpoint / _VARIABLES) as saved:
        for layer in model.layers:
            weights = layer.weights  # Including frozen ones.
            found = {v.path: saved[v.path] for v in weights if v.path in saved}
            shapes = {path: array.shape for path, array in found.items()}
            if shapes != {v.path: tuple(v.shape) for v in weights}:
                left.append(layer.name)
            elif weights:
                taken.append(layer.name)
                for variable in weights:
                    variable.assign(found[variable.path])
    return taken, left


def read_prefixed(checkpoint: Path, prefix: str) -> dict[str, np.ndarray]:
    """Returns the values whose names begin with `prefix`."""
    with np.load(checkpoint / _VARIABLES) as saved:
        return {name: saved[name] for name in saved if name.startswith(prefix)}
