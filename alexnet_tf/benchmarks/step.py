"""What `benchmark` measures of training steps."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.data.examples import pipeline_options
from alexnet_tf.distribution import iterators

LIMIT = "matrix product"
MADE_UP = "made-up batches"
STOCK = "stock Keras layers, float32"
# Side of the matrices.
_MATRIX = 4096
# Steps of a `fit`: enough that what it does once counts for little.
_FIT_STEPS = 16


def make_batches(
    batch_size: int, crop_size: int, num_classes: int
) -> tf.data.Dataset:
    """Returns an endless dataset of one batch of noise with random labels."""
    random = np.random.default_rng(0)
    shape = (batch_size, crop_size, crop_size, 3)
    images = random.integers(0, 256, shape, np.uint8)
    labels = random.integers(0, num_classes, batch_size)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    return batches.with_options(pipeline_options())


def step_in_loop(
    model: keras.Model, batches: tf.data.Dataset
) -> Callable[[], int]:
    """Returns what makes a training step without `fit`, and its images."""
    if not model.optimizer.iterations.numpy():  # Keras builds it in `fit`.
        model.fit(batches, steps_per_epoch=1, verbose=0, shuffle=False)
    strategy = model.distribute_strategy
    distributed = strategy.experimental_distribute_dataset(batches)
    iterator = iterators.keep(iter(distributed))
    images = _batch_size(batches)

    def step():
        logs = model.train_function(iterator)
        float(logs["loss"])  # Waits for the step.
        return images

    return step


def steps_of_fit(
    model: keras.Model, batches: tf.data.Dataset
) -> Callable[[], int]:
    """Returns what makes some training steps with `fit`, and their images."""
    images = _FIT_STEPS * _batch_size(batches)

    def steps():
        model.fit(batches, steps_per_epoch=_FIT_STEPS, verbose=0, shuffle=False)
        return images

    return steps


def matrix_product(dtype: str, flops: float) -> Callable[[], float]:
    """Returns what multiplies matrices, and how many images that would be.

    Args:
        dtype: Of the matrices.
        flops: Operations that an image takes.
    """
    shape = (_MATRIX, _MATRIX)
    matrix = tf.cast(tf.random.stateless_normal(shape, (1, 2)), dtype)
    multiply = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))

    def product():
        multiply().numpy()
        return 2 * _MATRIX**3 / flops

    return product


def count_flops(model: keras.Model) -> float:
    """Returns the operations of a training step for an image.

    Two for each multiplication by a weight, three times: for the outputs, the
    gradient of the inputs and that of the weights. conv1's gradient of its
    inputs is counted, too, though nobody asks for it.
    """
    forward = 0
    for layer in model.layers:
        for variable in layer.trainable_variables:
            if variable.name == "kernel":
                places = math.prod(layer.output.shape[1:-1])
                forward += 2 * places * math.prod(variable.shape)
    return 3 * forward


def make_stock_network(crop_size: int, num_classes: int) -> keras.Model:
    """Returns the paper's network of Keras's and TensorFlow's own layers.

    What people write who do not care about speed: `Conv2D(groups=2)`,
    `tf.nn.local_response_normalization`, `Dropout`, `SGD` with weight decay.
    """
    layers = keras.layers

    def respond(x):
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
            layers.Lambda(respond),
            layers.MaxPooling2D(3, 2),
            conv(256, 5, groups=2),
            layers.Lambda(respond),
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
            layers.Dense(num_classes),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=5e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def compare(measured: dict[str, np.ndarray]) -> list[dict]:
    """Returns a row for each subject, with medians and spreads.

    Args:
        measured: Seconds and seconds of processor time an image, (rounds, 2);
            the first is what the others are compared with.
    """
    first = next(iter(measured.values()))[:, 0]
    rows = []
    for name, times in measured.items():
        seconds = times[:, 0]
        row = {
            "what": name,
            **speeds(seconds),
            "of_first": np.median(first / seconds),
        }
        if STOCK in measured:
            row["of_stock"] = np.median(measured[STOCK][:, 0] / seconds)
        rows.append(row)
    return rows


def speeds(seconds: np.ndarray) -> dict[str, float]:
    """Returns the median speed and its spread, of seconds an image."""
    return {
        "images_per_second": 1 / np.median(seconds),
        "lowest": 1 / seconds.max(),
        "highest": 1 / seconds.min(),
    }


def as_table(rows: list[dict], first: str) -> str:
    """Returns the rows of `compare` as text; `first` is what the first is."""
    lines = [
        f"{'':36}{'images/s':>9}{'(spread)':>18}{'of ' + first:>12}"
        + (f"{'of stock':>10}" if "of_stock" in rows[0] else "")
    ]
    for row in rows:
        spread = f"({row['lowest']:.1f}-{row['highest']:.1f})"
        line = f"{row['what']:36}{row['images_per_second']:9.1f}{spread:>18}"
        line += f"{row['of_first']:12.1%}"
        if "of_stock" in row:
            line += f"{row['of_stock']:10.2f}"
        lines.append(line)
    lines.append("Medians of all rounds, shares within a round.")
    return "\n".join(lines)


def _batch_size(batches):
    return batches.element_spec[0].shape[0]
