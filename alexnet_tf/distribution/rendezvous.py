"""Startup handshake of the workers, before TensorFlow connects them.

Every worker connects to the chief, which checks that all are present, with the
same settings, and share the run directory. TensorFlow's coordination service
can wait an hour for a missing worker, and its errors name no remedy.
"""

import contextlib
import hashlib
import json
import selectors
import socket
import tempfile
import time
from pathlib import Path

from alexnet_tf.config.errors import LostWorkerError, UserError
from alexnet_tf.distribution.cluster import Cluster

_MOST_BYTES = 2**16  # Of a message.
_STRANGERS = 100  # Connections that have not sent a message yet, at most.
_RETRY_SECONDS = 0.2
_REPLY_SECONDS = 30.0
_FILE_SECONDS = 10.0  # A network file system may show a new file late.


def wait_for_workers(
    cluster: Cluster, directory: Path, settings: str, timeout: float
) -> None:
    """Waits `timeout` seconds for all workers and checks that they fit.

    Their `settings` must be the same, and they must share the directory.
    """
    same = f"{len(cluster.addresses)} workers\n{settings}"
    digest = hashlib.sha256(same.encode()).hexdigest()
    deadline = time.monotonic() + timeout
    # Every worker listens: an address that fails now would fail in TensorFlow,
    # later and with a worse message.
    with _listen(cluster, deadline) as server:
        if cluster.index:
            _join(cluster, directory, digest, deadline)
        else:
            _admit_all(cluster.addresses, directory, digest, deadline, server)


def _listen(cluster, deadline):
    host, port = cluster.host_and_port(cluster.index)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family)
        except OSError as error:
            # Kubernetes knows a pod's name only a few seconds after its start.
            is_unknown = isinstance(error, socket.gaierror)
            if not is_unknown or time.monotonic() > deadline:
                raise UserError(
                    f"worker {cluster.index} cannot listen on {host}:{port}, "
                    f"its address by {cluster.source}: "
                    f"{error.strerror or error}.\nUse an address of this "
                    "machine and a free port."
                ) from error
        time.sleep(_RETRY_SECONDS)


def _admit_all(addresses, directory, digest, deadline, server):
    """The chief's side of the handshake."""
    others = set(range(1, len(addresses)))
    print(f"Waiting for {len(others)} other workers...", flush=True)
    with contextlib.ExitStack() as connections:
        peers, refusal = _meet(server, others, digest, deadline, connections)
        try:
            if missing := sorted(others - peers.keys()):
                names = ", ".join(f"{n} ({addresses[n]})" for n in missing)
                raise UserError(
                    f"{len(missing)} of {len(addresses)} workers did not "
                    f"connect in time: {names}. Start them, check their "
                    f"output, or wait longer with --startup_timeout.{refusal}"
                )
            _check_shared(directory, peers)
        except UserError as error:
            lost = isinstance(error, LostWorkerError)
            for peer in peers.values():
                _send(peer, error=str(error), lost=lost)
            raise
        for peer in peers.values():
            _send(peer, ready=True)


def _meet(server, others, digest, deadline, connections):
    """Returns the workers' connections by index, and whether one was refused.

    Anyone may connect. Strangers are dropped, or wait unheard; the workers are
    those who know the digest.
    """
    peers, refusal = {}, ""
    heard: dict[socket.socket, bytes] = {}  # Of others: their lines, so far.
    connections.callback(lambda: [stranger.close() for stranger in heard])
    selector = connections.enter_context(selectors.DefaultSelector())
    server.setblocking(False)
    selector.register(server, selectors.EVENT_READ)

    def drop(connection):
        selector.unregister(connection)
        del heard[connection]
        connection.close()

    while others - peers.keys() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            connection = key.fileobj
            if connection is server:
                with contextlib.suppress(OSError):  # It is gone already.
                    connection, _ = server.accept()
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ)
                    heard[connection] = b""
                if len(heard) > _STRANGERS:
                    drop(next(iter(heard)))
                continue
            if connection not in heard:  # Just dropped.
                continue
            heard[connection] += (part := _read_part(connection))
            line, ends, _ = heard[connection].partition(b"\n")
            if part and not ends and len(line) <= _MOST_BYTES:
                continue
            hello = _parse(line if ends else b"")
            index, its_digest = hello.get("index"), hello.get("digest")
            if type(index) is not int or not isinstance(its_digest, str):
                drop(connection)  # A port scanner, a health check.
            elif its_digest != digest:
                error = UserError(
                    f"worker {index} was started with other flags, another "
                    "number of workers or other versions of TensorFlow and "
                    "Keras than the chief; use the same ones for all workers."
                )
                _send(connection, error=str(error))
                drop(connection)
                refusal = f"\nOne was refused: {error}"
            elif index not in others:
                drop(connection)
            else:
                selector.unregister(connection)
                del heard[connection]
                peers[index] = connections.enter_context(connection)
    return peers, refusal


def _check_shared(directory, peers):
    """Checks that all workers see a file which the chief creates."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".rendezvous-", dir=directory) as f:
        for peer in peers.values():
            _send(peer, file=Path(f.name).name)
        replies = {
            index: _receive(peer, _REPLY_SECONDS)
            for index, peer in peers.items()
        }
    for index, reply in sorted(replies.items()):
        if "seen" not in reply:
            raise LostWorkerError(
                f"worker {index} ended before all workers were present; check "
                "its output and restart all workers."
            )
        if not reply["seen"]:
            raise UserError(
                f"worker {index} does not see what the chief writes to "
                f"{directory}; use a --run_dir on storage that all workers "
                "share."
            )


def _join(cluster, directory, digest, deadline):
    """The other workers' side of the handshake."""
    with _connect(cluster, deadline) as chief:
        wait = deadline - time.monotonic() + _REPLY_SECONDS
        _send(chief, index=cluster.index, digest=digest)
        file = directory / str(_reply(chief, "file", cluster, wait))
        deadline = time.monotonic() + _FILE_SECONDS
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(_RETRY_SECONDS)
        _send(chief, seen=file.exists())
        _reply(chief, "ready", cluster, wait)


def _connect(cluster, deadline):
    while True:
        try:
            return socket.create_connection(cluster.host_and_port(0), timeout=5)
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the chief at {cluster.addresses[0]} cannot be reached: "
                    f"{error.strerror or error}. Start it, correct its address "
                    f"({cluster.source}), or wait longer with "
                    "--startup_timeout."
                ) from error
        time.sleep(_RETRY_SECONDS)


def _reply(chief, key, cluster, seconds):
    message = _receive(chief, seconds)
    if "error" in message:
        kind = LostWorkerError if message.get("lost") else UserError
        raise kind(message["error"])
    if key not in message:
        raise LostWorkerError(
            f"the chief at {cluster.addresses[0]} ended before all workers "
            "were present; check its output."
        )
    return message[key]


def _send(connection, **message):
    """Sends one JSON object on a line, as both sides do in turns."""
    # The next receive reports a lost connection.
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection, seconds):
    """Returns the next message; {} if none comes in time, or not ours."""
    received, end = b"", time.monotonic() + seconds
    while b"\n" not in received and len(received) <= _MOST_BYTES:
        if (left := end - time.monotonic()) <= 0:
            return {}
        connection.settimeout(left)
        if not (part := _read_part(connection)):
            return {}
        received += part
    return _parse(received.partition(b"\n")[0])


def _read_part(connection):
    """Returns some bytes; none if the connection is lost, or silent."""
    try:
        return connection.recv(4096)
    except OSError:
        return b""


def _parse(line):
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
