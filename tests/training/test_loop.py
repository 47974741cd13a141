"""Rollbacks from nonfinite batches, with a small Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.callbacks import NonfiniteCheck
from alexnet_tf.training.checkpointing import (
    Checkpointer,
    MetricTotals,
    Progress,
    ProgressTracker,
)
from alexnet_tf.training.loop import fit_to_end
from alexnet_tf.training.optimizer import MomentumSGD

STEPS = 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2 * STEPS, 4, 3)).astype("float32")
Y = RNG.integers(0, 2, size=(2 * STEPS, 4))


class Error(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        assert np.isfinite(logs["loss"])
        logs["val_top1_error"] = 0.5
        logs["val_loss"] = 1.0


def make_model(**scheduled):
    """Returns a compiled linear model, which turns NaN into zero."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(keras.ops.relu(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(
        MomentumSGD(0.1, **scheduled),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    return model


def make_checkpointer(directory, *, every=0, from_start=False):
    """Returns a checkpointer, its progress and metric totals, and workers."""
    workers = Workers(tf.distribute.get_strategy())
    progress, totals = Progress(STEPS), MetricTotals(workers)
    checkpointer = Checkpointer(
        RunDir(directory),
        progress,
        totals,
        workers,
        {},
        keep=2,
        every_steps=every,
        from_start=from_start,
    )
    return checkpointer, progress, totals, workers


def train(
    directory,
    *,
    bad=(),
    every=0,
    max_rollbacks=3,
    at_bad=lambda: None,
    **scheduled,
):
    """Trains two epochs of a linear model; returns weights and messages.

    `at_bad` is called at a bad batch.
    """
    x = X.copy()
    x[list(bad), 0, 0] = np.nan
    model, seen = make_model(**scheduled), []

    def batches(steps):
        def noted(n):
            tf.py_function(lambda n: seen.append(int(n)), [n], ())
            return tf.gather(x, n), tf.gather(Y, n)

        return tf.data.Dataset.range(steps.start, steps.stop).map(noted)

    def record(step):
        at_bad()
        return f"batch {step} is saved."

    checkpointer, progress, totals, workers = make_checkpointer(
        directory, every=every, from_start=max_rollbacks > 0
    )
    fit_to_end(
        model,
        batches,
        [
            NonfiniteCheck(),
            Error(),
            totals,
            ProgressTracker(progress),
            checkpointer,
        ],
        epochs=2,
        workers=workers,
        checkpointer=checkpointer,
        record_batch=record,
        max_rollbacks=max_rollbacks,
    )
    assert progress.epochs_done == 2
    return model.get_weights(), seen


def expected(*skipped, rates=(0.1,) * 2 * STEPS):
    """Returns the weights computed in float64."""
    keras.utils.set_random_seed(1)
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    w, b = (v.numpy().astype("float64") for v in layer.variables)
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for step in range(2 * STEPS):
        if step in skipped:
            continue
        x = np.maximum(X[step], 0)
        z = x @ w + b
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        g = (p - np.eye(2)[Y[step]]) / len(x)
        vw = 0.9 * vw - rates[step] * (x.T @ g + 0.0005 * w)
        vb = 0.9 * vb - rates[step] * (g.sum(axis=0) + 0.0005 * b)
        w, b = w + vw, b + vb
    return w, b


@pytest.mark.parametrize("every", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "bad", [(), (0,), (3,), (4,), (5,), (9,), (2, 3), (0, 1, 4), (4, 5)]
)
def test_bad_batches_are_left_out(tmp_path, capsys, bad, every):
    weights, _ = train(tmp_path, bad=bad, every=every)
    for found, wanted in zip(weights, expected(*bad), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    output = capsys.readouterr().out
    for number, step in enumerate(bad, start=1):
        assert (
            f"step {step}: " in output and f"batch {step} is saved." in output
        )
        assert f"rollback {number} of at most 3" in output
    state = checkpoints.read_state(checkpoints.newest(tmp_path / "checkpoints"))
    assert state["skipped"] == list(bad) and state["step"] == 2 * STEPS


@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("bad", [(2, 3), (0, 4, 5)])
def test_dates_of_a_schedule_count_skipped_batches(tmp_path, bad, every):
    """The rate drops at steps 3, 5 and 8, whatever is left out before."""
    dates = "0: weights=0.1; 0.6: weights=0.03; 1: weights=0.2;"
    scheduled = {"schedule": dates + "1.6: weights=0.01", "steps_per_epoch": 5}
    weights, _ = train(tmp_path, bad=bad, every=every, **scheduled)
    rates = [0.1] * 3 + [0.03] * 2 + [0.2] * 3 + [0.01] * 2
    wanted = expected(*bad, rates=rates)
    for found, value in zip(weights, wanted, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [(5,), (7,), (9,), (6, 7)])
def test_a_rollback_into_the_epoch_before(tmp_path, bad):
    """The checkpoint after it is damaged; every other batch counts once."""

    def damage():
        for file in tmp_path.glob("checkpoints/step-0000000[5-9]*/variables*"):
            file.write_bytes(b"damaged")

    weights, _ = train(tmp_path, bad=bad, at_bad=damage)
    for found, wanted in zip(weights, expected(*bad), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_whole_epoch_of_bad_batches_ends_too(tmp_path):
    weights, _ = train(tmp_path, bad=range(STEPS), max_rollbacks=STEPS)
    for found, wanted in zip(weights, expected(*range(STEPS)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_one_rollback_too_many_ends_the_run(tmp_path):
    with pytest.raises(UserError, match=r"step 6: .*\n.*saved.*\n.*000005\. "):
        train(tmp_path, bad=(1, 2, 6), max_rollbacks=2)


def test_without_rollbacks_the_first_bad_batch_ends_the_run(tmp_path):
    with pytest.raises(UserError, match=r"step 1: .*\n.*saved.*\n.*is none\. "):
        train(tmp_path, bad=(1,), max_rollbacks=0)


def test_nothing_is_read_twice_unless_a_batch_is_bad(tmp_path):
    _, seen = train(tmp_path)
    assert seen == list(range(2 * STEPS))


def test_a_restored_step_can_be_saved_again(tmp_path):
    """As after a rollback past a checkpoint that is damaged."""
    checkpointer, progress, *_ = make_checkpointer(tmp_path)
    checkpointer.set_model(make_model())
    progress.step, progress.logs = 3, {"loss": 1.0}
    checkpointer.save()
    checkpointer.save()  # Nothing is new.
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-00000003"]
    checkpointer.restore(checkpointer.model)
    checkpointer.save()
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-00000003-2"]
