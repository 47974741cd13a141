"""Draws the records of runs, as PNG and SVG."""

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
    *("step", "learning_rate", "loss", "top1_error"),
    *("val_loss", "val_top1_error"),
)


def run(config: Config, runs: list[Config]) -> int:
    """Draws the learning curves of runs, and pictures of each."""
    if not runs[0].run_dir:
        raise UserError("figures RUN_DIR...: give at least one run directory.")
    # By absolute path: a run given twice is drawn once.
    settings = {_absolute(s.run_dir): s for s in runs}
    run_dirs = {path: RunDir(Path(s.run_dir)) for path, s in settings.items()}
    first = run_dirs[next(iter(run_dirs))]
    target = config.figures_dir or first.path / "figures"
    trained = [r.path for r in run_dirs.values() if not r.is_imported]
    if trained:
        plots.save(draw_learning_curves(trained), target, name="curves")
    if config.curves_only:
        if not trained:
            raise UserError(
                f"{first.path} is imported and has no learning curves; leave "
                "out --curves_only."
            )
        return 0
    with_weights = [
        path
        for path, run_dir in run_dirs.items()
        if any(run_dir.checkpoints.glob("step-*"))
    ]
    if not with_weights:
        return 0
    # It needs TensorFlow, which takes seconds to import; curves do not.
    gallery = importlib.import_module("alexnet_tf.evaluation.gallery")
    for path, name in zip(
        with_weights, _short_names(with_weights), strict=True
    ):
        suffix = f"-{name.replace('/', '-')}" if len(with_weights) > 1 else ""
        for kind, figure in gallery.draw_run(settings[path]).items():
            plots.save(figure, target, name=f"{kind}{suffix}")
    return 0


def draw_learning_curves(directories: Sequence[Path | str]) -> Figure:
    """Draws the curves of runs, named as their directories are."""
    # By absolute path, where "." has a name.
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
    counts = {
        len(json.loads(run.dataset.read_text())["class_names"])
        if run.dataset.exists()
        else None
        for run in runs
    }
    return counts.pop() if len(counts) == 1 else None


def _short_names(paths):
    """Returns the names of directories, with parents where they are equal."""
    names = []
    for path in paths:
        depth = 1
        while sum(p.parts[-depth:] == path.parts[-depth:] for p in paths) > 1:
            depth += 1
        names.append(Path(*path.parts[-depth:]).as_posix())
    return names
