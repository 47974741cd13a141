"""Runs of several worker processes, undisturbed and disturbed."""

import csv
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.main import main
from alexnet_tf.storage import checkpoints
from tests.support import TINY, free_addresses, listening, tf_config

# 13 steps per epoch; the last validation batch of 18 has 6 of the 60 images.
# With seed 1 a ReLU's input is so near to zero that rounding decides its sign,
# and with it everything after.
FLAGS = (
    *TINY,
    "--epochs=2",
    "--batch_size=18",
    "--learning_rate=.02",
    "--checkpoint_every_steps=5",
    "--seed=2",
)
ONE_DEVICE = "--virtual_devices=1"
# Runs the command line and prints a digest of all variables after training.
WORKER = """
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


def start_process(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def directory_flags(run_dir, data_dir):
    return f"--run_dir={run_dir}", f"--data_dir={data_dir}"


def start_workers(run_dir, data_dir, count, *flags):
    arguments = [*FLAGS, *flags, *directory_flags(run_dir, data_dir)]
    arguments += ["--cluster=tf_config"]
    addresses = free_addresses(count)
    return [
        start_process(
            "-c", WORKER, *arguments, TF_CONFIG=tf_config(addresses, index)
        )
        for index in range(count)
    ]


def run_replicas(run_dir, data_dir, count, devices=1):
    """Runs the same training with replicas in this process."""
    flags = [
        f"--virtual_devices={count * devices}",
        f"--devices_per_replica={devices}",
        *directory_flags(run_dir, data_dir),
    ]
    assert main([*FLAGS, *flags]) == 0


def finish(processes, code=0):
    """Waits for processes; returns their outputs."""
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (output, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == code, output + errors
        assert "Traceback" not in errors
    return [output for output, _ in outputs]


def wait_for_checkpoint(run_dir, step, processes):
    while not (run_dir / "checkpoints" / f"step-{step:08d}").exists():
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
def finished(request, tmp_path_factory, data_dir):
    """An undisturbed run: number of workers, run directory, outputs.

    The directory "replicas" beside it has the same run with replicas instead.
    """
    count = request.param
    run_dir = tmp_path_factory.mktemp("finished") / "workers"
    workers = start_workers(run_dir, data_dir, count, ONE_DEVICE)
    run_replicas(run_dir.with_name("replicas"), data_dir, count)
    return count, run_dir, finish(workers)


def assert_same_results(run_dir, other):
    """Compares two runs within the rounding of float32."""
    for row, expected in zip(history(run_dir), history(other), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    actual, expected = weights(run_dir), weights(other)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(
            actual[name], values, atol=1e-4 * np.abs(values).max(), err_msg=name
        )


def assert_identical(run_dir, other):
    assert history(run_dir) == history(other)
    actual, expected = weights(run_dir), weights(other)
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)


def test_workers_give_the_results_of_replicas(finished):
    count, run_dir, outputs = finished
    assert_same_results(run_dir, run_dir.with_name("replicas"))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["num_examples"] == 60
    assert (run_dir / "saved_model" / "saved_model.pb").exists()
    for index, output in enumerate(outputs):
        assert f"Worker {index} of {count}" in output
    digests = {
        line
        for output in outputs
        for line in output.splitlines()
        if line.startswith("Variables:")
    }
    assert len(digests) == 1  # All workers have the same bits.


@pytest.mark.slow
def test_two_workers_with_two_towers_each(tmp_path, data_dir):
    """One is killed: the sums of tower 1, too, must end without it."""
    run_dir = tmp_path / "workers"
    workers = start_workers(run_dir, data_dir, 2, "--virtual_devices=2")
    wait_for_checkpoint(run_dir, 5, workers)
    workers[1].kill()
    workers[1].communicate()
    finish(workers[:1], os.EX_TEMPFAIL)
    workers = start_workers(run_dir, data_dir, 2, "--virtual_devices=2")
    run_replicas(tmp_path / "replicas", data_dir, 2, devices=2)
    finish(workers)
    assert_same_results(run_dir, tmp_path / "replicas")


# Prints the bytes that cross between the two devices of a worker in a step.
TRAFFIC = """
import pathlib
import sys
from alexnet_tf.benchmarks.traffic import find_transfers, trace_training_step
from alexnet_tf.config.flags import parse
from alexnet_tf.distribution.devices import connect
from alexnet_tf.storage.dataset_info import placeholder_info
from alexnet_tf.training.trainer import build_trainer

