"""The figures of `compare`."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from alexnet_tf.evaluation.comparison import Variant
from alexnet_tf.evaluation.plots import COLORS, make_plain

_FIRST, _OTHER = "0.6", COLORS[0]
_COLUMNS = 4
# What a logarithmic axis shows of an error of nothing [%], and its ticks.
_LEAST = 0.1
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def errors(variants: Sequence[Variant]) -> Figure:
    """Draws the validation top-1 error of each run, a row a variant.

    Returns:
        The figure, 1000 pixels wide.
    """
    names = [_wrapped(variant.name) for variant in variants]
    lines = [1.5 + name.count("\n") for name in names]
    rows = [sum(lines[:row]) + line / 2 for row, line in enumerate(lines)]
    height = 1 + 0.18 * sum(lines)
    figure = Figure(figsize=(8, height), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    for row, variant in zip(rows, variants, strict=True):
        found = [max(e, _LEAST) for e in variant.errors("top1_error")]
        color = "0.3" if variant is variants[0] else _OTHER
        axes.plot(found, [row] * len(found), "o", color=color, alpha=0.6)
        mean = sum(found) / len(found)
        axes.plot([mean], [row], "|", color=color, markersize=16)
    least, most = (f(variants[0].errors("top1_error")) for f in (min, max))
    axes.axvspan(least, most, color="0.92", zorder=0)
    axes.set_yticks(rows, names)
    axes.set_ylim(sum(lines), 0)
    axes.set_xscale("log")
    _mark(axes.xaxis)
    axes.set_xlabel("validation top-1 error; a dot a seed, a line the mean")
    make_plain(axes)
    return figure


def curves(variants: Sequence[Variant]) -> Figure:
    """Draws validation errors by epoch, a panel for each variant.

    Each has its curves, a seed each, over those of the first variant.

    Returns:
        The figure, up to 1250 pixels wide.
    """
    first, *others = variants
    others = others or [first]
    columns = min(_COLUMNS, len(others))
    rows = math.ceil(len(others) / columns)
    size = (2.5 * columns, 0.8 + 2.1 * rows)
    figure = Figure(figsize=size, dpi=125, layout="constrained")
    panels = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False
    ).ravel()
    for number, variant in enumerate(others):
        axes = panels[number]
        _draw(axes, first, _FIRST)
        _draw(axes, variant, _OTHER)
        axes.set_title(_wrapped(variant.name), fontsize="small")
        axes.set_yscale("log")
        _mark(axes.yaxis)
        # Below some there is no other panel.
        axes.tick_params(labelbottom=number >= len(others) - columns)
        make_plain(axes)
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    figure.suptitle(
        f"Validation top-1 error by epoch; gray: {first.name}",
        x=0.005,
        horizontalalignment="left",
        fontsize="medium",
    )
    return figure


def _draw(axes, variant, color):
    for history in variant.histories:
        found = [max(100 * e, _LEAST) for e in history["val_top1_error"]]
        axes.plot(range(1, len(found) + 1), found, color=color, linewidth=1)


def _mark(axis):
    axis.set_major_locator(FixedLocator(_TICKS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PercentFormatter())


def _wrapped(name):
    """Returns a name with a line for each flag."""
    return name.replace(" --", "\n--")
