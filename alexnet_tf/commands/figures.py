"""Draws the records of runs, as PNG and SVG."""

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.distribution.startup import import_quietly
from alexnet_tf.evaluation import plots
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir, open_run

_COLUMNS = (
    "learning_rate loss top1_error top5_error val_loss val_top1_error "
    "val_top5_error"
).split()


def run(config: Config, runs: list[Config]) -> int:
    """Draws the learning curves of runs, and pictures of each."""
    if not runs[0].run_dir:
        raise UserError("figures RUN_DIR...: give at least one run directory.")
    first = Path(runs[0].run_dir)
    target = config.figures_dir or first / "figures"
    directories = [Path(settings.run_dir) for settings in runs]
    trained = [d for d in directories if not RunDir(d).is_imported]
    if trained:
        plots.save(draw_learning_curves(trained), target, name="curves")
    elif config.curves_only:
        raise UserError(
            f"{first} is imported and has no learning curves; leave out "
            "--curves_only."
        )
    # By absolute path: a run given twice is drawn once.
    settings = {_absolute(s.run_dir): s for s in runs}
    drawn = [p for p in settings if any(p.glob("checkpoints/step-*"))]
    if config.curves_only or not drawn:
        return 0
    # These need TensorFlow, which takes seconds to import; curves do not.
    build, gallery, kernels = (
        import_quietly(f"alexnet_tf.{name}", debug=config.debug)
        for name in ("models.build", "evaluation.gallery", "evaluation.kernels")
    )
    colors = {}
    for path, name in zip(drawn, _short_names(drawn), strict=True):
        model, _ = build.load_trained(settings[path], open_run(str(path)))
        suffix = f"-{name.replace('/', '-')}" if len(drawn) > 1 else ""
        towers = kernels.first_kernels(model)
        drawing = kernels.draw_kernels(towers)
        plots.save(drawing, target, name=f"kernels{suffix}")
        if len(towers) == 2:
            colors[name] = [*map(kernels.colorfulness, towers)]
        pictures = gallery.draw_images(settings[path], model)
        for kind, figure in pictures.items():
            plots.save(figure, target, name=f"{kind}{suffix}")
    if colors:
        print(kernels.format_towers(colors))
        plots.save(kernels.draw_towers(colors), target, name="towers")
    return 0


def draw_learning_curves(directories: Sequence[Path | str]) -> Figure:
    """Draws the curves of runs, named as their directories are."""
    # By absolute path, where "." has a name; a run given twice is drawn once.
    runs = {_absolute(d): RunDir(Path(d)) for d in directories}
    histories = [run.read_columns(_COLUMNS) for run in runs.values()]
    named = dict(zip(_short_names(list(runs)), histories, strict=True))
    counts = [len(read_dataset_info(r).class_names) for r in runs.values()]
    return plots.learning_curves(named, counts)


def _absolute(directory):
    return Path(os.path.abspath(directory))


def _short_names(paths):
    """Returns the names of directories, with parents where they are equal."""
    names = []
    for path in paths:
        depth = 1
        while sum(p.parts[-depth:] == path.parts[-depth:] for p in paths) > 1:
            depth += 1
        names.append(Path(*path.parts[-depth:]).as_posix())
    return names
