"""Prints the five most probable labels of image files."""

import json
import sys
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data.bad_examples import decoding_error
from alexnet_tf.evaluation.inference import load_signatures, make_signatures
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import open_run

# Files per batch.
_BATCH = 32


def run(config: Config, files: list[str]) -> int:
    """Prints labels with probabilities for each file, or JSON lines.

    Args:
        config: The settings.
        files: Image files, folders of them, or "-" for a list of files on
            standard input.

    Returns:
        The exit code: 0, or 1 if a file could not be read as an image.
    """
    files = [file for word in files for file in _expand(word)]
    if not files:
        raise UserError(
            "predict FILE...: give at least one image file, a folder of "
            "images, or - with their names on standard input."
        )
    signatures = _open_signatures(config)
    predictions, code = {}, 0
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        for file, best, error in _classify(signatures, batch):
            if error:
                print(f"{file}: cannot be read: {error}", file=sys.stderr)
                code = 1
            else:
                predictions[file] = best
                _show(file, best, as_json=config.json_lines)
        _show_progress(start + len(batch), len(files))
    write_report(config.json, predictions)
    return code


def _expand(word):
    """Returns the files that an argument stands for."""
    if word == "-":
        return [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not Path(word).is_dir():
        return [word]
    return sorted(
        str(path)
        for path in Path(word).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def _open_signatures(config):
    if not config.saved_model:
        run_dir = open_run(config.run_dir)
        network, _ = load_best(config, run_dir)
        names = read_dataset_info(run_dir).class_names
        return make_signatures(network, names, config.geometry)
    if not tf.saved_model.contains_saved_model(config.saved_model):
        raise UserError(
            f"--saved_model={config.saved_model} is not a SavedModel; give "
            "the directory that contains saved_model.pb."
        )
    signatures = load_signatures(Path(config.saved_model))
    if "classify" not in signatures:
        raise UserError(
            f"--saved_model={config.saved_model} has no signature classify; "
            "give a model that train or export wrote."
        )
    return signatures


def _classify(signatures, files):
    """Yields each file with its (label, probability) pairs, best first.

    The third item is the reason why a file has none.
    """
    contents, errors = zip(*map(_read, files), strict=True)
    outputs = signatures["classify"](image_bytes=tf.constant(contents))
    for file, content, error, labels, scores in zip(
        files,
        contents,
        errors,
        outputs["labels"].numpy(),
        outputs["scores"].numpy(),
        strict=True,
    ):
        if not labels[0]:
            yield file, [], error or decoding_error(content)
            continue
        names = [label.decode() for label in labels]
        yield file, list(zip(names, scores.tolist(), strict=True)), ""


def _read(file):
    """Returns a file's bytes, and why there are none."""
    try:
        return Path(file).read_bytes(), ""
    except OSError as error:
        return b"", error.strerror


def _show(file, best, *, as_json):
    if as_json:
        print(json.dumps({"file": file, "best": best}))
        return
    print(file)
    for label, score in best:
        print(f"  {score:7.2%}  {label}")


def _show_progress(done, total):
    """Shows a count on the screen while the results go elsewhere."""
    if sys.stderr.isatty() and not sys.stdout.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr)
