"""Runs that differ in settings and seeds: the effect of each setting."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, absolute
from alexnet_tf.evaluation.plots import COLORS, make_figure, make_plain
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.storage.run_dir import RunDir

# Runs that differ in these alone are of one variant.
_INCIDENTAL = ("seed", "run_dir", "data_dir", "prepared_dir", "gpus")
_COLUMNS = ("top1_error", "val_top1_error", "images_per_second")
_FIRST, _OTHER = "0.6", COLORS[0]
# Ticks of a logarithmic axis of errors; lower errors are drawn at 0.1 [%].
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Finished runs that differ only in their seeds and paths.

    Args:
        name: The settings that differ from the first variant's, as flags.
        histories: Columns of history.csv of each run, an entry per epoch.
        results: The result.json of each run.
    """

    name: str
    histories: list[dict[str, list[float]]]
    results: list[dict]

    def errors(self, name: str) -> list[float]:
        """Returns an error of each run [%]."""
        return [100 * result[name] for result in self.results]

    def epochs_to(self, training_error: float) -> list[float]:
        """Returns each run's epochs to a top-1 error in training, a fraction.

        Infinity stands for a run that never reached it.
        """
        epochs = []
        for history in self.histories:
            numbered = enumerate(history["top1_error"], start=1)
            reached = (n for n, error in numbered if error <= training_error)
            epochs.append(next(reached, math.inf))
        return epochs

    def speed(self) -> float:
        """Returns the median over all epochs [images/s]."""
        speeds = [h["images_per_second"] for h in self.histories]
        return float(np.nanmedian(sum(speeds, [])))


def read_variants(runs: Sequence[Config]) -> list[Variant]:
    """Groups finished runs by their settings, in the order given."""
    groups: dict[tuple, list[RunDir]] = {}
    for config in runs:
        settings = dataclasses.asdict(absolute(config))
        for name in _INCIDENTAL:
            del settings[name]
        # By path, as `runs/a-* runs/*` names some runs twice.
        run = RunDir(Path(config.run_dir).resolve())
        members = groups.setdefault(tuple(settings.items()), [])
        if run not in members:
            members.append(run)
    first = next(iter(groups))
    return [
        Variant(
            _differences(key, first),
            [run.read_columns(_COLUMNS) for run in members],
            [_read_result(run) for run in members],
        )
        for key, members in groups.items()
    ]


def _differences(settings, first):
    flags = []
    for name, value in settings:
        if (name, value) in first:
            continue
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no{name}")
        else:
            flags.append(f"--{name}={value}")
    return " ".join(flags) or "as it is"


def _read_result(run):
    if not (result := run.read_result()):
        raise UserError(
            f"{run.path} is not finished: it has no {run.result.name}; resume "
            "it with the command that started it, or leave it out."
        )
    return result


def format_variants(variants: Sequence[Variant], training_error: float) -> str:
    """Returns a Markdown table with a row for each variant.

    Speeds are relative to the first variant's; `training_error` is that of
    `Variant.epochs_to`.
    """
    epochs = f"epochs to {training_error:.0%} training error"
    header = ("settings", "runs", "top-1 error, %", "top-5 error, %", epochs)
    rows = [
        (
            f"`{variant.name}`" if variant.name[0] == "-" else variant.name,
            str(len(variant.results)),
            _mean_and_range(variant.errors("top1_error"), ".1f"),
            _mean_and_range(variant.errors("top5_error"), ".1f"),
            _mean_and_range(variant.epochs_to(training_error), ".2g"),
            f"{variant.speed() / variants[0].speed():.2f}",
        )
        for variant in variants
    ]
    return format_table((*header, "speed"), rows, markdown=True)


def _mean_and_range(values, form):
    missing = sum(not math.isfinite(value) for value in values)
    if missing:
        return f"not reached by {missing}"
    text = f"{statistics.fmean(values):{form}}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):{form}} to {max(values):{form}})"


def draw_errors(variants: Sequence[Variant]) -> Figure:
    """Draws the validation top-1 error of each run, in a row per variant."""
    names = [_wrapped(variant.name) for variant in variants]
    heights = np.array([1.5 + name.count("\n") for name in names])
    rows = heights.cumsum() - heights / 2
    figure = make_figure((8, 1 + 0.18 * heights.sum()))
    axes = figure.add_subplot()
    shown = [np.maximum(v.errors("top1_error"), _TICKS[0]) for v in variants]
    for row, errors in zip(rows, shown, strict=True):
        color = "0.3" if row == rows[0] else _OTHER
        axes.plot(errors, [row] * len(errors), "o", color=color, alpha=0.6)
        axes.plot([errors.mean()], [row], "|", color=color, markersize=16)
    axes.axvspan(shown[0].min(), shown[0].max(), color="0.92", zorder=0)
    axes.set_yticks(rows, names)
    axes.set_ylim(heights.sum(), 0)
    axes.set_xlabel("validation top-1 error; dots: seeds, bars: their mean")
    _scale_to_errors(axes.xaxis, np.concatenate(shown))
    make_plain(axes)
    return figure


def draw_curves(variants: Sequence[Variant]) -> Figure:
    """Draws validation errors by epoch, in a panel per variant.

    Each panel has a curve per seed, over those of the first variant.
    """
    first, *others = variants
    others = others or [first]
    columns = min(4, len(others))
    rows = math.ceil(len(others) / columns)
    title = f"Validation top-1 error by epoch; gray: {first.name}"
    figure = make_figure((max(5, 2.5 * columns), 0.8 + 2.1 * rows), title)
    panels = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    ).ravel()
    shown: list[float] = []
    for index, (axes, variant) in enumerate(zip(panels, others, strict=False)):
        for drawn, color in ((first, _FIRST), (variant, _OTHER)):
            for history in drawn.histories:
                errors = 100 * np.array(history["val_top1_error"])
                errors = np.maximum(errors, _TICKS[0])
                epochs = range(1, len(errors) + 1)
                axes.plot(epochs, errors, color=color, linewidth=1)
                shown.extend(errors)
        axes.set_title(_wrapped(variant.name), fontsize="small")
        # In the row before the last, some panels have none below them.
        axes.tick_params(labelbottom=index >= len(others) - columns)
        make_plain(axes)
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    ticks = MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])
    panels[0].xaxis.set_major_locator(ticks)
    _scale_to_errors(panels[0].yaxis, shown)
    return figure


def _scale_to_errors(axis, errors):
    """Makes an axis logarithmic, with ticks on both sides of errors [%]."""
    known = [error for error in errors if math.isfinite(error)] or [100]
    below = max(tick for tick in _TICKS if tick <= min(known))
    above = min(tick for tick in _TICKS if tick >= max(known))
    limits = (0.93 * below, 1.07 * above)
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": "log", f"{name}lim": limits})
    axis.set_major_locator(FixedLocator(_TICKS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}%")


def _wrapped(name):
    """Returns a name with a line for each flag."""
    return name.replace(" --", "\n--")
