"""Command line: which command runs with which settings.

    python -m alexnet_tf.main [COMMAND] [WORDS] --flagfile=FILE --flag=value

The installed program `alexnet` is the same.

Only the command imports TensorFlow, so that --help and user errors are
answered at once.
"""

import contextlib
import dataclasses
import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from alexnet_tf.config.commands import FORMER_COMMANDS, find_command
from alexnet_tf.config.errors import LostWorkerError, UserError, printable
from alexnet_tf.config.flags import (
    FLAG_FILES,
    check_flags,
    describes_network,
    expand_flag_files,
    find_help,
    parse,
    parse_run,
    run_name,
)
from alexnet_tf.config.unused import unused_flags
from alexnet_tf.data.class_folders import class_names
from alexnet_tf.distribution.cluster import find_cluster
from alexnet_tf.distribution.startup import import_quietly
from alexnet_tf.storage.files import check_writable
from alexnet_tf.storage.run_dir import RunDir, new_run, newest_run
from alexnet_tf.training.signals import ending_on_signals

# What a full disk, a quota and a limit on the size of files lead to.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DEBUG = {"--debug", "-debug", "--debug=true", "--debug=True", "--debug=1"}


def main(arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit code, 2 for a user error."""
    debug = bool(_DEBUG & set(arguments))
    if not debug:
        # TensorFlow reads this when it is imported.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, LostWorkerError):
            # Threads of TensorFlow still wait for the lost worker.
            sys.stdout.flush()
            os._exit(error.exit_code)
        return error.exit_code
    except BrokenPipeError:
        # The reader of the output is gone, such as `head`.
        _discard_output()
        return 1
    except OSError as error:
        place = error.filename
        if place is None and error.errno in _FULL:
            place = "the output or a temporary file"
        if debug or place is None:
            raise
        message = UserError(
            f"{place}: {error.strerror}. Check the path, its permissions and "
            "the disk; --debug shows where it is used."
        )
        print(f"error: {message}", file=sys.stderr)
        _discard_output()
        return message.exit_code


def _discard_output():
    """Discards output that cannot be written, or exiting would fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given):
    if text := find_help(given):
        print(text)
        return 0
    arguments = expand_flag_files(given)
    config, words = parse(arguments)
    name, *words = words or ["train"]
    name = FORMER_COMMANDS.get(name, name)
    command = find_command(name, words)
    check_flags(arguments, name)
    run_dirs = words if command.settings == "each run" else []
    if command.newest and not (
        run_dirs or config.run_dir or config.saved_model
    ):
        config = _with_newest_run(config)
    resumes = command.settings == "resumed run"
    if command.settings == "run" or (
        resumes and not describes_network(arguments)
    ):
        config = _settings_of_run(config, arguments)
    for flag, file in command.flag_files.items():
        if getattr(config, flag):
            file = FLAG_FILES / file
            config, _ = parse([f"--flagfile={file}", *arguments])
    runs = [config]
    if command.settings == "each run":
        runs = [
            _settings_of_run(dataclasses.replace(config, run_dir=d), arguments)
            for d in run_dirs or [config.run_dir]
        ]
    for settings in runs:
        _check_paths(settings, command)
    for sentence in unused_flags(given, runs[0], name):
        print(sentence, file=sys.stderr)  # The results may be JSON.
    first = runs[0].run_dir
    if command.newest and "figures_dir" in command.writes:
        if Path(first or os.devnull).is_dir() and not config.figures_dir:
            check_writable("run_dir", Path(first))  # They go there.
    module = "train" if name == "train" else f"commands.{name}"
    run = import_quietly(f"alexnet_tf.{module}", debug=config.debug).run
    if command.settings == "each run":
        return run(config, runs)
    if resumes:
        with _with_run_dir(config, given) as config:
            return run(config)
    return run(config, words) if command.words else run(config)


def _check_paths(config, command):
    """Checks data and where results go, before anything that takes time."""
    name, _, path = config.dataset.partition(":")
    known = [Path(config.prepared_dir or os.devnull, "manifest.json")]
    is_there = {  # Such data may be read-only.
        "data_dir": Path(config.data_dir, name.split("/")[0]).exists()
        or name == "folder",
        "prepared_dir": known[0].exists(),
    }
    for flag in command.writes:
        if (place := getattr(config, flag)) and not is_there.get(flag):
            check_writable(flag, Path(place))
    if command.settings == "run":  # That is described without its data.
        known.append(RunDir(Path(config.run_dir or os.devnull)).dataset)
    is_known = any(file.exists() for file in known)
    if command.reads_data and name == "folder" and not is_known:
        class_names(Path(path))


def _with_newest_run(config):
    """Returns the settings with the newest run in runs/, if there is one."""
    if path := newest_run():
        # Not among the results, which may be JSON.
        shown = printable(path)
        print(f"Run directory: {shown}, the newest", file=sys.stderr)
    return dataclasses.replace(config, run_dir=path)


@contextlib.contextmanager
def _with_run_dir(config, given):
    """Yields the settings, with a new run in runs/ if they name none."""
    with contextlib.redirect_stdout(None):  # `connect` prints it, too.
        cluster = None if config.run_dir else find_cluster(config.cluster)
    if config.run_dir or cluster:  # Workers would name different ones.
        yield config
        return
    with new_run(run_name(given, config)) as path:
        yield dataclasses.replace(config, run_dir=path)


def _settings_of_run(config, arguments):
    """Adds what flags.cfg of --run_dir says to what the command line says."""
    run_dir = RunDir(Path(config.run_dir))
    if not config.run_dir or not run_dir.has_settings():
        return config
    combined = parse_run(run_dir.flags, arguments)
    return dataclasses.replace(combined, run_dir=config.run_dir)


def command_line() -> NoReturn:
    """Runs the command of this process's arguments and exits with its code."""
    with ending_on_signals():
        sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command_line()
