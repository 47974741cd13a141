"""`examples/ray_train.py` on Ray's cluster of this one machine."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ONE_TOWER, outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("ray"), reason="needs requirements-ray.txt"
    ),
]
FLAGS = (
    *ONE_TOWER,
    "--epochs=2",
    "--batch_size=18",
    "--learning_rate=.02",
    "--checkpoint_every_steps=1",
)


def start(run_dir, data_dir, *flags):
    command = [sys.executable, "-m", "examples.ray_train", "2", "0", *FLAGS]
    command += [*flags, f"--run_dir={run_dir}", f"--data_dir={data_dir}"]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    with run_dir.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT
        )


def end(process, run_dir, code=0):
    """Waits for the driver; returns its output, which has its workers'."""
    process.wait(1800)
    output = run_dir.with_suffix(".log").read_text()
    assert process.returncode == code, output
    return output


def workers_of(pid):
    """Returns the processes of Ray Train's workers below a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            name = Path(f"/proc/{child}/cmdline").read_text()
            found += [int(child)] if "RayTrainWorker" in name else []
            found += workers_of(child)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """The outcome of a run left alone."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    output = end(start(run_dir, data_dir), run_dir)
    assert "Ray Train names 2 workers" in output
    return outcome(run_dir)


def test_workers_are_restarted_when_one_is_killed(whole, tmp_path, data_dir):
    run_dir = tmp_path / "run"
    driver = start(run_dir, data_dir)
    while not (run_dir / "checkpoints" / "step-00000005").exists():
        assert driver.poll() is None, end(driver, run_dir)
        time.sleep(0.1)
    os.kill(workers_of(driver.pid)[-1], signal.SIGKILL)
    output = end(driver, run_dir)
    assert "[FailurePolicy] RETRY" in output
    assert "Resuming after step" in output
    assert outcome(run_dir) == whole
    # The last one; Ray may not have removed the others yet.
    *_, copy = sorted((run_dir / "ray").glob("checkpoint_2*"))
    (last,) = (run_dir / "checkpoints").glob("step-00000026*")
    for name in ("variables.npz", "state.json"):
        assert (copy / name).read_bytes() == (last / name).read_bytes()
    print(f"one worker killed, digest {whole[0]}")


def test_a_mistake_of_the_user_is_not_repeated(tmp_path, data_dir):
    run_dir = tmp_path / "run"
    driver = start(run_dir, data_dir, "--dataset=shaps")
    output = end(driver, run_dir, code=2)
    assert "--dataset=shaps" in output
    assert "RETRY" not in output
