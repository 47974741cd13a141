"""The tables of `inspect`."""

import json
import re
import shutil

import numpy as np
import pytest

from alexnet_tf.commands import inspect
from alexnet_tf.main import main
from tests.end_to_end.golden_runs import RELEASES


def test_inspect_shows_the_papers_network(tmp_path, capsys):
    file = tmp_path / "network.json"
    flags = ["--flagfile=flags/paper.cfg", "--virtual_devices=4"]
    assert main(["inspect", *flags, f"--json={file}"]) == 0
    text = capsys.readouterr().out
    assert "60,965,224" in text
    assert text.count("230,304") == 2
    content = json.loads(file.read_text())
    assert content["parameters"] == 60_965_224
    (conv3,) = [r for r in content["layers"] if r["layer"] == "conv3_tower1"]
    assert conv3["output_shape"] == [13, 13, 192]
    assert conv3["devices"] == ["/device:CPU:1", "/device:CPU:3"]
    for towers in ({"CPU:0", "CPU:1"}, {"CPU:2", "CPU:3"}):
        crossing = [
            row["bytes"]
            for row in content["traffic"]
            if {row["source"], row["destination"]} == towers
        ]
        assert sum(crossing) == 2 * 230_304
    weights = {name: row["weights"] for name, row in content["memory"].items()}
    for first, second in ((0, 1), (2, 3)):
        first = weights[f"/device:CPU:{first}"]
        second = weights[f"/device:CPU:{second}"]
        assert first + second == 4 * 60_965_224
        assert first - second == 4 * 1000  # The biases of fc8.


def test_one_device_needs_no_trainer(tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(inspect, "build_trainer")
    file = tmp_path / "network.json"
    flags = ["--virtual_devices=1", "--width=0.1", f"--json={file}"]
    assert main(["inspect", *flags]) == 0
    assert "Between" not in capsys.readouterr().out
    content = json.loads(file.read_text())
    assert content["traffic"] == []
    assert list(content["memory"]) == ["/device:CPU:0"]
    assert content["layers"][-1]["devices"] == ["/device:CPU:0"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--scale", "--paper_facts"], "are separate reports"),
        (["--schedule_table", "--paper_facts"], "are separate reports"),
        (["--benchmark_json=benchmark.json"], "give that, too"),
    ],
)
def test_flags_that_do_not_go_together(flags, message, capsys):
    assert main(["inspect", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_described_without_its_data(tmp_path, capsys):
    run = shutil.copytree(RELEASES["0.2.0"] / "run", tmp_path / "run")
    text = (run / "flags.cfg").read_text()
    moved = text.replace("folder:tests/golden/images", "folder:/moved")
    (run / "flags.cfg").write_text(moved)
    info = json.loads((run / "dataset.json").read_text())
    file = tmp_path / "network.json"
    assert main(["inspect", f"--run_dir={run}", f"--json={file}"]) == 0
    assert "no run yet" not in capsys.readouterr().err
    content = json.loads(file.read_text())
    assert content["layers"][-1]["output_shape"] == [len(info["class_names"])]
    assert (
        content["parameters"]
        == json.loads((run / "result.json").read_text())["parameters"]
    )


def test_another_data_set_than_the_runs_has_other_classes(tmp_path):
    """Flag files name the directory of a run, which may have been another."""
    run = shutil.copytree(RELEASES["0.2.0"] / "run", tmp_path / "run")
    file = tmp_path / "network.json"
    flags = [f"--run_dir={run}", "--dataset=shapes/tiny", f"--json={file}"]
    assert main(["inspect", *flags]) == 0
    content = json.loads(file.read_text())
    assert content["layers"][-1]["output_shape"] == [12]
    info = json.loads((run / "dataset.json").read_text())
    assert len(info["class_names"]) == 4


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    flags = [f"--run_dir={tmp_path}/typo", "--width=0.1"]
    assert main(["inspect", *flags, "--virtual_devices=1"]) == 0
    assert f"{tmp_path}/typo has no run yet" in capsys.readouterr().err


@pytest.fixture
def scale(tmp_path):
    """Calls `inspect --scale` with the settings and rates of a benchmark."""
    content = {
        "settings": {"batch_size": 128, "precision": "float32"},
        "step": {"images_per_second": 50.0},
        "input": {"images_per_second": 500.0},
    }

    def call(*flags, **changes):
        file = tmp_path / "benchmark.json"
        file.write_text(json.dumps(content | changes))
        flags = [f"--benchmark_json={file}", *flags, "--width=0.25"]
        flags += [f"--figures_dir={tmp_path / 'figures'}"]
        return main(["inspect", "--scale", *flags])

    return call


def test_scale_predicts_and_draws(scale, tmp_path, capsys):
    report = tmp_path / "scale.json"
    assert scale(f"--json={report}") == 0
    # A quarter of the paper's 28,288 numbers, and 12 logits.
    assert (
        f"{2 * 4 * 7_072 + 4 * 12:,} bytes between" in capsys.readouterr().out
    )
    assert {f.suffix for f in (tmp_path / "figures").iterdir()} == {
        ".png",
        ".svg",
    }
    layouts = json.loads(report.read_text())["layouts"]
    assert len(layouts) == 2
    for predictions in layouts.values():
        speeds = [p["highest"] for p in predictions]
        assert predictions[-1]["devices"] == 1024
        np.testing.assert_array_equal(speeds, sorted(speeds))


def test_scale_of_one_tower_has_one_layout(scale, tmp_path):
    report = tmp_path / "scale.json"
    assert scale("--towers=1", f"--json={report}") == 0
    (name,) = json.loads(report.read_text())["layouts"]
    assert "one device per replica" in name


def test_scale_needs_the_rates_of_step_and_input(scale, capsys):
    assert scale(input={}) == 2
    assert "benchmark --target=all" in capsys.readouterr().err


def test_scale_needs_a_benchmark_that_was_not_stopped(scale, capsys):
    assert scale(partial=True) == 2
    assert "of a benchmark that was stopped" in capsys.readouterr().err


def test_scale_needs_the_settings_of_the_benchmark(scale, capsys):
    assert scale("--batch_size=256") == 2
    assert "with --batch_size=128, not 256" in capsys.readouterr().err


def test_scale_needs_the_network_of_the_benchmark(scale, capsys):
    settings = {"batch_size": 128, "precision": "float32", "width": 0.5}
    assert scale(settings=settings) == 2
    assert "measured with --width=0.5, not 0.25" in capsys.readouterr().err


def test_scale_needs_the_batch_of_the_benchmark(scale, capsys):
    assert scale(settings={"precision": "float32"}) == 2
    assert "is not the output of `benchmark" in capsys.readouterr().err


def test_scale_needs_the_speed_of_one_device(scale, capsys):
    assert scale(step={"images_per_second": 50.0, "devices": 4}) == 2
    assert "was measured on 4 devices" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "parameters", "classes", "last_inputs"),
    [
        (["cifar10/conv_local_13pct"], 1_116_490, 10, 6 * 6 * 32),
        (["cifar10/conv_local_11pct"], 2_112_970, 10, 6 * 6 * 32),
        (["cifar10/figure1_tanh"], 1_901_386, 10, 8 * 8 * 32),
        (["torchvision"], 61_100_840, 1000, 4096),
        (["paper", "code_2012", "cnn_star/pretrain"], 61_555_304, 1000, 4096),
        (["caffe_alexnet", "caffenet"], 60_965_224, 1000, 4096),
    ],
)
def test_networks_of_other_flag_files(
    names, parameters, classes, last_inputs, capsys
):
    """Weights without values are counted; there are 12 classes here."""
    flags = [f"--flagfile={name}" for name in names]
    flags += ["--dataset=shapes", "--gpus=none"]
    assert main(["inspect", *flags]) == 0
    printed = capsys.readouterr().out
    (total,) = re.findall(r"^total +([\d,]+)", printed, re.MULTILINE)
    expected = parameters + (12 - classes) * (last_inputs + 1)
    assert int(total.replace(",", "")) == expected


