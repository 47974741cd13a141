"""Predicted speeds: by hand, and against what is counted in the graph."""

import json

import numpy as np
import pytest

from alexnet_tf.benchmarks import scaling, traffic
from alexnet_tf.benchmarks.scaling_report import bytes_between_towers
from alexnet_tf.config.flags import Config
from alexnet_tf.main import main
from alexnet_tf.models.build import build_network
from alexnet_tf.storage.dataset_info import placeholder_info
from tests.support import make_trainer

MACHINES = scaling.Machines(
    rate=1000.0, input_rate=5000.0, devices=4, link=1e9, device_link=10e9
)
TRAFFIC = scaling.Traffic(gradients=200e6, between_towers=250e3)


def predict(devices, towers):
    return scaling.predict(
        TRAFFIC, MACHINES, devices=devices, towers=towers, batch=100
    )


def test_one_device_is_what_was_measured():
    alone = predict(1, 1)
    assert (alone.lowest, alone.highest) == (1000.0, 1000.0)
    assert not alone.starves


def test_replicas_of_one_machine_sum_over_their_own_links():
    # 100 ms of layers; 2 * 3 / 4 of 200 MB at 10 GB/s are 30 ms.
    four = predict(4, 1)
    assert four.lowest == pytest.approx(400 / 0.130)
    assert four.highest == pytest.approx(400 / 0.100)


def test_machines_sum_over_the_network():
    # 30 ms within machines, and 2 * 1 / 2 of 200 MB at 1 GB/s: 200 ms.
    eight = predict(8, 1)
    assert eight.lowest == pytest.approx(800 / 0.330)
    assert eight.highest == pytest.approx(800 / 0.230)
    assert eight.input_limit == 10_000 and not eight.starves


def test_towers_halve_the_layers_and_the_gradients_of_a_device():
    # 50 ms of layers and 2.5 ms of 25 MB between towers; two replicas sum
    # 2 * 1 / 2 of 100 MB: 10 ms.
    four = predict(4, 2)
    assert four.replicas == 2 and four.global_batch == 200
    assert four.lowest == pytest.approx(200 / 0.0625)
    assert four.highest == pytest.approx(200 / 0.0525)


def test_a_slow_input_is_told():
    slow = scaling.Machines(1000.0, 1500.0, 4, 1e9, 10e9)
    found = scaling.predict(TRAFFIC, slow, devices=4, towers=1, batch=100)
    assert found.starves and "1,500" in scaling.as_table([found])


@pytest.mark.parametrize(
    "flag",
    ["--precision=float32", "--precision=bfloat16", "--lrn_across_towers"],
)
def test_the_bytes_between_towers_are_those_of_the_graph(flag):
    _, model = make_trainer((2, 1), flag, classes=1000)
    found = traffic.find_transfers(traffic.trace_training_step(model, 1))
    sent = sum(t.bytes for t in found if t.source == "CPU:0")
    assert bytes_between_towers(model) == sent


def test_networks_that_do_not_talk_send_their_logits_only():
    config = Config(tower_communication=False, width=0.1)
    model = build_network(config, placeholder_info(["a", "b", "c"]))
    assert bytes_between_towers(model) == 4 * 3


def test_one_tower_sends_nothing():
    config = Config(towers=1, width=0.1)
    model = build_network(config, placeholder_info(["a", "b", "c"]))
    assert bytes_between_towers(model) == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--scale", "--paper_facts"], "are two reports"),
        (["--benchmark_json=benchmark.json"], "give that, too"),
    ],
)
def test_flags_that_do_not_go_together(flags, told, capsys):
    assert main(["inspect", *flags]) == 2
    assert told in capsys.readouterr().err


def test_inspect_predicts_and_draws(tmp_path, capsys):
    measured = tmp_path / "benchmark.json"
    settings = {"batch_size": 128, "precision": "float32"}
    rates = {"step": {"images_per_second": 50.0}, "input": {}}
    rates["settings"] = settings
    measured.write_text(json.dumps(rates))
    flags = [
        f"--benchmark_json={measured}",
        f"--figures_dir={tmp_path / 'figures'}",
    ]
    assert main(["inspect", "--scale", *flags]) == 2
    assert "benchmark --target=all" in capsys.readouterr().err
    rates["input"]["images_per_second"] = 500.0
    measured.write_text(json.dumps(rates))
    report = tmp_path / "scale.json"
    assert main(["inspect", "--scale", *flags, f"--json={report}"]) == 0
    told = capsys.readouterr().out
    assert f"{8 * 28_288 + 4 * 12:,} between towers" in told  # Of 12 classes.
    assert {f.suffix for f in (tmp_path / "figures").iterdir()} == {
        ".png",
        ".svg",
    }
    assert main(["inspect", "--scale", "--batch_size=256", *flags]) == 2
    assert "with --batch_size=128, not 256" in capsys.readouterr().err
    flags.append("--towers=1")
    alone = tmp_path / "alone.json"
    assert main(["inspect", "--scale", *flags, f"--json={alone}"]) == 0
    (name,) = json.loads(alone.read_text())["layouts"]
    assert "one device a replica" in name
    layouts = json.loads(report.read_text())["layouts"].values()
    for predictions in layouts:
        speeds = [p["highest"] for p in predictions]
        assert predictions[-1]["devices"] == 1024
        np.testing.assert_array_equal(speeds, sorted(speeds))
