"""Figures with pictures in them, after Figures 3 and 4 of the paper."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

# Vermilion and blue of Okabe and Ito's palette: the right class, and others.
_RIGHT, _OTHER = "#D55E00", "#56B4E9"
_GAP = 1  # InputNormalization between kernels.
_LONGEST, _SIZE = 28, 8  # A title's characters and their size [points].


def kernels(towers: Sequence[np.ndarray]) -> Figure:
    """Draws the first layer's kernels, one tower above the other (Figure 3).

    Args:
        towers: For each tower (size, size, 3, kernels), any range; each kernel
            is stretched to the full range of colors by itself, with zero in
            the middle.
    """
    sheets = [sheet(tower) for tower in towers]
    height = sum(len(image) for image in sheets)
    width = sheets[0].shape[1]
    figure = _make_figure(
        "Kernels of conv1", (10, 10 * height / width + 0.25 * len(sheets) + 0.4)
    )
    panels = figure.subplots(len(sheets), 1, squeeze=False)[:, 0]
    for number, (axes, image) in enumerate(zip(panels, sheets, strict=True)):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(f"tower {number}", loc="left", fontsize="medium")
        axes.set_axis_off()
    return figure


def sheet(tower: np.ndarray) -> np.ndarray:
    """Returns kernels side by side in rows, as an image in 0..1.

    Args:
        tower: (size, size, 3, kernels), see `kernels`.
    """
    size, _, _, count = tower.shape
    columns = min(count, 16)
    rows = -(-count // columns)
    step = size + _GAP
    image = np.ones((rows * step - _GAP, columns * step - _GAP, 3))
    for number in range(count):
        kernel = tower[..., number]
        largest = np.abs(kernel).max() or 1.0
        y, x = step * (number // columns), step * (number % columns)
        image[y : y + size, x : x + size] = 0.5 + 0.5 * kernel / largest
    return image


def answers(
    images: np.ndarray,
    truths: Sequence[str],
    best: Sequence[Sequence[tuple[str, float]]],
) -> Figure:
    """Draws images with their best classes as bars (Figure 4, left).

    Args:
        images: (n, side, side, 3) uint8.
        truths: Their n classes.
        best: For each up to five classes with their probabilities.
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = _make_figure(
        "Images with their five most probable classes; the right one in orange",
        (2.6 * columns, 3.9 * rows + 0.5),
    )
    grid = figure.subplots(
        2 * rows,
        columns,
        squeeze=False,
        gridspec_kw={"height_ratios": [2.4, 1.2] * rows},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (image, truth, classes) in enumerate(
        zip(images, truths, best, strict=True)
    ):
        row, column = divmod(number, columns)
        picture, bars = grid[2 * row, column], grid[2 * row + 1, column]
        picture.imshow(image)
        mark = "\N{CHECK MARK}" if classes[0][0] == truth else "\N{BALLOT X}"
        _title(picture, f"{mark} {truth}")
        _draw_bars(bars, truth, classes)
    return figure


def _draw_bars(axes, truth, classes):
    for place, (name, probability) in enumerate(classes):
        color = _RIGHT if name == truth else _OTHER
        axes.barh(place, probability, color=color, height=0.9)
        text = axes.text(0.02, place, name, verticalalignment="center")
        text.set(fontsize="small", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(4.5, -0.5))


def neighbors(queries: np.ndarray, found: np.ndarray, labels) -> Figure:
    """Draws images, and those whose features are nearest (Figure 4, right).

    Args:
        queries: (n, side, side, 3) uint8.
        found: (n, k, side, side, 3) uint8, the nearest first.
        labels: n rows of 1 + k class names, the query's first.
    """
    rows, count = found.shape[:2]
    figure = _make_figure(
        "Validation images, and the training images nearest by fc7",
        (1.7 * (count + 1), 1.95 * rows + 0.5),
    )
    grid = figure.subplots(
        rows,
        count + 2,
        squeeze=False,
        gridspec_kw={"width_ratios": [1, 0.08] + [1] * count},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for row, names in zip(range(rows), labels, strict=True):
        images = [queries[row], *found[row]]
        panels = [grid[row, 0], *grid[row, 2:]]
        for axes, image, name in zip(panels, images, names, strict=True):
            axes.imshow(image)
            _title(axes, name, wrong=name != names[0])
    return figure


def _title(axes, name, *, wrong=False):
    # No longer than a picture is wide.
    if len(name) > _LONGEST:
        name = name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    title = axes.set_title(name, fontsize=_SIZE)
    title.set(parse_math=False, style="italic" if wrong else "normal")


def _make_figure(title, inches):
    figure = Figure(figsize=inches, dpi=125, layout="constrained")
    figure.suptitle(title, x=0.005, horizontalalignment="left")
    return figure
