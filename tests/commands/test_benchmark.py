"""The measurements are complete; the speeds themselves are not tested."""

import contextlib
import io
import json
import signal
import subprocess
import sys

import pytest

from alexnet_tf.benchmarks import input as input_benchmark
from alexnet_tf.benchmarks import step as step_benchmark
from alexnet_tf.benchmarks import timing
from alexnet_tf.commands import benchmark
from alexnet_tf.main import main
from tests.support import SMALL


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The printed text and the JSON of a benchmark at tiny sizes."""
    file = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    flags = ["--target=all", "--rounds=2", "--batch_size=8", *SMALL]
    flags += ["--virtual_devices=1", f"--json={file}"]
    flags += ["--dropout_layers=conv4,fc6,fc7"]
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_MIN_SECONDS", 0.0)
        patch.setattr(step_benchmark, "_MATRIX_SIZE", 256)
        patch.setattr(step_benchmark, "_FIT_STEPS", 2)
        patch.setattr(input_benchmark, "_FILES", 16)
        patch.setattr(input_benchmark, "_IMAGES", 32)
        patch.setattr(benchmark, "_PREFETCHED", 1)
        with contextlib.redirect_stdout(text):
            assert main(["benchmark", *flags]) == 0
    return text.getvalue(), json.loads(file.read_text())


@pytest.mark.slow
def test_settings_are_recorded(measured):
    _, content = measured
    assert content["settings"] == {"batch_size": 8, "precision": "float32"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["step", "input", "train"])
def test_each_row_is_printed_with_its_spread(measured, target):
    text, content = measured
    for row in content[target]["rows"]:
        assert row["what"] in text
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]


@pytest.mark.slow
def test_the_tables_of_a_step(measured):
    _, content = measured
    step = content["step"]
    assert [row["what"] for row in step["rows"]] == [
        "matrix product, float32",
        "this network, float32",
        "this network, float32, with fit",
        step_benchmark.STOCK,
    ]
    assert step["images_per_second"] == step["rows"][1]["images_per_second"]
    assert step["rows"][0]["of_first"] == step["rows"][-1]["of_stock"] == 1
    layers = {row["layer"]: row for row in step["layers"]}
    assert list(layers)[:4] == ["pixels", "conv1", "norm1", "pool1"]
    for name in ("conv1", "norm1", "dropout_conv4", "conv5", "fc6", "fc8"):
        assert layers[name]["forward_ms"] > 0 < layers[name]["backward_ms"]
    assert layers["update"]["forward_ms"] > 0


@pytest.mark.slow
def test_the_table_of_input(measured):
    _, content = measured
    rows = content["input"]["rows"]
    assert [row["what"] for row in rows] == [
        input_benchmark.DECODING,
        input_benchmark.DEFAULT_DCT,
        input_benchmark.PLAIN,
        input_benchmark.FILES,
        input_benchmark.PREPARED,
        input_benchmark.RAW,
        input_benchmark.LAYER,
    ]
    decoding, default, plain, files, *_, layer = rows
    assert content["input"]["images_per_second"] == files["images_per_second"]
    assert files["of_plain"] == pytest.approx(plain["cpu_ms"] / files["cpu_ms"])
    assert files["of_plain_with_layer"] == pytest.approx(
        plain["cpu_ms"] / (files["cpu_ms"] + layer["cpu_ms"])
    )
    for row in (default, files):
        assert row["of_decoding"] == pytest.approx(
            row["images_per_second"] / decoding["images_per_second"]
        )


@pytest.mark.slow
def test_the_table_of_training(measured):
    text, content = measured
    train = content["train"]
    assert [row["what"] for row in train["rows"]] == [
        step_benchmark.SYNTHETIC,
        input_benchmark.RAW,
        input_benchmark.PREPARED,
        input_benchmark.FILES,
    ]
    assert "of synthetic" in text
    assert train["images_per_second"] == train["rows"][3]["images_per_second"]


STOPPED = """
from alexnet_tf.benchmarks import input as input_benchmark, timing
from alexnet_tf.main import command_line
timing._MIN_SECONDS = 0.0
input_benchmark._FILES, input_benchmark._IMAGES = 4, 8
command_line()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_benchmark_leaves_what_it_measured(number, tmp_path, capsys):
    file = tmp_path / "benchmark.json"
    arguments = ["benchmark", "--target=input", "--rounds=100000", *SMALL]
    arguments += ["--batch_size=4", f"--json={file}"]
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("round 4 of 100000, about "):
                process.send_signal(number)
                break
        assert "Stopped by" in process.stdout.read()
    assert process.returncode == 128 + number
    content = json.loads(file.read_text())
    assert content["partial"] is True
    assert content["input"]["rounds"] >= 3
    assert content["input"]["images_per_second"] > 0
    assert main(["inspect", "--scale", f"--benchmark_json={file}"]) == 2


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("step", ["step"]),
        ("input", ["input"]),
        ("train", ["train"]),
        ("all", ["step", "input", "train"]),
    ],
)
def test_only_the_target_is_measured(monkeypatch, tmp_path, target, parts):
    for name in ("_measure_step", "_measure_input", "_measure_training"):
        monkeypatch.setattr(benchmark, name, lambda *_: [{}])
    monkeypatch.setattr(input_benchmark, "write_examples", lambda *_: {})
    file = tmp_path / "benchmark.json"
    assert main(["benchmark", f"--target={target}", f"--json={file}"]) == 0
    assert list(json.loads(file.read_text())) == ["settings", *parts]
