"""Several processes that train one network, really started and killed."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf import checkpoints
from tests.conftest import TINY

FLAGS = (*TINY, "--epochs=2", "--batch_size=18", "--learning_rate=.02")


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for opened in sockets:
        opened.close()
    return addresses


def start(run_dir, data_dir, *flags, addresses=(), index=0):
    """Starts a worker, or without addresses the only process of a run."""
    environment = dict(os.environ)
    command = [sys.executable, "-m", "alexnet_tf.main", *FLAGS, *flags]
    command += [f"--run_dir={run_dir}", f"--data_dir={data_dir}"]
    if addresses:
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": addresses}, "task": task}
        environment["TF_CONFIG"] = json.dumps(cluster)
        command += ["--distribution=multi_worker"]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_all(run_dir, data_dir, count, *flags):
    addresses = free_addresses(count)
    return [
        start(run_dir, data_dir, *flags, addresses=addresses, index=index)
        for index in range(count)
    ]


def end(processes, code=0):
    """Waits for processes; returns what each said."""
    told = [process.communicate(timeout=300) for process in processes]
    for process, (output, errors) in zip(processes, told, strict=True):
        assert process.returncode == code, output + errors
        assert "Traceback" not in errors
    return told


def wait_for(file, processes):
    while not file.exists():
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def weights(run_dir):
    newest = checkpoints.newest(Path(run_dir) / "checkpoints")
    with np.load(newest / "variables.npz") as saved:
        return {name: saved[name] for name in saved}


def history(run_dir):
    with (Path(run_dir) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["images_per_second"], row["input_wait"]
    return [{name: float(row[name]) for name in row} for row in rows]


@pytest.fixture(scope="module")
def three(tmp_path_factory, data_dir):
    """A run of three workers that was left alone."""
    run_dir = tmp_path_factory.mktemp("three")
    told = end(start_all(run_dir, data_dir, 3, "--virtual_devices=1"))
    return run_dir, told


def assert_same_results(run_dir, other):
    for row, wanted in zip(history(run_dir), history(other), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    found, wanted = weights(run_dir), weights(other)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(
            found[name], values, rtol=1e-4, atol=2e-5, err_msg=name
        )


def test_three_workers_do_what_three_replicas_do(three, tmp_path, data_dir):
    flags = ["--virtual_devices=3", "--devices_per_replica=1"]
    end([start(tmp_path, data_dir, *flags)])
    assert_same_results(three[0], tmp_path)


def test_two_workers_with_two_towers_each(tmp_path, data_dir):
    end(start_all(tmp_path / "workers", data_dir, 2, "--virtual_devices=2"))
    end([start(tmp_path / "one", data_dir, "--virtual_devices=4")])
    assert_same_results(tmp_path / "workers", tmp_path / "one")
