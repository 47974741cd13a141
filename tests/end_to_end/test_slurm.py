"""`examples/slurm.sh`, submitted to a real Slurm of one node.

Debian's packages slurm-wlm and munge have all that it needs; root only.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ONE_TOWER, free_addresses, outcome

pytestmark = pytest.mark.slow
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
# A checkpoint after each of the 65 steps makes the run last long enough.
FLAGS = (
    *ONE_TOWER,
    "--epochs=5",
    "--batch_size=18",
    "--learning_rate=.02",
    "--checkpoint_every_steps=1",
    "--startup_timeout=600",
)
# What the script demands of a cluster, for one node without GPUs.
SMALL_JOB = (
    *("--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0"),
    *("--cpus-per-task=1", "--time=60"),
)
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
AuthType=auth/munge
# A requeued job waits as long as a credential is valid, by default 120 s.
AuthInfo=socket={home}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={home}/ctld
SlurmdSpoolDir={home}/d
SlurmctldPidFile={home}/ctld.pid
SlurmdPidFile={home}/d.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Starts Slurm; returns a function that calls one of its programs."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing or os.geteuid():
        pytest.skip(f"needs root and {', '.join(missing or PROGRAMS)}")
    home = tmp_path_factory.mktemp("slurm")
    for name in ("ctld", "d"):
        (home / name).mkdir()
    key = home / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    ctld, d = (a.rpartition(":")[2] for a in free_addresses(2))
    host = socket.gethostname().partition(".")[0]
    conf = home / "slurm.conf"
    conf.write_text(CONF.format(home=home, host=host, ctld_port=ctld, d_port=d))
    environment = os.environ | {"SLURM_CONF": str(conf)}
    environment |= {"PYTHON": sys.executable}
    options = {"env": environment, "stderr": subprocess.DEVNULL}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--socket={home}/munge.socket", f"--pid-file={home}/munge.pid"]
    munge += [f"--seed-file={home}/seed", f"--log-file={home}/munge.log"]

    def call(*command):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with contextlib.ExitStack() as stack:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            daemon = stack.enter_context(subprocess.Popen(command, **options))
            stack.callback(daemon.terminate)
        wait_until(
            lambda: (
                subprocess.run(
                    ["sinfo", "-h", "-o%T"], stdout=subprocess.PIPE, **options
                ).stdout
                == b"idle\n"
            )
        )
        yield call
        call("scancel", "--signal=KILL", "--user=root")


def wait_until(found, seconds=600):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.1)


class Job:
    """A job of the script, and its output, in which restarts are appended."""

    def __init__(self, call, run_dir, data_dir, *options, flags=FLAGS):
        self.call, self.run_dir = call, run_dir
        self.log = run_dir.with_suffix(".log")
        arguments = [*SMALL_JOB, f"--output={self.log}", *options]
        arguments += ["examples/slurm.sh", *flags]
        arguments += [f"--run_dir={run_dir}", f"--data_dir={data_dir}"]
        self.id = call("sbatch", "--parsable", *arguments).strip()

    def shows(self, name):
        """Returns a field of `scontrol show job`."""
        text = self.call("scontrol", "show", "job", self.id)
        return re.search(rf"\b{name}=(\S*)", text)[1]

    def wait(self, state):
        """Waits for the end of the job, which must be this one."""
        ends = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        wait_until(lambda: self.shows("JobState") in ends, 1800)
        assert self.shows("JobState") == state, self.log.read_text()

    def wait_for_checkpoint(self, step):
        file = self.run_dir / "checkpoints" / f"step-{step:08d}"
        wait_until(file.exists)

    def tasks(self):
        """Returns the process of each task by its rank."""
        found = {}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, KeyError, ValueError):
                lines = (process / "environ").read_text().split("\0")
                values = dict(line.split("=", 1) for line in lines if line)
                ours = str(self.run_dir) in (process / "cmdline").read_text()
                if ours and values["SLURM_JOB_ID"] == self.id:
                    if "SLURM_STEP_NUM_TASKS" in values:
                        rank = int(values["SLURM_PROCID"])
                        found[rank] = int(process.name)
        return found


@pytest.fixture(scope="module")
def whole(slurm, tmp_path_factory, data_dir):
    """The outcome of a job left alone."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    job = Job(slurm, run_dir, data_dir)
    job.wait("COMPLETED")
    assert job.shows("Restarts") == "0"
    assert f"Slurm (step {job.id}.0) names 2 workers" in job.log.read_text()
    return outcome(run_dir)


def kill_a_task(job):
    os.kill(job.tasks()[1], signal.SIGKILL)


def requeue(job):
    job.call("scontrol", "requeue", job.id)


def reach_the_time_limit(job):
    """Shortens the limit, so that less than --signal=TERM@100 are left."""
    minutes = int(job.shows("RunTime").split(":")[1]) + 2
    limit = ("scontrol", "update", f"JobId={job.id}")
    job.call(*limit, f"TimeLimit={minutes}")
    wait_until(lambda: "Stopped after step" in job.log.read_text())
    wait_until(lambda: job.shows("JobState") != "RUNNING")
    job.call(*limit, "TimeLimit=60")


@pytest.mark.parametrize(
    ("disturb", "options", "message"),
    [
        (kill_a_task, (), "worker 0 lost another one"),
        (requeue, (), ""),
        (reach_the_time_limit, ("--signal=TERM@100",), "SIGTERM: stopping"),
    ],
)
def test_a_disturbed_job_is_requeued_and_ends_like_a_whole_one(
    slurm, whole, tmp_path, data_dir, disturb, options, message
):
    job = Job(slurm, tmp_path / "run", data_dir, *options)
    job.wait_for_checkpoint(5)
    disturb(job)
    job.wait("COMPLETED")
    assert job.shows("Restarts") == "1"
    output = job.log.read_text()
    assert message in output
    assert "Resuming after step" in output
    assert outcome(job.run_dir) == whole
    print(f"{disturb.__name__}: job {job.id} restarted, digest {whole[0]}")


@pytest.mark.parametrize("wrong", ["--dataset=shaps", "--width=-1"])
def test_a_mistake_of_the_user_is_not_requeued(
    slurm, tmp_path, data_dir, wrong
):
    """Found by one worker for all, or by each."""
    job = Job(slurm, tmp_path / "run", data_dir, flags=(*FLAGS, wrong))
    job.wait("FAILED")
    assert job.shows("ExitCode") == "2:0", job.log.read_text()
    assert job.shows("Restarts") == "0"
    assert wrong in job.log.read_text()


def test_a_canceled_job_is_not_requeued(slurm, tmp_path, data_dir):
    job = Job(slurm, tmp_path / "run", data_dir)
    wait_until(lambda: len(job.tasks()) == 2)
    job.call("scancel", job.id)
    job.wait("CANCELLED")
    assert job.shows("Restarts") == "0"


def test_the_batch_script_itself_trains_alone(slurm, tmp_path, data_dir):
    """Without srun, --cluster=auto finds no other tasks; says so."""
    script = tmp_path / "alone.sh"
    command = [sys.executable, "-m", "alexnet_tf.main", *ONE_TOWER]
    command += [f"--data_dir={data_dir}", f"--run_dir={tmp_path / 'run'}"]
    script.write_text(f"#!/bin/sh\n{' '.join(command)} --epochs=1\n")
    job = slurm(
        *("sbatch", "--wait", *SMALL_JOB[:2], f"--output={tmp_path}/log"),
        str(script),
    )
    assert "Submitted" in job
    assert "srun did not start several" in (tmp_path / "log").read_text()
    assert (tmp_path / "run" / "result.json").exists()
