"""Learning curves, and the style that all figures share.

Nothing here imports TensorFlow, which takes seconds, or pyplot, which keeps
all figures open and may need a screen.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from alexnet_tf.storage.files import write_whole

# Okabe and Ito's palette, which the color-blind can tell apart, without its
# yellow, which is too pale for lines on white.
COLORS = "#0072B2 #D55E00 #009E73 #CC79A7 #56B4E9 #E69F00 #000000".split()
# Runs beyond the palette reuse its colors, with marks along their curves.
_MARKS = ("o", "x", "s", "+")
_TRAINING = {"linestyle": (0, (4, 1.5)), "linewidth": 1.0, "mfc": "w"}
_VALIDATION = {"linestyle": "-", "linewidth": 1.8}
_GUESS = {"linestyle": ":", "linewidth": 1.0, "color": "0.35"}
_DROP = {"linestyle": "none", "marker": CARETDOWN, "markersize": 8}
# Curves at the edge of a panel are not clipped, and take no part in the
# layout, which would reserve room for them outside the panel.
_WHOLE = {"clip_on": False, "in_layout": False}
# Ticks of a logarithmic axis of errors; lower errors are drawn at 0.1 [%].
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def make_figure(inches: tuple[float, float], title: str = "") -> Figure:
    """Returns an empty figure of 125 pixels per inch."""
    figure = Figure(figsize=inches, dpi=125, layout="constrained")
    if title:
        figure.suptitle(title, x=0.005, horizontalalignment="left")
    return figure


def make_grid(
    title: str,
    inches: tuple[float, float],
    rows: int,
    columns: int,
    **ratios: list[float],
) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its panels, (rows, columns), without axes."""
    figure = make_figure(inches, title)
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, grid


