"""The plateau rule: when the learning rate drops and training ends (Sec. 5).

The paper divides the rate by 10 when the validation error stops improving at
the current rate, three times before training ends. It does not say how long to
wait; the author of the 2012 source waited about 26 epochs per level.
"""

import dataclasses
import enum
import math

import keras


class Verdict(enum.Enum):
    """What an epoch's validation error means for the next epoch."""

    CONTINUE = "continue"
    DROP = "drop"
    STOP = "stop"


@dataclasses.dataclass
class PlateauRule:
    """Decides when the learning rate drops, without Keras.

    Args:
        patience: Epochs without a new lowest error that make a plateau.
        max_drops: Drops allowed; the plateau after the last one ends training.
        best: Lowest error so far, in [0, 1].
        wait: Epochs since `best` or the last drop.
        drops: Drops so far.
    """

    patience: int
    max_drops: int
    best: float = math.inf
    wait: int = 0
    drops: int = 0

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
        for name, value in state.items():
            setattr(self, name, value)


class PlateauSchedule(keras.callbacks.Callback):
    """Applies a `PlateauRule` to the validation top-1 error of each epoch.

    Args:
        rule: The rule.
        factor: A drop divides the learning rate by this.
    """

    def __init__(self, rule: PlateauRule, factor: float):
        super().__init__()
        self.rule = rule
        self.factor = factor

    def on_epoch_end(self, epoch, logs=None):
        """Drops the learning rate or ends training, and prints why."""
        verdict = self.rule.update(logs["val_top1_error"])
        if verdict is Verdict.CONTINUE:
            return
        reason = (
            f"{self.rule.patience} epochs without a validation top-1 error "
            f"below {self.rule.best:.4f}"
        )
        if verdict is Verdict.STOP:
            print(f"Training ends: {reason} at the lowest learning rate.")
            self.model.stop_training = True
            return
        optimizer = self.model.optimizer
        old = float(optimizer.learning_rate.numpy())
        optimizer.learning_rate = old / self.factor
        print(
            f"Learning rate {old:g} -> {old / self.factor:g} (drop "
            f"{self.rule.drops} of {self.rule.max_drops}): {reason}."
        )
