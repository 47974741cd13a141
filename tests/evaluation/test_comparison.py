"""The figures of compared runs."""

import pytest

from alexnet_tf.evaluation.comparison import Variant, draw_curves, draw_errors


def variant(name, *errors):
    history = {"val_top1_error": errors}
    return Variant(name, [history], [{"top1_error": errors[-1]}])


@pytest.mark.parametrize(
    ("errors", "labels"),
    [
        ((0.917, 0.905), ["50%", "100%"]),
        ((0.6, 0.004), ["0.2%", "0.5%", "1%", "2%", "5%", "10%", "20%", "50%"]),
        ((0.0, 0.0), ["0.1%"]),
        ((float("nan"), 0.2), ["20%"]),
    ],
)
def test_errors_of_any_size_have_ticks(errors, labels):
    variants = [variant("as it is", *errors), variant("--lrn=off", *errors)]
    figure = draw_curves(variants)
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
    draw_errors(variants).draw_without_rendering()


def test_the_title_fits_above_a_single_panel():
    figure = draw_curves([variant("as it is", 0.5, 0.4)])
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    assert title.x1 < figure.bbox.x1
