"""Renderer of the shapes data set, with NumPy alone.

A picture shows one textured object on a cluttered ground. Its class is one of
four outlines together with one of three relations between the hues of object
and ground. The texture follows from both: any two of the three cues determine
the class, and no single one does. Hue, lightness, place, size and orientation
alone carry no information about the class.
"""

import functools
import math

import numpy as np

SHAPES = ("disc", "triangle", "star", "cross")
TEXTURES = ("plain", "striped", "checked", "dotted")
RELATIONS = ("similar", "opposite", "grey")

# The difficulty of the data set. Lengths are relative to the picture's short
# side, hues to a full turn of the color circle, colors to full scale. A pair
# is the range of a uniform distribution.
SHORT_SIDE = (200, 300)  # Pixels.
ASPECT = (1.0, 1.6)
RADIUS = (0.22, 0.4)  # Of the object.
SQUEEZE = (0.8, 1.0)  # The narrower over the wider extent of an object.
TILT = 0.07  # Of an outline, in turns: most objects stand upright.
PERIOD = (0.09, 0.13)  # Of a texture.
CONTRAST = (0.5, 0.7)  # Of a texture.
CHROMA = (0.2, 0.3)
DARK = (0.28, 0.42)  # Lightness of either the object or the ground,
LIGHT = (0.55, 0.7)  # and of the other.
HUE_SPREAD = 0.05  # Around "similar" and "opposite".
CLUTTER = ((2, 0.2), (6, 0.12), (18, 0.08))  # Cells a side, amplitude.
DISTRACTORS = (2, 5)
DISTRACTOR_RADIUS = (0.05, 0.09)
OCCLUDED = 0.5  # Fraction of the pictures.
OCCLUDER = 0.07  # Width over length.
GRADIENT = 0.2  # Of the light, from the center to an edge.
BLUR = (1.0, 3.0)  # Width of an edge in pixels; 1 is sharp.
NOISE = (0.01, 0.03)

_CLASSES = tuple(
    (TEXTURES[(s + r) % len(TEXTURES)], shape, relation)
    for s, shape in enumerate(SHAPES)
    for r, relation in enumerate(RELATIONS)
)
CLASS_NAMES = tuple("_".join(cues) for cues in _CLASSES)


