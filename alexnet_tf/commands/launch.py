"""Training with several local workers, to emulate a multi-machine job."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

from alexnet_tf.config.errors import LostWorkerError, UserError, printable
from alexnet_tf.config.flags import Config, to_arguments
from alexnet_tf.storage.files import append
from alexnet_tf.storage.run_dir import open_run

# Seconds for which workers may run on after one has ended, and after SIGTERM.
_GRACE_SECONDS = 60.0
_POLL_SECONDS = 0.1
# Finished, refused, or stopped by a signal: a restart would not help.
_STOPS = {128 + n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
_FINAL = {0, UserError.exit_code} | _STOPS


def run(config: Config) -> int:
    """Starts --workers processes, and restarts all of them if one is lost.

    The chief's output is shown; worker 1 writes to worker-1.log in the run
    directory, and so on. Returns the exit code of the worker that failed
    first, 128 plus the number of a signal that ended it, 0 if none failed.
    """
    run_dir = open_run(config.run_dir)
    run_dir.path.mkdir(parents=True, exist_ok=True)
    for restart in range(config.max_restarts + 1):
        index, code = _run_workers(config, run_dir)
        if code in _FINAL:
            break
        print(f"Worker {index} ended with code {code}.", flush=True)
        if restart < config.max_restarts:
            print(
                "Restarting all workers from the newest checkpoint, restart "
                f"{restart + 1} of at most {config.max_restarts}.",
                flush=True,
            )
    if code and index:
        log = run_dir.worker_log(index)
        end = log.read_text(errors="replace").splitlines()[-3:]
        lines = [f"\n{log} ends with:", *map(printable, end)]
        print(*lines, sep="\n", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _run_workers(config, run_dir):
    """Returns index and exit code of the worker that failed first, or zeros."""
    addresses = _free_addresses(config.workers)
    for index in range(1, config.workers):
        # A worker could not report that the disk is full.
        append(run_dir.worker_log(index), f"Worker {index} starts.\n")
    processes = []
    try:
        for index in range(config.workers):
            processes.append(_start(config, run_dir, addresses, index))
        return _wait_for_failure(processes)
    finally:
        for process in processes:
            # The first SIGTERM asks it to stop; a second ends it at once.
            if process.poll() is None:
                process.terminate()
        _wait(processes)
        for process in processes:
            process.kill()  # Does nothing to one that has ended.
            process.wait()


def _free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for server in sockets:
        server.close()
    return addresses


def _start(config, run_dir, addresses, index):
    task = {"type": "worker", "index": index}
    cluster = {"cluster": {"worker": addresses}, "task": task}
    command = [sys.executable, "-m", "alexnet_tf.main", "train"]
    command += [*to_arguments(config, "train"), "--cluster=tf_config"]
    env = os.environ | {"TF_CONFIG": json.dumps(cluster)}
    shown = contextlib.nullcontext()
    with run_dir.worker_log(index).open("a") if index else shown as log:
        # In a new session, Ctrl-C reaches it once, as a SIGTERM from here.
        return subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )


def _wait_for_failure(processes):
    while not any(codes := [process.poll() for process in processes]):
        if None not in codes:
            return 0, 0
        time.sleep(_POLL_SECONDS)
    first = next(index for index, code in enumerate(codes) if code)
    # A worker that lost another one may end before that one does.
    _wait(processes)
    codes = [process.poll() for process in processes]
    lost = LostWorkerError.exit_code
    causes = [i for i, code in enumerate(codes) if code not in (0, None, lost)]
    if codes[first] == lost and causes:
        first = causes[0]
    return first, codes[first]


def _wait(processes):
    """Waits until all processes have ended, within the grace period."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
