"""Callbacks of `fit`: speed, validation, history, and what ends a bad run."""

import math
import time
from collections.abc import Callable

import keras

from alexnet_tf import STARTED
from alexnet_tf.config.errors import UserError
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.pipeline import InputClock
from alexnet_tf.evaluation.predictor import SplitPredictor, measure
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir
from alexnet_tf.training.checkpointing import Progress


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` and `input_wait` to the logs.

    Both are counted over the training steps of an epoch so far, without the
    first one, which contains compiling the step or filling the pipeline, and
    without validation. `input_wait` is the share of that time, in 0..1, for
    which the devices waited for a batch.

    Args:
        batch_size: Images a step, over all replicas.
        clock: Knows when batches were ready.
        progress: Knows the number of the step.
    """

    def __init__(self, batch_size: int, clock: InputClock, progress: Progress):
        super().__init__()
        self.batch_size = batch_size
        self.clock = clock
        self.progress = progress
        self._has_begun = False

    def on_epoch_begin(self, epoch, logs=None):
        """Starts anew; an epoch of one step has no figures."""
        self._figures = dict.fromkeys(
            ("images_per_second", "input_wait"), float("nan")
        )
        self._waited = 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Adds the figures to the progress bar's logs."""
        now = time.perf_counter()
        if not self._has_begun:
            self._has_begun = True
            print(f"\nFirst step done after {now - STARTED:.1f} s.")
        if batch == 0:
            self._start = now
        else:
            self._waited += self.clock.waited(self.progress.step, self._last)
            seconds = now - self._start
            self._figures = {
                "images_per_second": batch * self.batch_size / seconds,
                "input_wait": self._waited / seconds,
            }
            logs |= self._figures
        self._last = now

    def on_epoch_end(self, epoch, logs=None):
        """Adds the figures to the epoch's logs."""
        logs |= self._figures


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
        self.after_batch = after_batch

    def on_epoch_end(self, epoch, logs=None):
        """Measures the loss and the errors on the center patches."""
        predicted = self.predictor.predict(after_batch=self.after_batch)
        measured = measure(predicted["center"], predicted["labels"])
        for name in ("loss", "top1_error", "top5_error"):
            logs[f"val_{name}"] = measured[name]


class History(keras.callbacks.Callback):
    """Adds a row to the run's history.csv after each epoch."""

    def __init__(self, run_dir: RunDir):
        super().__init__()
        self.run_dir = run_dir

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's row; rows of epochs run before stay."""
        rows = [
            row
            for row in self.run_dir.read_history()
            if int(row["epoch"]) < epoch
        ]
        optimizer = self.model.optimizer
        row = {
            "epoch": epoch,
            "step": int(optimizer.iterations.numpy()),
            "learning_rate": optimizer.current_rate(),
            **logs,
        }
        rows.append({column: row[column] for column in HISTORY_COLUMNS})
        self.run_dir.write_history(rows)


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
                "leave no signal or dead units (--initialization,\n--width); "
                "--dropout_form=inverted with few classes; labels that do not "
                "belong to\ntheir images. Training goes on."
            )
