"""Our own layers against float64 references."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.distribution.devices import local
from alexnet_tf.distribution.placement import place
from alexnet_tf.models.convolution import (
    CoveringConv2D,
    LocallyConnected2D,
    relu,
)
from alexnet_tf.models.layers import (
    Dropout,
    InputNormalization,
    color_noise_basis,
)
from alexnet_tf.models.normalization import LocalResponseNormalization


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(3, 1.0, 0.1, 0.5, True, name="a", tower=1),
        Dropout(0.3, inverted=True, seed=4, name="b", tower=1),
        InputNormalization((1, 2, 3), [[1, 0, 0]] * 3, 5, 1.1, name="c"),
        LocallyConnected2D(4, 3, "same", relu, "he_normal", "ones", name="d"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_serialization(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_dropout_masks_in_training_and_scales_at_test_time():
    layer = Dropout(0.25, seed=1)
    ones = tf.ones((64, 1000))
    masked = layer(ones, training=True).numpy()
    assert set(np.unique(masked)) == {0.0, 1.0}  # Not scaled up.
    # The mean of 64,000 draws has a standard deviation of 0.0017.
    assert abs(masked.mean() - 0.75) < 0.01
    np.testing.assert_array_equal(layer(ones, training=False), 0.75 * ones)
    assert np.any(layer(ones, training=True).numpy() != masked)


def test_inverted_dropout_scales_in_training_as_keras_does():
    layer = Dropout(0.2, inverted=True, seed=1)
    ones = tf.ones((64, 1000))
    masked = layer(ones, training=True).numpy()
    np.testing.assert_allclose(np.unique(masked), [0.0, 1.25])
    assert abs(masked.mean() - 1) < 0.01
    np.testing.assert_array_equal(layer(ones, training=False), ones)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_relu_has_the_gradient_of_tensorflows_own(dtype):
    x = tf.constant([-np.inf, -2, -1e-30, -0.0, 0.0, 1e-3, 2, np.nan], dtype)
    upstream = tf.constant([1, 2, 3, 4, 5, np.inf, 7, 8], dtype)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = relu(x), tf.nn.relu(x)
    gradients = [tape.gradient(y, x, upstream) for y in (ours, theirs)]
    ours, theirs, *gradients = (
        tf.cast(tensor, "float32") for tensor in (ours, theirs, *gradients)
    )
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(*gradients)
    expected = [0, 0, 0, 0, 0, np.inf, 7, 0]
    np.testing.assert_array_equal(gradients[0], expected)


@functools.cache
def draw_convolution(shape, size, stride, places):
    """Returns factors and upstream, exact in 16 bits, and the results."""
    random = np.random.default_rng(3)
    images = random.integers(-8, 9, shape) / 8
    kernel = random.integers(-8, 9, (size, size, shape[-1], 4)) / 8
    upstream = random.integers(-8, 9, (shape[0], *places, 4)) / 8
    results = reference_convolution(images, kernel, stride, upstream)
    return (images, kernel), upstream, results


def reference_convolution(images, kernel, stride, upstream):
    """Returns the outputs and, given their gradient, those of both factors.

    The images are padded with zeros until windows cover all of them.
    """
    size, sides = kernel.shape[0], images.shape[1:3]
    added = [(0, (size - side) % stride) for side in sides]
    images = np.pad(images, [(0, 0), *added, (0, 0)])
    rows, columns = ((n - size) // stride + 1 for n in images.shape[1:3])
    outputs = np.zeros((len(images), rows, columns, kernel.shape[-1]))
    of_images, of_kernel = np.zeros_like(images), np.zeros_like(kernel)
    for i in range(rows):
        for j in range(columns):
            y, x = i * stride, j * stride
            place = np.s_[:, y : y + size, x : x + size]
            patch, of_place = images[place], upstream[:, i, j]
            outputs[:, i, j] = np.tensordot(patch, kernel, 3)
            of_kernel += np.tensordot(patch, of_place, (0, 0))
            of_images[place] += np.tensordot(of_place, kernel, (-1, -1))
    return outputs, of_images[:, : sides[0], : sides[1]], of_kernel


@pytest.mark.parametrize(
    "dtype, tolerance",
    [
        ("float32", 1e-4),
        ("float64", 1e-9),  # In blocks, as are those of 16 bits.
        ("mixed_float16", 0.01),
        ("mixed_bfloat16", 0.05),
    ],
)
@pytest.mark.parametrize(
    "shape, size, stride, places",
    [
        ((2, 227, 227, 3), 11, 4, (55, 55)),
        ((2, 224, 224, 3), 11, 4, (55, 55)),
        ((2, 32, 37, 3), 11, 4, (7, 8)),
        ((3, 13, 12, 2), 3, 2, (6, 6)),
        ((1, 12, 12, 1), 4, 4, (3, 3)),
    ],
)
def test_conv1_covers_all_places(shape, size, stride, places, dtype, tolerance):
    layer = CoveringConv2D(4, size, stride, dtype=dtype)
    factors, upstream, expected = draw_convolution(shape, size, stride, places)
    factors = [tf.constant(x, layer.compute_dtype) for x in factors]
    with tf.GradientTape() as tape:
        tape.watch(factors)
        outputs = layer.convolution_op(*factors)
    assert layer.compute_output_shape(shape) == outputs.shape
    gradients = tape.gradient(
        outputs, factors, tf.constant(upstream, layer.compute_dtype)
    )
    for ours, theirs in zip((outputs, *gradients), expected, strict=True):
        atol = tolerance
        if dtype == "mixed_float16":
            # Some processors round within sums of thousands of terms, so that
            # small sums have errors of the size of others.
            atol = max(atol, 2 * np.finfo(np.float16).eps * theirs.std())
        np.testing.assert_allclose(
            tf.cast(ours, tf.float64), theirs, rtol=tolerance, atol=atol
        )


def run_on_replicas(replicas, layer_of, batch):
    """Calls a new layer twice in training, with the batch divided."""
    devices = [f"/device:CPU:{number}" for number in range(replicas)]
    strategy = local(place(devices, towers=1)).strategy
    with strategy.scope():
        layer = layer_of()
        layer.build(batch.shape)
    parts = tf.split(batch, replicas)

    @tf.function
    def step():
        values = strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        out = strategy.run(lambda x: layer(x, training=True), args=(values,))
        return tf.concat(strategy.experimental_local_results(out), axis=0)

    return [step().numpy() for _ in range(2)]


@pytest.mark.parametrize(
    ("layer_of", "batch"),
    [
        (lambda: Dropout(0.5, seed=3), tf.ones((8, 50))),
        (
            lambda: InputNormalization((1, 2, 3), np.eye(3).tolist(), seed=3),
            tf.zeros((8, 15, 15, 3), tf.uint8),
        ),
    ],
    ids=["dropout", "color noise"],
)
def test_draws_belong_to_places_in_the_global_batch(layer_of, batch):
    whole = run_on_replicas(1, layer_of, batch)
    for replicas in (2, 4):
        divided = run_on_replicas(replicas, layer_of, batch)
        np.testing.assert_array_equal(divided, whole)
    # No two examples, and no two steps, have the same draws.
    draws = np.concatenate(whole).reshape(16, -1)
    assert len(np.unique(draws, axis=0)) == 16


def test_the_mean_color_is_subtracted():
    layer = InputNormalization((10, 20, 30), None, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 25, 3))
    outputs = layer(images.astype("uint8"), training=True)
    np.testing.assert_allclose(outputs, images - np.array([10.0, 20.0, 30.0]))


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0, 255, (15, 19, 3)).astype(np.float32)
    layer = InputNormalization(mean, np.eye(3).tolist(), seed=0)
    images = rng.integers(0, 256, (2, 15, 19, 3)).astype("uint8")
    outputs = layer(images, training=False).numpy()
    np.testing.assert_allclose(outputs, images - mean, atol=1e-4)
    noisy = layer(images, training=True).numpy() - outputs
    # One color an image, on top of the mean image.
    np.testing.assert_allclose(noisy, noisy[:, :1, :1] + 0 * noisy, atol=1e-4)
    assert np.abs(noisy).max() > 0.1


def test_noisy_images_are_shrunk_in_training_only():
    images = np.random.default_rng(0).integers(0, 256, (2, 15, 15, 3))
    images = images.astype("uint8")
    plain, shrunk = (
        InputNormalization((9, 9, 9), np.eye(3).tolist(), 0, noise_shrink=s)
        for s in (1.0, 1.1)
    )
    np.testing.assert_allclose(
        1.1 * shrunk(images, training=True).numpy(),
        plain(images, training=True).numpy(),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(shrunk(images), plain(images))


def test_color_noise_is_one_draw_an_image_of_the_given_covariance():
    basis = np.array([[9.0, 0, 3.0], [0, 4.0, 0], [1.0, 1.0, 2.0]])
    layer = InputNormalization((0, 0, 0), basis.tolist(), seed=0)
    black = tf.zeros((4000, 11, 11, 3), tf.uint8)
    noise = layer(black, training=True).numpy()
    assert np.all(noise == noise[:, :1, :1])  # The same for all pixels.
    covariance = np.cov(noise[:, 0, 0].T)
    np.testing.assert_allclose(covariance, basis.T @ basis, rtol=0.15, atol=2)
    assert not layer(black, training=False).numpy().any()


def test_the_size_of_color_noise_depends_on_the_reading():
    # ImageNet's components: standard deviations of RGB in 0..255.
    stddevs = np.array([19.72, 37.09, 121.78])
    covariance = np.diag(stddevs**2)

    def noise(reading):
        basis = np.array(
            color_noise_basis(covariance, reading=reading, std=0.1)
        )
        return np.sqrt((basis**2).sum(axis=0))

    np.testing.assert_allclose(noise("code_2012"), 0.1 * stddevs)
    np.testing.assert_allclose(noise("paper"), 0.1 * stddevs**2 / 255)
    assert noise("code_2012").max() == pytest.approx(12.2, abs=0.1)
    assert noise("paper").max() == pytest.approx(5.8, abs=0.1)
    assert color_noise_basis(covariance, reading="off", std=0.1) is None
    assert color_noise_basis(covariance, reading="paper", std=0) is None


def reference_local(images, kernel, bias, upstream, before):
    """Returns the outputs of unshared kernels, and all gradients.

    They are loops over positions; `before` are the zeros above and on the
    left of the images.
    """
    rows, columns, _, _ = kernel.shape
    channels = images.shape[-1]
    size = round((kernel.shape[2] / channels) ** 0.5)
    height, width = images.shape[1:3]
    margins = [
        (before, count + size - 1 - before - side)
        for count, side in ((rows, height), (columns, width))
    ]
    padded = np.pad(images, [(0, 0), *margins, (0, 0)])
    outputs = np.zeros((len(images), rows, columns, kernel.shape[-1]))
    of_images, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for y in range(rows):
        for x in range(columns):
            place = np.s_[:, y : y + size, x : x + size]
            patch = padded[place].reshape(len(images), -1)
            outputs[:, y, x] = patch @ kernel[y, x] + bias[y, x]
            of_kernel[y, x] = patch.T @ upstream[:, y, x]
            of_patch = upstream[:, y, x] @ kernel[y, x].T
            of_images[place] += of_patch.reshape(padded[place].shape)
    of_images = of_images[:, before:, before:][:, :height, :width]
    return outputs, of_images, of_kernel, upstream.sum(axis=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float64", 1e-12), ("float32", 1e-5), ("mixed_bfloat16", 0.05)],
)
@pytest.mark.parametrize(
    ("shape", "size", "padding"),
    [
        ((3, 6, 6, 4), 3, "same"),
        ((2, 5, 7, 3), 3, "valid"),
        ((2, 4, 5, 2), 2, "same"),
        ((1, 7, 6, 1), 5, "same"),
        ((2, 5, 5, 2), 5, "valid"),
        ((2, 3, 4, 3), 1, "valid"),
    ],
)
def test_locally_connected_layers(shape, size, padding, dtype, tolerance):
    random = np.random.default_rng(1)
    layer = LocallyConnected2D(3, size, padding, dtype=dtype)
    layer.build(shape)
    kernel, bias, images = (
        random.integers(-8, 9, shape) / 8
        for shape in (layer.kernel.shape, layer.bias.shape, shape)
    )
    layer.kernel.assign(kernel)
    layer.bias.assign(bias)
    upstream = random.integers(-8, 9, (shape[0], *bias.shape)) / 8
    before = (size - 1) // 2 if padding == "same" else 0
    expected = reference_local(images, kernel, bias, upstream, before)
    inputs = tf.constant(images, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
    sources = [inputs, layer.kernel.value, layer.bias.value]
    gradients = tape.gradient(
        outputs, sources, tf.constant(upstream, outputs.dtype)
    )
    assert outputs.dtype == layer.compute_dtype
    for ours, theirs in zip((outputs, *gradients), expected, strict=True):
        np.testing.assert_allclose(
            tf.cast(ours, tf.float64), theirs, rtol=tolerance, atol=tolerance
        )


def test_a_locally_connected_layer_with_equal_kernels_is_a_convolution():
    images = np.random.default_rng(0).normal(size=(2, 8, 9, 3))
    stock = keras.layers.Conv2D(5, 3, padding="same", activation="tanh")
    layer = LocallyConnected2D(5, 3, "same", "tanh")
    expected = stock(images)
    layer.build(images.shape)
    kernel = tf.reshape(stock.kernel.value, (27, 5))
    layer.kernel.assign(tf.broadcast_to(kernel, layer.kernel.shape))
    np.testing.assert_allclose(layer(images), expected, atol=1e-6)
