"""Clusters that the environment names, rightly and wrongly."""

import json
import os

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.cluster import Cluster, find_cluster
from alexnet_tf.main import main
from tests.support import TINY


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM_", "TF_CONFIG")):
            monkeypatch.delenv(name)


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
    assert find_cluster("tf_config") == expected


def test_a_cluster_is_reported_once(tmp_path, monkeypatch, capsys):
    """Also without --run_dir, which needs to know of it before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CONFIG", tf_config(worker=["a:1"]))
    # Ends where the devices are known.
    assert main([*TINY, "--devices_per_replica=1", "--batch_size=15"]) == 2
    output, error = capsys.readouterr()
    assert output.count("TF_CONFIG names one worker") == 1
    assert "--batch_size=15 cannot be divided" in error


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
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=message) as error:
        find_cluster("tf_config")
    assert len(str(error.value).splitlines()) <= 3


def set_slurm(monkeypatch, **changed):
    """Sets what srun sets for task 3 of 4, the second one of node n10."""
    values = {
        "JOB_ID": "7",
        "STEP_ID": "0",
        "STEP_NUM_TASKS": "4",
        "STEP_NODELIST": "n[9-10]",
        "STEP_TASKS_PER_NODE": "2(x2)",
        "NODEID": "1",
        "LOCALID": "1",
    }
    for name, value in (values | changed).items():
        monkeypatch.setenv(f"SLURM_{name}", value)


@pytest.mark.parametrize("name", ["slurm", "auto"])
def test_tasks_of_a_slurm_step(name, monkeypatch, capsys):
    set_slurm(monkeypatch)
    cluster = find_cluster(name)
    assert cluster.addresses == ("n9:10112", "n9:10113", *cluster.addresses[2:])
    assert cluster.addresses[2:] == ("n10:10112", "n10:10113")
    assert cluster.index == 3
    assert (
        "Slurm (step 7.0) names 4 workers; this is worker 3 at n10:10113"
        in (capsys.readouterr().out)
    )


@pytest.mark.parametrize(
    ("nodes", "tasks", "expected"),
    [
        ("a", "2", ["a", "a"]),
        ("a,b-1", "1,2", ["a", "b-1", "b-1"]),
        ("n[08-10,12]", "1(x3),2", ["n08", "n09", "n10", "n12", "n12"]),
        ("r[1-2]n[1-2],x", "1(x5)", ["r1n1", "r1n2", "r2n1", "r2n2", "x"]),
        ("g1,n[1,3].lan", "1(x3)", ["g1", "n1.lan", "n3.lan"]),
    ],
)
def test_nodes_and_tasks_in_slurms_notation(
    nodes, tasks, expected, monkeypatch
):
    slurm = {"NODELIST": nodes, "TASKS_PER_NODE": tasks}
    set_slurm(monkeypatch, **{f"STEP_{n}": v for n, v in slurm.items()})
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    cluster = find_cluster("slurm")
    hosts = [address.partition(":")[0] for address in cluster.addresses]
    assert hosts == expected


def test_ports_of_slurm_steps(monkeypatch):
    """Below those that Linux gives to connections; neighbors differ."""
    seen = set()
    for job in range(1, 1_000):
        set_slurm(monkeypatch, JOB_ID=str(job))
        _, first = find_cluster("slurm").host_and_port(0)
        _, second = find_cluster("slurm").host_and_port(1)
        assert 10_000 <= first < second < 32_768
        assert not seen & {first, second}
        seen |= {first, second}


@pytest.mark.parametrize(
    "changed",
    [
        {"STEP_NODELIST": ""},
        {"STEP_NODELIST": "n[a-b]"},
        {"STEP_NODELIST": "n[1-3]"},
        {"STEP_TASKS_PER_NODE": ""},
        {"NODEID": ""},
        {"JOB_ID": "x"},
    ],
    ids=str,
)
def test_not_a_slurm_step(changed, monkeypatch):
    set_slurm(monkeypatch, **changed)
    with pytest.raises(UserError, match="srun did not start") as error:
        find_cluster("slurm")
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ""),
        ({"TF_CONFIG": ""}, ""),
        ({"TF_CONFIG": tf_config(worker=["a:1"])}, "TF_CONFIG names one"),
        # A batch script or salloc's shell, which have no task of a step.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, "Slurm job 7: srun did"),
        # srun --pty.
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "1"}, "Slurm job 7"),
    ],
)
def test_auto_leaves_a_single_process_alone(
    environment, found, monkeypatch, capsys
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_cluster("auto") is None
    output = capsys.readouterr().out
    assert output.startswith(found) and bool(output) == bool(found)


def test_auto_takes_tf_config_within_slurm(monkeypatch):
    set_slurm(monkeypatch)
    monkeypatch.setenv("TF_CONFIG", tf_config(1))
    assert find_cluster("auto") == Cluster(("a:1", "b:2"), 1)
    assert find_cluster("none") is None


def test_ray_outside_of_ray():
    with pytest.raises(UserError, match="examples/ray_train.py"):
        find_cluster("ray")
