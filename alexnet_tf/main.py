"""Command line: says which command runs with which settings.

    python -m alexnet_tf.main [COMMAND] [WORDS] --flagfile=FILE --flag=value

Everything heavy is imported by the command, so that --help and mistakes are
answered at once.
"""

import dataclasses
import difflib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from alexnet_tf import config as config_lib
from alexnet_tf.errors import UserError
from alexnet_tf.run_dir import RunDir
from alexnet_tf.stopping import ending_on_signals

_USAGE = """usage: python -m alexnet_tf.main [COMMAND] [--flag=value ...]

  train                 train the network (the default); on the --run_dir of
                        an interrupted run it goes on
  evaluate RUN_DIR...   top-1 and top-5 error of runs' best checkpoints, of
                        the average of their predictions, and of each class
  predict FILE...       five best labels of image files, of folders of them,
                        or of a list on standard input (-), by --run_dir or
                        --saved_model
  prepare               --dataset rescaled once, into --prepared_dir, where
                        train and evaluate look for it
  benchmark             speed of --what beside the machine's own limits
  export                --run_dir's best weights as a SavedModel, and as
                        --keras_file
  inspect               layers, parameters and devices; trains nothing
  figures RUN_DIR...    learning curves of runs laid over one another, and of
                        each its first kernels, some answers, and images with
                        their nearest neighbours, as PNG and SVG

  --flagfile=FILE reads flags from a file; of a flag given twice the last one
  counts: --flagfile=flags/paper.cfg --batch_size=256
"""
# Commands, and how many words may follow each.
_COMMANDS = {
    "train": 0,
    "evaluate": sys.maxsize,
    "predict": sys.maxsize,
    "prepare": 0,
    "benchmark": 0,
    "export": 0,
    "inspect": 0,
    "figures": sys.maxsize,
}


def main(arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit code, 2 for a user's mistake."""
    # Less talk from TensorFlow: its C++ part reads this when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        return _run(arguments)
    except UserError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if "--debug" in arguments or error.filename is None:
            raise
        print(
            f"error: {error.filename}: {error.strerror}. Check the path, its "
            "permissions and the disk; --debug shows where it is used.",
            file=sys.stderr,
        )
        return 2


def _run(arguments):
    if {"--help", "-help", "-h"} & set(arguments):
        print(_USAGE + config_lib.flag_help())
        return 0
    config, words = config_lib.parse(arguments)
    command, *words = words or ["train"]
    _check_words(command, words)
    if command in ("evaluate", "figures"):
        # Their words are run directories; they take the settings of each.
        words = [
            _settings_of_run(dataclasses.replace(config, run_dir=w), arguments)
            for w in words or [config.run_dir]
        ]
    elif command != "train":
        config = _settings_of_run(config, arguments)
    workflow = importlib.import_module(f"alexnet_tf.{command}")
    return workflow.run(config, words)


def _check_words(command, words):
    if command not in _COMMANDS:
        near = difflib.get_close_matches(command, _COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(
            f"{command!r} is not a command; use one of "
            f"{', '.join(_COMMANDS)}.{hint}"
        )
    if len(words) > _COMMANDS[command]:
        raise UserError(
            f"{command} does not take {' '.join(words)!r}; flags begin with "
            "--. See --help."
        )


def _settings_of_run(config, arguments):
    """Adds what flags.cfg of --run_dir says to what the command line says."""
    flags = RunDir(Path(config.run_dir)).flags
    if not config.run_dir or not flags.exists():
        return config
    combined, _ = config_lib.parse([f"--flagfile={flags}", *arguments])
    return dataclasses.replace(combined, run_dir=config.run_dir)


if __name__ == "__main__":
    with ending_on_signals():
        sys.exit(main(sys.argv[1:]))
