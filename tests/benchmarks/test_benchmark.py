"""What is measured is complete; how fast it is, is not tested."""

import json

import pytest

from alexnet_tf.benchmarks import input as input_benchmark
from alexnet_tf.benchmarks import step as step_benchmark
from alexnet_tf.commands import benchmark
from alexnet_tf.main import main

SMALL = ("--width=0.1", "--image_size=72", "--crop_size=64")


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setattr(benchmark, "_SHORTEST", 0.0)
    monkeypatch.setattr(step_benchmark, "_MATRIX", 256)
    monkeypatch.setattr(step_benchmark, "_FIT_STEPS", 2)
    monkeypatch.setattr(input_benchmark, "_FILES", 32)
    monkeypatch.setattr(input_benchmark, "_IMAGES", 64)


def test_the_table_of_input(tmp_path, capsys):
    flags = ["--target=input", "--rounds=2", "--batch_size=16"]
    assert main(["benchmark", *flags, f"--json={tmp_path}/rows.json"]) == 0
    told = capsys.readouterr().out
    rows = json.loads((tmp_path / "rows.json").read_text())["input"]["rows"]
    assert [row["what"] for row in rows][:5] == [
        input_benchmark.DECODING,
        input_benchmark.PLAIN,
        input_benchmark.FILES,
        input_benchmark.PREPARED,
        input_benchmark.RAW,
    ]
    for row in rows:
        assert row["what"] in told
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
    ours = rows[2]
    assert ours["of_plain"] == pytest.approx(rows[1]["cpu_ms"] / ours["cpu_ms"])
    assert ours["of_decoding"] == pytest.approx(
        ours["images_per_second"] / rows[0]["images_per_second"]
    )


def test_the_tables_of_a_step(tmp_path, capsys):
    flags = [*SMALL, "--virtual_devices=2", "--batch_size=8", "--rounds=2"]
    flags += ["--precision=bfloat16", "--target=step"]
    assert main(["benchmark", *flags, f"--json={tmp_path}/rows.json"]) == 0
    told = capsys.readouterr().out
    step = json.loads((tmp_path / "rows.json").read_text())["step"]
    names = [row["what"] for row in step["rows"]]
    assert names == [
        "matrix product, bfloat16",
        "matrix product, float32",
        "this network, bfloat16",
        "this network, float32",
        "this network, bfloat16, one device",
        "this network, bfloat16, with fit",
        step_benchmark.STOCK,
    ]
    for row in step["rows"]:
        assert row["what"] in told
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
    assert step["images_per_second"] == step["rows"][2]["images_per_second"]
    assert step["rows"][0]["of_first"] == step["rows"][-1]["of_stock"] == 1
    layers = {row["layer"]: row for row in step["layers"]}
    assert list(layers)[:4] == ["pixels", "conv1", "norm1", "pool1"]
    for name in ("conv1", "norm1", "pool1", "conv5", "fc6", "fc8"):
        assert layers[name]["forward_ms"] > 0 < layers[name]["backward_ms"]
    assert layers["update"]["forward_ms"] > 0


def test_the_table_of_training(tmp_path, capsys):
    flags = [*SMALL, "--batch_size=8", "--rounds=2", "--target=train"]
    assert main(["benchmark", *flags, f"--json={tmp_path}/rows.json"]) == 0
    train = json.loads((tmp_path / "rows.json").read_text())["train"]
    assert [row["what"] for row in train["rows"]] == [
        step_benchmark.MADE_UP,
        input_benchmark.RAW,
        input_benchmark.PREPARED,
        input_benchmark.FILES,
    ]
    assert "of made up" in capsys.readouterr().out
    assert train["images_per_second"] == train["rows"][3]["images_per_second"]


def test_operations_are_those_of_the_papers_network():
    """Worked out by hand from Figure 2, with 1,000 classes."""
    stock = step_benchmark.make_stock_network(224, 1000)
    forward = (
        2 * 55 * 55 * 11 * 11 * 3 * 96
        + 2 * 27 * 27 * 5 * 5 * 48 * 256
        + 2 * 13 * 13 * 9 * (256 * 384 + 192 * 384 + 192 * 256)
        + 2 * (9216 * 4096 + 4096 * 4096 + 4096 * 1000)
    )
    assert step_benchmark.count_flops(stock) == 3 * forward
    assert 3 * forward / 1e9 == pytest.approx(4.346, abs=1e-3)
