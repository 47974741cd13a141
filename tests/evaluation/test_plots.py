"""Learning curves, line by line."""

import math

import numpy as np
import pytest

from alexnet_tf.evaluation import plots
from tests.support import history_columns, lines_of


def test_lines_are_the_numbers_of_the_history():
    """By epoch, counted from 1; an error of zero is at 0.1%."""
    top5 = np.array([0.5, 0.1, 0.002, 0.0005, 0.0])
    columns = history_columns(top5_error=top5, val_top5_error=top5[::-1])
    loss, top1, top5 = lines_of(plots.learning_curves({"a": columns}))
    for panel, quantity, convert in (
        (loss, "loss", np.array),
        (top1, "top1_error", lambda x: 100 * np.array(x)),
        (top5, "top5_error", lambda x: np.clip(100 * np.array(x), 0.1, 100)),
    ):
        for name in (quantity, f"val_{quantity}"):
            epochs, values = panel[f"a {name}"]
            np.testing.assert_array_equal(epochs, [1, 2, 3, 4, 5])
            np.testing.assert_allclose(values, convert(columns[name]))


@pytest.mark.parametrize(
    ("class_counts", "panels"),
    [((2,), 2), ((5, 3), 2), ((6,), 3), ((5, 6), 3), ((1000,), 3)],
)
def test_top5_needs_more_than_five_classes(class_counts, panels):
    runs = {str(n): history_columns() for n in class_counts}
    figure = plots.learning_curves(runs, class_counts)
    assert len(figure.axes) == panels
    assert all(axes.get_xlabel() == "epoch" for axes in figure.axes)
    assert [axes.get_yscale() for axes in figure.axes[:2]] == ["linear", "log"]


def test_training_and_validation_look_different():
    axes, *_ = plots.learning_curves({"a": history_columns()}).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    training, validation = lines["a loss"], lines["a val_loss"]
    assert training.get_color() == validation.get_color()
    assert training.get_linestyle() == "--"
    assert validation.get_linestyle() == "-"
    assert training.get_linewidth() < validation.get_linewidth()


def test_drops_are_marked_where_the_rate_dropped():
    """The row after a drop has the new rate; its own epoch comes later."""
    columns = history_columns()
    loss, error, _ = lines_of(plots.learning_curves({"a": columns}))
    for panel, name, scale in (
        (loss, "val_loss", 1),
        (error, "val_top1_error", 100),
    ):
        epochs, values = panel["a drops"]
        np.testing.assert_array_equal(epochs, [2, 4])
        expected = [scale * columns[name][place] for place in (1, 3)]
        np.testing.assert_allclose(values, expected)


@pytest.mark.parametrize(
    ("rates", "epochs"),
    [
        ((0.01,), []),
        ((0.01, 0.01), []),
        ((0.01, 0.02), []),
        ((0.01, math.nan, 0.001), [2]),
    ],
)
def test_only_drops_of_the_rate_are_marked(rates, epochs):
    columns = history_columns(rates=rates)
    loss, *_ = lines_of(plots.learning_curves({"a": columns}))
    np.testing.assert_array_equal(loss["a drops"][0], epochs)


def test_values_between_gaps_are_points():
    gap = math.nan
    columns = history_columns(val_loss=[2.5, gap, 2.0, 1.5, gap])
    figure = plots.learning_curves(
        {"a": columns, "b": history_columns(rates=(0.1,))}
    )
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["a loss"].get_markevery() == []
    assert lines["a val_loss"].get_markevery() == [0]
    assert lines["b val_loss"].get_markevery() == [0]
    assert lines["b val_loss"].get_marker() == "o"


def test_many_runs_stay_different_and_leave_room_for_the_panels():
    names = [f"{'a long name ' * 4}{number}" for number in range(20)]
    figure = plots.learning_curves({name: history_columns() for name in names})
    figure.draw_without_rendering()
    looks = {
        (line.get_color(), line.get_marker(), str(line.get_markevery()))
        for line in figure.axes[0].get_lines()
        if line.get_label().endswith(" val_loss")
    }
    assert len(looks) == 20
    assert figure.axes[0].get_window_extent().height > 250
