"""The network on the machine: layers, devices, traffic, memory."""

import collections
import dataclasses
import math
import os
import sys
import textwrap
from pathlib import Path

import tensorflow as tf

from alexnet_tf.benchmarks import scaling, traffic
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, absolute, parse_run
from alexnet_tf.config.schedule import show
from alexnet_tf.data import tfds_source
from alexnet_tf.distribution.devices import connect
from alexnet_tf.evaluation.tables import format_table
from alexnet_tf.models.build import outline_network
from alexnet_tf.models.paper_facts import count_facts
from alexnet_tf.storage.dataset_info import placeholder_info, read_dataset_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.trainer import build_trainer, check_layers, freeze

# Batches of a replica for the memory estimate.
_BATCHES = (32, 64, 128, 256, 512)
_KINDS = ("weights", "biases")


def run(config: Config) -> int:
    """Prints the tables; trains nothing and reads no images."""
    dataset = config.dataset
    if config.paper_facts and not config.run_dir and dataset == Config.dataset:
        dataset = "imagenet2012"  # Not the few classes of the default.
    run_dir = RunDir(Path(config.run_dir or os.devnull))
    is_run = run_dir.dataset.exists()
    if config.run_dir and not is_run:
        text = f"{config.run_dir} has no run yet; these are the settings."
        print(text, file=sys.stderr)
    # Not if another data set is given, as by a flag file.
    if is_run and parse_run(run_dir.flags).dataset == absolute(config).dataset:
        names = tuple(read_dataset_info(run_dir).class_names)
    else:
        names = tfds_source.class_names(dataset, data_dir=config.data_dir)
    info = placeholder_info(names)
    if config.scale:
        scaling.report(config, info)
    elif config.paper_facts:
        _show_facts(config, info)
    elif config.schedule_table:
        _show_schedule(config, info)
    else:
        _show_network(config, info)
    return 0


def _show_facts(config, info):
    """Prints the paper's statements beside what is counted in the network."""
    facts = count_facts(outline_network(config, info), config.geometry)
    rows = [(f.what, f.section, f.paper, f.counted) for f in facts]
    print(format_table(["", "Sec.", "the paper", "here"], rows, left=range(4)))
    for fact in facts:
        if fact.note:
            note = f"{fact.what}: {fact.note}."
            print(textwrap.fill(note, 80, subsequent_indent="  "))
    print("The paper's experiments are in docs/experiments-of-the-paper.md.")
    content = [dataclasses.asdict(fact) for fact in facts]
    write_report(config.json, {"facts": content})


def _show_schedule(config, info):
    """Prints the periods between the dates of --schedule that differ."""
    schedule = config.rate_schedule
    if not schedule:
        raise UserError(
            "--schedule_table: there is no --schedule, so that the plateau "
            "rule sets the learning rate; give one, or a flag file with one."
        )
    check_layers(outline_network(config, info), config)
    own = [f"{n}.{kind}" for n in schedule.layers for kind in _KINDS]
    names = [*_KINDS, *own, "color_noise"]
    columns = map(schedule.values, names)
    periods = []
    for date, *values in zip(schedule.dates, *columns, strict=True):
        row = dict(zip(names, values, strict=True))
        if date < config.epochs and (not periods or row != periods[-1][1]):
            periods.append((date, row))
    ends = [*(date for date, _ in periods[1:]), config.epochs]
    rows, content = [], []
    for (start, row), end in zip(periods, ends, strict=True):
        epochs = f"{start:g} to {end:g} done"
        if start == int(start) and end == int(end):
            epochs = f"{start + 1:g}-{end:g}"
        rows.append((epochs, *map(show, row.values())))
        content.append({"start": start, "end": end, **row})
    print(format_table(["epochs", *names], rows))
    write_report(config.json, {"periods": content})


def _show_network(config, info):
    """Prints layers, devices, traffic and memory."""
    devices = connect(config)
    layout = devices.layout
    model, transfers = _count_traffic(config, info, devices)
    images = config.batch_size // len(layout.devices)
    layers = [_describe(layer, layout) for layer in model.layers]
    memory = _memory(model, layout, images)
    _print_layers(layers)
    gpus = tf.config.list_physical_devices("GPU")
    print(f"\nTensorFlow {tf.__version__} sees {len(gpus)} GPUs")
    for number, names in enumerate(layout.devices):
        print(f"replica {number}: {', '.join(map(_short, names))}")
    _print_traffic(transfers, layout)
    _print_memory(memory, layout, images)
    content = {
        "parameters": model.count_params(),
        "layers": layers,
        "devices": layout.devices,
        "traffic": [dataclasses.asdict(t) for t in transfers],
        "memory": memory,
    }
    write_report(config.json, content)


