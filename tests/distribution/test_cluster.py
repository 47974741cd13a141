"""Valid and invalid values of TF_CONFIG."""

import json

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster, read_cluster


def tf_config(index=0, kind="worker", **jobs):
    jobs = jobs or {"worker": ["a:1", "b:2"]}
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (tf_config(1), Cluster(("a:1", "b:2"), 1)),
        (tf_config("1"), Cluster(("a:1", "b:2"), 1)),
        (
            tf_config(0, chief=["c:1"], worker=["d:2"]),
            Cluster(("c:1", "d:2"), 1),
        ),
        (
            tf_config(0, "chief", chief=["c:1"], worker=["d:2"]),
            Cluster(("c:1", "d:2"), 0),
        ),
        (tf_config(0, worker=["[::1]:5"]), Cluster(("[::1]:5",), 0)),
    ],
)
def test_valid_tf_config(text, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster() == expected


def test_host_and_port():
    cluster = Cluster(("host-0:9000", "[::1]:5"), 0)
    assert cluster.host_and_port(0) == ("host-0", 9000)
    assert cluster.host_and_port(1) == ("::1", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not name"),
        ("", "does not name"),
        ("{", "does not name"),
        ("[]", "does not name"),
        ('{"cluster": {"worker": ["a:1"]}}', "does not name"),
        (tf_config(worker=[5]), "does not name"),
        (tf_config(worker="a:1"), "does not name"),
        (tf_config("x"), "does not name"),
        (tf_config(worker=["a"]), "does not name"),
        (tf_config(worker=["a:b"]), "does not name"),
        (tf_config(2), "has 2 addresses of workers, .* number 2"),
        (tf_config(-1), "number -1"),
        (tf_config(0, "chief"), "has 0 addresses of chiefs"),
        (tf_config(0, "ps", ps=["a:1"], worker=["b:1"]), "'ps'"),
        (tf_config(0, "evaluator"), "'evaluator'"),
    ],
)
def test_invalid_tf_config_gives_a_short_error(text, message, monkeypatch):
    if text is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=message) as error:
        read_cluster()
    assert len(str(error.value).splitlines()) <= 3
