"""Writes a run's best weights as a SavedModel, and compares it with the run."""

import numpy as np
import tensorflow as tf

from alexnet_tf import assembly
from alexnet_tf.config import Config
from alexnet_tf.inference import load_classifier, save_classifier


def run(config: Config, words: list[str]) -> int:
    """Exports to the run's saved_model directory.

    Args:
        config: The settings, those of the run among them.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code: 0, or 1 if the reloaded model answers otherwise.

    Raises:
        UserError: if there is no such run, or it has no checkpoint.
    """
    run_dir = assembly.open_run(config)
    classify = assembly.make_best_classifier(config, run_dir)
    save_classifier(classify, run_dir.saved_model)
    difference = _largest_difference(
        classify, load_classifier(run_dir.saved_model), config.image_size
    )
    print(
        f"Exported to {run_dir.saved_model}; reloaded, its scores differ "
        f"from the run's by at most {difference:.1e}."
    )
    return 0 if difference < 1e-5 else 1


def _largest_difference(classify, reloaded, size):
    """Compares the scores of two classifiers on a few random images."""
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3))
    encoded = tf.stack(
        [tf.io.encode_jpeg(image.astype(np.uint8)) for image in images]
    )
    scores = [model(encoded)["scores"] for model in (classify, reloaded)]
    return float(tf.reduce_max(tf.abs(scores[0] - scores[1])))
