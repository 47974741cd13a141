"""Workers that complete the startup handshake, and workers that cannot."""

import contextlib
import hashlib
import itertools
import os
import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster
from alexnet_tf.distribution.rendezvous import wait_for_workers
from tests.support import free_addresses, listening


@pytest.fixture
def addresses():
    return free_addresses(3)


@pytest.fixture
def codes():
    """The exit codes with which workers would end."""
    return []


@pytest.fixture
def start(addresses, tmp_path, codes):
    """Starts a worker's handshake in a thread; returns a future."""

    def handshake(cluster, directory, settings, timeout):
        try:
            wait_for_workers(cluster, directory, settings, timeout)
        except UserError as error:
            codes.append(error.exit_code)
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
            return socket.create_connection((host.strip("[]"), int(port)))
        except ConnectionRefusedError:
            continue


def hello(index, digest="0" * 64):
    return b'{"index": %s, "digest": "%s"}\n' % (index, digest.encode())


def test_all_connect_and_leave_nothing_behind(start, tmp_path):
    workers = [start(index) for index in range(3)]
    assert results(workers) == ["connected"] * 3
    assert not list(tmp_path.iterdir())


def test_different_settings(start):
    """That worker reports them at once, the others if no other one comes."""
    chief = start(0, timeout=2.0)
    other = start(2, settings="other")
    late = start(1, timeout=2.0)
    refusal = other.result(1.5)
    assert "worker 2 was started with other flags" in refusal
    errors = results([chief, late])
    assert "1 of 3 workers did not connect in time: 2" in errors[0]
    assert errors[0].endswith(f"One was refused: {refusal}")
    assert errors[0] == errors[1]


def test_a_worker_may_be_started_again_with_the_right_flags(start):
    chief = start(0)
    assert "other flags" in start(2, settings="other").result(20)
    assert results([chief, start(1), start(2)]) == ["connected"] * 3


def test_different_numbers_of_workers(start, addresses):
    chief = start(0, addresses=addresses[:2], timeout=1.0)
    errors = results([chief, start(2)])
    assert "worker 2 was started with" in errors[1]
    assert "another number of workers" in errors[1]
    assert errors[1] in errors[0]


def test_missing_worker_is_named(start, addresses, codes):
    errors = results([start(0, timeout=1.0), start(1, timeout=1.0)])
    assert errors[0] == errors[1]
    assert (
        f"1 of 3 workers did not connect in time: 2 ({addresses[2]})"
        in (errors[0])
    )
    assert "--startup_timeout" in errors[0]
    assert codes == [2, 2]


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


def test_worker_that_ends_before_all_are_present(
    start, addresses, tmp_path, codes
):
    chief = start(0)
    digest = hashlib.sha256(b"3 workers\nsame").hexdigest()
    with connect(addresses[0]) as early:
        early.sendall(hello(b"1", digest))
    errors = results([chief, start(2)])
    assert "worker 1 ended before all workers were present" in errors[0]
    assert errors[0] == errors[1]
    assert codes == 2 * [os.EX_TEMPFAIL]  # A restart may help.
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_an_address_of_this_machine_is_not_reached_from_others(start, host):
    """As those of `launch`; TensorFlow's port is another matter."""
    try:
        addresses = free_addresses(2, host.strip("[]"))
    except OSError:
        pytest.skip("no IPv6 here")
    chief = start(0, addresses=addresses)
    with connect(addresses[0]):
        port = int(addresses[0].rpartition(":")[2])
        found = [a for a, its in listening(os.getpid()) if its == port]
        assert found == ["::1" if host == "[::1]" else "127.0.0.1"]
    assert results([chief, start(1, addresses=addresses)]) == 2 * ["connected"]


