"""Learning curves, and the style that all figures share.

Nothing here imports TensorFlow, which takes seconds, or pyplot, which keeps
all figures open and may need a screen.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import MaxNLocator

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


def make_figure(inches: tuple[float, float], title: str = "") -> Figure:
    """Returns an empty figure of 125 pixels per inch."""
    figure = Figure(figsize=inches, dpi=125, layout="constrained")
    if title:
        figure.suptitle(title, x=0.005, horizontalalignment="left")
    return figure


def make_plain(axes: Axes) -> None:
    """Gives a panel a light grid, and no frame."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


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


def learning_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    num_classes: int | None = None,
) -> Figure:
    """Plots loss and top-1 error of runs against the training step.

    Args:
        histories: Columns of history.csv by name of the run: `step`,
            `learning_rate`, `loss`, `val_loss`, and as fractions `top1_error`
            and `val_top1_error`. NaN is a gap.
        num_classes: Adds the loss of guessing among that many classes.

    Returns:
        The figure, 1400 x 560 pixels, higher with many runs; the lines of its
        two panels are labeled RUN COLUMN, and the drops RUN drops.
    """
    figure = make_figure((11.2, 4.48), "Learning curves")
    panels = loss, error = figure.subplots(1, 2)
    loss.set(title="Loss", ylabel="cross-entropy [nats]")
    error.set(title="Top-1 error", ylabel="images misclassified [%]")
    for axes in panels:
        axes.set_xlabel("training step [batches]")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.update_datalim([(0, 0)])  # Both axes begin at zero.
        make_plain(axes)
    if num_classes is not None:
        _plot_guess(loss, num_classes)
    for index, (name, history) in enumerate(histories.items()):
        look = _look(index)
        _plot_run(loss, name, history, "loss", scale=1, look=look)
        _plot_run(error, name, history, "top1_error", scale=100, look=look)
    for axes in panels:
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    _add_legends(figure, list(histories))
    return figure


def _plot_guess(axes, num_classes):
    """Plots the loss of a guess; its label, in the margin, hides no curve."""
    loss = math.log(num_classes)
    label = f"ln {num_classes:,} = {loss:.2f}, a guess"
    axes.axhline(loss, label=label, **_GUESS)
    text = axes.text(1.01, loss, label.replace(", a", ",\na"))
    text.set(transform=axes.get_yaxis_transform(), verticalalignment="center")
    text.set(fontsize="small", color=_GUESS["color"])


def _look(index):
    """Returns what distinguishes the curves of a run."""
    reuse, color = divmod(index, len(COLORS))
    look = {"color": COLORS[color], "markersize": 4}
    if reuse:
        look |= {"marker": _MARKS[(reuse - 1) % len(_MARKS)], "markevery": None}
    return look


def _plot_run(axes, name, history, quantity, *, scale, look):
    styles = {quantity: _TRAINING, f"val_{quantity}": _VALIDATION}
    for column, style in styles.items():
        values = scale * np.array(history[column])
        # Lines do not show a value without neighbors.
        points = {"marker": "o", "markevery": _isolated(values)}
        style = {**points, **look, **style, **_WHOLE}
        axes.plot(history["step"], values, label=f"{name} {column}", **style)
    drops = _drops(history["step"], history["learning_rate"], values)
    style = {"color": look["color"], **_WHOLE, **_DROP}
    axes.plot(*drops, label=f"{name} drops", **style)


def _isolated(values):
    """Returns the indices of values between gaps."""
    known = np.isfinite(values)
    padded = np.pad(known, 1)
    return np.flatnonzero(known & ~padded[:-2] & ~padded[2:]).tolist()


def _drops(steps, learning_rates, values):
    """Returns the points after which the rate dropped, as steps and values."""
    before = np.flatnonzero(np.diff(_filled(learning_rates)) < 0)
    return np.array(steps)[before], _filled(values)[before]


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
