"""Response normalization and its gradient against float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.models.normalization import (
    LocalResponseNormalization,
    SpatialResponseNormalization,
)


def window_sum(x, size, axes):
    """Sums over the part of each window that exists."""
    reach = size // 2
    for axis in axes:
        parts = []
        for i in range(x.shape[axis]):
            window = range(max(0, i - reach), min(x.shape[axis], i + reach + 1))
            parts.append(np.take(x, window, axis=axis).sum(axis=axis))
        x = np.stack(parts, axis=axis)
    return x


def lrn(x, size, k, alpha, beta, axes=(-1,)):
    return x / (k + alpha * window_sum(x**2, size, axes)) ** beta


def lrn_gradient(x, upstream, size, k, alpha, beta, axes=(-1,)):
    """Returns the gradient, and the size of its terms."""
    s = k + alpha * window_sum(x**2, size, axes)
    own = upstream * s**-beta
    terms = upstream * x * s ** (-beta - 1)
    factor = 2 * alpha * beta * x
    gradient = own - factor * window_sum(terms, size, axes)
    of_terms = np.abs(factor) * window_sum(np.abs(terms), size, axes)
    return gradient, np.abs(own) + of_terms


def ours(layer, x, upstream, training=False):
    """Returns the layer's outputs and gradient as float64 arrays.

    In training they are compiled by XLA.
    """
    inputs = tf.constant(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
    gradient = tape.gradient(
        outputs, inputs, tf.constant(upstream, outputs.dtype)
    )
    return tf.cast(outputs, tf.float64), tf.cast(gradient, tf.float64)


def draw(shape, scale):
    rng = np.random.default_rng(0)
    return scale * rng.normal(size=shape), rng.normal(size=shape)


CASES = [
    # shape, size, k, alpha, beta, scale of the inputs
    ((2, 3, 3, 96), 5, 2.0, 1e-4, 0.75, 30.0),
    ((2, 3, 3, 48), 5, 2.0, 2e-5, 0.75, 1e4),
    ((2, 3, 3, 48), 5, 2.0, 1e-4, 0.75, 1e8),
    ((2, 5, 4, 128), 5, 2.0, 1e-4, 0.75, 1.0),
    ((1, 1, 1, 6), 5, 2.0, 1e-4, 0.75, 100.0),
    ((4, 7), 5, 1.0, 1e-4, 0.75, 1e-6),
    ((4, 7), 5, 1.0, 1e-4, 0.75, 1e-18),
    ((4, 3), 5, 2.0, 1e-2, 0.75, 10.0),
    # Beyond cuDNN's limits.
    ((4, 40), 17, 2.0, 1e-4, 0.75, 30.0),
    ((4, 7), 5, 1e-6, 1e-4, 0.75, 30.0),
    ((4, 7), 5, 2.0, 1e-4, 0.001, 30.0),
    ((4, 2), 5, 2.0, 1e-2, 0.75, 10.0),
    ((4, 1), 5, 2.0, 1e-2, 0.75, 10.0),
    ((4, 1), 11, 2.0, 1e-2, 0.75, 10.0),
    ((4, 9), 1, 2.0, 1e-2, 0.75, 10.0),
    ((4, 9), 3, 2.0, 1e-2, 0.5, 10.0),
    ((4, 9), 7, 2.0, 1e-2, 0.3, 10.0),
    ((4, 9), 9, 1.0, 1e-1, 1.0, 10.0),
    ((4, 9), 5, 2.0, 0.0, 0.75, 10.0),
]


@pytest.mark.parametrize("training", [False, True], ids=["", "XLA"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_and_its_gradient_are_the_papers_formula(case, training):
    shape, *constants, scale = case
    x, upstream = draw(shape, scale)
    layer = LocalResponseNormalization(*constants)
    outputs, gradient = ours(layer, x, upstream, training)
    # Rounded to float32, as the layer's inputs are.
    x, upstream = (a.astype(np.float32).astype(float) for a in (x, upstream))
    np.testing.assert_allclose(outputs, lrn(x, *constants), rtol=1e-5)
    exact, of_terms = lrn_gradient(x, upstream, *constants)
    assert np.all(np.abs(gradient - exact) <= 1e-5 * of_terms)


def test_the_gradient_of_the_reference_is_the_derivative_of_the_reference():
    x, upstream = draw((2, 9), 10.0)
    constants = (5, 2.0, 1e-2, 0.75)
    gradient, _ = lrn_gradient(x, upstream, *constants)
    for place in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        up, down = (lrn(x + s, *constants) for s in (step, -step))
        slope = ((up - down) * upstream).sum() / 2e-5
        assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("training", [False, True], ids=["", "XLA"])
def test_spatial_windows_extend_over_places_of_one_map(training):
    x, upstream = draw((2, 7, 4, 3), 10.0)
    layer = SpatialResponseNormalization(5, 1.0, 1e-1, 0.75)
    outputs, gradient = ours(layer, x, upstream, training)
    constants = (5, 1.0, 1e-1, 0.75, (1, 2))
    np.testing.assert_allclose(outputs, lrn(x, *constants), rtol=1e-5)
    exact, of_terms = lrn_gradient(x, upstream, *constants)
    assert np.all(np.abs(gradient - exact) <= 1e-5 * of_terms)


def test_alpha_is_divided_by_the_responses_in_a_window():
    x, upstream = draw((2, 6, 6, 9), 50.0)
    for make_layer, responses in [
        (LocalResponseNormalization, 5),
        (SpatialResponseNormalization, 25),
    ]:
        divided = make_layer(5, 1.0, 1e-2, 0.75, divide_alpha=True)
        plain = make_layer(5, 1.0, 1e-2 / responses, 0.75)
        for one, other in zip(
            ours(divided, x, upstream), ours(plain, x, upstream), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_it_is_tensorflows_with_an_undivided_alpha():
    x = tf.constant(draw((2, 5, 5, 20), 50.0)[0], tf.float32)
    theirs = tf.nn.local_response_normalization(
        x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75
    )
    np.testing.assert_allclose(
        LocalResponseNormalization()(x), theirs, rtol=1e-5
    )


@pytest.mark.parametrize("training", [False, True], ids=["", "XLA"])
def test_in_bfloat16_it_is_exact_up_to_its_rounding(training):
    x, upstream = (
        tf.cast(tf.constant(a, tf.bfloat16), tf.float64).numpy()
        for a in draw((2, 5, 5, 48), 50.0)
    )
    layer = LocalResponseNormalization(dtype="mixed_bfloat16")
    outputs, gradient = ours(layer, x, upstream, training)
    constants = (5, 2.0, 1e-4, 0.75)
    np.testing.assert_allclose(outputs, lrn(x, *constants), rtol=2**-8)
    exact, of_terms = lrn_gradient(x, upstream, *constants)
    # One rounding of the result, to 8 bits; the terms are in float32.
    bound = 2**-8 * np.abs(exact) + 1e-5 * of_terms
    assert np.all(np.abs(gradient - exact) <= bound)


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="size=4 .* odd"):
        LocalResponseNormalization(size=4)


def test_a_saved_model_with_it_loads_and_gives_the_same(tmp_path):
    inputs = keras.Input((4, 4, 7))
    outputs = LocalResponseNormalization(3, 1.0, 0.1, 0.5, True)(inputs)
    model = keras.Model(inputs, SpatialResponseNormalization()(outputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = tf.constant(draw((2, 4, 4, 7), 10.0)[0], tf.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
