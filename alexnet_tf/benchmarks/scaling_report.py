"""What `inspect --scale` says: measured parts, predicted speeds."""

import dataclasses
import json
import math
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf.benchmarks import scaling, scaling_plot
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.evaluation import plots
from alexnet_tf.models.build import POLICIES, build_network
from alexnet_tf.storage.dataset_info import placeholder_info
from alexnet_tf.storage.files import write_report

_GIGABIT = 1e9 / 8
# What a measured speed depends on.
_SETTINGS = ("batch_size", "precision")
_ALONE = "data parallel, one device a replica"
_TOWERS = "data parallel, one device a tower"


def report(config: Config, class_names: tuple[str, ...]) -> None:
    """Prints the prediction, and draws it into --figures_dir.

    Args:
        config: The settings.
        class_names: Classes of the data set.

    Raises:
        UserError: if there are no measurements, or they are of other settings.
    """
    rates = _read_rates(config)
    model = build_network(
        config, placeholder_info(class_names), dtype=POLICIES[config.precision]
    )
    traffic = scaling.Traffic(
        gradients=4.0 * model.count_params(),
        between_towers=bytes_between_towers(model),
    )
    machines = scaling.Machines(
        *rates,
        devices=config.devices_per_machine,
        link=config.network_gbps * _GIGABIT,
        device_link=config.device_gbps * _GIGABIT,
    )
    layouts = {
        name: [
            scaling.predict(
                traffic,
                machines,
                devices=devices,
                towers=towers,
                batch=config.batch_size,
            )
            for devices in scaling.DEVICES
            if devices >= towers
        ]
        for towers, name in sorted({config.towers: _TOWERS, 1: _ALONE}.items())
    }
    _print(config, traffic, machines, layouts)
    figure = scaling_plot.speeds(layouts, config.batch_size)
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
    """Returns images a second of the step and of the input."""
    file = config.benchmark_json
    try:
        measured = json.loads(Path(file).read_text())
        rates = [measured[p]["images_per_second"] for p in ("step", "input")]
        settings = {n: measured["settings"][n] for n in _SETTINGS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--benchmark_json={file!r} is not what `benchmark --target=all "
            "--json=FILE` wrote on one device of the machine; measure first."
        ) from error
    for name, value in settings.items():
        if getattr(config, name) != value:
            raise UserError(
                f"--benchmark_json={file} was measured with --{name}={value}, not "
                f"{getattr(config, name)}; give that, or measure again."
            )
    return rates


def bytes_between_towers(model: keras.Model) -> int:
    """Returns the bytes of an image that a tower sends to another one.

    What the other one reads, the gradient of what it read itself, and the
    logits or their gradient. tests/test_scaling.py counts the same in the
    graph of a step.
    """
    if not any(getattr(layer, "tower", 0) for layer in model.layers):
        return 0
    sent = [
        tensor
        for layer in model.layers
        if getattr(layer, "tower", 0)
        for tensor in tf.nest.flatten(layer.input)
        if getattr(tensor._keras_history.operation, "tower", None) == 0
    ]
    of_logits = 4 * model.output_shape[-1]
    return of_logits + sum(
        2 * math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size
        for tensor in sent
    )


def _print(config, traffic, machines, layouts):
    print(
        f"A device trains {machines.rate:,.1f} images a second at a batch of "
        f"{config.batch_size}, a machine reads\n{machines.input_rate:,.0f} "
        f"(measured, {config.benchmark_json}). {machines.devices} devices a machine, "
        f"links of {config.network_gbps:g} Gbit/s\nbetween machines and "
        f"{config.device_gbps:g} between devices (given). A replica's "
        f"gradients are\n{traffic.gradients:,.0f} bytes a step, an image "
        f"{traffic.between_towers:,} between towers, each way\n(counted)."
    )
    for name, predictions in layouts.items():
        print(f"\n{name}:\n{scaling.as_table(predictions)}")
    print("\nGlobal batches that kept AlexNet's accuracy, as published:")
    for size, source in scaling.PUBLISHED_BATCHES.items():
        print(f"{size:9,}  {source}")
    print("None of this was run: see `launch` for what one machine can do.")
