"""Draws what runs have recorded, as PNG and SVG."""

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.evaluation import plots
from alexnet_tf.storage.run_dir import RunDir

_COLUMNS = (
    "step",
    "learning_rate",
    "loss",
    "top1_error",
    "val_loss",
    "val_top1_error",
)


def run(config: Config, runs: list[Config]) -> int:
    """Draws the learning curves of runs, and pictures of each.

    Args:
        config: The settings of the command line.
        runs: For each run its own settings, and those of the command line.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if no run is given, a directory is not that of a run with
            a finished epoch, or the figures cannot be written.
    """
    if not runs[0].run_dir:
        raise UserError("figures RUN_DIR...: give at least one run directory.")
    # By absolute path: a run given twice is one.
    runs = list({_absolute(s.run_dir): s for s in runs}.values())
    directories = [settings.run_dir for settings in runs]
    target = Path(config.figures_dir or Path(directories[0]) / "figures")
    trained = [d for d in directories if not RunDir(Path(d)).is_imported]
    if trained:
        _save(draw_learning_curves(trained), target, "curves")
    with_weights = [
        settings
        for settings in runs
        if any(RunDir(Path(settings.run_dir)).checkpoints.glob("step-*"))
    ]
    if config.curves_only and not trained:
        raise UserError(
            f"{directories[0]} is imported and has no learning curves; leave "
            "out --curves_only."
        )
    if config.curves_only or not with_weights:
        return 0
    # It needs TensorFlow, which takes seconds to import; curves do not.
    gallery = importlib.import_module("alexnet_tf.evaluation.gallery")
    names = _short_names([_absolute(s.run_dir) for s in with_weights])
    for settings, name in zip(with_weights, names, strict=True):
        suffix = f"-{name.replace('/', '-')}" if len(with_weights) > 1 else ""
        for kind, figure in gallery.draw_run(settings).items():
            _save(figure, target, f"{kind}{suffix}")
    return 0


def _save(figure, target, name):
    files = plots.save(figure, target, name=name)
    print("\n".join(map(str, files)), flush=True)


def draw_learning_curves(directories: Sequence[str]) -> Figure:
    """Draws the curves of runs, named as their directories are.

    Raises:
        UserError: if a directory is not that of a run with a finished epoch.
    """
    # By absolute path: "." has a name then.
    runs = {_absolute(d): RunDir(Path(d)) for d in directories}
    names = _short_names(list(runs))
    histories = [run.read_columns(_COLUMNS) for run in runs.values()]
    return plots.learning_curves(
        dict(zip(names, histories, strict=True)),
        num_classes=_common_num_classes(runs.values()),
    )


def _absolute(directory):
    return Path(os.path.abspath(directory))


def _common_num_classes(runs):
    """Returns the number of classes, None if unknown or not the same."""
    numbers = {_num_classes(run) for run in runs}
    return numbers.pop() if len(numbers) == 1 else None


def _num_classes(run):
    if not run.dataset.exists():
        return None
    return len(json.loads(run.dataset.read_text())["class_names"])


def _short_names(paths):
    """Returns the names of directories, with parents where they are equal."""
    names = []
    for path in paths:
        depth = 1
        while sum(p.parts[-depth:] == path.parts[-depth:] for p in paths) > 1:
            depth += 1
        names.append(Path(*path.parts[-depth:]).as_posix())
    return names