def make_plain(axes: Axes) -> None:
    """Gives a panel a light grid, and no frame."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def shortened(name: str, longest: int) -> str:
    """Returns a name of at most `longest` characters."""
    ellipsis = "\N{HORIZONTAL ELLIPSIS}"
    return name if len(name) <= longest else name[: longest - 1] + ellipsis


def save(figure: Figure, directory: Path | str, *, name: str) -> None:
    """Writes NAME.png and NAME.svg, and prints their paths.

    The same figure gives the same bytes. The directory "" stands for figures/
    in the current one.
    """
    # Else SVG files would contain random names and the date.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        for kind, metadata in (("png", None), ("svg", {"Date": None})):
            file = Path(directory or "figures", f"{name}.{kind}")
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, metadata=metadata)
            write_whole(file, drawn.getvalue())
            print(file, flush=True)


def pixels(figure: Figure) -> np.ndarray:
    """Returns a figure as an image, (height, width, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def drawn_errors(fractions: Sequence[float]) -> np.ndarray:
    """Returns errors [%], the lowest of which the axis of errors can show."""
    return np.maximum(100 * np.array(fractions, float), _TICKS[0])


def scale_to_errors(axes: Axes, name: str, errors: Iterable[float]) -> None:
    """Makes the axis "x" or "y" logarithmic, with ticks around errors [%]."""
    known = [error for error in errors if math.isfinite(error)] or [100]
    below = max(tick for tick in _TICKS if tick <= min(known))
    above = min(tick for tick in _TICKS if tick >= max(known))
    limits = (0.93 * below, 1.07 * above)
    axes.set(**{f"{name}scale": "log", f"{name}lim": limits})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(_TICKS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(
        lambda tick, _: f"{tick:g}" if tick > _TICKS[0] else f"≤ {tick:g}"
    )


def scale_to_epochs(axes: Axes) -> None:
    """Makes the x axis one of epochs."""
    axes.set_xlabel("epoch")
    ticks = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_locator(ticks)


def learning_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    class_counts: Iterable[int] = (),
) -> Figure:
    """Plots loss and errors of runs by epoch.

    Args:
        histories: Columns of history.csv by name of the run:
            `learning_rate`, `loss`, `val_loss`, and as fractions `top1_error`,
            `val_top1_error`, `top5_error` and `val_top5_error`. NaN is a gap.
        class_counts: Numbers of classes of the runs. If it is the same for
            all, the loss of a guess is drawn; if it is at most five for all,
            the top-5 error is not.

    Returns:
        The figure, 1400 x 560 pixels, higher with many runs; the lines of its
        panels are labeled RUN COLUMN, and the drops RUN drops.
    """
    counts = set(class_counts)
    figure = make_figure((11.2, 4.48), "Learning curves")
    ranks = [1] if counts and max(counts) <= 5 else [1, 5]
    loss, *errors = figure.subplots(1, 1 + len(ranks))
    loss.set(title="Loss", ylabel="cross-entropy [nats]")
    if len(counts) == 1:
        _plot_guess(loss, *counts)
    _plot_runs(loss, histories, "loss", np.array)
    loss.set_ylim(bottom=0)
    for axes, rank in zip(errors, ranks, strict=True):
        axes.set(title=f"Top-{rank} error", ylabel="images misclassified [%]")
        quantity = f"top{rank}_error"
        shown = _plot_runs(axes, histories, quantity, drawn_errors)
        scale_to_errors(axes, "y", shown)
    for axes in (loss, *errors):
        scale_to_epochs(axes)
        axes.set_xlim(left=0)
        make_plain(axes)
    _add_legends(figure, list(histories))
    return figure


def _plot_guess(axes, num_classes):
    """Plots the loss of a guess."""
    loss = math.log(num_classes)
    label = f"a guess: ln {num_classes:,} = {loss:.2f}"
    axes.axhline(loss, label=label, **_GUESS)
    text = axes.text(0.99, loss, label, verticalalignment="bottom")
    text.set(transform=axes.get_yaxis_transform(), horizontalalignment="right")
    text.set(fontsize="small", color=_GUESS["color"])


def _plot_runs(axes, histories, quantity, convert):
    """Plots a quantity of all runs; returns the values drawn."""
    shown: list[float] = []
    for index, (name, history) in enumerate(histories.items()):
        look = _look(index)
        styles = {quantity: _TRAINING, f"val_{quantity}": _VALIDATION}
        for column, style in styles.items():
            values = convert(history[column])
            epochs = np.arange(1, len(values) + 1)
            shown.extend(values)
            # Lines do not show a value without neighbors.
            points = {"marker": "o", "markevery": _isolated(values)}
            style = {**points, **look, **style, **_WHOLE}
            axes.plot(epochs, values, label=f"{name} {column}", **style)
        # After these epochs.
        drops = np.flatnonzero(np.diff(_filled(history["learning_rate"])) < 0)
        style = {"color": look["color"], **_WHOLE, **_DROP}
        points = epochs[drops], _filled(values)[drops]
        axes.plot(*points, label=f"{name} drops", **style)
    return shown


def _look(index):
    """Returns what distinguishes the curves of a run."""
    reuse, color = divmod(index, len(COLORS))
    look = {"color": COLORS[color], "markersize": 4}
    if reuse:
        look |= {"marker": _MARKS[(reuse - 1) % len(_MARKS)], "markevery": None}
    return look


def _isolated(values):
    """Returns the indices of values between gaps."""
    known = np.isfinite(values)
    padded = np.pad(known, 1)
    return np.flatnonzero(known & ~padded[:-2] & ~padded[2:]).tolist()


def _filled(values):
    """Repeats in each gap the value before it, so that no drop is lost."""
    values = np.array(values)
    known = np.where(np.isnan(values), 0, np.arange(len(values)))
    return values[np.maximum.accumulate(known)]


def _add_legends(figure, names):
    """Adds the names of runs, and what the kinds of lines mean."""
    runs = [
        Line2D([], [], label=name, linewidth=3, **_look(index))
        for index, name in enumerate(names)
    ]
    styles = {
        "validation, after each epoch": _VALIDATION,
        "training, mean over each epoch": _TRAINING,
        "learning rate drops": _DROP,
    }
    point = {"color": "0.2", "marker": "o", "markersize": 4}
    kinds = [
        Line2D([], [], label=label, **(point | style))
        for label, style in styles.items()
    ]
    # A character is about 10 pixels wide, the rest of an entry 80.
    longest = max(map(len, names), default=0)
    columns = max(1, min(len(names), 1400 // (10 * longest + 80)))
    rows = math.ceil(len(names) / columns)
    # Many names make the figure higher rather than the panels lower.
    figure.set_figheight(figure.get_figheight() + 0.21 * max(0, rows - 3))
    top = {"handles": kinds, "loc": "outside upper right", "ncols": len(kinds)}
    bottom = {"handles": runs, "loc": "outside lower center", "ncols": columns}
    for place in (top, bottom):
        for text in figure.legend(**place, frameon=False).get_texts():
            text.set_parse_math(False)  # A "$" in a name is a "$".
