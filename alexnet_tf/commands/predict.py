"""Prints the five most probable labels of image files."""

import collections
import contextlib
import io
import json
import os
import sys
from pathlib import Path

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.config.flags import Config
from alexnet_tf.data.class_folders import find_files, report_left_out
from alexnet_tf.distribution.startup import import_quietly
from alexnet_tf.storage.files import write_report

# A rule of thumb for answers that are reported as uncertain: lower scores, and
# those less than so many times the second one. See docs/usage.md.
_LOW_SCORE, _LEAD = 0.5, 2.0


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
    classifier = _open_classifier(config)
    predictions, code = {}, 0
    for done, (file, best, error) in enumerate(classifier.classify(files)):
        _show_progress(done + 1, len(files))
        if error:
            print(
                f"{printable(file)}: cannot be read: {error}", file=sys.stderr
            )
            code = 1
            continue
        predictions[file] = best
        if config.json_lines:
            print(json.dumps({"file": file, "best": best}))
        else:
            lines = [f"  {score:7.2%}  {label}" for label, score in best]
            print(printable(file), *lines, *_warn(best), sep="\n")
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
    files, left_out = [], collections.Counter()
    for file, reason in find_files(word):
        if reason:
            left_out[reason] += 1
        else:
            files.append(str(Path(word, file)))
    if left_out:
        print(report_left_out(printable(word), left_out), file=sys.stderr)
    return sorted(files)


def _open_classifier(config):
    """Returns what classifies, after the imports that it needs."""
    if not config.saved_model:
        inference = import_quietly(
            "alexnet_tf.evaluation.inference", debug=config.debug
        )
        return inference.load_run(config.run_dir, config)
    if not Path(config.saved_model, "saved_model.pb").exists():
        raise UserError(
            f"--saved_model={config.saved_model} is not a SavedModel; give "
            "the directory that contains saved_model.pb."
        )
    with _without_keras():
        module = import_quietly(
            "alexnet_tf.evaluation.classifier", debug=config.debug
        )
    signatures = module.load_signatures(Path(config.saved_model))
    if "classify" not in signatures:
        raise UserError(
            f"--saved_model={config.saved_model} has no signature classify; "
            "give a model that train or export wrote."
        )
    return module.Classifier(signatures, config.max_image_pixels)


@contextlib.contextmanager
def _without_keras():
    """Has TensorFlow imported without Keras, and so without matplotlib.

    It tries to import Keras for models of Keras's, and goes on without.
    """
    hidden = {"keras"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _warn(best):
    """Yields a line if the most probable label is a guess."""
    (_, score), (_, second) = best[:2]
    if score < max(_LOW_SCORE, _LEAD * second):
        yield "  uncertain; perhaps another label, or none of the classes"


def _show_progress(done, total):
    """Shows a count on the screen while the results go elsewhere."""
    if sys.stderr.isatty() and not sys.stdout.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr)
