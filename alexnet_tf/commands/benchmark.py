"""Speeds of training steps and of the input, beside the machine's limits."""

import tempfile
from pathlib import Path

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
    """Measures --target; prints tables."""
    results = {"settings": {n: getattr(config, n) for n in scaling.SETTINGS}}
    if config.target in ("step", "all"):
        results["step"] = _measure_step(config)
    if config.target != "step":
        with tempfile.TemporaryDirectory() as directory:
            splits = input_benchmark.write_examples(
                Path(directory), config.geometry, config.batch_size
            )
            if config.target in ("input", "all"):
                results["input"] = _measure_input(config, splits)
            if config.target in ("train", "all"):
                results["train"] = _measure_training(config, splits)
    write_report(config.json, results)
    return 0


def _measure_step(config):
    """Measures steps on a synthetic batch."""
    networks = step_benchmark.make_networks(config, connect(config))
    name, network = next(iter(networks.items()))
    flops = step_benchmark.count_flops(network)
    subjects = step_benchmark.make_subjects(config, networks, flops)
    # The first step after another network's takes longer.
    measured = measure_in_turns(subjects, config.rounds, warmup_calls=1)
    rows = step_benchmark.compare(measured)
    print(f"Batches of {config.batch_size}; {flops / 1e9:.3f} GFLOP an image")
    print(step_benchmark.as_table(rows, "limit"))
    layers = layer_times.measure_layers(network, subjects[name])
    print(f"\n{layer_times.as_table(layers)}")
    return _result(rows, name) | {"layers": layers}


def _measure_input(config, splits):
    """Measures the ways to read images."""
    subjects = input_benchmark.make_subjects(
        splits, config.geometry, config.batch_size
    )
    measured = measure_in_turns(subjects, config.rounds)
    rows = input_benchmark.compare(measured)
    print(input_benchmark.as_table(rows, config.batch_size))
    return _result(rows, input_benchmark.FILES)


def _measure_training(config, splits):
    """Measures steps on a synthetic batch and on images read from files."""
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
    measured = measure_in_turns(
        subjects, config.rounds, warmup_calls=_PREFETCHED
    )
    rows = step_benchmark.compare(measured)
    print(step_benchmark.as_table(rows, "synthetic"))
    return _result(rows, input_benchmark.FILES)


def _result(rows, name):
    """Returns the rows, and the speed of the subject that stands for them."""
    (row,) = (row for row in rows if row["what"] == name)
    return {"images_per_second": row["images_per_second"], "rows": rows}
