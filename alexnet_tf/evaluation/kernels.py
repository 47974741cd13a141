"""Kernels of conv1, and how the towers divide color (the paper's Figure 3)."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.evaluation.plots import (
    COLORS,
    make_figure,
    make_grid,
    make_plain,
)
from alexnet_tf.evaluation.tables import format_table

_GAP = 1  # Between kernels [pixels].
_PERMUTATIONS = 10_000


def first_kernels(model: keras.Model) -> list[np.ndarray]:
    """Returns conv1's kernels of each tower, (size, size, 3, count) float32."""
    layers = [x for x in model.layers if x.name.startswith("conv1_tower")]
    return [layer.kernel.numpy() for layer in layers]


def colorfulness(kernels: np.ndarray) -> np.ndarray:
    """Returns the share of color in the energy of each kernel, in 0..1.

    Of a gray kernel, whose colors are equal, it is 0. Kernels are
    (size, size, 3, count), the result is (count,).
    """
    kernels = kernels.astype(np.float64)
    color = kernels - kernels.mean(axis=2, keepdims=True)
    energy = np.square(kernels).sum(axis=(0, 1, 2))
    return np.square(color).sum(axis=(0, 1, 2)) / np.maximum(energy, 1e-300)


def chance_of_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Returns how often towers would differ as much in mean colorfulness.

    As much or more, if the kernels were dealt to the towers at random.
    """
    both = np.concatenate([first, second])
    found = abs(first.mean() - second.mean())
    random = np.random.default_rng(0)
    deals = random.permuted(np.tile(both, (_PERMUTATIONS, 1)), axis=1)
    means = deals[:, : len(first)].mean(1), deals[:, len(first) :].mean(1)
    as_much = np.sum(np.abs(means[0] - means[1]) >= found * (1 - 1e-9))
    return float((as_much + 1) / (_PERMUTATIONS + 1))


def format_towers(colors: Mapping[str, Sequence[np.ndarray]]) -> str:
    """Returns a table of runs: the colorfulness of the kernels of each tower.

    `colors` has that of the kernels of two towers, by the run's name.
    """
    rows = [
        (
            name,
            *(f"{np.mean(color):.0%}" for color in towers),
            f"{chance_of_difference(*towers):.4f}",
        )
        for name, towers in colors.items()
    ]
    header = ("color of conv1's kernels", "tower 0", "tower 1", "by chance")
    return format_table(header, rows)


def draw_towers(colors: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Draws the same: a point for each kernel, and the mean of each tower."""
    figure = make_figure(
        (8, 1.4 + 0.45 * len(colors)), "Color in the kernels of conv1"
    )
    axes = figure.add_subplot()
    for row, towers in enumerate(colors.values()):
        for tower, color in enumerate(towers):
            shade, values = COLORS[tower], 100 * color
            places = [row + 0.36 * tower - 0.18] * len(color)
            axes.plot(values, places, ".", color=shade, alpha=0.35)
            mean = ([values.mean()], places[:1], "|")
            axes.plot(*mean, color=shade, markersize=14, mew=2.5)
    for tower in (0, 1):
        label = f"tower {tower}, and its mean"
        axes.plot([], [], ".", color=COLORS[tower], label=label)
    axes.set_yticks(range(len(colors)), list(colors))
    axes.set(xlim=(0, 100), ylim=(len(colors) - 0.5, -0.5))
    axes.set_xlabel("share of color in the energy of a kernel [%]")
    make_plain(axes)
    figure.legend(loc="outside upper right", frameon=False, ncols=2)
    return figure


def sheet(kernels: np.ndarray) -> np.ndarray:
    """Returns kernels side by side in rows, as an image in 0..1.

    Args:
        kernels: (size, size, 3, count), any range; each kernel is stretched
            to the full range of colors, with zero in the middle.
    """
    size, _, _, count = kernels.shape
    # The longest full rows, if they are not too short.
    full = max(n for n in range(1, 17) if count % n == 0)
    columns = full if full > 5 else min(count, 16)
    rows = -(-count // columns)
    step = size + _GAP
    image = np.ones((rows * step - _GAP, columns * step - _GAP, 3))
    for index, kernel in enumerate(np.moveaxis(kernels, -1, 0)):
        largest = np.abs(kernel).max() or 1.0
        y, x = step * (index // columns), step * (index % columns)
        image[y : y + size, x : x + size] = 0.5 + 0.5 * kernel / largest
    return image


def draw_kernels(towers: Sequence[np.ndarray]) -> Figure:
    """Draws the kernels of the towers one above the other (Figure 3)."""
    sheets = [sheet(kernels) for kernels in towers]
    height, width = sum(map(len, sheets)), sheets[0].shape[1]
    inches = (10, 10 * height / width + 0.25 * len(sheets) + 0.4)
    size = len(towers[0])
    title = f"Kernels of conv1, {size} x {size} pixels; gray: weights of zero"
    figure, grid = make_grid(title, inches, len(sheets), 1)
    for tower, (axes, image) in enumerate(zip(grid[:, 0], sheets, strict=True)):
        axes.imshow(image, interpolation="nearest")
        color = colorfulness(towers[tower])
        name = f"tower {tower}: {len(color)} kernels, {color.mean():.0%} color"
        axes.set_title(name, loc="left", fontsize="medium")
    return figure
