"""Where the workers of a run meet before TensorFlow starts.

TensorFlow itself would wait an hour for a worker that never comes. At the
chief's address they find out whether all are there, with the same settings, and
with the same run directory before them.
"""

import contextlib
import hashlib
import json
import secrets
import socket
import time
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster

# Seconds between attempts, that a new file may take to be seen, and that an
# answer may take which needs no waiting for others.
_PAUSE = 0.2
_SEEN_WITHIN = 10.0
_ANSWERED_WITHIN = 30.0


def wait_for_workers(
    cluster: Cluster, directory: Path, settings: str, timeout: float
) -> None:
    """Waits until all workers are there, and compares what they have.

    Args:
        cluster: The workers.
        directory: The run directory, which all must see.
        settings: What must be the same for all.
        timeout: Seconds to wait for the others.

    Raises:
        UserError: if a worker does not come, has other settings or another
            directory, or this one's address cannot be listened at.
    """
    digest = hashlib.sha256(settings.encode()).hexdigest()
    deadline = time.monotonic() + timeout
    with _listen(cluster) as server:
        if cluster.index:
            _report(cluster, directory, digest, deadline)
        else:
            _gather(cluster, directory, digest, deadline, server)


def _listen(cluster):
    host, port = cluster.own
    try:
        # A socket that fails now would make TensorFlow fail later.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"worker {cluster.index} cannot listen at {host}:{port}, its "
            f"address in TF_CONFIG: {error.strerror or error}.\nGive an "
            "address of this machine, and a port that is free."
        ) from error


def _gather(cluster, directory, digest, deadline, server):
    """Does the chief's part."""
    count = len(cluster.addresses)
    print(f"Waiting for {count - 1} other workers...", flush=True)
    with contextlib.ExitStack() as stack:
        peers = {}
        while len(peers) < count - 1 and time.monotonic() < deadline:
            server.settimeout(max(_PAUSE, deadline - time.monotonic()))
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                peer = _Line(connection, timeout=_ANSWERED_WITHIN)
                stack.enter_context(peer)
                _greet(peer, peers, digest)
        missing = sorted(set(range(1, count)) - set(peers))
        if missing:
            names = ", ".join(f"{n} ({cluster.addresses[n]})" for n in missing)
            _refuse(
                peers,
                f"of {count} workers {len(missing)} did not come in time: "
                f"{names}. Start them, see what they say, or wait longer with "
                "--startup_timeout.",
            )
        _show_file(directory, peers)


def _greet(peer, peers, digest):
    """Adds whoever has come to the peers, if it is a worker."""
    try:
        hello = peer.read()
        index, other = int(hello["index"]), hello["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # Somebody else.
    peers[index] = peer
    if other != digest:
        _refuse(
            peers,
            f"worker {index} was started with other flags, or versions of "
            "TensorFlow and Keras, than the chief; give all the same ones.",
        )


def _show_file(directory, peers):
    """Checks that all workers see what the chief writes."""
    token = directory / f".rendezvous-{secrets.token_hex(8)}"
    directory.mkdir(parents=True, exist_ok=True)
    token.touch()
    try:
        for peer in peers.values():
            with contextlib.suppress(OSError):
                peer.write(token=token.name)
        seen = {number: _sees(peer) for number, peer in peers.items()}
    finally:
        token.unlink()
    gone = [number for number, sees in seen.items() if sees is None]
    if gone:
        _refuse(
            peers,
            f"worker {gone[0]} ended before all workers were there; see what "
            "it says, and start all again.",
        )
    blind = [number for number, sees in seen.items() if not sees]
    if blind:
        _refuse(
            peers,
            f"worker {blind[0]} does not see what the chief writes to "
            f"{directory}; give a --run_dir on storage that all workers share.",
        )
    for peer in peers.values():
        peer.write(ready=True)


def _sees(peer):
    """Returns whether a worker sees the file; None if it is gone."""
    try:
        return peer.read()["sees"]
    except (OSError, ValueError, KeyError):
        return None


def _refuse(peers, reason):
    for peer in peers.values():
        with contextlib.suppress(OSError):
            peer.write(error=reason)
    raise UserError(reason)


def _report(cluster, directory, digest, deadline):
    """Does the part of any other worker."""
    with _connect(cluster, deadline) as chief:
        try:
            chief.write(index=cluster.index, digest=digest)
            token = _answer(chief)["token"]
            chief.write(sees=_is_seen(directory / token))
            _answer(chief)
        except UserError:
            raise
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the chief at {cluster.addresses[0]} ended before all "
                "workers were there; see what it says."
            ) from error


def _connect(cluster, deadline):
    while True:
        try:
            connection = socket.create_connection(cluster.chief, timeout=5)
            wait = deadline - time.monotonic() + _ANSWERED_WITHIN
            return _Line(connection, timeout=wait)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the chief at {cluster.addresses[0]} cannot be reached: "
                    f"{error.strerror or error}. Start it, correct TF_CONFIG, "
                    "or wait longer with --startup_timeout."
                ) from error
        time.sleep(_PAUSE)


def _answer(chief):
    content = chief.read()
    if "error" in content:
        raise UserError(content["error"])
    return content


def _is_seen(file):
    deadline = time.monotonic() + _SEEN_WITHIN
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


class _Line(contextlib.AbstractContextManager):
    """A connection on which each line is a JSON dictionary."""

    def __init__(self, connection, timeout):
        connection.settimeout(timeout)
        self._connection = connection
        self._file = connection.makefile("rw")

    def read(self):
        return json.loads(self._file.readline())

    def write(self, **content):
        self._file.write(json.dumps(content) + "\n")
        self._file.flush()

    def __exit__(self, *exception):
        with contextlib.suppress(OSError):
            self._file.close()
        self._connection.close()
