"""Figures of runs: which are drawn, their files, and what goes wrong."""

import json
import math
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from alexnet_tf.commands.figures import draw_learning_curves
from alexnet_tf.evaluation import gallery, plots
from alexnet_tf.main import main
from tests.support import lines_of, write_run


def texts_of(figure):
    """Returns the names of runs, and the other legend."""
    return {
        tuple(text.get_text() for text in legend.get_texts())
        for legend in figure.legends
    }


def test_files_are_written_and_named(tmp_path, capsys):
    """Twice, with the same bytes."""
    run_dir = write_run(tmp_path / "run")
    flag = f"--figures_dir={tmp_path}"
    assert main(["figures", f"--run_dir={run_dir}", flag]) == 0
    assert not (run_dir / "figures").exists()
    capsys.readouterr()
    assert main(["figures", str(run_dir)]) == 0
    png, svg = run_dir / "figures/curves.png", run_dir / "figures/curves.svg"
    assert capsys.readouterr().out == f"{png}\n{svg}\n"
    pixels = matplotlib.image.imread(png)
    assert pixels.shape == (560, 1400, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 10
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in svg.read_bytes()
    for file in (png, svg):
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()


def test_a_run_has_all_figures(finished_run, tmp_path, capsys, monkeypatch):
    for constant in ("_SHOWN", "_WRONG", "_QUERIES", "_NEIGHBORS"):
        monkeypatch.setattr(gallery, constant, 2)
    monkeypatch.setattr(gallery, "_TESTED", 50)
    monkeypatch.setattr(gallery, "_POOL", 100)
    flags = [f"--figures_dir={tmp_path}"]
    assert main(["figures", str(finished_run), *flags]) == 0
    printed = capsys.readouterr().out
    assert "color of conv1's kernels  tower 0" in printed
    names = "curves kernels answers neighbors towers wrong_answers"
    for name in names.split():
        for suffix in ("png", "svg"):
            assert str(tmp_path / f"{name}.{suffix}") in printed
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(image.shape[:2]) > 200


def test_each_of_two_runs_has_pictures(finished_run, tmp_path, monkeypatch):
    """A run given twice is one."""
    drawn = []

    def draw_images(config, model):
        drawn.append(config.run_dir)
        return {"answers": plots.make_figure((1, 1))}

    monkeypatch.setattr(gallery, "draw_images", draw_images)
    other = shutil.copytree(finished_run, tmp_path / "other")
    runs = [str(finished_run), str(other), f"{other}/"]
    assert main(["figures", *runs, f"--figures_dir={tmp_path}"]) == 0
    assert len(drawn) == 2
    for run in (finished_run, other):
        for name in ("kernels", "answers"):
            assert (tmp_path / f"{name}-{run.name}.png").exists()


def test_curves_only(finished_run, tmp_path):
    flags = [f"--figures_dir={tmp_path}", "--curves_only"]
    assert main(["figures", str(finished_run), *flags]) == 0
    assert {file.stem for file in tmp_path.iterdir()} == {"curves"}


def test_missing_values_are_gaps(tmp_path):
    run_dir = write_run(
        tmp_path / "run", val_loss=["2.5", "", "nan", "inf", "1.5"]
    )
    assert main(["figures", str(run_dir)]) == 0
    loss, error, _ = lines_of(draw_learning_curves([run_dir]))
    gap = math.nan
    _, values = loss["run val_loss"]
    np.testing.assert_array_equal(values, [2.5, gap, gap, gap, 1.5])
    # The drops after the second and fourth epoch are marked nevertheless.
    np.testing.assert_array_equal(loss["run drops"], [[2, 4], [2.5, 2.5]])
    assert np.isfinite(error["run val_top1_error"]).all()


def test_a_run_that_measured_nothing_is_drawn_empty(tmp_path):
    gaps = {name: [math.nan] * 5 for name in ("loss", "val_loss")}
    run_dir = write_run(tmp_path / "run", **gaps)
    assert main(["figures", str(run_dir)]) == 0


@pytest.mark.parametrize(
    ("classes", "guess"),
    [((12, 12), 12), ((12, 10), None), ((10,), 10)],
)
def test_a_guess_is_drawn_if_all_runs_have_the_same_number_of_classes(
    tmp_path, classes, guess
):
    words = [
        str(write_run(tmp_path / f"run{number}", classes=count))
        for number, count in enumerate(classes)
    ]
    figure = draw_learning_curves(words)
    loss, error, _ = lines_of(figure)
    label = f"a guess: ln {'10 = 2.30' if guess == 10 else '12 = 2.48'}"
    assert (label in loss) == (guess is not None)
    assert label not in error
    if guess:
        assert set(loss[label][1]) == {math.log(guess)}
        (text,) = figure.axes[0].texts
        assert text.get_text() == label


def test_runs_have_names_that_differ(tmp_path, monkeypatch):
    for name in ("a/x", "b/x", "y", "_$^$"):
        write_run(tmp_path / name)
    monkeypatch.chdir(tmp_path / "y")
    words = ["../a/x", f"{tmp_path}/b/x", ".", "../a/../a/x/", "../_$^$"]
    assert main(["figures", *words]) == 0
    figure = draw_learning_curves(words)
    assert ("a/x", "b/x", "y", "_$^$") in texts_of(figure)
    assert (tmp_path / "a/x/figures/curves.svg").exists()
    colors = {
        line.get_color()
        for line in figure.axes[1].get_lines()
        if line.get_label().endswith("error")
    }
    assert len(colors) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give at least one run directory"),
        (["--figures_dir=x"], "give at least one run directory"),
        (["/nowhere"], "/nowhere is not a run directory"),
        ([__file__], "is not a run directory"),
        (["good", "other"], "other is not a run directory"),
        (["good", "young"], "young/history.csv has no rows yet"),
        (["good", "empty"], "empty/history.csv has no rows yet"),
        (["good", "wrong"], "wrong/history.csv: loss is 'x'"),
        (["good", "alien"], "alien/history.csv has no column epoch"),
        (
            ["good", "--figures_dir=young/dataset.json"],
            "young/dataset.json cannot be written: it is a file",
        ),
    ],
)
def test_an_error_has_at_most_three_lines(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "good")
    write_run(tmp_path / "empty", rates=())
    write_run(tmp_path / "wrong", loss=["2", "x", "2", "2", "2"])
    write_run(tmp_path / "alien")
    for name in ("other", "young"):
        (tmp_path / name).mkdir()
    (tmp_path / "young/dataset.json").write_text('{"class_names": ["a"]}')
    (tmp_path / "alien/history.csv").write_text("when,what\n1,2\n")
    assert main(["figures", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed
    assert len(printed.splitlines()) <= 3
    assert not (tmp_path / "good/figures").exists()


IMPORTS = """
import sys
from alexnet_tf.main import main
for command in ("figures", "compare"):
    assert main([command, sys.argv[1], "--figures_dir=new"]) == 0
for name in ("tensorflow", "keras", "matplotlib.pyplot"):
    assert name not in sys.modules, name
"""


def test_neither_tensorflow_nor_pyplot_is_imported(tmp_path):
    run_dir = write_run(tmp_path / "run", images_per_second=[100.0] * 5)
    numbers = ("loss", "num_examples", "best_epoch", "steps", "parameters")
    errors = {"top1_error": 0.2, "top5_error": 0.1, "epochs": 5}
    errors |= dict.fromkeys(numbers, 0)
    (run_dir / "result.json").write_text(json.dumps(errors))
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS, str(run_dir)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
