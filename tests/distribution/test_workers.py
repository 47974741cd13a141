"""Several processes that train one network, really started and killed."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.storage import checkpoints
from tests.support import TINY

# 13 steps an epoch. With seed 1 a ReLU lies so near to zero that rounding
# decides what it does, and all that follows.
FLAGS = (
    *TINY,
    "--epochs=2",
    "--batch_size=18",
    "--learning_rate=.02",
    "--checkpoint_every_steps=5",
    "--seed=2",
)


ONE_DEVICE = "--virtual_devices=1"


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for opened in sockets:
        opened.close()
    return addresses


# The main job; at the end it prints a digest of all variables.
TELLING = """
import hashlib
import sys
from alexnet_tf import train
from alexnet_tf.main import main

fit_to_end = train.fit_to_end

def fit_and_print(model, *arguments, **options):
    fit_to_end(model, *arguments, **options)
    variables = model.variables + model.optimizer.variables
    bits = b"".join(v.numpy().tobytes() for v in variables)
    print("Variables:", hashlib.sha256(bits).hexdigest())

train.fit_to_end = fit_and_print
sys.exit(main(sys.argv[1:]))
"""


def start(run_dir, data_dir, *flags, addresses=(), index=0):
    """Starts a worker, or without addresses the only process of a run."""
    environment = dict(os.environ)
    command = [sys.executable, "-c", TELLING, *FLAGS, *flags]
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


@pytest.fixture(
    scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)]
)
def whole(request, tmp_path_factory, data_dir):
    """A run that was left alone: workers, directory, what they said."""
    run_dir = tmp_path_factory.mktemp("whole")
    told = end(start_all(run_dir, data_dir, request.param, ONE_DEVICE))
    return request.param, run_dir, told


def assert_same_results(run_dir, other):
    """Within the rounding of float32."""
    for row, wanted in zip(history(run_dir), history(other), strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    found, wanted = weights(run_dir), weights(other)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(
            found[name], values, atol=1e-4 * np.abs(values).max(), err_msg=name
        )


def assert_identical(run_dir, other):
    assert history(run_dir) == history(other)
    found, wanted = weights(run_dir), weights(other)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_workers_do_what_replicas_do(whole, tmp_path, data_dir):
    """The last of their batches of 18 has 6 of the 60 validation images."""
    count, run_dir, told = whole
    flags = [f"--virtual_devices={count}", "--devices_per_replica=1"]
    end([start(tmp_path, data_dir, *flags)])
    assert_same_results(run_dir, tmp_path)
    result = json.loads((run_dir / "result.json").read_text())
    assert result["num_examples"] == 60
    assert (run_dir / "saved_model" / "saved_model.pb").exists()
    for index, (output, _) in enumerate(told):
        assert f"Worker {index} of {count}" in output
    variables = {
        line
        for output, _ in told
        for line in output.splitlines()
        if line.startswith("Variables:")
    }
    assert len(variables) == 1  # The same bits on all workers.


@pytest.mark.slow
def test_two_workers_with_two_towers_each(tmp_path, data_dir):
    end(start_all(tmp_path / "workers", data_dir, 2, "--virtual_devices=2"))
    end([start(tmp_path / "one", data_dir, "--virtual_devices=4")])
    assert_same_results(tmp_path / "workers", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "lost"), [(5, 1), (13, 0)])
def test_all_end_when_one_is_killed_and_go_on_exactly(
    whole, tmp_path, data_dir, step, lost
):
    """In the middle of an epoch a worker, and between two the chief."""
    count, other, _ = whole
    workers = start_all(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for(tmp_path / "checkpoints" / f"step-{step:08d}", workers)
    workers[lost].kill()
    killed = time.monotonic()
    told = [worker.communicate(timeout=60) for worker in workers]
    assert time.monotonic() - killed < 30
    for index, worker in enumerate(workers):
        if index != lost:
            output, errors = told[index]
            assert worker.returncode == os.EX_TEMPFAIL, output + errors
            assert f"error: worker {index} lost another one" in errors
            assert "Traceback" not in errors
    assert checkpoints.newest(tmp_path / "checkpoints")
    end(start_all(tmp_path, data_dir, count, ONE_DEVICE))
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(whole, tmp_path, data_dir):
    count, other, _ = whole
    workers = start_all(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for(tmp_path / "checkpoints" / "step-00000005", workers)
    workers[1].send_signal(signal.SIGTERM)
    told = end(workers, code=128 + signal.SIGTERM)
    steps = {
        line
        for output, _ in told
        for line in output.splitlines()
        if line.startswith("Stopped after step")
    }
    assert len(steps) == 1
    end(start_all(tmp_path, data_dir, count, ONE_DEVICE))
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_a_run_of_workers_goes_on_in_one_process(whole, tmp_path, data_dir):
    count, other, _ = whole
    workers = start_all(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for(tmp_path / "checkpoints" / "step-00000010", workers)
    for worker in workers:
        worker.kill()
        worker.communicate()
    flags = [f"--virtual_devices={count}", "--devices_per_replica=1"]
    end([start(tmp_path, data_dir, *flags)])
    assert_same_results(tmp_path, other)


@pytest.mark.slow
def test_workers_that_do_not_fit_end_before_any_work(tmp_path, data_dir):
    addresses = free_addresses(2)
    mistakes = {
        "does not name": [None, ()],
        "did not come in time: 1": [addresses, ("--startup_timeout=1",)],
        "on CPUs a worker has one": [addresses[:1], ("--virtual_devices=4",)],
        "CUDA_VISIBLE_DEVICES": [
            addresses[:1],
            ("--virtual_devices=0", "--gpus=0"),
        ],
    }
    for told, (given, flags) in mistakes.items():
        if given is None:
            flags, given = ["--distribution=multi_worker"], ()
        worker = start(tmp_path, data_dir, *flags, addresses=given)
        output, errors = worker.communicate(timeout=60)
        assert worker.returncode == 2 and told in errors, output + errors
        assert "Traceback" not in errors
        lines = errors.splitlines()
        assert sum(line.startswith("error: ") for line in lines) == 1
    assert not list(tmp_path.iterdir())


def launch(run_dir, data_dir, count, *flags):
    command = [sys.executable, "-m", "alexnet_tf.main", "launch", *FLAGS]
    command += [*flags, f"--run_dir={run_dir}", f"--data_dir={data_dir}"]
    return subprocess.Popen(
        [*command, f"--workers={count}", ONE_DEVICE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process):
    """Returns the processes that a process has started, in their order."""
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in file.read_text().split()]


@pytest.mark.slow
def test_launch_starts_all_again_when_one_is_lost(whole, tmp_path, data_dir):
    count, other, _ = whole
    launched = launch(tmp_path, data_dir, count)
    wait_for(tmp_path / "checkpoints" / "step-00000005", [launched])
    os.kill(children(launched)[1], signal.SIGKILL)
    ((told, _),) = end([launched])
    assert "Worker 1 ended with code -9." in told
    assert "restart 1 of at most 3" in told
    assert f"Worker 1 of {count}" in (tmp_path / "worker-1.log").read_text()
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_launch_does_not_repeat_what_cannot_work(tmp_path, data_dir):
    launched = launch(tmp_path, data_dir, 1, "--dataset=shaps")
    ((told, errors),) = end([launched], code=2)
    assert "restart" not in told and "--dataset=shaps" in errors


@pytest.mark.slow
def test_stopping_launch_stops_all(whole, tmp_path, data_dir):
    count, other, _ = whole
    launched = launch(tmp_path, data_dir, count)
    wait_for(tmp_path / "checkpoints" / "step-00000005", [launched])
    pids = children(launched)
    launched.send_signal(signal.SIGINT)
    ((told, _),) = end([launched], code=128 + signal.SIGINT)
    assert "Stopped after step" in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    end([launch(tmp_path, data_dir, count)])
    assert_identical(tmp_path, other)


FIT = """
import sys
import keras, numpy as np, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
if sys.argv[1] == "structures are mended":
    plain = strategy.reduce
    strategy.reduce = lambda op, value, axis: (
        tf.nest.map_structure(strategy.experimental_local_results, value)
        if isinstance(value, tuple)
        else plain(op, value, axis)
    )
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
data = tf.data.Dataset.from_tensors((np.ones((4, 3)), np.ones((4, 1))))
model.fit(data, verbose=0)
"""


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("stock", "unsupported type"),
        pytest.param(
            "structures are mended",
            "Invalid reduction dimension",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_keras_still_needs_our_strategy(case, told):
    """If this fails, `KerasMultiWorkerStrategy` may have become needless."""
    addresses = free_addresses(2)
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": addresses}, "task": task}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", FIT, case],
                env=os.environ | {"TF_CONFIG": json.dumps(cluster)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode != 0
        assert told in errors
