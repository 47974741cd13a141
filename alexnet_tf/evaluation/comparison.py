"""Runs that differ in settings and seeds: the effect of each setting."""

import dataclasses
import math
import re
import statistics
import textwrap
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alexnet_tf.config.commands import CommandOptions
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, absolute
from alexnet_tf.config.runtime import Output
from alexnet_tf.evaluation.plots import (
    COLORS,
    drawn_errors,
    make_figure,
    make_plain,
    scale_to_epochs,
    scale_to_errors,
    shortened,
)
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir

# Runs that differ in these alone are of one variant.
_INCIDENTAL = {"seed", "data_dir", "prepared_dir", "gpus"} | {
    field.name
    for group in (Output, CommandOptions)
    for field in dataclasses.fields(group)
}
# Columns of top-1 errors.
COLUMNS = {"validation": "val_top1_error", "training": "top1_error"}
_FIRST, _OTHER = "0.5", COLORS[0]
# Flags that a label of a figure has below the name; more are in the table.
_FEW = 2
_LONGEST = 24  # Name in a figure [characters].


@dataclasses.dataclass(frozen=True)
class Variant:
    """Finished runs that differ only in their seeds and paths.

    Args:
        name: What the names of its run directories begin with.
        flags: The settings that differ from the first variant's, and not in
            the same way for all others.
        seeds: The seed of each run.
        histories: Columns of history.csv of each run, an entry per epoch.
        results: The result.json of each run.
    """

    name: str
    flags: list[str]
    seeds: list[int]
    histories: list[dict[str, list[float]]]
    results: list[dict]

    @property
    def label(self) -> str:
        """The name, and a line for each flag if they are few."""
        flags = self.flags if len(self.flags) <= _FEW else ()
        return "\n".join([shortened(self.name, _LONGEST), *flags])

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

    def differences(self, first: "Variant", column: str) -> list[float]:
        """Returns last errors minus those of the first's seeds [points].

        The last epoch's, which, unlike the best one's, no error chose. Seeds
        that only one of the variants has are left out.
        """
        others = dict(zip(first.seeds, first.histories, strict=True))
        pairs = [
            100 * (history[column][-1] - others[seed][column][-1])
            for seed, history in zip(self.seeds, self.histories, strict=True)
            if seed in others
        ]
        return [pair for pair in pairs if math.isfinite(pair)]

    def speed(self) -> float | None:
        """Returns the median over all epochs [images/s].

        Epochs of one step have none.
        """
        speeds = sum((h["images_per_second"] for h in self.histories), [])
        known = [speed for speed in speeds if math.isfinite(speed)]
        return statistics.median(known) if known else None


def half_interval(values: Sequence[float]) -> float:
    """Returns the half-width of the mean's 95% interval by Student's t.

    It is infinite for one value.
    """
    freedom = len(values) - 1
    if freedom < 1:
        return math.inf
    # With t = sqrt(freedom) tan(x), the density is cos(x) ** (freedom - 1).
    x = np.linspace(0, math.pi / 2, 100_001)
    area = np.cumsum(np.cos(x) ** (freedom - 1))
    t = math.sqrt(freedom) * math.tan(np.interp(0.95, area / area[-1], x))
    return t * statistics.stdev(values) / math.sqrt(len(values))


def read_variants(runs: Sequence[Config]) -> tuple[list[Variant], list[str]]:
    """Groups finished runs by their settings, in the order given.

    Returns:
        The variants, and lines about the settings that all runs have, and
        those that all but the first variant have.
    """
    groups: dict[tuple, dict[RunDir, int]] = {}
    folders: dict[tuple, str] = {}
    for config in runs:
        # By path, as `runs/a-* runs/*` names some runs twice.
        run = RunDir(Path(config.run_dir).resolve())
        settings = _settings(config)
        if config.dataset.startswith("folder:"):
            # One that has moved has images of the same names.
            digests = tuple(read_dataset_info(run).names_sha256)
            if all(digests):
                first_seen = folders.setdefault(digests, settings["dataset"])
                settings["dataset"] = first_seen
        key = tuple((n, v) for n, v in settings.items() if n not in _INCIDENTAL)
        groups.setdefault(key, {})[run] = config.seed
    first, *others = map(set, groups)
    names = _names(groups.values())
    common = first.intersection(*others) - set(_settings(Config()).items())
    lines = [f"All runs: {' '.join(_flags(groups, common))}"] if common else []
    shared = set.intersection(*others) - first if len(others) > 1 else set()
    if shared:
        flags = " ".join(_flags(groups, shared))
        lines.append(f"All but {names[0]}: {flags}")
    variants = [
        Variant(
            name,
            _flags([key], set(key) - first - shared),
            list(members.values()),
            [
                run.read_columns((*COLUMNS.values(), "images_per_second"))
                for run in members
            ],
            [_read_result(run) for run in members],
        )
        for name, (key, members) in zip(names, groups.items(), strict=True)
    ]
    return variants, lines


