"""What watches over `fit`, and ends it when going on makes no sense."""

import math

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.data.bad_examples import BadExamples


class NonfiniteError(UserError):
    """The loss or the gradient of a step is infinite or not a number."""


class NonfiniteCheck(keras.callbacks.Callback):
    """Looks at the loss and the gradient after each step.

    The loss alone is not enough: a ReLU makes zero of what is not a number, so
    that only the gradient of the layers before it tells. Adds `gradient_norm`
    to the logs.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Raises a `NonfiniteError` if one of them is not finite."""
        logs["gradient_norm"] = self.model.optimizer.gradient_norm()
        wrong = [
            f"{name} is {logs[name]}"
            for name in ("loss", "gradient_norm")
            if not math.isfinite(logs[name])
        ]
        if wrong:
            raise NonfiniteError(" and ".join(wrong))

    def on_epoch_end(self, epoch, logs=None):
        """Adds that of the last step to the epoch's logs."""
        logs["gradient_norm"] = self.model.optimizer.gradient_norm()


class BadExampleLimit(keras.callbacks.Callback):
    """Ends the run when too many examples turn out to be unusable.

    Args:
        bad: Where they are noted.
    """

    def __init__(self, bad: BadExamples):
        super().__init__()
        self.bad = bad

    def on_train_batch_end(self, batch, logs=None):
        """Raises a `UserError` if there are too many."""
        self.bad.check()

    def on_epoch_end(self, epoch, logs=None):
        """Raises a `UserError` if validation found too many."""
        self.bad.check()


class StuckLoss(keras.callbacks.Callback):
    """Says once if the training loss stays where guessing would put it.

    Args:
        num_classes: Guessing has the loss ln(num_classes).
        patience: Steps for which the loss must be within 1 % of that.
    """

    # Steps between looks, each at the mean loss since the last.
    _INTERVAL = 100

    def __init__(self, num_classes: int, patience: int = 500):
        super().__init__()
        self.guess = math.log(num_classes)
        self.patience = patience
        self._flat_steps = 0
        self._told = False
        self._start_epoch()

    def _start_epoch(self):
        """Starts the sums anew, as Keras does for its mean of the loss."""
        self._batches, self._steps, self._sum = 0, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the loss now and then."""
        self._batches += 1
        if self._batches % self._INTERVAL == 0:
            self._look(self._batches, logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the rest of the epoch."""
        if self._batches > self._steps:
            self._look(self._batches, logs["loss"])
        self._start_epoch()

    def get_state(self) -> dict:
        """Returns what it has seen."""
        return {
            "flat_steps": self._flat_steps,
            "told": self._told,
            "epoch": [self._batches, self._steps, self._sum],
        }

    def set_state(self, state: dict) -> None:
        """Takes what `get_state` returned."""
        self._flat_steps, self._told = state["flat_steps"], state["told"]
        self._batches, self._steps, self._sum = state["epoch"]

    def _look(self, steps, mean_loss):
        """Takes the mean loss over the first `steps` steps of the epoch."""
        new_steps, total = steps - self._steps, float(mean_loss) * steps
        loss = (total - self._sum) / new_steps
        self._steps, self._sum = steps, total
        is_flat = abs(loss - self.guess) <= 0.01 * self.guess
        self._flat_steps = self._flat_steps + new_steps if is_flat else 0
        if self._flat_steps >= self.patience and not self._told:
            self._told = True
            print(
                f"\nThe loss has stayed within 1 % of {self.guess:.3f}, that "
                f"of guessing, for {self._flat_steps} steps. Likely causes: "
                "--learning_rate too high\nor too low; initial weights that "
                "leave no signal or dead units (--initialisation,\n--width); "
                "--dropout_form=inverted with few classes; labels that do not "
                "belong to\ntheir images. Training goes on."
            )
