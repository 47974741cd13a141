"""The workers of a multi-worker run, read from TF_CONFIG."""

import dataclasses
import json
import os

from alexnet_tf.config.errors import UserError

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:9000", "host1:9000"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, as "host:port", and this process's index.

    The first is the chief, which writes the files that the workers share.
    """

    addresses: tuple[str, ...]
    index: int

    def host_and_port(self, index: int) -> tuple[str, int]:
        """Returns a worker's address for the socket module."""
        return _host_and_port(self.addresses[index])


def read_cluster() -> Cluster:
    """Returns the cluster that TF_CONFIG describes."""
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
