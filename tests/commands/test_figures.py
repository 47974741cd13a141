"""Learning curves from history files, and what of them cannot be drawn."""

import json
import math
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from alexnet_tf.commands.figures import draw_learning_curves
from alexnet_tf.evaluation import plots
from alexnet_tf.main import main
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir

RATES = (0.01, 0.01, 0.001, 0.001, 0.0001)


def history(*, rates=RATES, **changed):
    """Returns columns of numbers, of an epoch for each rate."""
    epochs = np.arange(len(rates))
    columns = {name: [0.0] * len(rates) for name in HISTORY_COLUMNS}
    columns |= {
        "epoch": epochs.tolist(),
        "step": (1000 * (epochs + 1)).tolist(),
        "learning_rate": list(rates),
        "loss": (2.5 / (epochs + 1)).tolist(),
        "val_loss": (2.4 / (epochs + 1)).tolist(),
        "top1_error": (0.9 / (epochs + 1)).tolist(),
        "val_top1_error": (0.8 / (epochs + 1)).tolist(),
    }
    return columns | changed


def write_run(path, *, classes=12, **changed):
    """Writes what a run leaves for figures; returns its directory."""
    run = RunDir(path)
    columns = history(**changed)
    run.write_history(
        [
            dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]
    )
    if classes is not None:
        names = [f"class {number}" for number in range(classes)]
        run.dataset.write_text(json.dumps({"class_names": names}))
    return path


def lines_of(figure):
    """Returns {label: (xs, ys)} of each panel."""
    return [
        {line.get_label(): line.get_data() for line in axes.get_lines()}
        for axes in figure.axes
    ]


def texts_of(figure):
    """Returns the names of runs, and the other legend."""
    return {
        tuple(text.get_text() for text in legend.get_texts())
        for legend in figure.legends
    }


def test_files_are_written_and_named(tmp_path, capsys):
    run_dir = write_run(tmp_path / "run")
    assert main(["figures", str(run_dir)]) == 0
    png, svg = run_dir / "figures/curves.png", run_dir / "figures/curves.svg"
    assert capsys.readouterr().out == f"{png}\n{svg}\n"
    pixels = matplotlib.image.imread(png)
    assert pixels.shape == (560, 1400, 4)
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 10
    root = ElementTree.parse(svg).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in svg.read_bytes()


def test_the_same_history_gives_the_same_bytes(tmp_path):
    run_dir = write_run(tmp_path / "run")
    for number in (1, 2):
        flag = f"--figures_dir={tmp_path / str(number)}"
        assert main(["figures", f"--run_dir={run_dir}", flag]) == 0
    assert not (run_dir / "figures").exists()
    for name in ("curves.png", "curves.svg"):
        first, second = ((tmp_path / n / name).read_bytes() for n in "12")
        assert first == second


def test_lines_are_the_numbers_of_the_history():
    columns = history()
    loss, error = lines_of(plots.learning_curves({"a": columns}))
    for panel, names, scale in (
        (loss, ("loss", "val_loss"), 1),
        (error, ("top1_error", "val_top1_error"), 100),
    ):
        for name in names:
            steps, values = panel[f"a {name}"]
            np.testing.assert_array_equal(steps, columns["step"])
            np.testing.assert_allclose(values, np.array(columns[name]) * scale)


def test_training_and_validation_look_different():
    axes, _ = plots.learning_curves({"a": history()}).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    training, validation = lines["a loss"], lines["a val_loss"]
    assert training.get_color() == validation.get_color()
    assert training.get_linestyle() == "--"
    assert validation.get_linestyle() == "-"
    assert training.get_linewidth() < validation.get_linewidth()


def test_drops_are_marked_where_the_rate_dropped():
    """The row after a drop has the new rate, its own step comes later."""
    columns = history()
    loss, error = lines_of(plots.learning_curves({"a": columns}))
    for panel, name, scale in (
        (loss, "val_loss", 1),
        (error, "val_top1_error", 100),
    ):
        steps, values = panel["a drops"]
        np.testing.assert_array_equal(steps, [2000, 4000])
        expected = [scale * columns[name][place] for place in (1, 3)]
        np.testing.assert_allclose(values, expected)


