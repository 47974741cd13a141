"""The plateau rule: when the learning rate drops and training ends (Sec. 5).

The paper divides the rate by 10 when the validation error stops improving at
the current rate, three times before training ends. It does not say how long to
wait; the author of the 2012 source waited about 26 epochs per level.
"""

import dataclasses
import enum
import math

import keras

from alexnet_tf.config.errors import UserError

# What an epoch's validation error means for the next epoch.
Verdict = enum.Enum("Verdict", ["CONTINUE", "DROP", "STOP"])


@dataclasses.dataclass
class PlateauRule:
    """Decides when the learning rate drops, without Keras."""

    patience: int  # Epochs without a new lowest error that make a plateau.
    max_drops: int  # Drops allowed; one more plateau ends training.
    best: float = math.inf  # Lowest error so far, in [0, 1].
    wait: int = 0  # Epochs since `best` or the last drop.
    drops: int = 0  # Drops so far.

    def update(self, error: float) -> Verdict:
        """Takes an epoch's error; NaN never counts as an improvement."""
        if error < self.best:
            self.best, self.wait = error, 0
            return Verdict.CONTINUE
        self.wait += 1
        if self.wait < self.patience:
            return Verdict.CONTINUE
        if self.drops == self.max_drops:
            return Verdict.STOP
        self.drops, self.wait = self.drops + 1, 0
        return Verdict.DROP

    def get_state(self) -> dict:
        """Returns what changes during training."""
        return {"best": self.best, "wait": self.wait, "drops": self.drops}

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` returned."""
        self.best, self.wait = state["best"], state["wait"]
        self.drops = state["drops"]


class PlateauSchedule(keras.callbacks.Callback):
    """Lowers the learning rate at each plateau; ends training after the last.

    Args:
        patience: Epochs without a new lowest value that make a plateau.
        factor: The learning rate is divided by this.
        max_drops: Drops allowed; one more plateau ends training.
        monitor: Name of a value in the logs of an epoch that should fall.
    """

    def __init__(
        self, patience=5, factor=10.0, max_drops=3, monitor="val_top1_error"
    ):
        super().__init__()
        self.rule = PlateauRule(patience, max_drops)
        self.factor, self.monitor = factor, monitor

    def on_epoch_end(self, epoch, logs=None):
        """Drops the learning rate or ends training, and prints why."""
        rule = self.rule
        if self.monitor not in (logs or {}):
            raise UserError(
                f"PlateauSchedule: {self.monitor} is not in the logs, which "
                f"have {', '.join(logs or ())}; give a monitor that is, or "
                "validation_data to fit."
            )
        verdict = rule.update(logs[self.monitor])
        reason = (
            f"{rule.patience} epochs without {self.monitor} below "
            f"{rule.best:{'.2%' if 'error' in self.monitor else '.4g'}}"
        )
        if verdict is Verdict.STOP:
            print(f"Training ends: {reason} at the lowest learning rate.")
            self.model.stop_training = True
        elif verdict is Verdict.DROP:
            optimizer = self.model.optimizer
            old = float(optimizer.learning_rate.numpy())
            new = old / self.factor
            optimizer.learning_rate = new
            drop = f"drop {rule.drops} of {rule.max_drops}"
            print(f"Learning rate {old:g} -> {new:g} ({drop}): {reason}.")
