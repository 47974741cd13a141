"""Predicted training speed of many devices, from measured parts.

Each replica keeps its batch, so that the global batch grows with the number of
replicas. A step takes the time of its layers, of the traffic between towers,
and of the sum of the gradients over the replicas. TensorFlow may overlap that
sum with the backward pass or not, so a prediction is a range. Replicas of a
machine sum first, then machines; a ring of n members moves 2 (n - 1) / n of
the gradients through each link.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from matplotlib.figure import Figure

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.config.network import Network
from alexnet_tf.evaluation import plots
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.models.build import outline_network
from alexnet_tf.storage.dataset_info import DatasetInfo
from alexnet_tf.storage.files import write_report

# Settings that a measured speed depends on.
SETTINGS = (
    *("batch_size", "precision", "image_size", "crop_size"),
    *(field.name for field in dataclasses.fields(Network)),
)
# Global batches of AlexNet that are reported to have kept its accuracy.
_PUBLISHED_BATCHES = {
    128: "Krizhevsky, Sutskever and Hinton, 2012, Sec. 5",
    8_192: "You, Gitman and Ginsburg, 2017, arXiv:1708.03888: LARS",
    32_768: "You et al., 2017, arXiv:1709.05011: LARS, 100 epochs in 11 "
    "minutes on 1,024 processors",
}
_MAX_DEVICES = 1024
_GIGABIT = 1e9 / 8


@dataclasses.dataclass(frozen=True)
class Machines:
    """Equal machines."""

    rate: float  # Training speed of a device [images/s].
    input_rate: float  # Images that the CPUs of a machine read [images/s].
    devices: int  # Devices per machine.
    link: float  # Network bandwidth of a machine [bytes/s].
    device_link: float  # From a device to others of its machine [bytes/s].


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a network transfers."""

    gradients: float  # Of a replica, per step [bytes].
    between_towers: float  # Per image, in each direction [bytes].


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Speed of a number of devices."""

    devices: int
    replicas: int  # Networks, each on one device or on one per tower.
    global_batch: int  # Images per step.
    lowest: float  # If gradients are summed after the step [images/s].
    highest: float  # If their sum fully overlaps the step [images/s].
    input_limit: float  # Images that the CPUs read [images/s].

    @property
    def starves(self) -> bool:
        """Whether devices may have to wait for images."""
        return self.highest > self.input_limit


def predict(
    traffic: Traffic, machines: Machines, batch: int, devices: int, towers: int
) -> Prediction:
    """Predicts the speed of `devices` devices, a multiple of `towers`.

    A replica has `towers` devices, 1 for data parallelism alone, and takes
    `batch` images per step.
    """
    num_machines = math.ceil(devices / machines.devices)
    replicas = devices // towers
    step = batch / machines.rate / towers
    if towers > 1:
        step += batch * traffic.between_towers / machines.device_link
    # Each device of a replica sums the gradients of its own tower.
    replicas_per_machine = math.ceil(replicas / num_machines)
    within = _ring(replicas_per_machine) * traffic.gradients / towers
    between = _ring(num_machines) * traffic.gradients
    summing = within / machines.device_link + between / machines.link
    images = replicas * batch
    lowest, highest = images / (step + summing), images / max(step, summing)
    limit = num_machines * machines.input_rate
    return Prediction(devices, replicas, images, lowest, highest, limit)


def _ring(members):
    """Returns how often a link carries all that is summed in a ring."""
    return 2 * (members - 1) / members


def device_counts(towers: int) -> list[int]:
    """Returns the numbers of devices of 1, 2, 4, ... replicas."""
    counts = [towers]
    while 2 * counts[-1] <= _MAX_DEVICES:
        counts.append(2 * counts[-1])
    return counts


def bytes_between_towers(model: keras.Model) -> int:
    """Returns the bytes that a tower sends to another one, per image.

    These are the activations that the other one reads, the gradients of those
    that it reads itself, and the logits or their gradient.
    """
    others = [layer for layer in model.layers if getattr(layer, "tower", 0)]
    if not others:
        return 0
    outputs_of_first = {
        id(tensor)
        for layer in model.layers
        if getattr(layer, "tower", None) == 0
        for tensor in tf.nest.flatten(layer.output)
    }
    sent = [
        tensor
        for tensor in tf.nest.flatten([layer.input for layer in others])
        if id(tensor) in outputs_of_first
    ]
    logits = model.get_layer("fc8").input[-1]
    return sum(
        math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size
        for tensor in [*sent, *sent, logits]
    )


def report(config: Config, info: DatasetInfo) -> None:
    """Prints predictions, and draws them into --figures_dir."""
    rate, input_rate = _read_rates(config)
    machines = Machines(
        rate=rate,
        input_rate=input_rate,
        devices=config.devices_per_machine,
        link=config.network_gbps * _GIGABIT,
        device_link=config.device_gbps * _GIGABIT,
    )
    model = outline_network(config, info)
    traffic = Traffic(4.0 * model.count_params(), bytes_between_towers(model))
    batch, layouts = config.batch_size, {}
    for towers in sorted({1, config.towers}):
        part = "tower" if towers > 1 else "replica"
        layouts[f"data parallel, one device per {part}"] = [
            predict(traffic, machines, batch, devices=count, towers=towers)
            for count in device_counts(towers)
        ]
    _print(config, traffic, machines, layouts)
    figure = draw_speeds(layouts, batch)
    plots.save(figure, config.figures_dir, name="scaling")
    content = {
        "traffic": dataclasses.asdict(traffic),
        "machines": dataclasses.asdict(machines),
        "layouts": {
            name: [dataclasses.asdict(p) for p in predictions]
            for name, predictions in layouts.items()
        },
    }
    write_report(config.json, content)


def _read_rates(config):
    """Returns the speed of the step and of the input [images/s]."""
    file = config.benchmark_json
    try:
        measured = json.loads(Path(file).read_text())
        rates = [measured[p]["images_per_second"] for p in ("step", "input")]
        required = {n: measured["settings"][n] for n in SETTINGS[:2]}
        settings = measured["settings"] | required
        devices = measured["step"].get("devices", 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--benchmark_json={file!r} is not the output of `benchmark "
            "--target=all --json=FILE` on one device; measure first."
        ) from error
    if measured.get("partial"):
        raise UserError(
            f"--benchmark_json={file} is of a benchmark that was stopped; "
            "measure again."
        )
    if devices != 1:
        raise UserError(
            f"--benchmark_json={file} was measured on {devices} devices, which "
            "does not tell the speed of one; measure with --gpus=0, or without "
            "--virtual_devices."
        )
    # Of the others, those that it has: earlier versions recorded two alone.
    for name in SETTINGS:
        if (value := settings.get(name)) not in (None, getattr(config, name)):
            raise UserError(
                f"--benchmark_json={file} was measured with --{name}={value}, "
                f"not {getattr(config, name)}; give that, or measure again."
            )
    return rates


def _print(config, traffic, machines, layouts):
    print(
        f"Measured, {config.benchmark_json}:\n"
        f"  {machines.rate:,.1f} images/s trained by a device in batches of "
        f"{config.batch_size}\n"
        f"  {machines.input_rate:,.0f} images/s read by a machine\n"
        "Given:\n"
        f"  {machines.devices} devices a machine\n"
        f"  {config.network_gbps:g} Gbit/s between machines\n"
        f"  {config.device_gbps:g} Gbit/s between devices of a machine\n"
        "Counted:\n"
        f"  {traffic.gradients:,.0f} bytes of gradients per replica and step\n"
        f"  {traffic.between_towers:,} bytes between towers per image, each way"
    )
    for name, predictions in layouts.items():
        print(f"\n{name}:\n{as_table(predictions)}")
    print("\nGlobal batches that kept AlexNet's accuracy, as published:")
    rows = [(f"{n:,}", source) for n, source in _PUBLISHED_BATCHES.items()]
    print(format_table(["batch", "source"], rows, left=[1]))
    print("These are predictions; nothing was run. See also `launch`.")


def as_table(predictions: Sequence[Prediction]) -> str:
    """Returns the predictions of one layout as text."""
    header = ["devices", "replicas", "batch", "images/s", "efficiency", "input"]
    single = predictions[0].highest / predictions[0].devices
    rows = []
    for p in predictions:
        least, most = (r / p.devices / single for r in (p.lowest, p.highest))
        cells = [f"{n:,}" for n in (p.devices, p.replicas, p.global_batch)]
        cells.append(f"{p.lowest:,.0f} to {p.highest:,.0f}")
        cells.append(f"{least:.0%} to {most:.0%}")
        limit = f"starves above {p.input_limit:,.0f}"
        rows.append([*cells, limit if p.starves else "enough"])
    return format_table(header, rows, left=[5])


def draw_speeds(
    layouts: Mapping[str, Sequence[Prediction]], batch: int
) -> Figure:
    """Draws the speed per device; `batch` are a replica's images per step."""
    figure = plots.make_figure((8.8, 5.6))
    axes = figure.add_subplot()
    axes.set_title("Predicted training speed per device", loc="left")
    for (name, predictions), color in zip(
        layouts.items(), plots.COLORS, strict=False
    ):
        devices = [p.devices for p in predictions]
        lowest = [p.lowest / p.devices for p in predictions]
        highest = [p.highest / p.devices for p in predictions]
        axes.fill_between(devices, lowest, highest, color=color, alpha=0.15)
        axes.plot(devices, lowest, color=color, marker="o", label=name)
        axes.plot(devices, highest, color=color, linestyle="--")
    longest = max(layouts.values(), key=len)
    devices = [p.devices for p in longest]
    limits = [p.input_limit / p.devices for p in longest]
    label = "input limit of the CPUs"
    axes.plot(devices, limits, color="0.35", linestyle=":", label=label)
    axes.set_ylim(0, 1.3 * longest[0].highest)
    axes.set_ylabel("images/s per device")
    axes.set_xlabel("devices")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _mark_batches(axes, longest[-1].devices, batch)
    plots.make_plain(axes)
    solid = "solid: gradients summed after the step"
    dashed = "dashed: sum fully overlapped with the step"
    style = {"title": f"{solid}\n{dashed}", "alignment": "left"}
    axes.legend(loc="lower left", frameon=False, **style)
    return figure


def _mark_batches(axes, max_devices, batch):
    """Marks where data parallelism alone has a published global batch."""
    for size in _PUBLISHED_BATCHES:
        if batch <= size <= max_devices * batch:
            axes.axvline(size / batch, color="0.6", linewidth=0.8, zorder=0)
            style = {"va": "top", "fontsize": "small", "color": "0.35"}
            top = axes.get_xaxis_transform()
            text = f" batch {size:,}"
            axes.text(size / batch, 1, text, transform=top, **style)
