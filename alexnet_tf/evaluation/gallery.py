"""Answers and neighbors of images, after the paper's Figure 4."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.labels import run_labels, without_ids
from alexnet_tf.data.pipeline import training_batches
from alexnet_tf.evaluation.inference import Signatures, feature_outputs
from alexnet_tf.evaluation.plots import COLORS, make_grid, shortened
from alexnet_tf.evaluation.predictor import (
    SplitPredictor,
    bar_verbosity,
    log_probabilities,
    top_k_errors,
)
from alexnet_tf.storage.run_dir import open_run

# `images`, (n, side, side, 3) uint8; `labels`, (n,) integers; `logits`,
# (n, classes); `features`, (n, neurons).
Predictions = Mapping[str, np.ndarray]

# Images whose predictions are shown, those of wrong ones, and the classes of
# each.
_SHOWN, _WRONG, _BEST = 8, 10, 5
# Images whose neighbors are shown, and the neighbors of each.
_QUERIES, _NEIGHBORS = 5, 6
# Validation images; training images among which neighbors are sought; batch.
_TESTED, _POOL, _BATCH = 500, 2000, 50
_CORRECT, _OTHER = COLORS[1], COLORS[4]
_OTHER_CLASS = {"style": "italic", "color": COLORS[1]}
_CAPTION = {"x": 0.005, "ha": "left", "fontsize": "medium"}
# No title is wider than its picture, and no name of a bar than the space
# beside it [characters].
_LONGEST, _LONGEST_OF_BAR = 28, 20


def draw_images(config: Config, model: keras.Model) -> dict[str, Figure]:
    """Draws `answers`, `neighbors` and any `wrong_answers` of a run."""
    names = without_ids(run_labels(config, open_run(config.run_dir)))
    tested = _predict(model, config, config.validation_split, _TESTED)
    pool = _predict(model, config, config.train_split, _POOL)
    figures = {
        "answers": draw_answers(tested, names),
        "neighbors": draw_neighbors(tested, pool, names),
    }
    if wrong := draw_wrong_answers(tested, names):
        figures["wrong_answers"] = wrong
    return figures


def draw_first_wrong_answers(
    validator: SplitPredictor, signatures: Signatures, names: Sequence[str]
) -> Figure | None:
    """Draws the wrong answers of a network to the first validation images."""
    tested = validator.read(_BATCH)
    if not len(tested["labels"]):
        return None
    answer = signatures["probabilities"](images=tested["images"])
    probabilities = answer["probabilities"].numpy().astype(float)
    logits = np.log(np.maximum(probabilities, 1e-45))
    return draw_wrong_answers(tested | {"logits": logits}, names)


def _predict(model, config, split, count):
    """Returns the predictions for center patches of shuffled images."""
    outputs = {"logits": model.output, "features": feature_outputs(model)}
    network = keras.Model(model.input, outputs)
    tested = _read(config, split, count)
    verbose = bar_verbosity()
    return tested | network.predict(tested["images"], _BATCH, verbose=verbose)


def _read(config, split, count):
    """Returns center patches of shuffled images and their labels."""
    run_dir = open_run(config.run_dir)
    examples = splits.open_split(config, split)
    splits.check_run_classes(run_dir, examples)
    centers = {"random_crop": False, "horizontal_flip": False}
    plain = dataclasses.replace(config, **centers)
    size = min(_BATCH, examples.count)
    steps = range(min(count, examples.count) // size)
    bad = splits.record_bad_examples(config, run_dir, examples)
    batches = training_batches(
        examples, plain, batch_size=size, steps=steps, seed=config.seed, bad=bad
    )
    with splits.reporting_damaged_files(examples):
        parts = zip(*batches.as_numpy_iterator(), strict=True)
    images, labels = map(np.concatenate, parts)
    return {"images": images, "labels": labels}


def draw_answers(tested: Predictions, names: Sequence[str]) -> Figure:
    """Draws images with their most probable classes as bars (Figure 4, left).

    Correct predictions come first; if there are some, at most half are wrong.
    """
    wrong = np.array(top_k_errors(tested["labels"], tested["logits"], 1))
    right = np.flatnonzero(~wrong)
    last = np.flatnonzero(wrong)[: _SHOWN // 2 if len(right) else _SHOWN]
    chosen = [*right[: _SHOWN - len(last)], *last]
    title = "Validation images and their most probable classes"
    return _draw_bars_below(tested, chosen, names, title, most_columns=4)


def draw_wrong_answers(
    tested: Predictions, names: Sequence[str]
) -> Figure | None:
    """Draws the most probable wrong answers; returns None if all are right."""
    wrong = np.array(top_k_errors(tested["labels"], tested["logits"], 1))
    highest = np.max(log_probabilities(tested["logits"]), axis=1)
    order = np.argsort(-highest, kind="stable")
    chosen = order[wrong[order]][:_WRONG]
    if not len(chosen):
        return None
    count = len(wrong)
    title = f"The most certain of {wrong.sum()} wrong answers to {count} images"
    return _draw_bars_below(tested, chosen, names, title, most_columns=5)


def _draw_bars_below(tested, chosen, names, title, *, most_columns):
    """Draws images, and below each its most probable classes as bars."""
    wrong = top_k_errors(tested["labels"], tested["logits"], 1)
    columns = min(most_columns, len(chosen))
    rows = -(-len(chosen) // columns)
    inches = (2.6 * columns, 3.9 * rows + 0.5)
    heights = [2.4, 1.2] * rows
    figure, grid = make_grid(
        title, inches, 2 * rows, columns, height_ratios=heights
    )
    figure.supxlabel(
        "✓ right, ✗ wrong; above the image and in orange: its class", **_CAPTION
    )
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        label = tested["labels"][index]
        mark = "✗" if wrong[index] else "✓"
        picture, bars = grid[2 * row, column], grid[2 * row + 1, column]
        _show(picture, tested["images"][index], f"{mark} {names[label]}")
        _draw_bars(bars, tested["logits"][index], label, names)
    return figure


def _draw_bars(axes, logits, label, names):
    """Draws bars between the names of the classes and percentages."""
    probabilities = np.exp(log_probabilities(logits))
    for place, best in enumerate(np.argsort(-logits)[:_BEST]):
        probability = probabilities[best]
        color = _CORRECT if best == label else _OTHER
        axes.barh(place, probability, color=color, height=0.7)
        for x, side, text in (
            (-0.05, "right", shortened(names[best], _LONGEST_OF_BAR)),
            (probability + 0.04, "left", f"{probability:.0%}"),
        ):
            style = {"ha": side, "va": "center_baseline", "fontsize": 8}
            axes.text(x, place, text, parse_math=False, **style)
    # Bars begin at 0 and are up to 1 long; the names take part of the panel.
    longest = min(max(map(len, names)), _LONGEST_OF_BAR)
    part = 0.04 + 0.026 * longest
    left = 1.5 * part / (1 - part)
    axes.set(xlim=(-left, 1.5), ylim=(_BEST - 0.5, -0.5))


def draw_neighbors(
    tested: Predictions, pool: Predictions, names: Sequence[str]
) -> Figure:
    """Draws an image per class and its nearest ones (Figure 4, right)."""
    _, first = np.unique(tested["labels"], return_index=True)
    queries = np.sort(first)[:_QUERIES]
    count = min(_NEIGHBORS, len(pool["labels"]))
    title = "Validation images (left), and the training images nearest to them"
    inches = (1.7 * (count + 1), 1.95 * len(queries) + 0.5)
    ratios = [1, 0.08] + [1] * count
    figure, grid = make_grid(
        title, inches, len(queries), count + 2, width_ratios=ratios
    )
    figure.supxlabel(
        "Nearest by the outputs of the last hidden layer. In orange italics: "
        "another class than the image on the left.",
        **_CAPTION,
    )
    for row, query in zip(grid, queries, strict=True):
        label = tested["labels"][query]
        _show(row[0], tested["images"][query], names[label])
        offsets = pool["features"] - tested["features"][query]
        distances = np.linalg.norm(offsets, axis=1)
        for axes, found in zip(row[2:], np.argsort(distances), strict=False):
            other = pool["labels"][found]
            style = {} if other == label else _OTHER_CLASS
            _show(axes, pool["images"][found], names[other], **style)
    return figure


def _show(axes, image, name, **style):
    axes.imshow(image)
    name = shortened(name, _LONGEST)
    axes.set_title(name, fontsize=9, parse_math=False, **style)
