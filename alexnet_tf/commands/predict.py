"""Prints the five most probable labels of image files."""

import io
import json
import os
import sys
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.config.flags import Config
from alexnet_tf.data.bad_examples import decoding_error
from alexnet_tf.data.class_folders import find_files, unreadable
from alexnet_tf.data.labels import class_labels, run_labels
from alexnet_tf.evaluation.inference import load_signatures, make_signatures
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import open_run

_BATCH = 32  # Files.


def run(config: Config, words: list[str]) -> int:
    """Prints labels with probabilities for each file, or JSON lines.

    A word is an image file, a folder of them, or "-" for a list of files on
    standard input. The exit code is 1 if a file cannot be read as an image.
    """
    files = [file for word in words for file in _expand(word)]
    if not files:
        raise UserError(
            "predict FILE...: give at least one image file, a folder of "
            "images, or - with their names on standard input."
        )
    signatures = _open_signatures(config)
    predictions, code = {}, 0
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        for file, best, error in _classify(config, signatures, batch):
            if error:
                print(
                    f"{printable(file)}: cannot be read: {error}",
                    file=sys.stderr,
                )
                code = 1
                continue
            predictions[file] = best
            if config.json_lines:
                print(json.dumps({"file": file, "best": best}))
            else:
                lines = [f"  {score:7.2%}  {label}" for label, score in best]
                print(printable(file), *lines, sep="\n")
        _show_progress(start + len(batch), len(files))
    write_report(config.json, predictions)
    return code


def _expand(word):
    """Returns the files that an argument stands for."""
    if word == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            # Names of files may not be UTF-8.
            sys.stdin.reconfigure(errors="surrogateescape")
        return [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not os.path.isdir(word):
        return [word]
    return sorted(
        str(Path(word, file))
        for file, reason in find_files(word)
        if reason != "hidden"
    )


def _open_signatures(config):
    if not config.saved_model:
        run_dir = open_run(config.run_dir)
        labels = run_labels(config, run_dir)
        network, _ = load_best(config, run_dir)
        return make_signatures(network, labels, config.geometry)
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


def _classify(config, signatures, files):
    """Yields each file with its (label, probability) pairs, or an error."""
    contents, errors = zip(*map(_read, files), strict=True)
    outputs = signatures["classify"](image_bytes=tf.constant(contents))
    rows = zip(
        outputs["labels"].numpy(), outputs["scores"].numpy(), strict=True
    )
    for index, (labels, scores) in enumerate(rows):
        # Models of earlier versions may have WordNet ids only.
        names = class_labels(list(map(printable, labels)))
        best = list(zip(names, scores.tolist(), strict=True))
        if names[0]:
            yield files[index], best, ""
        else:
            error = errors[index] or decoding_error(
                contents[index], config.max_image_pixels
            )
            yield files[index], [], error


def _read(file):
    """Returns a file's bytes, and why there are none."""
    if reason := unreadable(file):
        return b"", reason
    try:
        return Path(file).read_bytes(), ""
    except OSError as error:
        return b"", error.strerror


def _show_progress(done, total):
    """Shows a count on the screen while the results go elsewhere."""
    if sys.stderr.isatty() and not sys.stdout.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr)
