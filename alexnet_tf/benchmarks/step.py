"""Training steps: this network, stock Keras layers, the machine's limit."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.benchmarks.timing import Times, speed_table
from alexnet_tf.config.flags import Config
from alexnet_tf.data.examples import pipeline_options
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.devices import Devices, local
from alexnet_tf.distribution.placement import DeviceLayout
from alexnet_tf.models.paper_facts import count_multiply_adds
from alexnet_tf.storage.dataset_info import placeholder_info
from alexnet_tf.training.trainer import build_trainer

LIMIT = "matrix product"
SYNTHETIC = "synthetic batches"
STOCK = "stock Keras layers, float32"
_NUM_CLASSES = 1000
# Side of the matrices.
_MATRIX_SIZE = 4096
# Steps of a `fit`: enough that its fixed cost hardly counts.
_FIT_STEPS = 16


def make_network(config: Config, devices: Devices) -> keras.Model:
    """Returns the compiled network with ImageNet's number of classes."""
    info = placeholder_info(list(map(str, range(_NUM_CLASSES))))
    model = build_trainer(config, info, devices)
    iterators.keep_those_of_fit(model)
    return model


def make_networks(config: Config, devices: Devices) -> dict[str, keras.Model]:
    """Returns the network as configured, and then its variants, by name."""
    name = f"this network, {config.precision}"
    networks = {name: make_network(config, devices)}
    if config.precision != "float32":
        exact = dataclasses.replace(config, precision="float32")
        networks["this network, float32"] = make_network(exact, devices)
    if len(devices.layout.devices[0]) > 1:
        primaries = tuple((device,) for device in devices.layout.primaries)
        one_each = local(DeviceLayout(primaries))
        networks[f"{name}, one device"] = make_network(config, one_each)
    return networks


def make_subjects(
    config: Config, networks: Mapping[str, keras.Model], flops: float
) -> dict[str, Callable]:
    """Returns the steps of `make_networks` and what they are compared with.

    These are functions that process images and return their number, by name.
    """
    batches = make_batches(config.batch_size, config.crop_size)
    subjects: dict[str, Callable] = {}
    for dtype in dict.fromkeys((config.precision, "float32")):
        subjects[f"{LIMIT}, {dtype}"] = _matrix_product(dtype, flops)
    for name, model in networks.items():
        subjects[name] = step_in_loop(model, batches)
    name, model = next(iter(networks.items()))
    subjects[f"{name}, with fit"] = partial(_fit, model, batches)
    if config.architecture == "alexnet":
        stock = make_stock_network(config.crop_size)
        subjects[STOCK] = step_in_loop(stock, batches)
    return subjects


def make_batches(batch_size: int, crop_size: int) -> tf.data.Dataset:
    """Returns one batch of noise with random labels, repeated endlessly."""
    random = np.random.default_rng(0)
    shape = (batch_size, crop_size, crop_size, 3)
    images = random.integers(0, 256, shape, np.uint8)
    labels = random.integers(0, _NUM_CLASSES, batch_size)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    return batches.with_options(pipeline_options())


def step_in_loop(model: keras.Model, batches: tf.data.Dataset) -> Callable:
    """Returns a function that makes one training step without `fit`."""
    if not model.optimizer.iterations.numpy():  # Keras builds it in `fit`.
        model.fit(batches, steps_per_epoch=1, verbose=0, shuffle=False)
    strategy = model.distribute_strategy
    distributed = strategy.experimental_distribute_dataset(batches)
    iterator = iterators.keep(iter(distributed))

    def step():
        logs = model.train_function(iterator)
        float(logs["loss"])  # Waits for the step.
        return _batch_size(batches)

    return step


def _fit(model, batches):
    model.fit(batches, steps_per_epoch=_FIT_STEPS, verbose=0, shuffle=False)
    return _FIT_STEPS * _batch_size(batches)


def _batch_size(batches):
    return batches.element_spec[0].shape[0]


def _matrix_product(dtype, flops):
    """Returns a function that multiplies matrices.

    It returns the number of images, of `flops` each, of as many operations.
    """
    shape = (_MATRIX_SIZE, _MATRIX_SIZE)
    matrix = tf.cast(tf.random.stateless_normal(shape, (1, 2)), dtype)
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))

    def product():
        multiply().numpy()
        return 2 * _MATRIX_SIZE**3 / flops

    return product


def count_flops(model: keras.Model) -> float:
    """Returns the operations of a training step per image.

    Two for each multiplication by a weight, three times: for the outputs, the
    gradient of the inputs and that of the weights. conv1's gradient of its
    inputs is included, although no step computes it.
    """
    return 6.0 * count_multiply_adds(model)


def make_stock_network(crop_size: int) -> keras.Model:
    """Returns the paper's network as one writes it without regard to speed."""
    layers = keras.layers

    def normalize(x):
        return tf.nn.local_response_normalization(
            x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75
        )

    def conv(kernels, size, groups=1, strides=1, padding="same"):
        return layers.Conv2D(
            kernels, size, strides, padding, groups=groups, activation="relu"
        )

    model = keras.Sequential(
        [
            keras.Input((crop_size, crop_size, 3), dtype="uint8"),
            layers.Rescaling(1.0, -120.0),
            layers.ZeroPadding2D(((0, 3), (0, 3))),
            conv(96, 11, strides=4, padding="valid"),
            layers.Lambda(normalize),
            layers.MaxPooling2D(3, 2),
            conv(256, 5, groups=2),
            layers.Lambda(normalize),
            layers.MaxPooling2D(3, 2),
            conv(384, 3),
            conv(384, 3, groups=2),
            conv(256, 3, groups=2),
            layers.MaxPooling2D(3, 2),
            layers.Flatten(),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(_NUM_CLASSES),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def compare(measured: Mapping[str, Times]) -> list[dict]:
    """Returns a row of speeds for each subject.

    It is compared within each round with the first one, `of_first`, and with
    the stock network, `of_stock`, if that was measured.
    """
    bases = {"of_first": next(iter(measured.values()))}
    if STOCK in measured:
        bases["of_stock"] = measured[STOCK]
    rows = []
    for name, times in measured.items():
        rows.append({"what": name, **times.speed()})
        for key, base in bases.items():
            rows[-1][key] = np.median(np.divide(base.wall, times.wall))
    return rows


def as_table(rows: list[dict], first: str) -> str:
    """Returns the rows of `compare` as text; `first` names the first one."""
    columns = {"of_first": (f"of {first}", ".1%")}
    if "of_stock" in rows[0]:
        columns["of_stock"] = ("of stock", ".2f")
    table = speed_table(rows, columns)
    return f"{table}\nMedians of all rounds, shares within a round."
