"""The figure of `inspect --scale`."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alexnet_tf.plots import COLOURS
from alexnet_tf.scaling import PUBLISHED_BATCHES, Prediction


def speeds(layouts: Mapping[str, Sequence[Prediction]], batch: int) -> Figure:
    """Draws predicted images a second against the number of devices.

    Args:
        layouts: Predictions by the name of their layout.
        batch: Images of a replica of one device.

    Returns:
        The figure, 1100 x 700 pixels.
    """
    figure = Figure(figsize=(8.8, 5.6), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Predicted training speed", loc="left")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for (name, predictions), colour in zip(
        layouts.items(), COLOURS, strict=False
    ):
        devices = [p.devices for p in predictions]
        lowest = [p.lowest for p in predictions]
        highest = [p.highest for p in predictions]
        axes.fill_between(devices, lowest, highest, color=colour, alpha=0.2)
        axes.plot(devices, lowest, color=colour, label=name)
        axes.plot(devices, highest, color=colour, linestyle="--")
    longest = max(layouts.values(), key=len)
    axes.plot(
        [p.devices for p in longest],
        [p.input_limit for p in longest],
        color="0.35",
        linestyle=":",
        label="read by the processors",
    )
    _mark_batches(axes, longest[-1].devices, batch)
    axes.set_xlabel("devices")
    axes.set_ylabel("images a second")
    number = FuncFormatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_formatter(number)
    axes.yaxis.set_major_formatter(number)
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="upper left",
        title="solid: gradients summed after the step\n"
        "dashed: at no cost of time",
        alignment="left",
        frameon=False,
    )
    return figure


def _mark_batches(axes, most, batch):
    """Marks the devices at which data parallelism has a published batch."""
    for size in PUBLISHED_BATCHES:
        if batch <= size <= most * batch:
            axes.axvline(size / batch, color="0.7", linewidth=0.8, zorder=0)
            axes.annotate(
                f" batch {size:,} published",
                (size / batch, 0.01),
                xycoords=axes.get_xaxis_transform(),
                rotation=90,
                verticalalignment="bottom",
                horizontalalignment="right",
                fontsize="small",
                color="0.35",
            )