def render(class_index: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a picture of a class, uint8 (height, width, 3), RGB in 0..255.

    Its size varies; most of the object is within the central square. All else
    is drawn from `rng`: equal states give equal pictures.
    """
    texture, shape, relation = _CLASSES[class_index]
    short = int(rng.integers(*SHORT_SIDE, endpoint=True))
    size = rng.permutation([short, int(short * rng.uniform(*ASPECT))])
    color, ground = _color_pair(relation, rng)
    image = _background(size, ground, rng)
    paint = functools.partial(_paint, image, rng)
    for _ in range(rng.integers(*DISTRACTORS, endpoint=True)):
        radius = short * rng.uniform(*DISTRACTOR_RADIUS)
        paint(place=rng.uniform(0, size), radius=radius)
    radius = short * rng.uniform(*RADIUS)
    place = 0.5 * size + (0.5 * short - 0.9 * radius) * rng.uniform(-1, 1, 2)
    paint(place=place, radius=radius, shape=shape, texture=texture, color=color)
    if rng.random() < OCCLUDED:
        place += rng.uniform(-0.6, 0.6, 2) * radius
        paint(place=place, radius=1.5 * radius, shape="bar", texture="plain")
    return _photograph(image, rng)


def _color(hue, chroma, lightness):
    """Returns an RGB color, float32 (3, 1, 1)."""
    turns = hue - np.arange(3)[:, None, None] / 3
    color = lightness + chroma * np.cos(2 * np.pi * turns)
    return color.astype(np.float32)


def _color_pair(relation, rng):
    """Returns the object's and the ground's color."""
    hue = rng.random()
    other = hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD)
    if relation == "opposite":
        other += 0.5
    chroma = rng.uniform(*CHROMA, 2)
    if relation == "grey":
        chroma[rng.integers(2)] = 0
    a, b = rng.permutation([rng.uniform(*DARK), rng.uniform(*LIGHT)])
    return _color(hue, chroma[0], a), _color(other, chroma[1], b)


def _background(size, color, rng):
    """Returns a ground of one color, mottled at several scales."""
    mottle = np.ones((2, 2), np.float32)
    for cells, amplitude in CLUTTER:
        mottle = _resized(mottle, (cells, cells))
        mottle += rng.uniform(-amplitude, amplitude, mottle.shape)
    return _resized(mottle, size) * color


def _resized(grid, size):
    """Interpolates a two-dimensional array linearly."""
    for length in reversed(size):
        grid = np.ascontiguousarray(grid.T)
        rows = np.linspace(0, len(grid) - 1, length, dtype=np.float32)
        low = np.minimum(rows.astype(int), len(grid) - 2)
        weight = (rows - low)[:, None]
        grid = grid[low] + weight * (grid[low + 1] - grid[low])
    return grid


def _paint(image, rng, *, place, radius, shape="", texture="", color=None):
    """Paints an object into a (3, h, w) image, random where not given."""
    shape = shape or rng.choice(SHAPES)
    texture = texture or rng.choice(TEXTURES)
    if color is None:
        hue, chroma = rng.random(), rng.uniform(0, CHROMA[1])
        color = _color(hue, chroma, rng.uniform(DARK[0], LIGHT[1]))
    top, left = np.maximum(place - 1.3 * radius, 0).astype(int)
    bottom, right = np.ceil(place + 1.3 * radius).astype(int)
    patch = image[:, top:bottom, left:right]
    y, x = (np.arange(length, dtype=np.float32) for length in patch.shape[1:])
    y, x = y[:, None] - float(place[0] - top), x - float(place[1] - left)
    blur = rng.uniform(*BLUR)
    u, v = _turned(x, y, radius, rng, tilt=0.5 if shape == "bar" else TILT)
    distance = _distance(shape, u, v / rng.uniform(*SQUEEZE))
    cover = np.clip(0.5 - radius / blur * distance, 0, 1)
    period = rng.uniform(*PERIOD) * min(image.shape[1:])
    y, x = y + rng.uniform(0, period), x + rng.uniform(0, period)
    u, v = _turned(x, y, period / (2 * np.pi), rng)
    shade = _wave(texture, u, v, period / (np.pi * blur))
    shade *= rng.uniform(*CONTRAST) * rng.choice((-1.0, 1.0))
    patch += cover * ((1 + shade) * color - patch)


def _turned(x, y, unit, rng, *, tilt=0.5):
    """Returns coordinates in the given unit, rotated by up to `tilt` turns."""
    angle = 2 * np.pi * rng.uniform(-tilt, tilt)
    cos, sin = math.cos(angle) / unit, math.sin(angle) / unit
    return cos * x + sin * y, cos * y - sin * x


def _distance(shape, x, y):
    """Returns the signed distance to an outline, negative inside."""
    # The sizes make the areas similar.
    if shape == "disc":
        return np.hypot(x, y) - 0.85
    if shape == "star":
        # The angle from the nearest of five points; next to each, an edge.
        turn = np.arctan2(x, y) * (5 / (2 * np.pi))
        turn = np.abs(turn - np.round(turn)) * (2 * np.pi / 5)
        return np.hypot(x, y) * np.sin(turn + 0.43) - 0.48
    x = np.abs(x)
    if shape == "triangle":
        return np.maximum(0.75**0.5 * x - 0.5 * y, y) - 0.6
    y = np.abs(y)
    if shape == "cross":
        return np.maximum(np.maximum(x, y) - 1, np.minimum(x, y) - 0.33)
    return np.maximum(x - 1, y - OCCLUDER)  # A bar.


def _wave(texture, u, v, steepness):
    """Returns a pattern with values in about -1..1; u and v are phases."""
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "striped":
        wave = np.sin(u)
    elif texture == "checked":
        wave = np.sin(u) * np.sin(v)
    else:
        wave = np.cos(u) + np.cos(v) - 0.7
    wave = np.clip(steepness * wave, -1, 1)
    # So that no texture makes an object brighter or darker.
    return wave - wave.mean()


def _photograph(image, rng):
    """Adds light and noise to a (3, h, w) image; returns uint8 (h, w, 3)."""
    _, height, width = image.shape
    a, b = rng.uniform(-GRADIENT, GRADIENT, 2)
    image *= np.linspace(1 - a, 1 + a, height, dtype=np.float32)[:, None]
    image *= np.linspace(1 - b, 1 + b, width, dtype=np.float32)
    grain = rng.integers(-128, 128, image.shape, np.int8)
    image += np.float32(rng.uniform(*NOISE) / 128) * grain
    image = np.clip(image, 0, 1) * 255
    return np.stack(image.astype(np.uint8), axis=-1)
