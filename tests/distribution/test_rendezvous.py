"""Workers that complete the startup handshake, and workers that cannot."""

import hashlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster
from alexnet_tf.distribution.rendezvous import wait_for_workers
from tests.support import free_addresses


@pytest.fixture
def addresses():
    return free_addresses(3)


@pytest.fixture
def start(addresses, tmp_path):
    """Starts a worker's handshake in a thread; returns a future."""

    def handshake(cluster, directory, settings, timeout):
        try:
            wait_for_workers(cluster, directory, settings, timeout)
        except UserError as error:
            return str(error)
        return "connected"

    with ThreadPoolExecutor() as threads:

        def start(
            index,
            *,
            addresses=addresses,
            directory=tmp_path,
            settings="same",
            timeout=20.0,
        ):
            cluster = Cluster(tuple(addresses), index)
            return threads.submit(
                handshake, cluster, directory, settings, timeout
            )

        yield start


def results(futures):
    return [future.result(timeout=60) for future in futures]


def connect(address):
    """Connects to the chief as soon as it listens."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host, int(port)))
        except ConnectionRefusedError:
            continue


def test_all_connect_and_leave_nothing_behind(start, tmp_path):
    workers = [start(index) for index in range(3)]
    assert results(workers) == ["connected"] * 3
    assert not list(tmp_path.iterdir())


def test_different_settings(start):
    """The chief and that worker report them; a later one finds no chief."""
    chief = start(0)
    other = start(2, settings="other")
    late = start(1, timeout=1.0)
    errors = results([chief, other])
    assert "worker 2 was started with other flags" in errors[0]
    assert errors[0] == errors[1]
    assert late.result(60) != "connected"


def test_different_numbers_of_workers(start, addresses):
    chief = start(0, addresses=addresses[:2])
    errors = results([chief, start(2)])
    assert "another number of workers" in errors[0]
    assert errors[0] == errors[1]


def test_missing_worker_is_named(start, addresses):
    errors = results([start(0, timeout=1.0), start(1, timeout=1.0)])
    assert errors[0] == errors[1]
    assert (
        f"1 of 3 workers did not connect in time: 2 ({addresses[2]})"
        in (errors[0])
    )
    assert "--startup_timeout" in errors[0]


def test_missing_chief_is_named(start, addresses):
    error = start(1, timeout=1.0).result(60)
    assert f"chief at {addresses[0]} cannot be reached" in error


def test_run_directory_that_is_not_shared(start, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_tf.distribution.rendezvous._FILE_SECONDS", 0.5)
    names = "aba"
    workers = [
        start(index, directory=tmp_path / name)
        for index, name in enumerate(names)
    ]
    errors = results(workers)
    assert "worker 1 does not see" in errors[0]
    assert errors[0] == errors[1] == errors[2]


def test_worker_that_ends_before_all_are_present(start, addresses, tmp_path):
    chief = start(0)
    digest = hashlib.sha256(b"3 workers\nsame").hexdigest()
    with connect(addresses[0]) as early:
        hello = {"index": 1, "digest": digest}
        early.sendall(json.dumps(hello).encode() + b"\n")
    errors = results([chief, start(2)])
    assert "worker 1 ended before all workers were present" in errors[0]
    assert errors[0] == errors[1]
    assert not list(tmp_path.iterdir())


def test_ipv6_addresses(start):
    try:
        addresses = free_addresses(2, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    workers = [start(index, addresses=addresses) for index in range(2)]
    assert results(workers) == ["connected"] * 2


def test_strangers_at_the_chiefs_port_are_ignored(start, addresses):
    chief = start(0)
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b"", b'{"a": 1}\n'):
        with connect(addresses[0]) as stranger:
            stranger.sendall(sent)
    assert results([chief, start(1), start(2)]) == ["connected"] * 3


@pytest.mark.parametrize("index", [0, 1])
def test_port_in_use(start, addresses, index):
    port = int(addresses[index].rpartition(":")[2])
    with socket.create_server(("localhost", port)):
        error = start(index, timeout=1.0).result(60)
    assert f"worker {index} cannot listen on localhost:{port}" in error
    assert "Address already in use" in error


@pytest.mark.parametrize(
    ("index", "host"), [(0, "192.0.2.1"), (1, "no-such-host.invalid")]
)
def test_address_of_another_machine(start, index, host):
    addresses = ["localhost:9000", "localhost:9000"]
    addresses[index] = f"{host}:9000"
    error = start(index, addresses=addresses, timeout=1.0).result(60)
    assert f"worker {index} cannot listen on {host}:9000" in error