def _count_traffic(config, info, devices):
    """Returns the network and the transfers of a step, one image a replica."""
    if len(sum(devices.layout.devices, ())) == 1:  # Nothing to trace.
        model = outline_network(config, info)
        check_layers(model, config)
        freeze(model, config.freeze)
        return model, []
    model = build_trainer(config, info, devices)
    graph = traffic.trace_training_step(model, images_per_replica=1)
    return model, traffic.find_transfers(graph)


def _describe(layer, layout):
    """Returns a row of the layer table."""
    tower = getattr(layer, "tower", None)
    output, *_ = tf.nest.flatten(layer.output)  # Replicas are all alike.
    replicas = [] if tower is None else range(len(layout.devices))
    return {
        "layer": layer.name,
        "output_shape": list(output.shape[1:]),
        "parameters": layer.count_params(),
        "tower": tower,
        "devices": [layout.device(replica, tower) for replica in replicas],
    }


def _memory(model, layout, images):
    """Returns bytes per device; activations are all layers' outputs."""
    rows = collections.defaultdict(collections.Counter)
    for layer in model.layers:
        weights = 4 * layer.count_params()
        outputs = images * sum(
            math.prod(output.shape[1:]) * tf.as_dtype(output.dtype).size
            for output in tf.nest.flatten(layer.output)
        )
        sizes = dict(weights=weights, momentum=weights, activations=outputs)
        for replica in range(len(layout.devices)):
            device = layout.device(replica, getattr(layer, "tower", 0))
            rows[device].update(sizes)  # Adds them.
    return rows


def _print_layers(layers):
    rows = []
    for row in layers:
        shape = "x".join(map(str, row["output_shape"]))
        devices = " ".join(map(_short, row["devices"]))
        rows.append((row["layer"], shape, f"{row['parameters']:,}", devices))
    total = sum(row["parameters"] for row in layers)
    rows.append(("total", "", f"{total:,}"))
    header = ["layer", "output", "parameters", "devices"]
    print(format_table(header, rows, left=(0, 3)))


def _print_traffic(transfers, layout):
    """Prints the traffic of the towers of replica 0, and of all replicas."""
    replicas = [set(map(_short, devices)) for devices in layout.devices]
    within = [t for t in transfers if {t.source, t.destination} <= replicas[0]]
    between = [
        t
        for t in transfers
        if not any({t.source, t.destination} <= names for names in replicas)
    ]
    if within:
        rows = []
        for t in within:
            direction = "backward" if t.backward else "forward"
            ends = (t.source, t.destination)
            rows.append((t.layer, direction, *ends, f"{t.bytes:,}"))
        rows += [("total", "", *total) for total in _totals(within)]
        header = ["layer", "pass", "from", "to", "bytes"]
        print("\nBetween the towers of a replica, for each image:")
        print(format_table(header, rows, left=range(4)))
    if between:
        print("\nBetween replicas, for each step:")
        header = ["from", "to", "bytes"]
        print(format_table(header, _totals(between), left=range(2)))


def _totals(transfers):
    """Returns source, destination and bytes of each pair of devices."""
    totals = collections.Counter()
    for t in transfers:
        totals[t.source, t.destination] += t.bytes
    return [(*pair, f"{total:,}") for pair, total in totals.items()]


def _print_memory(memory, layout, images):
    away = sum(memory[name]["weights"] for name in layout.devices[0][1:])
    if away:
        # MirroredStrategy alone puts them there.
        print(
            "With all weights on the primary device, each step would also "
            f"move {away:,}\nbytes of weights from it and as many of "
            "gradients to it, at any batch size."
        )
    rows = []
    for device, row in memory.items():
        per_image = 2 * row["activations"] / images
        totals = (3 * row["weights"] + n * per_image for n in _BATCHES)
        sizes = (f"{size / 1e6:.1f}" for size in (*row.values(), *totals))
        rows.append((_short(device), *sizes))
    header = ["device", "weights", "momentum", "activations"]
    header += [f"at {n}" for n in _BATCHES]
    print(
        f"\nMegabytes per device at {images} images a replica:\n"
        f"{format_table(header, rows)}\n"
        "at N: estimate of the total for N images a replica, three times the "
        "weights\n(momentum, gradients), twice the outputs (their gradients)."
    )


def _short(device):
    return device.removeprefix("/device:")
