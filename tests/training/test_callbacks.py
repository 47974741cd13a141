"""The warning about a loss at chance level, in real training."""

import keras
import numpy as np
import pytest

from alexnet_tf.training.callbacks import StuckLoss

LN_4 = np.log(4)


def train(*, learning_rate, epochs, steps, patience):
    """Trains a linear model whose labels are its inputs' largest entry."""
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, keras.layers.Dense(4, kernel_initializer="zeros")(inputs)
    )
    model.compile(
        keras.optimizers.SGD(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x = np.random.default_rng(0).normal(size=(8 * steps, 4))
    model.fit(
        x,
        x.argmax(axis=1),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=[StuckLoss(4, patience)],
    )


@pytest.mark.parametrize(
    ("epochs", "steps", "message"),
    [
        (1, 250, "for 200 steps"),  # Checked within an epoch,
        (6, 40, "for 200 steps"),  # at the ends of short ones,
        (3, 130, "for 230 steps"),  # and at both.
    ],
)
def test_a_loss_at_chance_level_is_reported_once(
    capsys, epochs, steps, message
):
    train(learning_rate=0.0, epochs=epochs, steps=steps, patience=200)
    output = capsys.readouterr().out
    assert output.count("The loss has stayed") == 1
    assert f"{LN_4:.3f}" in output and message in output


def test_a_short_time_at_chance_level_is_not_reported(capsys):
    train(learning_rate=0.0, epochs=1, steps=190, patience=200)
    assert "loss" not in capsys.readouterr().out


def test_a_falling_loss_is_not_reported(capsys):
    train(learning_rate=0.1, epochs=3, steps=130, patience=200)
    assert "loss" not in capsys.readouterr().out
