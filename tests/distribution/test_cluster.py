"""What TF_CONFIG may say, and workers that meet, or do not."""

import hashlib
import json
import socket
import threading

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster, read_cluster
from alexnet_tf.distribution.rendezvous import wait_for_workers


def config(index=0, kind="worker", **jobs):
    jobs = jobs or {"worker": ["a:1", "b:2"]}
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (config(1), Cluster(("a:1", "b:2"), 1)),
        (config("1"), Cluster(("a:1", "b:2"), 1)),
        (config(0, chief=["c:1"], worker=["d:2"]), Cluster(("c:1", "d:2"), 1)),
        (
            config(0, "chief", chief=["c:1"], worker=["d:2"]),
            Cluster(("c:1", "d:2"), 0),
        ),
        (config(0, worker=["[::1]:5"]), Cluster(("[::1]:5",), 0)),
    ],
)
def test_tf_config_is_read(text, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "does not name"),
        ("", "does not name"),
        ("{", "does not name"),
        ("[]", "does not name"),
        ('{"cluster": {"worker": ["a:1"]}}', "does not name"),
        (config(worker=[5]), "does not name"),
        (config(worker="a:1"), "does not name"),
        (config("x"), "does not name"),
        (config(worker=["a"]), "does not name"),
        (config(worker=["a:b"]), "does not name"),
        (config(2), "has 2 addresses of workers, but this is number 2"),
        (config(-1), "number -1"),
        (config(0, "chief"), "has 0 addresses of chiefs"),
        (config(0, "ps", ps=["a:1"], worker=["b:1"]), "'ps'"),
        (config(0, "evaluator"), "'evaluator'"),
    ],
)
def test_a_wrong_tf_config_is_one_clear_line(text, told, monkeypatch):
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=told) as error:
        read_cluster()
    assert len(str(error.value).splitlines()) <= 3


@pytest.fixture
def addresses():
    """Three addresses that were free a moment ago."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(3)]
    found = tuple(f"localhost:{s.getsockname()[1]}" for s in sockets)
    for opened in sockets:
        opened.close()
    return found


def meet_all(addresses, *, directories, settings, timeout=20.0):
    """Returns what each worker's meeting ended with, by its index."""
    found = {}

    def one(index):
        try:
            wait_for_workers(
                Cluster(addresses, index),
                directories[index],
                settings[index],
                timeout,
            )
            found[index] = "met"
        except UserError as error:
            found[index] = str(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in settings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_all_meet_and_leave_nothing_behind(addresses, tmp_path):
    found = meet_all(
        addresses,
        directories=[tmp_path] * 3,
        settings={0: "same", 1: "same", 2: "same"},
    )
    assert found == {0: "met", 1: "met", 2: "met"}
    assert not list(tmp_path.iterdir())


def test_other_flags_are_told(addresses, tmp_path):
    """To the chief and that worker; who comes later finds no chief."""
    found = meet_all(
        addresses,
        directories=[tmp_path] * 3,
        settings={0: "same", 1: "same", 2: "other"},
        timeout=3.0,
    )
    assert "worker 2 was started with other flags" in found[0]
    assert found[2] == found[0]
    assert found[1] != "met"


def test_a_worker_that_never_comes_is_named(addresses, tmp_path):
    found = meet_all(
        addresses,
        directories=[tmp_path] * 3,
        settings={0: "same", 1: "same"},
        timeout=1.0,
    )
    assert found[0] == found[1]
    assert f"2 ({addresses[2]})" in found[0]
    assert "--startup_timeout" in found[0]


def test_a_chief_that_never_comes_is_named(addresses, tmp_path):
    found = meet_all(
        addresses,
        directories=[tmp_path] * 3,
        settings={1: "same"},
        timeout=1.0,
    )
    assert f"chief at {addresses[0]} cannot be reached" in found[1]


def test_a_directory_that_is_not_shared_is_told(
    addresses, tmp_path, monkeypatch
):
    monkeypatch.setattr("alexnet_tf.distribution.rendezvous._SEEN_WITHIN", 0.5)
    found = meet_all(
        addresses,
        directories=[tmp_path / "a", tmp_path / "b", tmp_path / "a"],
        settings={0: "same", 1: "same", 2: "same"},
    )
    assert "worker 1 does not see" in found[0]
    assert found[0] == found[1] == found[2]


def test_a_worker_that_ended_before_the_others_came_is_told(
    addresses, tmp_path
):
    found = {}
    chief = threading.Thread(
        target=lambda: found.update(
            meet_all(
                addresses, directories=[tmp_path] * 3, settings={0: "same"}
            )
        )
    )
    chief.start()
    digest = hashlib.sha256(b"same").hexdigest()
    host, port = addresses[0].rsplit(":", 1)
    while True:
        try:
            early = socket.create_connection((host, int(port)))
            break
        except ConnectionRefusedError:
            continue
    with early:
        hello = {"index": 1, "digest": digest}
        early.sendall(json.dumps(hello).encode() + b"\n")
    settings = {2: "same"}
    found |= meet_all(addresses, directories=[tmp_path] * 3, settings=settings)
    chief.join(60)
    assert "worker 1 ended before all workers were there" in found[0]
    assert found[2] == found[0]
    assert not list(tmp_path.iterdir())


def test_addresses_may_be_of_ipv6(tmp_path):
    try:
        sockets = [
            socket.create_server(("::1", 0), family=socket.AF_INET6)
            for _ in range(2)
        ]
    except OSError:
        pytest.skip("no IPv6 here")
    addresses = tuple(f"[::1]:{s.getsockname()[1]}" for s in sockets)
    for opened in sockets:
        opened.close()
    found = meet_all(
        addresses,
        directories=[tmp_path] * 2,
        settings={0: "same", 1: "same"},
    )
    assert found == {0: "met", 1: "met"}


def test_strangers_at_the_chiefs_port_do_not_matter(addresses, tmp_path):
    found = {}
    settings = {0: "same", 1: "same", 2: "same"}
    directories = [tmp_path] * 3

    def all_of_them():
        found.update(
            meet_all(addresses, directories=directories, settings=settings)
        )

    port = int(addresses[0].rpartition(":")[2])
    late = {0: settings.pop(0)}
    chief = threading.Thread(
        target=lambda: found.update(
            meet_all(addresses, directories=directories, settings=late)
        )
    )
    chief.start()
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"[1, 2]\n", b"", b'{"a": 1}\n'):
        while True:
            try:
                stranger = socket.create_connection(("localhost", port))
                break
            except ConnectionRefusedError:
                continue
        with stranger:
            stranger.sendall(sent)
    all_of_them()
    chief.join(60)
    assert found == {0: "met", 1: "met", 2: "met"}


@pytest.mark.parametrize("index", [0, 1])
def test_a_port_in_use_is_told(addresses, tmp_path, index):
    port = int(addresses[index].rpartition(":")[2])
    with (
        socket.create_server(("localhost", port)),
        pytest.raises(UserError, match="Address already in use"),
    ):
        wait_for_workers(Cluster(addresses, index), tmp_path, "same", 1.0)


def test_an_address_of_another_machine_is_told(tmp_path):
    cluster = Cluster(("192.0.2.1:9000", "localhost:9001"), 0)
    with pytest.raises(UserError, match="worker 0 cannot listen at 192.0.2.1"):
        wait_for_workers(cluster, tmp_path, "same", 1.0)
    cluster = Cluster(("localhost:9000", "no-such-host.invalid:9001"), 1)
    with pytest.raises(UserError, match="cannot listen at no-such-host"):
        wait_for_workers(cluster, tmp_path, "same", 1.0)
