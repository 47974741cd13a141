"""Writes a run's best weights as a SavedModel, and verifies it."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data.labels import run_labels
from alexnet_tf.evaluation import inference
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.run_dir import open_run


def run(config: Config) -> int:
    """Exports to the run's saved_model directory, and to --keras_file.

    The exit code is 1 if the reloaded model's answers differ.
    """
    run_dir = open_run(config.run_dir)
    keras_file = Path(config.keras_file)
    if config.keras_file and keras_file.suffix != ".keras":
        raise UserError(
            f"--keras_file={keras_file}: Keras expects a name that ends in "
            ".keras."
        )
    model, _ = load_best(config, run_dir)
    labels = run_labels(config, run_dir)
    signatures = inference.make_signatures(model, labels, config.geometry)
    inference.save_signatures(signatures, run_dir.saved_model)
    reloaded = inference.load_signatures(run_dir.saved_model)
    difference = _largest_difference(signatures, reloaded, config.crop_size)
    print(
        f"Exported to {run_dir.saved_model}; reloaded, its probabilities "
        f"differ from the run's by at most {difference:.1e}."
    )
    if config.keras_file:
        keras_file.parent.mkdir(parents=True, exist_ok=True)
        model.save(keras_file)
        print(
            f"Written to {keras_file}; import alexnet_tf.models.alexnet to "
            "load it."
        )
    return 0 if difference < 1e-5 else 1


def _largest_difference(ours, theirs, size):
    """Compares the probabilities of two models on a few images of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (4, size, size, 3))
    images = tf.constant(noise, tf.uint8)
    first = ours["probabilities"](images=images)["probabilities"]
    second = theirs["probabilities"](images=images)["probabilities"]
    return float(tf.reduce_max(tf.abs(first - second)))
