"""Names the five best classes of image files."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data.bad_examples import decoding_error
from alexnet_tf.evaluation.inference import (
    Signatures,
    load_signatures,
    make_signatures,
)
from alexnet_tf.models.build import load_best
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import open_run

# Files that are looked at together.
_BATCH = 32


def run(config: Config, words: list[str]) -> int:
    """Prints labels with probabilities for each file, or JSON lines.

    Args:
        config: The settings; `saved_model`, or `run_dir` and those of the run.
        words: Image files, folders of them, or "-" for a list of files on
            standard input.

    Returns:
        The exit code: 0, or 1 if a file could not be read as an image.

    Raises:
        UserError: if no file or no model is given.
    """
    files = [file for word in words for file in _files_of(word)]
    if not files:
        raise UserError(
            "predict FILE...: give at least one image file, a folder that has "
            "some, or - and their names on standard input."
        )
    signatures = _open_signatures(config)
    predictions, failed = {}, 0
    for start in range(0, len(files), _BATCH):
        for file, best in _classify(signatures, files[start : start + _BATCH]):
            if isinstance(best, str):
                failed += 1
                print(f"{file}: cannot be read: {best}", file=sys.stderr)
                continue
            predictions[file] = best
            _show(file, best, as_json=config.json_lines)
        _show_progress(min(start + _BATCH, len(files)), len(files))
    write_report(config.json, predictions)
    return 1 if failed else 0


def _files_of(word: str) -> list[str]:
    """Returns the files that a word of the command line stands for."""
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
            f"--saved_model={config.saved_model} is no SavedModel; give the "
            "directory that has saved_model.pb in it."
        )
    signatures = load_signatures(Path(config.saved_model))
    if "classify" not in signatures:
        raise UserError(
            f"--saved_model={config.saved_model} cannot be asked to classify; "
            "give one that train or export wrote."
        )
    return signatures


def _classify(signatures: Signatures, files: list[str]) -> Iterator[tuple]:
    """Yields each file with its (label, probability) pairs, best first.

    With the reason instead where a file cannot be read.
    """
    contents = [_read(file) for file in files]
    encoded = [c if isinstance(c, bytes) else b"" for c in contents]
    best = signatures["classify"](image_bytes=tf.constant(encoded))
    rows = zip(best["labels"].numpy(), best["scores"].numpy(), strict=True)
    for file, content, (labels, scores) in zip(
        files, contents, rows, strict=True
    ):
        if isinstance(content, str):
            yield file, content
        elif not labels[0]:
            yield file, decoding_error(content)
        else:
            names = [label.decode() for label in labels]
            yield file, list(zip(names, scores.tolist(), strict=True))


def _read(file):
    """Returns a file's bytes, or why it has none."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        return error.strerror


def _show(file, best, *, as_json):
    if as_json:
        print(json.dumps({"file": file, "best": best}))
        return
    print(file)
    for label, score in best:
        print(f"  {score:7.2%}  {label}")


def _show_progress(done, total):
    """Tells how far it is where the results are sent elsewhere."""
    if sys.stderr.isatty() and not sys.stdout.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} files", end=end, file=sys.stderr)
