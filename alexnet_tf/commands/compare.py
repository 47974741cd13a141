"""Compares runs that differ in their settings, over their seeds."""

import math

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.evaluation import comparison, plots
from alexnet_tf.storage.files import write_report


def run(config: Config, runs: list[Config]) -> int:
    """Prints a table of the runs' variants, and draws their errors."""
    if not runs[0].run_dir:
        raise UserError("compare RUN_DIR...: give at least one run directory.")
    variants, lines = comparison.read_variants(runs)
    for line in lines:
        print(f"{line}\n")
    print(comparison.format_variants(variants, config.training_error))
    errors = comparison.draw_errors(variants, lines)
    plots.save(errors, config.figures_dir, name="compared_errors")
    if any(
        len(set(v.seeds) & set(variants[0].seeds)) > 1 for v in variants[1:]
    ):
        differences = comparison.draw_differences(variants, lines)
        plots.save(differences, config.figures_dir, name="compared_differences")
    curves = comparison.draw_curves(variants, lines)
    plots.save(curves, config.figures_dir, name="compared_curves")
    curves = comparison.draw_curves(variants, lines, config.training_error)
    plots.save(curves, config.figures_dir, name="compared_training")
    report = {}
    for variant in variants:
        epochs = variant.epochs_to(config.training_error)
        report[variant.name] = {
            "settings": variant.flags,
            "top1_error": [result["top1_error"] for result in variant.results],
            "top5_error": [result["top5_error"] for result in variant.results],
            "seeds": variant.seeds,
            "differences": {
                name: [
                    points / 100
                    for points in variant.differences(variants[0], column)
                ]
                for name, column in comparison.COLUMNS.items()
            },
            "epochs": [n if math.isfinite(n) else None for n in epochs],
            "images_per_second": variant.speed(),
        }
    write_report(config.json, report)
    return 0
