"""Compares runs that differ in their settings, over their seeds."""

import dataclasses
import math
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.evaluation import comparison, comparison_plot, plots
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import RunDir


def run(config: Config, runs: list[Config]) -> int:
    """Prints a table of the variants of a run, and draws their errors.

    Args:
        config: The settings of the command line.
        runs: The settings of each run; those of equal settings but for the
            seed make a row, the first of them is what others differ from.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if no run is given, or one is not finished.
    """
    if not runs[0].run_dir:
        raise UserError("compare RUN_DIR...: give at least one run directory.")
    # So that `runs/a-* runs/*` begins with some and has none twice.
    by_path = {Path(settings.run_dir).resolve(): settings for settings in runs}
    variants = comparison.read_variants(
        [
            (dataclasses.asdict(settings), RunDir(path))
            for path, settings in by_path.items()
        ]
    )
    print(comparison.as_table(variants, config.training_error))
    target = Path(config.figures_dir or "figures")
    for name, draw in (
        ("compared_errors", comparison_plot.errors),
        ("compared_curves", comparison_plot.curves),
    ):
        for file in plots.save(draw(variants), target, name=name):
            print(file)
    write_report(
        config.json,
        {
            variant.name: {
                **{
                    name: [result[name] for result in variant.results]
                    for name in ("top1_error", "top5_error")
                },
                "epochs": [
                    epochs if math.isfinite(epochs) else None
                    for epochs in variant.epochs_to(config.training_error)
                ],
                "images_per_second": variant.speed(),
            }
            for variant in variants
        },
    )
    return 0
