"""Runs that are killed and stopped end as if they never were."""

import csv
import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import checkpoints
from tests.conftest import TINY

# 15 steps an epoch, with dropout, noise and decay.
FLAGS = (
    *TINY,
    "--epochs=2",
    "--checkpoint_every_steps=4",
    "--learning_rate=.02",
)


def start(run_dir, data_dir, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf.main", *FLAGS, *flags]
        + [f"--run_dir={run_dir}", f"--data_dir={data_dir}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(run_dir, data_dir, *flags):
    process = start(run_dir, data_dir, *flags)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return told


def outcome(run_dir):
    """Returns all that must be the same: weights, history, scalars."""
    newest = checkpoints.newest(Path(run_dir) / "checkpoints")
    with np.load(newest / "variables.npz") as saved:
        digest = hashlib.sha256()
        for name in sorted(saved):
            digest.update(name.encode() + saved[name].tobytes())
    with (Path(run_dir) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["images_per_second"]
    return (
        digest.hexdigest(),
        rows,
        checkpoints.read_state(newest),
        scalars(run_dir),
    )


def scalars(run_dir):
    """Returns the last value of each tag and step in the event files."""
    found = {}
    for file in sorted(Path(run_dir).glob("tensorboard/**/events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.HasField("tensor") and "second" not in value.tag:
                    number = tf.make_ndarray(value.tensor)
                    if number.shape == () and number.dtype != object:
                        found[value.tag, event.step] = float(number)
    return found


@pytest.fixture(
    scope="module",
    params=["2 x 2", pytest.param("2 x 1", marks=pytest.mark.slow)],
)
def whole(request, tmp_path_factory, data_dir):
    """A run that was left alone, and its flags."""
    flags = {"2 x 1": (), "2 x 2": ("--virtual_devices=4",)}[request.param]
    run_dir = tmp_path_factory.mktemp("whole")
    finish(run_dir, data_dir, *flags)
    return outcome(run_dir), flags


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.002)


@pytest.mark.parametrize(
    "step", [pytest.param(n, marks=pytest.mark.slow) for n in (4, 16)] + [12]
)
def test_killed_after_a_checkpoint(whole, tmp_path, data_dir, step):
    expected, flags = whole
    process = start(tmp_path, data_dir, *flags)
    wait_for(tmp_path / "checkpoints" / f"step-{step:08d}", process)
    process.kill()
    process.communicate()
    told = finish(tmp_path, data_dir, *flags)
    assert "Going on after step" in told
    assert outcome(tmp_path) == expected


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_asked_to_stop(whole, tmp_path, data_dir, number, code):
    expected, flags = whole
    process = start(tmp_path, data_dir, *flags)
    wait_for(tmp_path / "checkpoints" / "step-00000004", process)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Stopped after step" in told
    finish(tmp_path, data_dir, *flags)
    assert outcome(tmp_path) == expected


@pytest.mark.slow
def test_killed_at_twenty_random_moments(whole, tmp_path, data_dir):
    expected, flags = whole
    kills, random_ = 0, random.Random(1)
    while kills < 20:
        process = start(tmp_path, data_dir, *flags)
        try:
            process.wait(timeout=random_.uniform(5, 14))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    print(f"{kills} kills")
    if process.returncode != 0:
        finish(tmp_path, data_dir, *flags)
    assert outcome(tmp_path) == expected
