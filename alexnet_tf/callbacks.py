"""What happens during `fit`: speed, learning rate, history, checkpoints.

They belong in this order: `Throughput` and `Validation` first, since they add
to the logs that the others record, and `saving.Checkpoint` last, since it saves
their state.
"""

import math
import time
from collections.abc import Callable

import keras

from alexnet_tf.bad_examples import BadExamples
from alexnet_tf.evaluation import SplitPredictor, measure
from alexnet_tf.plateau import PlateauRule, Verdict
from alexnet_tf.run_dir import HISTORY_COLUMNS, RunDir


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` to the logs.

    Counted over the training steps of an epoch so far, without the first one,
    which contains compiling the step or filling the pipeline, and without
    validation.

    Args:
        batch_size: Images a step, over all replicas.
    """

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_train_batch_end(self, batch, logs=None):
        """Adds the figure to the progress bar's logs."""
        now = time.perf_counter()
        if batch == 0:
            self._first_step_end = now
        else:
            images = batch * self.batch_size
            self._speed = images / (now - self._first_step_end)
            logs["images_per_second"] = self._speed

    def on_epoch_begin(self, epoch, logs=None):
        """Starts anew; an epoch of one step has no figure."""
        self._speed = float("nan")

    def on_epoch_end(self, epoch, logs=None):
        """Adds the figure to the epoch's logs."""
        logs["images_per_second"] = self._speed


class Validation(keras.callbacks.Callback):
    """Adds `val_loss`, `val_top1_error` and `val_top5_error` to the logs.

    Keras's own validation has no way to leave out what fills up the last
    batch.

    Args:
        predictor: Predicts the validation split.
        after_batch: Called after each of its batches.
    """

    def __init__(
        self, predictor: SplitPredictor, after_batch: Callable[[], None]
    ):
        super().__init__()
        self.predictor = predictor
        self.after_batch = keras.callbacks.LambdaCallback(
            on_predict_batch_end=lambda batch, logs: after_batch()
        )

    def on_epoch_end(self, epoch, logs=None):
        """Measures the loss and the errors on the centre patches."""
        predicted = self.predictor.predict(callbacks=[self.after_batch])
        measured = measure(predicted["center"], predicted["labels"])
        for name in ("loss", "top1_error", "top5_error"):
            logs[f"val_{name}"] = measured[name]


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

    # Steps between looks: asking for a step's loss waits for the step.
    _INTERVAL = 100

    def __init__(self, num_classes: int, patience: int = 500):
        super().__init__()
        self.guess = math.log(num_classes)
        self.patience = patience
        self._flat_steps = 0
        self._told = False
        self._resumed = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the sums anew, as Keras does for its mean of the loss."""
        self._batches, self._steps, self._sum = self._resumed or (0, 0, 0.0)
        self._resumed = None

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the loss now and then."""
        self._batches += 1
        if self._batches % self._INTERVAL == 0:
            self._look(self._batches, logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the rest of the epoch."""
        if self._batches > self._steps:
            self._look(self._batches, logs["loss"])

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
        self._resumed = state["epoch"]

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


class History(keras.callbacks.Callback):
    """Adds a row to the run's history.csv after each epoch.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDir):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's row; rows of epochs run before stay."""
        rows = [
            row for row in self.run.read_history() if int(row["epoch"]) < epoch
        ]
        optimizer = self.model.optimizer
        row = {
            "epoch": epoch,
            "step": int(optimizer.iterations.numpy()),
            "learning_rate": float(optimizer.learning_rate.numpy()),
            **logs,
        }
        rows.append({column: row[column] for column in HISTORY_COLUMNS})
        self.run.write_history(rows)


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
