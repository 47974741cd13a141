"""Our own layers against float64 references."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.layers import Dropout, Pixels
from alexnet_tf.normalisation import LocalResponseNormalization
from alexnet_tf.tower_layers import StridedConv2D, convolve_blocks
from alexnet_tf.towers import make_strategy, place


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(3, 1.0, 0.1, 0.5, True, name="a", tower=1),
        Dropout(0.3, inverted=True, seed=4, name="b", tower=1),
        Pixels((1, 2, 3), [[1, 0, 0]] * 3, 11, 4, 5, 1.1, name="c"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_made_again_from_their_config(layer):
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


def reference_convolution(images, kernel, stride, upstream=None):
    """Returns outputs and, given their gradient, those of both factors."""
    size, width = kernel.shape[0], images.shape[2]
    rows = (images.shape[1] - size) // stride + 1
    columns = (width - size) // stride + 1
    outputs = np.zeros((len(images), rows, columns, kernel.shape[-1]))
    of_images, of_kernel = np.zeros_like(images), np.zeros_like(kernel)
    for i in range(rows):
        for j in range(columns):
            place = (
                slice(None),
                slice(i * stride, i * stride + size),
                slice(j * stride, j * stride + size),
            )
            outputs[:, i, j] = np.tensordot(images[place], kernel, 3)
            if upstream is not None:
                of_kernel += np.tensordot(
                    images[place], upstream[:, i, j], (0, 0)
                )
                of_images[place] += np.tensordot(
                    upstream[:, i, j], kernel, (-1, -1)
                )
    return outputs, of_images, of_kernel


@pytest.mark.parametrize(
    "shape, size, stride",
    [
        ((2, 227, 227, 3), 11, 4),  # The paper's, padded.
        ((2, 30, 35, 3), 11, 4),  # Places left over: filled up and cut off.
        ((3, 13, 12, 2), 3, 2),
        ((1, 12, 12, 1), 4, 4),  # Nothing to fill up.
    ],
)
def test_a_convolution_of_blocks_is_the_one_with_strides(shape, size, stride):
    random = np.random.default_rng(3)
    images = random.normal(size=shape)
    kernel = random.normal(size=(size, size, shape[-1], 4))
    with tf.GradientTape() as tape:
        factors = tf.constant(images), tf.constant(kernel)
        tape.watch(factors)
        outputs = convolve_blocks(*factors, stride)
    upstream = random.normal(size=outputs.shape)
    gradients = tape.gradient(outputs, factors, tf.constant(upstream))
    expected = reference_convolution(images, kernel, stride, upstream)
    for ours, theirs in zip((outputs, *gradients), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "dtype, tolerance",
    [("float32", 1e-6), ("mixed_float16", 2e-3), ("mixed_bfloat16", 1e-2)],
)
def test_conv1_at_each_precision(dtype, tolerance):
    random = np.random.default_rng(4)
    images = random.normal(size=(2, 35, 35, 3))
    layer = StridedConv2D(6, 11, 4, dtype=dtype)
    outputs = tf.cast(layer(tf.constant(images)), tf.float64)
    kernel = np.float64(layer.kernel.numpy())
    expected, _, _ = reference_convolution(images, kernel, 4)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, atol=tolerance * scale)


def run_on_replicas(replicas, layer_of, batch):
    """Calls a new layer twice in training, with the batch divided."""
    devices = [f"/device:CPU:{number}" for number in range(replicas)]
    strategy = make_strategy(place(devices, towers=1))
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
            lambda: Pixels((1, 2, 3), np.eye(3).tolist(), 11, 4, seed=3),
            tf.zeros((8, 15, 15, 3), tf.uint8),
        ),
    ],
    ids=["dropout", "colour noise"],
)
def test_draws_belong_to_places_in_the_global_batch(layer_of, batch):
    whole = run_on_replicas(1, layer_of, batch)
    for replicas in (2, 4):
        divided = run_on_replicas(replicas, layer_of, batch)
        np.testing.assert_array_equal(divided, whole)
    # No two examples, and no two steps, have the same draws.
    draws = np.concatenate(whole).reshape(16, -1)
    assert len(np.unique(draws, axis=0)) == 16


def test_pixels_subtracts_the_mean_and_pads_below_and_right():
    layer = Pixels((10, 20, 30), None, kernel_size=11, strides=4, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3))
    outputs = layer(images.astype("uint8"), training=True).numpy()
    assert outputs.shape == (2, 227, 227, 3)
    np.testing.assert_allclose(
        outputs[:, :224, :224], images - np.array([10.0, 20.0, 30.0])
    )
    assert not outputs[:, 224:].any() and not outputs[:, :, 224:].any()


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0, 255, (15, 19, 3)).astype(np.float32)
    layer = Pixels(mean, np.eye(3).tolist(), 11, 4, seed=0)
    images = rng.integers(0, 256, (2, 15, 19, 3)).astype("uint8")
    outputs = layer(images, training=False).numpy()
    np.testing.assert_allclose(outputs, images - mean, atol=1e-4)
    noisy = layer(images, training=True).numpy() - outputs
    # One colour an image, on top of the mean image.
    np.testing.assert_allclose(noisy, noisy[:, :1, :1] + 0 * noisy, atol=1e-4)
    assert np.abs(noisy).max() > 0.1


def test_noisy_images_are_shrunk_in_training_only():
    images = np.random.default_rng(0).integers(0, 256, (2, 15, 15, 3))
    images = images.astype("uint8")
    plain, shrunk = (
        Pixels((9, 9, 9), np.eye(3).tolist(), 11, 4, 0, noise_shrink=s)
        for s in (1.0, 1.1)
    )
    np.testing.assert_allclose(
        1.1 * shrunk(images, training=True).numpy(),
        plain(images, training=True).numpy(),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(shrunk(images), plain(images))


def test_colour_noise_is_one_draw_an_image_of_the_given_covariance():
    basis = np.array([[9.0, 0, 3.0], [0, 4.0, 0], [1.0, 1.0, 2.0]])
    layer = Pixels((0, 0, 0), basis.tolist(), 11, 4, seed=0)
    black = tf.zeros((4000, 11, 11, 3), tf.uint8)
    noise = layer(black, training=True).numpy()
    assert np.all(noise == noise[:, :1, :1])  # The same for all pixels.
    covariance = np.cov(noise[:, 0, 0].T)
    np.testing.assert_allclose(covariance, basis.T @ basis, rtol=0.15, atol=2)
    assert not layer(black, training=False).numpy().any()