@pytest.mark.parametrize(
    ("rates", "steps"),
    [
        ((0.01,), []),
        ((0.01, 0.01), []),
        ((0.01, 0.02), []),
        ((0.01, math.nan, 0.001), [2000]),
    ],
)
def test_where_no_rate_dropped_nothing_is_marked(rates, steps):
    columns = history(rates=rates)
    loss, _ = lines_of(plots.learning_curves({"a": columns}))
    np.testing.assert_array_equal(loss["a drops"][0], steps)


def test_missing_values_are_gaps(tmp_path):
    run_dir = write_run(
        tmp_path / "run", val_loss=["2.5", "", "nan", "inf", "1.5"]
    )
    assert main(["figures", str(run_dir)]) == 0
    loss, error = lines_of(draw_learning_curves([run_dir]))
    gap = math.nan
    _, values = loss["run val_loss"]
    np.testing.assert_array_equal(values, [2.5, gap, gap, gap, 1.5])
    # The drops after the second and fourth epoch are marked nevertheless.
    np.testing.assert_array_equal(loss["run drops"], [[2000, 4000], [2.5, 2.5]])
    assert np.isfinite(error["run val_top1_error"]).all()


def test_values_between_gaps_are_points():
    gap = math.nan
    columns = history(val_loss=[2.5, gap, 2.0, 1.5, gap])
    figure = plots.learning_curves({"a": columns, "b": history(rates=(0.1,))})
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["a loss"].get_markevery() == []
    assert lines["a val_loss"].get_markevery() == [0]
    assert lines["b val_loss"].get_markevery() == [0]
    assert lines["b val_loss"].get_marker() == "o"


def test_a_run_that_measured_nothing_is_drawn_empty(tmp_path):
    gaps = {name: [math.nan] * 5 for name in ("loss", "val_loss")}
    run_dir = write_run(tmp_path / "run", **gaps)
    assert main(["figures", str(run_dir)]) == 0


@pytest.mark.parametrize(
    ("classes", "guess"),
    [((12, 12), 12), ((12, 10), None), ((12, None), None), ((None,), None)],
)
def test_a_guess_is_drawn_if_all_runs_have_as_many_classes(
    tmp_path, classes, guess
):
    words = [
        str(write_run(tmp_path / f"run{number}", classes=count))
        for number, count in enumerate(classes)
    ]
    figure = draw_learning_curves(words)
    loss, error = lines_of(figure)
    label = "ln 12 = 2.48, a guess"
    assert (label in loss) == (guess is not None)
    assert label not in error
    if guess:
        assert set(loss[label][1]) == {math.log(guess)}
        (text,) = figure.axes[0].texts
        assert text.get_text().replace("\n", " ") == label


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


def test_many_runs_stay_different_and_leave_room_for_the_panels():
    names = [f"{'a long name ' * 4}{number}" for number in range(20)]
    figure = plots.learning_curves({name: history() for name in names})
    figure.draw_without_rendering()
    looks = {
        (line.get_color(), line.get_marker(), str(line.get_markevery()))
        for line in figure.axes[0].get_lines()
        if line.get_label().endswith(" val_loss")
    }
    assert len(looks) == 20
    assert figure.axes[0].get_window_extent().height > 250


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
        (["good", "alien"], "alien/history.csv has no column step"),
        (["good", "--figures_dir=young/dataset.json"], "cannot write to young"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_three_lines(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "good")
    write_run(tmp_path / "empty", rates=())
    write_run(tmp_path / "wrong", loss=["2", "x", "2", "2", "2"])
    for name in ("other", "young", "alien"):
        (tmp_path / name).mkdir()
    (tmp_path / "young/dataset.json").write_text('{"class_names": ["a"]}')
    (tmp_path / "alien/history.csv").write_text("when,what\n1,2\n")
    assert main(["figures", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told
    assert len(told.splitlines()) <= 3
    assert not (tmp_path / "good/figures").exists()


IMPORTS = """
import sys
from alexnet_tf.main import main
assert main(["figures", sys.argv[1]]) == 0
for name in ("tensorflow", "keras", "matplotlib.pyplot"):
    assert name not in sys.modules, name
"""


def test_neither_tensorflow_nor_pyplot_is_imported(tmp_path):
    run_dir = write_run(tmp_path / "run")
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTS, str(run_dir)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
