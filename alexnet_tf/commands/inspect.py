"""Shows the network and the machine: layers, devices, traffic, memory."""

import collections
import dataclasses
import math

import keras
import tensorflow as tf

from alexnet_tf.benchmarks import scaling_report, traffic
from alexnet_tf.benchmarks.traffic import Transfer
from alexnet_tf.config.flags import Config
from alexnet_tf.data import tfds_source as sources
from alexnet_tf.distribution.devices import connect
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models.build import build_network
from alexnet_tf.models.paper_facts import count_facts
from alexnet_tf.storage.dataset_info import placeholder_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.training.trainer import build_trainer

# Images a replica that the memory is estimated for.
_BATCHES = (32, 64, 128, 256, 512)


def run(config: Config) -> int:
    """Prints the tables; trains nothing and reads no images.

    Args:
        config: The settings, with --run_dir those of the run.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if the settings do not fit the machine, or there are no
            measurements for --scale.
    """
    names = sources.class_names(config.dataset, data_dir=config.data_dir)
    if config.scale:
        scaling_report.report(config, names)
        return 0
    if config.paper_facts:
        return _show_facts(config, names)
    devices = connect(config)
    layout = devices.layout
    model = build_trainer(config, placeholder_info(names), devices)
    graph = traffic.trace_training_step(model, images_per_replica=1)
    transfers = traffic.find_transfers(graph)
    images_per_replica = config.batch_size // len(layout.devices)

    layers = [_describe(layer, layout) for layer in model.layers]
    memory = _memory(model, layout, images_per_replica)
    _print_layers(layers)
    _print_machine(layout)
    _print_traffic(transfers, layout)
    _print_weights_away_from_lead(memory, layout)
    _print_memory(memory, images_per_replica)
    content = {
        "parameters": model.count_params(),
        "layers": layers,
        "devices": [list(devices) for devices in layout.devices],
        "traffic": [dataclasses.asdict(t) for t in transfers],
        "memory": memory,
    }
    write_report(config.json, content)
    return 0


def _show_facts(config, names):
    """Prints the paper's statements beside what is counted in the network."""
    model = build_network(config, placeholder_info(names))
    facts = count_facts(model, config.geometry)
    print(f"{'':28}{'Sec.':10}{'the paper':36}here")
    for fact in facts:
        print(f"{fact.what:28}{fact.section:10}{fact.paper:36}{fact.counted}")
        if fact.note:
            print(f"{'':38}({fact.note})")
    rows = [dataclasses.asdict(fact) for fact in facts]
    write_report(config.json, {"facts": rows})
    return 0


def _describe(layer: keras.Layer, layout: DeviceLayout) -> dict:
    """Returns a row of the layer table."""
    tower = getattr(layer, "tower", None)
    output, *_ = tf.nest.flatten(layer.output)  # A fork's are all alike.
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
    rows = {}
    for layer in model.layers:
        for replica in range(len(layout.devices)):
            device = layout.device(replica, getattr(layer, "tower", 0))
            row = rows.setdefault(
                device, {"weights": 0, "momentum": 0, "activations": 0}
            )
            weights = 4 * layer.count_params()
            row["weights"] += weights
            row["momentum"] += weights
            for output in tf.nest.flatten(layer.output):
                size = math.prod(output.shape[1:]) * images
                row["activations"] += size * tf.as_dtype(output.dtype).size
    return rows


def _print_layers(layers):
    print(f"{'layer':18}{'output':>14}{'parameters':>13}  devices")
    for row in layers:
        shape = "x".join(map(str, row["output_shape"]))
        print(
            f"{row['layer']:18}{shape:>14}{row['parameters']:13,}  "
            f"{' '.join(row['devices'])}"
        )
    total = sum(row["parameters"] for row in layers)
    print(f"{'total':18}{'':14}{total:13,}\n")


def _print_machine(layout):
    gpus = tf.config.list_physical_devices("GPU")
    print(f"TensorFlow {tf.__version__} sees {len(gpus)} GPUs")
    for number, devices in enumerate(layout.devices):
        print(f"replica {number}: {', '.join(devices)}")


def _print_traffic(transfers: list[Transfer], layout):
    """Prints what the towers of replica 0 exchange, then the replicas."""
    replicas = [{_short(d) for d in row} for row in layout.devices]
    between_towers = [
        t for t in transfers if {t.source, t.destination} <= replicas[0]
    ]
    if between_towers:
        print("\nBetween the towers of a replica, for each image:")
        print(f"{'layer':18}{'pass':10}{'from':8}{'to':8}{'bytes':>10}")
    for t in between_towers:
        print(
            f"{t.layer:18}{'backward' if t.backward else 'forward':10}"
            f"{t.source:8}{t.destination:8}{t.bytes:10,}"
        )
    _print_totals(between_towers)
    between_replicas = [
        t
        for t in transfers
        if not any({t.source, t.destination} <= names for names in replicas)
    ]
    if between_replicas:
        print("\nBetween replicas, for each step:")
    _print_totals(between_replicas)


def _print_totals(transfers):
    """Prints the bytes of each pair of devices."""
    totals = collections.Counter()
    for t in transfers:
        totals[t.source, t.destination] += t.bytes
    for (source, destination), total in totals.items():
        print(f"{'total':28}{source:8}{destination:8}{total:10,}")


def _print_weights_away_from_lead(memory, layout):
    """Prints what MirroredStrategy alone, which puts them there, would move."""
    away = sum(memory[name]["weights"] for name in layout.devices[0][1:])
    if away:
        print(
            "With all weights on the lead, each step would also move "
            f"{away:,} bytes of\nweights from it and as many of gradients to "
            "it, whatever the batch size."
        )


def _print_memory(memory, images):
    print(f"\nMegabytes a device at {images} images a replica:")
    print(f"{'device':16}{'weights':>10}{'momentum':>10}{'activations':>13}")
    for device, row in memory.items():
        weights, momentum, activations = (v / 1e6 for v in row.values())
        print(
            f"{_short(device):16}{weights:10.1f}{momentum:10.1f}"
            f"{activations:13.1f}"
        )
    print(
        "\nAn estimate of all a device needs, by images a replica: three times "
        "the weights\n(momentum, gradients) and twice the outputs (their "
        "gradients), megabytes:"
    )
    print(f"{'device':16}" + "".join(f"{n:>10}" for n in _BATCHES))
    for device, row in memory.items():
        an_image = 2 * row["activations"] / images
        totals = (3 * row["weights"] + n * an_image for n in _BATCHES)
        print(
            f"{_short(device):16}"
            + "".join(f"{total / 1e6:10.1f}" for total in totals)
        )


def _short(device):
    return device.removeprefix("/device:")
