"""Trains with several workers on one machine, to rehearse several machines."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from alexnet_tf.config.errors import LostWorkerError, UserError
from alexnet_tf.config.flags import Config, to_arguments
from alexnet_tf.storage.run_dir import RunDir, open_run

# Seconds for which workers may go on after one has ended, and after SIGTERM.
_PATIENCE = 60.0
_PAUSE = 0.1
# Done, mistaken, or stopped by a signal: starting again would be no use.
_FINAL = {0, UserError.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM}


def run(config: Config) -> int:
    """Starts --workers processes; if one is lost, all of them again.

    The chief's words are shown, those of worker 1 are in worker-1.log of the
    run directory.

    Args:
        config: The settings of the training.

    Returns:
        The exit code: 0, or that of the worker at which it went wrong; 128
        and the number of a signal that ended it.

    Raises:
        UserError: if --run_dir names none, or a file.
    """
    run_dir = open_run(config.run_dir)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    for restart in range(config.max_restarts + 1):
        with _workers(config, run_dir) as workers:
            index, code = _wait(workers)
        if code in _FINAL:
            break
        print(f"Worker {index} ended with code {code}.", flush=True)
        if restart < config.max_restarts:
            print(
                "All start again from the newest checkpoint; restart "
                f"{restart + 1} of at most {config.max_restarts}.",
                flush=True,
            )
    if code and index:
        print(_last_words(run_dir.worker_log(index)), file=sys.stderr)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _workers(
    config: Config, run_dir: RunDir
) -> Iterator[list[subprocess.Popen]]:
    """Starts the workers; none of them is left in the end."""
    addresses = _free_addresses(config.workers)
    processes = []
    try:
        for index in range(config.workers):
            processes.append(_start(config, run_dir, addresses, index))
        yield processes
    finally:
        for process in processes:
            # Each asks the others to stop; one that is asked twice stops at
            # once.
            if process.poll() is None:
                process.terminate()
        _end(processes)


def _free_addresses(count):
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("localhost", 0)))
            for _ in range(count)
        ]
        return [f"localhost:{s.getsockname()[1]}" for s in sockets]


def _start(config, run_dir, addresses, index):
    task = {"type": "worker", "index": index}
    cluster = {"cluster": {"worker": addresses}, "task": task}
    command = [sys.executable, "-m", "alexnet_tf.main", "train"]
    command += [*to_arguments(config, "train"), "--distribution=multi_worker"]
    environment = os.environ | {"TF_CONFIG": json.dumps(cluster)}
    with contextlib.ExitStack() as stack:
        log = None
        if index:
            log = stack.enter_context(run_dir.worker_log(index).open("a"))
        return subprocess.Popen(
            command,
            env=environment,
            stdout=log,
            stderr=log,
            # Ctrl-C comes once, from here.
            start_new_session=True,
        )


def _wait(processes):
    """Returns number and code of the worker that ended first and wrongly.

    Or of the last one, if all ended well.
    """
    while True:
        codes = [process.poll() for process in processes]
        wrong = [n for n, code in enumerate(codes) if code]
        if wrong:
            return _culprit(processes, wrong[0])
        if None not in codes:
            return len(codes) - 1, 0
        time.sleep(_PAUSE)


def _culprit(processes, first):
    """Returns the worker at which it began, and its code."""
    _end(processes, kill=False)
    codes = [process.poll() for process in processes]
    lost = LostWorkerError.exit_code
    causes = [n for n, code in enumerate(codes) if code not in (0, None, lost)]
    culprit = first if codes[first] != lost or not causes else causes[0]
    return culprit, codes[culprit]


def _end(processes, *, kill=True):
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        if kill and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(["", f"{log} ends with:", *lines[-3:]])