def test_the_table_of_a_schedule(tmp_path, capsys):
    file = tmp_path / "schedule.json"
    flags = ["--flagfile=flags/code_2012.cfg", "--width=0.02"]
    flags += ["--schedule_table", f"--json={file}"]
    assert main(["inspect", *flags]) == 0
    header, *lines = map(str.split, capsys.readouterr().out.splitlines())
    names = "weights biases conv1.weights conv1.biases color_noise"
    assert header == ["epochs", *names.split()]
    assert lines == [
        "1-25 0.01 0.02 0.01 0.02 on".split(),
        "26-51 0.001 0.02 0.001 0.02 on".split(),
        "52-67 0.0001 0.02 0.0001 0.02 on".split(),
        "68-72 0.0001 0.02 1e-05 0.02 off".split(),
        "73-79 0.0001 0.02 0 0 off".split(),
        "80-91 1e-05 0.02 0 0 off".split(),
    ]
    periods = json.loads(file.read_text())["periods"]
    assert [period["end"] for period in periods] == [25, 51, 67, 72, 79, 91]
    assert periods[3]["conv1.weights"] == 1e-5


def test_the_table_ends_with_the_epochs_and_joins_equal_rows(capsys):
    schedule = "0: weights=1; 1: weights=1; 2.5: weights=0; 9: weights=3"
    flags = [f"--schedule={schedule}", "--epochs=5", "--width=0.02"]
    assert main(["inspect", "--schedule_table", *flags]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "0 to 2.5 done",
        "2.5 to 5 done",
    ]
    assert [line.split()[-3:] for line in lines] == [
        ["1", "1", "on"],
        ["0", "0", "on"],
    ]


def test_a_table_needs_a_schedule(capsys):
    assert main(["inspect", "--schedule_table"]) == 2
    assert "there is no --schedule" in capsys.readouterr().err