def _settings(config):
    """Returns the settings, without the number that --init_from ends with."""
    settings = dataclasses.asdict(absolute(config))
    # Of one variant's seeds, each may begin with the same seed of another.
    settings["init_from"] = _without_number(settings["init_from"])
    return settings


def _names(groups):
    """Returns the common start of the names of each group's directories."""
    names = []
    for depth in (1, 2):
        parts = [["/".join(r.path.parts[-depth:]) for r in g] for g in groups]
        starts = [_without_number(commonprefix(p)) for p in parts]
        names = [
            start if start and len(p) > 1 else p[0]
            for start, p in zip(starts, parts, strict=True)
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({n})" for n, name in enumerate(names, start=1)]


def _without_number(name):
    """Returns a name without a number at its end, such as a seed."""
    return re.sub(r"[-_./]?\d*$", "", name)


def _flags(keys, chosen):
    """Returns those of the (name, value) pairs that are chosen as flags."""
    flags = []
    for name, value in dict.fromkeys(pair for key in keys for pair in key):
        if (name, value) not in chosen:
            continue
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no{name}")
        else:
            flags.append(f"--{name}={value}")
    return flags


def _read_result(run):
    if not (result := run.read_result()):
        raise UserError(
            f"{run.path} is not finished: it has no {run.result.name}; resume "
            "it with the command that started it, or leave it out."
        )
    return result


def format_variants(variants: Sequence[Variant], training_error: float) -> str:
    """Returns a Markdown table with a row for each variant.

    Differences and speeds are from and relative to the first variant's;
    `training_error` is that of `Variant.epochs_to`.
    """
    epochs = f"epochs to {100 * training_error:g}% training error"
    errors = ("top-1 error, %", "top-5 error, %")
    differences = (f"{kind} error, difference" for kind in COLUMNS)
    header = "name", "settings", "runs", *errors, *differences, epochs, "speed"
    rows = [
        (
            variant.name,
            f"`{' '.join(variant.flags)}`" if variant.flags else "",
            str(len(variant.results)),
            _mean_and_range(variant.errors("top1_error"), ".1f"),
            _mean_and_range(variant.errors("top5_error"), ".1f"),
            *(
                _mean_and_interval(variant.differences(variants[0], column))
                if variant is not variants[0]
                else ""
                for column in COLUMNS.values()
            ),
            _mean_and_range(variant.epochs_to(training_error), ".3g"),
            _quotient(variant.speed(), variants[0].speed()),
        )
        for variant in variants
    ]
    return format_table(header, rows, markdown=True)


def _quotient(value, first):
    return f"{value / first:.2f}" if value and first else ""


def _mean_and_range(values, form):
    missing = sum(not math.isfinite(value) for value in values)
    if missing:
        return f"not reached by {missing}"
    text = f"{statistics.fmean(values):{form}}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):{form}} to {max(values):{form}})"


def _mean_and_interval(differences):
    if not differences:
        return "no common seed"
    interval = half_interval(differences)
    text = (
        f" \N{PLUS-MINUS SIGN} {interval:.1f}" if len(differences) > 1 else ""
    )
    return f"{statistics.fmean(differences):+.1f}{text}"


def draw_errors(variants: Sequence[Variant], lines: Sequence[str]) -> Figure:
    """Draws the validation top-1 error of each run, in a row per variant.

    `lines` are a caption, as in `draw_curves`.
    """
    first = variants[0]
    labels = [variant.label for variant in variants]
    heights = np.array([1.5 + label.count("\n") for label in labels])
    rows = heights.cumsum() - heights / 2
    caption = _caption(lines, 160)
    height = 1.6 + 0.18 * (heights.sum() + caption.count("\n"))
    figure = make_figure((8, height), "Top-1 error")
    axes = figure.add_subplot()
    shown = [
        drawn_errors([r["top1_error"] for r in v.results]) for v in variants
    ]
    for variant, row, errors in zip(variants, rows, shown, strict=True):
        color = _FIRST if variant is first else _OTHER
        axes.plot(errors, [row] * len(errors), "o", color=color, alpha=0.6)
        axes.plot([errors.mean()], [row], "|", color=color, markersize=16)
    legend: list[Artist] = [
        Line2D([], [], marker="o", color=_OTHER, ls="", label="a run (seed)"),
        Line2D([], [], marker="|", color=_OTHER, ls="", label="mean"),
    ]
    if len(shown[0]) > 1:
        name = shortened(first.name, _LONGEST)
        label = f"range of the {len(shown[0])} seeds of {name}"
        ends = min(shown[0]), max(shown[0])
        band = axes.axvspan(*ends, color="0.9", zorder=0, label=label)
        legend.append(band)
    axes.set_yticks(rows, labels)
    axes.set_ylim(heights.sum(), 0)
    axes.set_xlabel("validation images misclassified, best epoch [%]")
    scale_to_errors(axes, "x", np.concatenate(shown))
    make_plain(axes)
    _finish(figure, axes.get_yticklabels(), legend, caption)
    return figure


def draw_differences(
    variants: Sequence[Variant], lines: Sequence[str]
) -> Figure:
    """Draws what each variant adds to the first one's validation error.

    A point per seed, and the mean with its interval of 95% confidence.
    `lines` are a caption, as in `draw_curves`.
    """
    first, *others = variants
    caption = _caption(lines, 160)
    height = 1.6 + 0.3 * len(others) + 0.18 * caption.count("\n")
    figure = make_figure((8, height), "Difference of top-1 errors")
    axes = figure.add_subplot()
    axes.axvline(0, color=_FIRST, linewidth=1)
    for row, variant in enumerate(others):
        values = variant.differences(first, "val_top1_error")
        axes.plot(values, [row] * len(values), "o", color=_OTHER, alpha=0.4)
        if len(values) > 1:
            mean, bar = statistics.fmean(values), half_interval(values)
            axes.errorbar(mean, row, xerr=bar, fmt="|", color=_OTHER)
    legend: list[Artist] = [
        Line2D([], [], marker="o", color=_OTHER, ls="", label="a seed"),
        Line2D([], [], color=_OTHER, label="mean, 95% confidence"),
    ]
    axes.set_yticks(range(len(others)), [v.name for v in others])
    axes.set_ylim(len(others) - 0.5, -0.5)
    name = shortened(first.name, _LONGEST)
    axes.set_xlabel(f"points more than {name}, same seed, last epoch")
    make_plain(axes)
    _finish(figure, axes.get_yticklabels(), legend, caption)
    return figure


def draw_curves(
    variants: Sequence[Variant],
    lines: Sequence[str],
    training_error: float | None = None,
) -> Figure:
    """Draws errors by epoch, in a panel per variant.

    Each panel has a curve per seed, over those of the first variant. Errors
    are the validation's, or with `training_error` the training's, drawn as in
    the paper's Figure 1: on a linear scale, dashed but for the first variant's,
    with a line at that fraction.
    """
    kind = "validation" if training_error is None else "training"
    first, *others = variants
    others = others or [first]
    columns = min(4, len(others))
    rows = math.ceil(len(others) / columns)
    width = max(5.6, 2.6 * columns)
    caption = _caption(lines, int(20 * width))
    size = (width, 1.3 + 2.2 * rows + 0.18 * caption.count("\n"))
    figure = make_figure(size, "Top-1 error")
    panels = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    ).ravel()
    dashes = "-" if training_error is None else "--"
    styles: Sequence[dict] = {"color": _FIRST}, {"color": _OTHER, "ls": dashes}
    shown: list[float] = []
    for index, (axes, variant) in enumerate(zip(panels, others, strict=False)):
        for drawn, style in zip((first, variant), styles, strict=True):
            for history in drawn.histories:
                errors = drawn_errors(history[COLUMNS[kind]])
                epochs = range(1, len(errors) + 1)
                axes.plot(epochs, errors, linewidth=1, **style)
                shown.extend(errors)
        if training_error is not None:
            axes.axhline(100 * training_error, color=_FIRST, ls=":", lw=1)
        axes.set_title(variant.label, fontsize="small")
        scale_to_epochs(axes)
        # In the row before the last, some panels have none below them.
        axes.tick_params(labelbottom=index >= len(others) - columns)
        axes.set_xlabel("epoch" if index >= len(others) - columns else "")
        make_plain(axes)
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    label = f"{kind} images misclassified [%]"
    figure.supylabel(label, fontsize="medium")
    if training_error is None:
        scale_to_errors(panels[0], "y", shown)
    else:
        panels[0].set_ylim(bottom=0)
    name = f"seeds of {shortened(first.name, _LONGEST // 2)}"
    legend = [Line2D([], [], label=name, **styles[0])]
    if others != [first]:
        legend.append(Line2D([], [], label="as above a panel", **styles[1]))
    _finish(figure, [axes.title for axes in panels], legend, caption)
    return figure


def _caption(lines, width):
    return "\n".join(textwrap.fill(line, width) for line in lines)


def _finish(figure, labels, legend, caption):
    """Adds a legend at the top and a caption at the bottom."""
    place = {"loc": "outside upper right", "ncols": len(legend)}
    drawn = figure.legend(handles=legend, frameon=False, **place)
    if caption:
        style = {"fontsize": "x-small", "x": 0.005, "ha": "left"}
        labels = [*labels, figure.supxlabel(caption, **style)]
    for text in (*labels, *drawn.get_texts()):
        text.set_parse_math(False)  # A "$" in a name is a "$".