def test_ipv6_addresses(start):
    try:
        addresses = free_addresses(2, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    workers = [start(index, addresses=addresses) for index in range(2)]
    assert results(workers) == ["connected"] * 2


@pytest.mark.parametrize(
    "sent",
    [
        *(b"", b"\n", b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b'{"a": 1}\n'),
        *(hello(b"99"), hello(b"-1"), hello(b"0"), hello(b"1")[:-9]),
        *(hello(b"Infinity"), hello(b"-Infinity"), hello(b"NaN")),
        *(hello(b"true"), hello(b"1e999"), hello(b'"1"'), hello(b"9" * 5000)),
        *(hello(b"1"), hello(b"2", ""), b'{"index": 1, "digest": null}\n'),
        *(b"[" * 60_000 + b"\n", b'{"a":' * 10_000 + b"\n", b"\xff\0\n"),
    ],
    ids=lambda sent: ascii(sent[:30]),
)
def test_strangers_do_not_keep_the_workers_from_starting(
    start, addresses, sent
):
    """Whether they close the connection at once or leave it open."""
    chief = start(0, timeout=5.0)
    with connect(addresses[0]) as early, connect(addresses[0]) as late:
        for stranger in (early, late):
            stranger.sendall(sent)
        early.close()
        begin = time.monotonic()
        assert results([chief, start(1), start(2)]) == ["connected"] * 3
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("count", [1, 3, 300])
def test_silent_strangers(start, addresses, count):
    chief = start(0, timeout=10.0)
    with contextlib.ExitStack() as strangers:
        for _ in range(count):
            strangers.enter_context(connect(addresses[0]))
        assert results([chief, start(1), start(2)]) == ["connected"] * 3


def test_strangers_at_the_address_of_another_worker(start, addresses):
    worker = start(1)
    with connect(addresses[1]) as silent, connect(addresses[1]) as early:
        silent.sendall(bytes(100_000))
        early.close()
        assert results([start(0), worker, start(2)]) == ["connected"] * 3


@pytest.mark.parametrize("silence", [0.0, 0.3])
def test_strangers_that_send_byte_by_byte(start, addresses, silence):
    """They neither stop the workers nor the report that one is missing."""
    chief, worker = start(0, timeout=1.0), start(1, timeout=1.0)
    end = time.monotonic() + 1.5

    def drip():
        with connect(addresses[0]) as stranger, contextlib.suppress(OSError):
            for number in itertools.count():
                stranger.sendall(b"{" if number else b" ")
                if time.monotonic() > end:
                    return
                time.sleep(silence)

    with ThreadPoolExecutor() as threads:
        drips = [threads.submit(drip) for _ in range(2)]
        errors = results([chief, worker])
        assert "1 of 3 workers did not connect in time: 2" in errors[0]
        assert time.monotonic() < end
        for each in drips:
            each.result(60)


@pytest.mark.parametrize("part", [bytes(2**20), b"[" * 2**20, b'"' * 2**20])
def test_200_mb_without_a_line_need_no_memory(start, addresses, part):
    chief = start(0, timeout=30.0)
    tracemalloc.start()
    try:
        for _ in range(2):
            with (
                connect(addresses[0]) as stranger,
                contextlib.suppress(OSError),  # It is thrown out.
            ):
                for _ in range(200):
                    stranger.sendall(part)
        assert results([chief, start(1), start(2)]) == ["connected"] * 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_many_connections_leave_nothing_in_memory(start, addresses):
    chief = start(0, timeout=30.0)
    tracemalloc.start()
    try:
        for number in range(300):
            with connect(addresses[0]) as stranger:
                stranger.sendall(hello(b"%d" % number) if number % 2 else b"")
        assert results([chief, start(1), start(2)]) == ["connected"] * 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    "sent",
    [
        *(
            b"",
            b"\n",
            b"[" * 60_000 + b"\n",
            b"0" * 1_000_000,
            b"SSH-2.0-x\r\n",
        ),
        *(
            b'{"file": 5}\n',
            b'{"file": "../../\\u0000"}\n',
            b'{"error": 1e999}\n',
        ),
    ],
    ids=lambda sent: ascii(sent[:30]),
)
def test_another_program_at_the_chiefs_address(
    start, addresses, sent, monkeypatch
):
    monkeypatch.setattr("alexnet_tf.distribution.rendezvous._FILE_SECONDS", 0.1)
    host, _, port = addresses[0].rpartition(":")
    with socket.create_server((host, int(port))) as server:
        worker = start(1, timeout=1.0)
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(sent)
    (error,) = results([worker])
    assert "ended before all workers were present" in error or error == "inf"


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
