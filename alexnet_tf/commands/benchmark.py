"""Speeds, each beside what the machine could do, measured in turns."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from alexnet_tf.benchmarks import input as input_benchmark
from alexnet_tf.benchmarks import layer_times
from alexnet_tf.benchmarks import step as step_benchmark
from alexnet_tf.config.flags import Config
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.devices import Devices, connect, local
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.storage.dataset_info import placeholder_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.training.trainer import build_trainer

_OURS = "this network, {}"
_CLASSES = 1000
_ENDLESS = range(1_000_000)
# Steps after which batches that were made before they were wanted are used up.
_FULL = 5
# A measurement takes at least so long [s].
_SHORTEST = 4.0


def run(config: Config) -> int:
    """Measures --target and prints a table; --json writes it to a file.

    Args:
        config: The settings.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if the settings do not fit the machine.
    """
    parts = {"step": _step, "input": _input, "train": _train}
    results = {
        name: part(config)
        for name, part in parts.items()
        if config.target in (name, "all")
    }
    settings = {n: getattr(config, n) for n in ("batch_size", "precision")}
    write_report(config.json, {"settings": settings, **results})
    return 0


def _step(config):
    devices = connect(config)
    batches = step_benchmark.make_batches(
        config.batch_size, config.crop_size, _CLASSES
    )
    ours = _OURS.format(config.precision)
    models = {ours: _make_trainer(config, devices)}
    flops = step_benchmark.count_flops(models[ours])
    if config.precision != "float32":
        exact = dataclasses.replace(config, precision="float32")
        models[_OURS.format("float32")] = _make_trainer(exact, devices)
    if len(devices.layout.devices[0]) > 1:
        primaries = tuple((name,) for name in devices.layout.primaries)
        one = local(DeviceLayout(primaries))
        models[f"{ours}, one device"] = _make_trainer(config, one)
    subjects = {
        f"{step_benchmark.LIMIT}, {dtype}": step_benchmark.matrix_product(
            dtype, flops
        )
        for dtype in dict.fromkeys((config.precision, "float32"))
    }
    subjects |= {
        name: step_benchmark.step_in_loop(model, batches)
        for name, model in models.items()
    }
    subjects[f"{ours}, with fit"] = step_benchmark.steps_of_fit(
        models[ours], batches
    )
    stock = step_benchmark.make_stock_network(config.crop_size, _CLASSES)
    subjects[step_benchmark.STOCK] = step_benchmark.step_in_loop(stock, batches)
    # The first step after another network's takes longer.
    measured = _in_turns(subjects, config.rounds, uncounted=1)
    rows = step_benchmark.compare(measured)
    print(f"Batches of {config.batch_size}; {flops / 1e9:.3f} GFLOP an image")
    print(step_benchmark.as_table(rows, "limit"))
    layers = layer_times.measure_layers(models[ours], subjects[ours])
    print(f"\n{layer_times.as_table(layers)}")
    return {
        "images_per_second": _rate(rows, ours),
        "rows": rows,
        "layers": layers,
    }


def _make_trainer(config: Config, devices: Devices) -> keras.Model:
    info = placeholder_info([str(number) for number in range(_CLASSES)])
    model = build_trainer(config, info, devices)
    iterators.keep_those_of_fit(model)
    return model


def _input(config):
    with _examples(config) as examples:
        subjects = input_benchmark.make_subjects(
            examples,
            geometry=config.geometry,
            batch_size=config.batch_size,
        )
        measured = _in_turns(subjects, config.rounds)
    rows = input_benchmark.compare(measured)
    print(input_benchmark.as_table(rows, config.batch_size))
    return {
        "images_per_second": _rate(rows, input_benchmark.FILES),
        "rows": rows,
    }


def _train(config):
    """Measures steps on made-up batches and on what is read."""
    model = _make_trainer(config, connect(config))
    made_up = step_benchmark.make_batches(
        config.batch_size, config.crop_size, _CLASSES
    )
    with _examples(config) as examples:
        datasets = {step_benchmark.MADE_UP: made_up} | {
            name: training_batches(
                split,
                config,
                batch_size=config.batch_size,
                steps=_ENDLESS,
                seed=config.seed,
            )
            for name, split in reversed(examples.items())
        }
        subjects = {
            name: step_benchmark.step_in_loop(model, dataset)
            for name, dataset in datasets.items()
        }
        measured = _in_turns(subjects, config.rounds, uncounted=_FULL)
    rows = step_benchmark.compare(measured)
    print(step_benchmark.as_table(rows, "made up"))
    return {
        "images_per_second": _rate(rows, input_benchmark.FILES),
        "rows": rows,
    }


@contextlib.contextmanager
def _examples(config):
    """Returns splits of images that are there for as long as this."""
    with tempfile.TemporaryDirectory() as name:
        yield input_benchmark.write_examples(
            Path(name), config.geometry, config.batch_size
        )


def _rate(rows, what):
    (rate,) = (r["images_per_second"] for r in rows if r["what"] == what)
    return rate


def _in_turns(
    subjects: dict[str, Callable[[], float]], rounds: int, uncounted: int = 0
) -> dict[str, np.ndarray]:
    """Measures all subjects in turns, so that noise meets all of them.

    Args:
        subjects: Functions that deal with images and return how many.
        rounds: Rounds that count; one more goes before them.
        uncounted: Calls before each measurement.

    Returns:
        Seconds and seconds of processor time an image, (rounds, 2), by name.
    """
    measured = {name: [] for name in subjects}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", flush=True)
        for name, subject in subjects.items():
            for _ in range(uncounted):
                subject()
            wall, cpu = time.perf_counter(), time.process_time()
            images = subject()
            while time.perf_counter() - wall < _SHORTEST:
                images += subject()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                measured[name].append((wall / images, cpu / images))
    return {name: np.array(times) for name, times in measured.items()}
