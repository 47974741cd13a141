"""When the learning rate drops, and when training ends (Sec. 5).

The paper divides the rate by 10 when the validation error no longer improves
at the current rate, three times before the end of training. How long to wait
it does not say; the 2012 source's author waited for about 26 epochs a level.
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
    """Watches an error; asks for a drop of the rate when it stops falling.

    Args:
        patience: Epochs without a new lowest error that make a plateau.
        max_drops: Drops allowed; the plateau after the last one is the end.
        best: Lowest error so far, a fraction in [0, 1]; infinite at first.
        wait: Epochs since `best`, or since the last drop.
        drops: Drops so far.
    """

    patience: int
    max_drops: int
    best: float = math.inf
    wait: int = 0
    drops: int = 0

    def update(self, error: float) -> Verdict:
        """Takes in an epoch's error; NaN never counts as an improvement."""
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
        """Returns what changes, but not the settings."""
        return {"best": self.best, "wait": self.wait, "drops": self.drops}

    def set_state(self, state: dict) -> None:
        """Takes what `get_state` returned."""
        for name, value in state.items():
            setattr(self, name, value)


class PlateauSchedule(keras.callbacks.Callback):
    """Drops the learning rate, and ends training, as a `PlateauRule` says.

    Args:
        rule: The rule; it sees the validation top-1 error of each epoch.
        factor: A drop divides the learning rate by this.
    """

    def __init__(self, rule: PlateauRule, factor: float):
        super().__init__()
        self.rule = rule
        self.factor = factor

    def on_epoch_end(self, epoch, logs=None):
        """Applies the rule's verdict and says so."""
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
