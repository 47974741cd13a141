"""The figures of compared runs."""

import numpy as np
import pytest

from alexnet_tf.evaluation.comparison import (
    Variant,
    draw_curves,
    draw_differences,
    draw_errors,
    half_interval,
)


def variant(name, *errors, flags=(), seeds=1):
    history, result = {"val_top1_error": errors}, {"top1_error": errors[-1]}
    numbers = list(range(1, seeds + 1))
    histories, results = seeds * [history], seeds * [result]
    return Variant(name, list(flags), numbers, histories, results)


@pytest.mark.parametrize(
    ("errors", "labels"),
    [
        ((0.917, 0.905), ["50", "100"]),
        ((0.6, 0.004), ["0.2", "0.5", "1", "2", "5", "10", "20", "50"]),
        ((0.0, 0.0), ["≤ 0.1"]),
        ((float("nan"), 0.2), ["20"]),
    ],
)
def test_errors_of_any_size_have_ticks(errors, labels):
    variants = [variant("base", *errors), variant("no_lrn", *errors)]
    figure = draw_curves(variants, [])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    shown = [
        label.get_text()
        for label, tick in zip(
            axes.get_yticklabels(), axes.get_yticks(), strict=True
        )
        if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]
    ]
    assert shown[: len(labels)] == labels
    draw_errors(variants, []).draw_without_rendering()


@pytest.mark.parametrize("draw", [draw_curves, draw_errors, draw_differences])
@pytest.mark.parametrize(
    "name", ["base", "a/name_of_$medium$_length", 60 * "n"]
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_title_and_the_legend_fit(draw, name, count):
    # Differences take two.
    count = max(count, 2) if draw is draw_differences else count
    names = [name, *map(str, range(count - 1))]
    variants = [variant(n, 0.5, 0.4, seeds=3) for n in names]
    figure = draw(variants, ["All runs: " + 20 * "--flag=value "])
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert title.x1 < box.x0 and box.x1 < figure.bbox.x1 + 1
    caption = figure._supxlabel.get_window_extent()
    assert 0 <= caption.x0 and caption.x1 < figure.bbox.x1
    if draw is not draw_differences:
        text = legend.get_texts()[draw is draw_errors and -1].get_text()
        assert "seeds of" in text


def test_training_errors_are_drawn_as_in_figure_1():
    def make(name, *errors):
        return Variant(name, [], [1], [{"top1_error": errors}], [{}])

    variants = [make("relu", 0.5, 0.2), make("tanh", 0.6, 0.4, 0.25)]
    (axes,) = draw_curves(variants, [], 0.25).axes
    relu, tanh, limit = axes.get_lines()
    assert (relu.get_linestyle(), tanh.get_linestyle()) == ("-", "--")
    np.testing.assert_allclose(tanh.get_xydata(), [[1, 60], [2, 40], [3, 25]])
    assert list(limit.get_ydata()) == [25, 25]
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0


def test_a_label_has_few_flags():
    flags = ["--lrn=off", "--dropout_rate=0.0", "--width=0.5"]
    labels = [variant("a", 0.1, flags=flags[:n]).label for n in range(4)]
    assert labels == [
        "a",
        "a\n--lrn=off",
        "a\n--lrn=off\n--dropout_rate=0.0",
        "a",
    ]


# The quantile 0.975 of Student's t for n - 1 degrees of freedom, from a table.
@pytest.mark.parametrize(
    ("n", "t"), [(2, 12.706), (3, 4.303), (4, 3.182), (6, 2.571), (31, 2.042)]
)
def test_the_interval_is_students(n, t):
    values = np.random.default_rng(n).normal(5, 2, n)
    expected = t * values.std(ddof=1) / n**0.5
    assert half_interval(values) == pytest.approx(expected, rel=3e-4)


def test_differences_are_those_of_equal_seeds():
    def make(errors, *seeds):
        histories = [{"val_top1_error": [0.9, error]} for error in errors]
        return Variant("v", [], list(seeds), histories, [{}] * len(seeds))

    first = make([0.5, 0.4, 0.3, float("nan")], 1, 2, 3, 4)
    other = make([0.35, 0.5, 0.1, 0.2], 3, 1, 7, 4)
    assert other.differences(first, "val_top1_error") == pytest.approx([5, 0])
