"""Figures with pictures, from a real run, read back pixel by pixel."""

import shutil

import matplotlib.image
import numpy as np

from alexnet_tf.evaluation import picture_plots
from alexnet_tf.main import main


def test_a_run_has_all_figures(finished_run, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    flags = [f"--figures_dir={tmp_path}"]
    assert main(["figures", str(finished_run), *flags]) == 0
    told = capsys.readouterr().out
    for name in ("curves", "kernels", "answers", "neighbors"):
        for suffix in ("png", "svg"):
            assert str(tmp_path / f"{name}.{suffix}") in told
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert min(image.shape[:2]) > 200
    # Of two runs each has pictures of its own; one given twice is one.
    runs = [str(finished_run), str(other), f"{other}/"]
    assert main(["figures", *runs, *flags]) == 0
    for run in (finished_run, other):
        assert (tmp_path / f"kernels-{run.name}.png").exists()


def test_curves_only(finished_run, tmp_path):
    flags = [f"--figures_dir={tmp_path}", "--curves_only"]
    assert main(["figures", str(finished_run), *flags]) == 0
    assert {file.stem for file in tmp_path.iterdir()} == {"curves"}


def test_a_kernel_is_stretched_about_zero():
    kernels = np.zeros((2, 2, 3, 20))
    kernels[..., 0] = 0.5
    kernels[0, 0, 0, 1] = -4.0
    sheet = picture_plots.sheet(kernels)
    assert sheet.shape == (5, 16 * 3 - 1, 3)  # Two rows, a pixel between.
    assert (sheet[:2, :2] == 1).all()
    assert sheet[0, 3, 0] == 0
    assert (sheet[0, 3, 1:] == 0.5).all() and (sheet[1, 3:5] == 0.5).all()
    assert (sheet[2] == 1).all()  # The gap is white.


def test_answers_show_the_probabilities():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    best = [
        [("cat", 0.7), ("dog", 0.2)],
        [("dog", 0.6), ("cat", 0.4)],
    ]
    figure = picture_plots.answers(images, ["cat", "cat"], best)
    bars = [axes for axes in figure.axes if axes.patches]
    widths = [[bar.get_width() for bar in axes.patches] for axes in bars]
    assert widths == [[0.7, 0.2], [0.6, 0.4]]
    colors = [[bar.get_facecolor() for bar in axes.patches] for axes in bars]
    assert colors[0][0] == colors[1][1] != colors[0][1]
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["\N{CHECK MARK} cat", "\N{BALLOT X} cat"]
