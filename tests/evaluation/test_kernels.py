"""Pictures and colors of made-up kernels."""

import itertools

import numpy as np
import pytest

from alexnet_tf.evaluation import kernels


def test_a_kernel_is_stretched_about_zero():
    values = np.zeros((2, 2, 3, 20))
    values[..., 0] = 0.5
    values[0, 0, 0, 1] = -4.0
    sheet = kernels.sheet(values)
    assert sheet.shape == (5, 10 * 3 - 1, 3)  # Two rows, a pixel between.
    assert (sheet[:2, :2] == 1).all()
    assert sheet[0, 3, 0] == 0
    assert (sheet[0, 3, 1:] == 0.5).all() and (sheet[1, 3:5] == 0.5).all()
    assert (sheet[2] == 1).all()  # The gap is white.


@pytest.mark.parametrize(
    ("count", "columns", "rows"),
    [(48, 16, 3), (18, 9, 2), (24, 12, 2), (5, 5, 1), (3, 3, 1), (38, 16, 3)],
)
def test_rows_of_kernels_are_full_if_possible(count, columns, rows):
    sheet = kernels.sheet(np.zeros((2, 2, 3, count)))
    assert sheet.shape == (3 * rows - 1, 3 * columns - 1, 3)


def test_colorfulness_is_the_share_of_color():
    values = np.zeros((2, 2, 3, 4))
    values[..., 0] = np.arange(4).reshape(2, 2, 1)  # Gray.
    values[..., 0, 1] = 5  # Red: a third of its energy is gray.
    values[..., 2] = [1, -1, 0]
    assert kernels.colorfulness(values) == pytest.approx([0, 2 / 3, 1, 0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.9, 0.8, 0.95, 0.7], [0.1, 0.2, 0.15, 0.3]),
        ([0.1, 0.2, 0.6], [0.2, 0.7, 0.1, 0.15]),
        ([0.5, 0.5], [0.5, 0.5]),
    ],
)
def test_the_chance_of_a_difference_against_all_deals(first, second):
    both = np.array(first + second)
    found = abs(np.mean(first) - np.mean(second))
    as_much = []
    for chosen in itertools.combinations(range(len(both)), len(first)):
        others = np.setdiff1d(range(len(both)), chosen)
        difference = both[list(chosen)].mean() - both[others].mean()
        as_much.append(abs(difference) >= found - 1e-12)
    chance = kernels.chance_of_difference(np.array(first), np.array(second))
    assert chance == pytest.approx(np.mean(as_much), abs=0.015)


def test_towers_are_drawn_with_their_means():
    colors = {"a": [np.array([0.2, 0.4]), np.array([0.9])]}
    header, row = kernels.format_towers(colors).splitlines()
    assert row.split()[:3] == ["a", "30%", "90%"]
    (axes,) = kernels.draw_towers(colors).axes
    drawn = [line.get_xdata().tolist() for line in axes.get_lines()]
    assert drawn[:4] == [[20, 40], [pytest.approx(30)], [90], [90]]
