"""Figures from numbers; nothing here knows of settings or of TensorFlow.

A figure is an object of its own: without pyplot there is no list of open ones
and no screen is needed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import MaxNLocator

from alexnet_tf.config.errors import UserError

History = Mapping[str, Sequence[float]]

# Okabe and Ito's palette, which the color-blind can tell apart, without its
# yellow, which is too pale for lines on white.
COLORS = "#0072B2 #D55E00 #009E73 #CC79A7 #56B4E9 #E69F00 #000000".split()
# Runs beyond the palette begin it again, with marks along their curves.
_MARKS = ("o", "x", "s", "+")
_TRAINING = {"linestyle": (0, (4, 1.5)), "linewidth": 1.0, "mfc": "w"}
_VALIDATION = {"linestyle": "-", "linewidth": 1.8}
_GUESS = {"linestyle": ":", "linewidth": 1.0, "color": "0.35"}
_DROP = {"linestyle": "none", "marker": CARETDOWN, "markersize": 8}
# Curves on the edge of a panel show whole, and take no part in the layout,
# which would reserve room for them outside the panel.
_WHOLE = {"clip_on": False, "in_layout": False}


def learning_curves(
    histories: Mapping[str, History], *, num_classes: int | None = None
) -> Figure:
    """Draws loss and top-1 error of runs against the training step.

    Args:
        histories: By the name of the run, its columns of numbers, an entry an
            epoch: `step`, `learning_rate`, `loss`, `val_loss`, and as
            fractions `top1_error` and `val_top1_error`. NaN is a gap.
        num_classes: Draws the loss of a guess among so many; None: does not.

    Returns:
        The figure, 1400 x 560 pixels, higher with many runs; the lines of its
        two panels are labelled RUN COLUMN, and the drops RUN drops.
    """
    figure = Figure(figsize=(11.2, 4.48), dpi=125, layout="constrained")
    figure.suptitle("Learning curves", x=0.005, horizontalalignment="left")
    loss, error = figure.subplots(1, 2)
    _prepare(loss, title="Loss", y_label="cross-entropy [nats]")
    _prepare(error, title="Top-1 error", y_label="images misclassified [%]")
    if num_classes is not None:
        _draw_guess(loss, num_classes)
    for number, (name, history) in enumerate(histories.items()):
        look = _look(number)
        _draw_run(loss, name, history, "loss", scale=1, look=look)
        _draw_run(error, name, history, "top1_error", scale=100, look=look)
    for axes in (loss, error):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    _add_legends(figure, list(histories))
    return figure


def save(figure: Figure, directory: Path, *, name: str) -> list[Path]:
    """Writes NAME.png and NAME.svg; the same figure gives the same bytes.

    Returns:
        The two files.

    Raises:
        UserError: if they cannot be written.
    """
    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        figure.savefig(png)
        # Else SVG files would have random names and the date in them.
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(svg, metadata={"Date": None})
    except OSError as error:
        raise UserError(
            f"cannot write to {directory}: {error.strerror}; give another "
            "directory with --figures_dir=DIR."
        ) from error
    return [png, svg]


def _prepare(axes, *, title, y_label):
    axes.set_title(title)
    axes.set_xlabel("training step [batches]")
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.update_datalim([(0, 0)])  # Both axes begin at zero.
    make_plain(axes)


def make_plain(axes: Axes) -> None:
    """Gives a panel a light grid, and no frame."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_guess(axes, num_classes):
    """Draws the loss of a guess; its label, in the margin, hides no curve."""
    loss = math.log(num_classes)
    label = f"ln {num_classes:,} = {loss:.2f}, a guess"
    axes.axhline(loss, label=label, **_GUESS)
    axes.annotate(
        label.replace(", a", ",\na"),
        (1, loss),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize="small",
        color=_GUESS["color"],
    )


def _look(number):
    """Returns what distinguishes the curves of a run."""
    again, place = divmod(number, len(COLORS))
    look = {"color": COLORS[place], "markersize": 4}
    if again:
        look |= {"marker": _MARKS[(again - 1) % len(_MARKS)], "markevery": None}
    return look


def _draw_run(axes, name, history, quantity, *, scale, look):
    """Draws a quantity, and on its validation curve the drops of the rate."""
    steps = history["step"]
    for column, style in (
        (quantity, _TRAINING),
        (f"val_{quantity}", _VALIDATION),
    ):
        values = [scale * value for value in history[column]]
        # Lines do not show a value that has no neighbors.
        points = {"marker": "o", "markevery": _isolated(values)}
        style = {**points, **look, **style, **_WHOLE}
        axes.plot(steps, values, label=f"{name} {column}", **style)
    places = _drops(history["learning_rate"])
    axes.plot(
        [steps[place] for place in places],
        [_last_known(values[: place + 1]) for place in places],
        label=f"{name} drops",
        color=look["color"],
        **_WHOLE,
        **_DROP,
    )


def _isolated(values):
    """Returns the places of values between gaps."""
    known = [False, *map(math.isfinite, values), False]
    return [
        place
        for place in range(len(values))
        if known[place : place + 3] == [False, True, False]
    ]


def _drops(learning_rates):
    """Returns the places of the epochs after which the rate dropped."""
    places, last = [], math.nan
    for place, rate in enumerate(learning_rates):
        if rate < last:
            places.append(place - 1)
        if not math.isnan(rate):
            last = rate
    return places


def _last_known(values):
    """Returns the last value that is not a gap, so that no drop is lost."""
    return next(filter(math.isfinite, reversed(values)), math.nan)


def _add_legends(figure, names):
    """Adds the names of runs, and what the kinds of lines mean."""
    runs = [
        Line2D([], [], label=name, linewidth=3, **_look(number))
        for number, name in enumerate(names)
    ]
    point = {"color": "0.2", "marker": "o", "markersize": 4}
    kinds = [
        Line2D([], [], label=label, **{**point, **style})
        for label, style in (
            ("validation, after each epoch", _VALIDATION),
            ("training, mean over each epoch", _TRAINING),
            ("learning rate drops", _DROP),
        )
    ]
    # A character is about 10 pixels wide, what is beside a name 80.
    longest = max(map(len, names), default=0)
    columns = max(1, min(len(names), 1400 // (10 * longest + 80)))
    rows = math.ceil(len(names) / columns)
    # Many names make the figure higher rather than the panels lower.
    figure.set_figheight(figure.get_figheight() + 0.21 * max(0, rows - 3))
    for handles, loc, count in (
        (kinds, "outside upper right", len(kinds)),
        (runs, "outside lower center", columns),
    ):
        legend = figure.legend(handles=handles, loc=loc, ncols=count)
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # A "$" in a name is a "$".
