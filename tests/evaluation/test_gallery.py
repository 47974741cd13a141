"""Pictures of made-up predictions."""

import numpy as np

from alexnet_tf.evaluation import gallery

NAMES = ["cat", "dog"]


def titles_of(figure):
    return [axes.get_title() for axes in figure.axes if axes.images]


def test_answers_show_the_probabilities():
    """The correct one first."""
    tested = {
        "images": np.zeros((2, 8, 8, 3), np.uint8),
        "labels": np.array([0, 0]),
        "logits": np.log([[0.4, 0.6], [0.7, 0.3]]),
    }
    figure = gallery.draw_answers(tested, NAMES)
    bars = [axes for axes in figure.axes if axes.patches]
    widths = [[bar.get_width() for bar in axes.patches] for axes in bars]
    np.testing.assert_allclose(widths, [[0.7, 0.3], [0.6, 0.4]])
    colors = [[bar.get_facecolor() for bar in axes.patches] for axes in bars]
    assert colors[0][0] == colors[1][1] != colors[0][1]
    texts = [[text.get_text() for text in axes.texts] for axes in bars]
    assert texts == [["cat", "70%", "dog", "30%"], ["dog", "60%", "cat", "40%"]]
    assert titles_of(figure) == ["\N{CHECK MARK} cat", "\N{BALLOT X} cat"]


def test_the_most_certain_wrong_answers():
    """Ten of twelve, the most probable ones first."""
    high = np.linspace(0.51, 0.95, 12)
    tested = {
        "images": np.zeros((13, 8, 8, 3), np.uint8),
        "labels": np.array([*12 * [0], 1]),
        "logits": np.log([*np.stack([1 - high, high], 1), [0.01, 0.99]]),
    }
    figure = gallery.draw_wrong_answers(tested, NAMES)
    assert titles_of(figure) == 10 * ["\N{BALLOT X} cat"]
    assert figure.get_suptitle().endswith("of 12 wrong answers to 13 images")
    bars = [axes for axes in figure.axes if axes.patches]
    widths = [axes.patches[0].get_width() for axes in bars]
    np.testing.assert_allclose(widths, high[:1:-1])
    right = {name: values[-1:] for name, values in tested.items()}
    assert gallery.draw_wrong_answers(right, NAMES) is None


def test_names_and_percentages_are_beside_the_bars():
    names = ["a name that is longer than its place", *"bcdefg", "$^$"]
    tested = {
        "images": np.zeros((8, 8, 8, 3), np.uint8),
        "labels": np.arange(8),
        "logits": 9.0 * np.eye(8) + np.arange(8) / 5,
    }
    figure = gallery.draw_answers(tested, names)
    figure.draw_without_rendering()
    for axes in figure.axes:
        bars = [bar.get_window_extent() for bar in axes.patches]
        for place, text in enumerate(axes.texts):
            box, bar = text.get_window_extent(), bars[place // 2]
            assert axes.bbox.x0 - 2 < box.x0 and box.x1 < axes.bbox.x1 + 2
            assert box.x1 < bar.x0 or bar.x1 < box.x0


def test_neighbors_come_by_their_distance():
    """One query of each class, the pool's three images beside it."""
    tested = {
        "images": np.zeros((3, 8, 8, 3), np.uint8),
        "labels": np.array([1, 1, 0]),
        "features": np.array([[0.0, 0.0], [9.0, 9.0], [3.0, 0.0]]),
    }
    pool = {
        "images": np.zeros((3, 8, 8, 3), np.uint8),
        "labels": np.array([0, 1, 0]),
        "features": np.array([[0.0, 2.0], [0.0, 1.0], [3.0, 0.5]]),
    }
    figure = gallery.draw_neighbors(tested, pool, NAMES)
    assert titles_of(figure) == [
        *("dog", "dog", "cat", "cat"),
        *("cat", "cat", "dog", "cat"),
    ]
    wrong = [axes.title.get_style() == "italic" for axes in figure.axes]
    assert sum(wrong) == 3
    assert "italics: another class" in figure.get_supxlabel()
