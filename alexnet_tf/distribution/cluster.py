"""The processes of a run on several machines, as TF_CONFIG names them."""

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
    """The workers of a run.

    Args:
        addresses: "host:port" of each worker, first that of the chief, which
            writes what they have in common.
        index: Which one this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def own(self) -> tuple[str, int]:
        """Host and port of this worker."""
        return _host_and_port(self.addresses[self.index])

    @property
    def chief(self) -> tuple[str, int]:
        """Host and port of the chief."""
        return _host_and_port(self.addresses[0])


def read_cluster() -> Cluster:
    """Returns what TF_CONFIG says.

    Raises:
        UserError: if there is none, or it makes no sense.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        jobs = {job: list(addresses) for job, addresses in jobs.items()}
        kind, index = task["type"], int(task["index"])
        addresses = jobs.pop("chief", [])
        first = len(addresses) if kind == "worker" else 0
        own = addresses if kind == "chief" else jobs.get("worker", [])
        addresses = (*addresses, *jobs.pop("worker", []))
        for address in addresses:
            _host_and_port(address)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"TF_CONFIG={text!r} does not name workers and this one's task; "
            f"set it for each process, as\n{_EXAMPLE},\nor use "
            "launch --workers=2 on one machine."
        ) from error
    if jobs or kind not in ("chief", "worker"):
        raise UserError(
            f"TF_CONFIG has the task {kind!r} and jobs {sorted(jobs)}; give "
            'workers only (one of them may be the "chief").'
        )
    if not 0 <= index < len(own):
        raise UserError(
            f"TF_CONFIG has {len(own)} addresses of {kind}s, but this is "
            f"number {index}, counted from 0; give its address too."
        )
    return Cluster(addresses, first + index)


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    if not host:
        raise ValueError(f"no host in {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)