config, _ = parse(sys.argv[1:])
devices = connect(config, pathlib.Path(config.run_dir))
info = placeholder_info([str(number) for number in range(1000)])
model = build_trainer(config, info, devices, steps_per_epoch=1)
found = find_transfers(trace_training_step(model, 2))
for source in "CPU:0", "CPU:1":
    print(source, sum(t.bytes for t in found if t.source == source))
devices.workers.wait()
"""


@pytest.mark.slow
def test_gradients_of_tower_1_stay_on_its_device(tmp_path):
    """Two images a replica, at full size: 230,304 bytes each, both ways."""
    flags = ["--flagfile=flags/paper.cfg", f"--run_dir={tmp_path}"]
    flags += ["--cluster=tf_config", "--virtual_devices=2", "--batch_size=4"]
    addresses = free_addresses(2)
    workers = [
        start_process(
            "-c", TRAFFIC, *flags, TF_CONFIG=tf_config(addresses, index)
        )
        for index in range(2)
    ]
    for output in finish(workers):
        assert "CPU:0 460608\nCPU:1 460608\n" in output


@pytest.mark.slow
@pytest.mark.parametrize(("step", "lost"), [(5, 1), (13, 0)])
def test_all_end_when_one_is_killed_and_resume_exactly(
    finished, tmp_path, data_dir, step, lost
):
    """Kills a worker within an epoch, and the chief between two epochs."""
    count, other, _ = finished
    workers = start_workers(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for_checkpoint(tmp_path, step, workers)
    workers[lost].kill()
    killed = time.monotonic()
    outputs = [worker.communicate(timeout=60) for worker in workers]
    assert time.monotonic() - killed < 30
    for index, worker in enumerate(workers):
        if index != lost:
            output, errors = outputs[index]
            assert worker.returncode == os.EX_TEMPFAIL, output + errors
            assert f"error: worker {index} lost another one" in errors
            assert "Traceback" not in errors
    assert checkpoints.newest(tmp_path / "checkpoints")
    finish(start_workers(tmp_path, data_dir, count, ONE_DEVICE))
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(
    finished, tmp_path, data_dir
):
    count, other, _ = finished
    workers = start_workers(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for_checkpoint(tmp_path, 5, workers)
    workers[1].send_signal(signal.SIGTERM)
    outputs = finish(workers, code=128 + signal.SIGTERM)
    steps = {
        line
        for output in outputs
        for line in output.splitlines()
        if line.startswith("Stopped after step")
    }
    assert len(steps) == 1
    finish(start_workers(tmp_path, data_dir, count, ONE_DEVICE))
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_one_process_resumes_a_run_of_workers(finished, tmp_path, data_dir):
    count, other, _ = finished
    workers = start_workers(tmp_path, data_dir, count, ONE_DEVICE)
    wait_for_checkpoint(tmp_path, 10, workers)
    for worker in workers:
        worker.kill()
        worker.communicate()
    run_replicas(tmp_path, data_dir, count)
    assert_same_results(tmp_path, other)


def launch_command(run_dir, data_dir, count, *flags):
    command = ["-m", "alexnet_tf.main", "launch", *FLAGS, *flags, ONE_DEVICE]
    return [
        *command,
        f"--workers={count}",
        *directory_flags(run_dir, data_dir),
    ]


def launch(*arguments):
    return start_process(*launch_command(*arguments))


def children(process):
    """Returns the ids of the processes that a process started, in order."""
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in file.read_text().split()]


@pytest.mark.slow
def test_launch_restarts_all_when_one_is_lost(finished, tmp_path, data_dir):
    count, other, _ = finished
    launched = launch(tmp_path, data_dir, count)
    wait_for_checkpoint(tmp_path, 5, [launched])
    os.kill(children(launched)[1], signal.SIGKILL)
    (output,) = finish([launched])
    assert "Worker 1 ended with code -9." in output
    assert "restart 1 of at most 3" in output
    assert f"Worker 1 of {count}" in (tmp_path / "worker-1.log").read_text()
    assert_identical(tmp_path, other)


@pytest.mark.slow
def test_launch_does_not_restart_after_a_user_error(tmp_path, data_dir):
    launched = launch(tmp_path, data_dir, 2, "--dataset=shaps")
    output, errors = launched.communicate(timeout=300)
    assert launched.returncode == 2, output + errors
    assert "Traceback" not in errors
    assert "restart" not in output and "--dataset=shaps" in errors


@pytest.mark.slow
def test_a_signal_to_launch_stops_all(finished, tmp_path, data_dir):
    count, other, _ = finished
    launched = launch(tmp_path, data_dir, count)
    wait_for_checkpoint(tmp_path, 5, [launched])
    pids = children(launched)
    launched.send_signal(signal.SIGINT)
    (output,) = finish([launched], code=128 + signal.SIGINT)
    assert "Stopped after step" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    finish([launch(tmp_path, data_dir, count)])
    assert_identical(tmp_path, other)


# Runs a command where there is no network but the machine's own.
ALONE = ("unshare", "--map-root-user", "--net", "sh", "-c")
ALONE += ('ip link set lo up && exec "$@"', "sh")


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [(), ALONE], ids=["plain", "alone"])
def test_ports_of_launched_workers(tmp_path, data_dir, prefix):
    """As docs/distributed.md and SECURITY.md describe them.

    If TensorFlow's ports are on the loopback device, correct both.
    """
    if prefix and subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("unshare is not allowed here")
    command = launch_command(tmp_path, data_dir, 2)
    launched = subprocess.Popen([*prefix, sys.executable, *command])
    wait_for_checkpoint(tmp_path, 5, [launched])
    workers = children(launched)
    ports = []
    for pid in workers:
        environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
        (text,) = (e for e in environment if e.startswith("TF_CONFIG="))
        content = json.loads(text.removeprefix("TF_CONFIG="))
        ports.append(content["cluster"]["worker"][content["task"]["index"]])
    found = [listening(pid) for pid in workers]
    interfaces = [
        line.split(":")[0].strip()
        for line in Path(f"/proc/{workers[0]}/net/dev").read_text().splitlines()
        if ":" in line
    ]
    launched.send_signal(signal.SIGINT)
    assert launched.wait(300) == 128 + signal.SIGINT
    for (address, port), *others in found:
        assert not others and ipaddress.ip_address(address).is_unspecified
        assert f"localhost:{port}" in ports
    assert (interfaces == ["lo"]) == bool(prefix)


@pytest.mark.slow
def test_one_process_opens_no_port(tmp_path, data_dir):
    flags = [*FLAGS, ONE_DEVICE, *directory_flags(tmp_path, data_dir)]
    process = start_process("-m", "alexnet_tf.main", *flags)
    wait_for_checkpoint(tmp_path, 5, [process])
    assert listening(process.pid) == []
    process.terminate()
    finish([process], code=128 + signal.SIGTERM)


# `fit` as it is, and with structures reduced but not scalars.
FIT = """
import keras, numpy as np, tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
data = tf.data.Dataset.from_tensors((np.ones((4, 3)), np.ones((4, 1))))
reduce = strategy.reduce

def reduce_structures(op, value, axis):
    if isinstance(value, tuple):
        return tf.nest.map_structure(
            strategy.experimental_local_results, value
        )
    return reduce(op, value, axis)

for strategy.reduce in (reduce, reduce_structures):
    try:
        model.fit(data, verbose=0)
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_keras_still_needs_our_strategy():
    """If this fails, `KerasMultiWorkerStrategy` may no longer be needed."""
    addresses = free_addresses(2)
    workers = [
        start_process("-c", FIT, TF_CONFIG=tf_config(addresses, index))
        for index in range(2)
    ]
    for output in finish(workers):
        assert "unsupported type" in output
        assert "Invalid reduction dimension" in output
