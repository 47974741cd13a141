"""The same training on any layout of devices, up to float32 rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.flags import parse
from alexnet_tf.distribution import placement as towers
from alexnet_tf.distribution.devices import local
from alexnet_tf.storage import checkpoints
from alexnet_tf.training.trainer import build_trainer
from tests.support import INFO, LAYOUTS, SMALL, make_trainer

STEPS = 5


def train(model, steps=STEPS):
    """Trains on the same random images each time."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * 8, 67, 67, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, steps * 8)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    model.fit(batches, shuffle=False, verbose=0)


def values_of(variables):
    return {v.path: v.numpy() for v in variables}


@pytest.fixture(scope="module")
def trained():
    """Weights before and after, and the model, for each layout.

    Dropout, weight decay and color noise are on.
    """
    found = {}
    for layout in LAYOUTS:
        flags = ("--batch_size=8", "--color_noise=code_2012")
        _, model = make_trainer(
            layout, *SMALL, *flags, "--initialization=code_2012"
        )
        before = values_of(model.trainable_variables)
        train(model)
        found[layout] = before, values_of(model.trainable_variables), model
    return found


@pytest.mark.slow
def test_the_order_of_the_devices_does_not_matter(trained):
    """Sorted by their names the towers of one replica would be swapped."""
    names = [f"/device:CPU:{number}" for number in (1, 0, 2, 3)]
    devices = local(towers.place(names, towers=2))
    config, _ = parse(
        [
            *SMALL,
            "--batch_size=8",
            "--color_noise=code_2012",
            "--initialization=code_2012",
        ]
    )
    model = build_trainer(config, INFO, devices)
    train(model)
    _, expected, _ = trained[(2, 2)]
    for name, value in values_of(model.trainable_variables).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_all_layouts_start_equal(trained):
    first, *others = [before for before, _, _ in trained.values()]
    for before in others:
        for name in first:
            np.testing.assert_array_equal(before[name], first[name])


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
def test_all_layouts_end_equal_up_to_rounding(trained, layout):
    before, expected, _ = trained[LAYOUTS[0]]
    _, weights, _ = trained[layout]
    for name in expected:
        moved = np.abs(expected[name] - before[name]).max()
        assert moved > 0, name
        # A gradient is a sum of up to 8 x 15 x 15 products whose order
        # depends on the layout; each of at most 2,000 roundings is 2^-24 of
        # the sum, for 5 steps. Another mask, image or noise would change the
        # weights by about as much as they moved.
        bound = moved * STEPS * 2000 * 2**-24
        assert np.abs(weights[name] - expected[name]).max() < bound, name


@pytest.mark.slow
def test_a_step_with_half_precision_links():
    """It is the step without them, up to rounding.

    With small weights in fc8, the gradients before it are so small that, but
    for the scaled loss, float16 would lose half of them. Glorot's weights make
    places differ, so that rounding hardly changes which one pooling takes.
    """
    steps = []
    for layout, precision in [((1, 1), "float32"), ((2, 1), "float16")]:
        flags = [*SMALL, "--batch_size=8", "--initialization=glorot"]
        flags += ["--color_noise=code_2012"]
        flags += [f"--link_precision={precision}", "--weight_decay=0"]
        _, model = make_trainer(layout, *flags)
        for tower in (0, 1):
            kernel = model.get_layer(f"fc8_tower{tower}").kernel
            kernel.assign(1e-5 * kernel.numpy())
        train(model, steps=1)
        steps.append(values_of(model.optimizer.momentums))
    expected, found = steps
    for name, step in expected.items():
        error = np.linalg.norm(found[name] - step)
        assert 0 < error < 0.05 * np.linalg.norm(step), name


@pytest.mark.parametrize("layout", LAYOUTS[2:], ids=str)
def test_replicas_are_equal_bit_by_bit(trained, layout):
    _, _, model = trained[layout]
    for variable in model.variables + model.optimizer.variables:
        first, *others = variable.value.values
        assert len(others) == layout[1] - 1
        for other in others:
            np.testing.assert_array_equal(first.numpy(), other.numpy())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_checkpoint_of_one_layout_fits_any_other(trained, layout, tmp_path):
    _, _, source = trained[(2, 2)]
    theirs = source.variables + source.optimizer.variables
    checkpoints.save(
        tmp_path, values_of(theirs), {"step": 5, "val_top1_error": 0.5}
    )
    _, model = make_trainer(layout, *SMALL, "--batch_size=8", "--seed=9")
    checkpoints.restore(
        checkpoints.newest(tmp_path),
        model.variables + model.optimizer.variables,
    )
    restored = values_of(model.variables + model.optimizer.variables)
    saved = values_of(theirs)
    assert restored.keys() == saved.keys()
    assert any("momentum" in name for name in saved)
    for name in saved:
        np.testing.assert_array_equal(restored[name], saved[name])
    for variable in model.trainable_variables:
        for copy in variable.value.values:
            np.testing.assert_array_equal(copy.numpy(), saved[variable.path])


def test_dropout_masks_differ_between_replicas_and_from_keras():
    """Keras's own layer gives all replicas the same mask."""
    strategy = tf.distribute.MirroredStrategy(
        ["/device:CPU:0", "/device:CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
        theirs = keras.layers.Dropout(0.5, seed=1)
    masks = strategy.run(
        lambda: theirs(tf.ones((4, 100)), training=True)
    ).values
    np.testing.assert_array_equal(masks[0], masks[1])
