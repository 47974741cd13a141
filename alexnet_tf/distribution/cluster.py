"""The workers of a run, as TF_CONFIG, Slurm or Ray Train names them."""

import dataclasses
import json
import os
import re
import sys

from alexnet_tf.config.errors import UserError

RAY = "Ray Train"  # The source of its clusters.
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:9000", "host1:9000"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# Below 32,768, where Linux begins to give ports to outgoing connections.
_FIRST_PORT, _PORTS = 10_000, 22_400
_PORTS_PER_STEP = 16


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, as "host:port", and this process's index.

    The first is the chief, which writes the files that the workers share.
    """

    addresses: tuple[str, ...]
    index: int
    source: str = "TF_CONFIG"  # What names the addresses.

    def host_and_port(self, index: int) -> tuple[str, int]:
        """Returns a worker's address for the socket module."""
        return _host_and_port(self.addresses[index])


def find_cluster(name: str) -> Cluster | None:
    """Returns the cluster of this process, None if it trains alone.

    `name` is a value of --cluster. With "auto", a cluster of one worker, or a
    Slurm job whose srun did not start this process, is none.
    """
    read = {
        "auto": _read_what_shows,
        "tf_config": _read_tf_config,
        "slurm": _read_slurm,
        "ray": _read_ray,
        "none": lambda: None,
    }
    cluster = read[name]()
    if cluster is None:
        return None
    count, index = len(cluster.addresses), cluster.index
    if name == "auto" and count == 1:
        print(f"{cluster.source} names one worker, which trains alone.")
        return None
    print(
        f"{cluster.source} names {count} workers; this is worker {index} at "
        f"{cluster.addresses[index]}.",
        flush=True,
    )
    return cluster


def _read_what_shows():
    """Returns the cluster that the environment shows, if any."""
    if _in_ray_train():  # It sets TF_CONFIG, too.
        return _read_ray()
    if os.environ.get("TF_CONFIG"):
        return _read_tf_config()
    if job := os.environ.get("SLURM_JOB_ID"):
        # Only srun sets it, to 1 in an interactive shell.
        if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 0) > 1:
            return _read_slurm()
        print(
            f"Slurm job {job}: srun did not start several tasks of this "
            "program, which trains in one process."
        )
    return None


def _read_tf_config():
    text = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(text)
        jobs = {job: list(names) for job, names in content["cluster"].items()}
        kind, index = content["task"]["type"], int(content["task"]["index"])
        chiefs, workers = jobs.pop("chief", []), jobs.pop("worker", [])
        for address in chiefs + workers:
            _host_and_port(address)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"TF_CONFIG={text!r} does not name the workers and the task of "
            f"this process; set it for each process, as in\n{_EXAMPLE},\nor "
            "use launch --workers=2 on one machine."
        ) from error
    if jobs or kind not in ("chief", "worker"):
        raise UserError(
            f"TF_CONFIG has the task {kind!r} and jobs {sorted(jobs)}; use "
            'workers only (one of them may be the "chief").'
        )
    own_job = chiefs if kind == "chief" else workers
    if not 0 <= index < len(own_job):
        raise UserError(
            f"TF_CONFIG has {len(own_job)} addresses of {kind}s, but this "
            f"process is number {index}, counted from 0; add its address."
        )
    if kind == "worker":
        index += len(chiefs)
    return Cluster((*chiefs, *workers), index)


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    if not host:
        raise ValueError(f"no host in {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _read_slurm():
    """Returns the tasks of a Slurm step, node by node.

    TensorFlow's SlurmClusterResolver needs nvidia-smi or at least one GPU per
    task, sorts n10 before n9, and takes the same ports for all jobs.
    """
    variables = {
        name: os.environ.get(f"SLURM_{name}", "")
        for name in (
            *("JOB_ID", "STEP_ID", "STEP_NODELIST", "STEP_TASKS_PER_NODE"),
            *("NODEID", "LOCALID"),
        )
    }
    job, step, nodes, tasks, node, local = variables.values()
    try:
        hosts = [
            host
            for pattern in re.findall(r"(?:[^,[]|\[[^]]*\])+", nodes)
            for host in _expand(pattern)
        ]
        counts = [
            int(count)
            for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks)
            for _ in range(int(times or 1))
        ]
        # Two steps at a time on a node usually have other ports.
        number = (int(job) + 37 * int(step)) % (_PORTS // _PORTS_PER_STEP)
        first = _FIRST_PORT + _PORTS_PER_STEP * number
        addresses = tuple(
            f"{host}:{first + task}"
            for host, count in zip(hosts, counts, strict=True)
            for task in range(count)
        )
        # Not SLURM_PROCID, which srun --distribution may deal out otherwise.
        index = sum(counts[: int(node)]) + int(local)
        return Cluster(addresses, index, f"Slurm (step {job}.{step})")
    except ValueError as error:
        shown = ", ".join(f"SLURM_{n}={v}" for n, v in variables.items())
        raise UserError(
            f"--cluster=slurm, but srun did not start this process: {shown}.\n"
            "Start all workers with srun, as in examples/slurm.sh, or give "
            "another --cluster."
        ) from error


def _expand(pattern):
    """Returns the hosts of a pattern such as rack1-[08-10,12]."""
    head, bracket, rest = pattern.partition("[")
    if not bracket:
        return [pattern]
    ranges, _, tail = rest.partition("]")
    numbers = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        span = range(int(first), int(last or first) + 1)
        numbers += [f"{number:0{len(first)}}" for number in span]
    return [head + n + end for n in numbers for end in _expand(tail)]


def _in_ray_train():
    """Returns whether Ray Train started this, which then has imported it."""
    try:
        sys.modules["ray.train"].get_context()
    except (KeyError, RuntimeError, DeprecationWarning):  # As in Ray Tune.
        return False
    return True


def _read_ray():
    if not _in_ray_train() or not os.environ.get("TF_CONFIG"):
        raise UserError(
            "--cluster=ray, but no TensorflowTrainer of Ray Train started this "
            "process; start it as examples/ray_train.py does, or give another "
            "--cluster."
        )
    # Ray's trainer sets it for Keras 2.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    return dataclasses.replace(_read_tf_config(), source=RAY)
