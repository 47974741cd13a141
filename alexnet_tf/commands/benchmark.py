"""Speeds of training steps and of the input, beside the machine's limits."""

import tempfile
from pathlib import Path

import tensorflow as tf

from alexnet_tf.benchmarks import input as input_benchmark
from alexnet_tf.benchmarks import layer_times, scaling
from alexnet_tf.benchmarks import step as step_benchmark
from alexnet_tf.benchmarks.timing import measure_in_turns
from alexnet_tf.config.flags import Config
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.distribution.devices import connect
from alexnet_tf.storage.files import write_report

_ENDLESS = range(1_000_000)
# Steps that use up the batches that were prefetched during another subject.
_PREFETCHED = 5


def run(config: Config) -> int:
    """Measures --target; prints tables.

    If it is stopped, --json has the rounds until then, and `partial`.
    """
    results = {
        "partial": True,
        "settings": {n: getattr(config, n) for n in scaling.SETTINGS},
    }
    measure = {
        "step": _measure_step,
        "input": _measure_input,
        "train": _measure_training,
    }
    if config.gpus == "none":  # Also for what the network is compared with.
        tf.config.set_visible_devices([], "GPU")
    targets = measure if config.target == "all" else [config.target]
    try:
        with tempfile.TemporaryDirectory() as directory:
            splits = {}
            if config.target != "step":
                splits = input_benchmark.write_examples(
                    Path(directory), config.geometry, config.batch_size
                )
            for target in targets:
                for measured in measure[target](config, splits):
                    results[target] = measured
        del results["partial"]
    finally:
        if results.keys() & measure:
            write_report(config.json, results)
    return 0


def _measure_step(config, splits):
    """Yields the speeds of steps on a synthetic batch, after each round."""
    devices = connect(config)
    networks = step_benchmark.make_networks(config, devices)
    name, network = next(iter(networks.items()))
    flops = step_benchmark.count_flops(network)
    subjects = step_benchmark.make_subjects(config, networks, flops)
    print(f"Batches of {config.batch_size}; {flops / 1e9:.3f} GFLOP an image")
    # The first step after another network's takes longer.
    for measured in measure_in_turns(subjects, config.rounds, warmup_calls=1):
        rows = step_benchmark.compare(measured)
        result = _result(rows, name, measured)
        result["devices"] = sum(map(len, devices.layout.devices))
        yield result
    print(step_benchmark.as_table(rows, "limit"))
    layers = layer_times.measure_layers(network, subjects[name])
    print(f"\n{layer_times.as_table(layers)}")
    yield result | {"layers": layers}


def _measure_input(config, splits):
    """Yields the speeds of the ways to read images, after each round."""
    subjects = input_benchmark.make_subjects(
        splits, config.geometry, config.batch_size
    )
    for measured in measure_in_turns(subjects, config.rounds):
        rows = input_benchmark.compare(measured)
        yield _result(rows, input_benchmark.FILES, measured)
    print(input_benchmark.as_table(rows, config.batch_size))


def _measure_training(config, splits):
    """Yields the speeds of steps on a synthetic batch and on files."""
    size = config.batch_size
    synthetic = step_benchmark.make_batches(size, config.crop_size)
    datasets = {step_benchmark.SYNTHETIC: synthetic}
    for name, split in reversed(splits.items()):
        datasets[name] = training_batches(
            split, config, batch_size=size, steps=_ENDLESS, seed=config.seed
        )
    model = step_benchmark.make_network(config, connect(config))
    subjects = {
        name: step_benchmark.step_in_loop(model, dataset)
        for name, dataset in datasets.items()
    }
    for measured in measure_in_turns(
        subjects, config.rounds, warmup_calls=_PREFETCHED
    ):
        rows = step_benchmark.compare(measured)
        yield _result(rows, input_benchmark.FILES, measured)
    print(step_benchmark.as_table(rows, "synthetic"))


def _result(rows, name, measured):
    """Returns the rows, and the speed of the subject that stands for them."""
    (row,) = (row for row in rows if row["what"] == name)
    return {
        "images_per_second": row["images_per_second"],
        "rounds": len(measured[name].wall),
        "rows": rows,
    }
