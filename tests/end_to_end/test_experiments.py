"""`examples/experiments.py`: its variants, and an interrupted table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_tf.config.flags import parse
from alexnet_tf.storage.run_dir import RunDir
from examples import experiments
from tests.end_to_end import golden_runs


@pytest.mark.parametrize(
    "part", ["IMAGENETTE", "ABLATIONS", "RATES", "FIGURE1", "SECTION3_3"]
)
def test_all_variants_differ(part):
    variants = getattr(experiments, part)
    configs = [parse([*flags, "--run_dir="])[0] for flags in variants.values()]
    assert len(set(configs)) == len(variants)
    # A flag file that was written for another purpose has another length.
    lengths = {"ABLATIONS": {20}, "RATES": {4}, "SECTION3_3": {20}}
    if part in lengths:
        assert {config.epochs for config in configs} == lengths[part]


def test_the_four_corners_of_section_3_3():
    configs = [parse(flags)[0] for flags in experiments.SECTION3_3.values()]
    corners = [
        (c.lrn, c.kernels, c.layer_weight_decay.count("0.01")) for c in configs
    ]
    thirteen, alone, width, eleven = corners
    assert thirteen[0] == width[0] == "off" != alone[0] == eleven[0]
    assert thirteen[1:] == alone[1:] != width[1:] == eleven[1:]


def test_all_parts_or_those_named(capsys):
    options = experiments.read_options(["--jobs=2", "--epochs=1", "--data=x"])
    assert options.parts == list(experiments.PARTS)
    assert (options.jobs, options.last) == (2, ["--epochs=1"])
    assert "finetuning" not in experiments.read_options([]).parts
    assert "finetuning is left out" in capsys.readouterr().out
    options = experiments.read_options(["--seeds=4,5", "rates", "figure1"])
    assert options.parts == ["rates", "figure1"] and options.seeds == [4, 5]
    for words in (["finetuning"], ["rats"]):
        with pytest.raises(SystemExit):
            experiments.read_options(words)
    assert "no part rats; give imagenette" in capsys.readouterr().err


def make_place(directory):
    """Makes a directory in which the script runs, on a few images."""
    for part in ("train", "test"):
        source = golden_runs.GOLDEN / "images" / "train"
        shutil.copytree(source, directory / "cifar10-jpeg" / part)
    for name in ("alexnet_tf", "examples", "flags"):
        (directory / name).symlink_to(Path(name).resolve())


@pytest.mark.slow
def test_an_interrupted_table_continues(tmp_path):
    """Ctrl-C within a run; the next call finishes the rest."""
    make_place(tmp_path)
    command = [
        *(sys.executable, "-m", "examples.experiments", "section3_3"),
        *(f"--data={tmp_path}", "--seeds=1", "--epochs=2"),
        *("--schedule=0: weights=0.001", "--batch_size=8"),
    ]
    log = tmp_path / "runs" / "experiments" / "log.txt"
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        start_new_session=True,
        # Programs in the background of a shell ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    checkpoints = (
        "runs/experiments/section3_3/normalization_alone-1/checkpoints"
    )
    while not list(tmp_path.glob(f"{checkpoints}/step-*")):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert "13pct-1 ends\n" in log.read_text()
    assert "width_and_decay_alone-1" not in log.read_text()
    subprocess.run(command, cwd=tmp_path, check=True)
    lines = [line.split(" ", 2)[2] for line in log.read_text().splitlines()]
    assert lines.count("section3_3/13pct-1 starts") == 1
    assert "section3_3/normalization_alone-1 continues" in lines
    runs = log.parent / "section3_3"
    compared = json.loads(Path(f"{runs}.json").read_text())
    assert list(compared)[0] == "13pct-1" and len(compared) == 4
    for name in experiments.SECTION3_3:
        crops = json.loads((runs / f"{name}-1.json").read_text())
        assert crops


@pytest.mark.slow
@pytest.mark.parametrize("error, epochs", [(1.0, 4), (0.0, 8)])
def test_figure_1_ends_at_its_error(error, epochs, tmp_path, monkeypatch):
    """Runs go on until their training error is reached, or some epochs."""
    make_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "FIGURE1_ERROR", error)
    monkeypatch.setattr(experiments, "FIGURE1_EPOCHS", 6)
    words = ["figure1", f"--data={tmp_path}", "--seeds=1", "--batch_size=8"]
    monkeypatch.setattr(sys, "argv", ["", *words])
    experiments.main()
    log = experiments.ROOT / "log.txt"
    before = log.read_text()
    for name in experiments.FIGURE1:
        run = RunDir(experiments.ROOT / "figure1" / f"{name}-1")
        assert run.read_result()["epochs"] == epochs
        assert before.count(f"{name}-1 ends\n") == epochs / 4
    experiments.main()
    assert log.read_text() == before


@pytest.mark.slow
def test_failed_runs_are_named(tmp_path, monkeypatch, capfd):
    make_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["section3_3", f"--data={tmp_path}", "--batch_size=50"]
    monkeypatch.setattr(sys, "argv", ["", *words])
    with pytest.raises(SystemExit, match=r"^12 runs failed: .*13pct-1, "):
        experiments.main()
    log = Path("runs/experiments/section3_3/13pct-1.log").read_text()
    assert "batch_size" in log
