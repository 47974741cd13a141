"""The figure of `inspect --scale`."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alexnet_tf.benchmarks.scaling import PUBLISHED_BATCHES, Prediction
from alexnet_tf.evaluation.plots import COLORS, make_plain


def speeds(layouts: Mapping[str, Sequence[Prediction]], batch: int) -> Figure:
    """Draws predicted images a second of each device against their number.

    Args:
        layouts: Predictions by the name of their layout.
        batch: Images of a replica of one device.

    Returns:
        The figure, 1100 x 700 pixels.
    """
    figure = Figure(figsize=(8.8, 5.6), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Predicted training speed of each device", loc="left")
    axes.set_xscale("log", base=2)
    for (name, predictions), color in zip(
        layouts.items(), COLORS, strict=False
    ):
        devices = [p.devices for p in predictions]
        lowest = [p.lowest / p.devices for p in predictions]
        highest = [p.highest / p.devices for p in predictions]
        axes.fill_between(devices, lowest, highest, color=color, alpha=0.15)
        axes.plot(devices, lowest, color=color, marker="o", label=name)
        axes.plot(devices, highest, color=color, linestyle="--")
    longest = max(layouts.values(), key=len)
    axes.plot(
        [p.devices for p in longest],
        [p.input_limit / p.devices for p in longest],
        color="0.35",
        linestyle=":",
        label="what the processors read",
    )
    axes.set_ylim(0, 1.3 * longest[0].highest)
    _mark_batches(axes, longest[-1].devices, batch)
    axes.set_xlabel("devices")
    axes.set_ylabel("images a second for each device")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    make_plain(axes)
    axes.legend(
        loc="lower left",
        title="solid: gradients summed after the step\n"
        "dashed: summed at no cost of time",
        alignment="left",
        frameon=False,
    )
    return figure


def _mark_batches(axes, most, batch):
    """Marks the devices at which data parallelism has a published batch."""
    for size in PUBLISHED_BATCHES:
        if batch <= size <= most * batch:
            axes.axvline(size / batch, color="0.6", linewidth=0.8, zorder=0)
            axes.annotate(
                f" batch {size:,}",
                (size / batch, 1),
                xycoords=axes.get_xaxis_transform(),
                verticalalignment="top",
                fontsize="small",
                color="0.35",
            )
