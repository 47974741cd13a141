"""Names the five best classes of image files."""

from pathlib import Path

import tensorflow as tf

from alexnet_tf import assembly
from alexnet_tf.config import Config
from alexnet_tf.errors import UserError
from alexnet_tf.inference import load_classifier
from alexnet_tf.run_dir import write_json


def run(config: Config, words: list[str]) -> int:
    """Prints labels with probabilities for each file.

    Args:
        config: The settings; `saved_model`, or `run_dir` and those of the run.
        words: The image files.

    Returns:
        The exit code: 0, or 1 if a file could not be read as an image.

    Raises:
        UserError: if no file or no model is given.
    """
    if not words:
        raise UserError("predict FILE...: give at least one image file.")
    classify = _open_classifier(config)
    predictions, failed = {}, 0
    for file in words:
        try:
            predictions[file] = _classify_file(classify, file)
        except (OSError, tf.errors.InvalidArgumentError) as error:
            failed += 1
            print(f"{file}: cannot be read: {_reason(error)}")
            continue
        print(file)
        for label, score in predictions[file]:
            print(f"  {score:7.2%}  {label}")
    if config.json:
        write_json(Path(config.json), predictions)
    return 1 if failed else 0


def _open_classifier(config):
    if not config.saved_model:
        return assembly.make_best_classifier(config, assembly.open_run(config))
    if not tf.saved_model.contains_saved_model(config.saved_model):
        raise UserError(
            f"--saved_model={config.saved_model} is no SavedModel; give the "
            "directory that has saved_model.pb in it."
        )
    return load_classifier(Path(config.saved_model))


def _classify_file(classify, file):
    """Returns (label, probability) pairs, best first."""
    best = classify(tf.constant([Path(file).read_bytes()]))
    labels = [label.decode() for label in best["labels"][0].numpy()]
    return list(zip(labels, best["scores"][0].numpy().tolist(), strict=True))


def _reason(error):
    """Returns why a file cannot be read, without where in the graph."""
    if isinstance(error, OSError):
        return error.strerror
    # The line before the one that names the operation: "\t [[{{node ...".
    before, _, _ = error.message.partition("\n\t [[")
    return before.splitlines()[-1]
