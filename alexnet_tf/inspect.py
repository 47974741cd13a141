"""Shows the network and the machine: layers, parameters, devices."""

from pathlib import Path

import tensorflow as tf

from alexnet_tf import assembly, sources
from alexnet_tf.assembly import DatasetFacts
from alexnet_tf.config import Config
from alexnet_tf.run_dir import write_json


def run(config: Config, words: list[str]) -> int:
    """Prints the tables; trains nothing and reads no images.

    Args:
        config: The settings, with --run_dir those of the run.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if the settings do not fit the machine.
    """
    placement = assembly.make_placement(config)
    names = sources.class_names(config.dataset, data_dir=config.data_dir)
    facts = DatasetFacts(
        class_names=list(names),
        mean_rgb=[0, 0, 0],
        covariance_rgb=[[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        train_examples=0,
        validation_examples=0,
    )
    model = assembly.make_model(config, facts)
    layers = [_describe(layer, placement) for layer in model.layers]
    _print_layers(layers)
    devices = {
        "tensorflow": tf.__version__,
        "gpus": [gpu.name for gpu in tf.config.list_physical_devices("GPU")],
        "replicas": [list(replica) for replica in placement.devices],
    }
    _print_devices(devices)
    if config.json:
        content = {"layers": layers, "devices": devices}
        content["parameters"] = model.count_params()
        write_json(Path(config.json), content)
    return 0


def _describe(layer, placement):
    """Returns a row of the layer table."""
    tower = getattr(layer, "tower", None)
    output, *_ = tf.nest.flatten(layer.output)  # A fork's are all alike.
    placed = tower is not None and placement.devices
    return {
        "layer": layer.name,
        "output_shape": list(output.shape[1:]),
        "parameters": layer.count_params(),
        "tower": tower,
        "devices": [
            placement.device(replica, tower)
            for replica in range(len(placement.devices))
        ]
        if placed
        else [],
    }


def _print_layers(layers):
    print(f"{'layer':18}{'output':>16}{'parameters':>14}  devices")
    for row in layers:
        shape = "x".join(map(str, row["output_shape"]))
        print(
            f"{row['layer']:18}{shape:>16}{row['parameters']:14,}  "
            f"{' '.join(row['devices'])}"
        )
    total = sum(row["parameters"] for row in layers)
    print(f"{'total':18}{'':>16}{total:14,}")


def _print_devices(devices):
    print(
        f"\nTensorFlow {devices['tensorflow']} sees {len(devices['gpus'])} GPUs"
    )
    for number, replica in enumerate(devices["replicas"]):
        print(f"replica {number}: {', '.join(replica)}")
