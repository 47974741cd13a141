"""What happens during `fit`: speed, validation, history, learning rate."""

import time
from collections.abc import Callable

import keras

from alexnet_tf import STARTED
from alexnet_tf.data.input_clock import InputClock
from alexnet_tf.evaluation.predictor import SplitPredictor, measure
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir
from alexnet_tf.training.plateau import PlateauRule, Verdict
from alexnet_tf.training.progress import Progress


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
        """Measures the loss and the errors on the centre patches."""
        predicted = self.predictor.predict(after_batch=self.after_batch)
        measured = measure(predicted["center"], predicted["labels"])
        for name in ("loss", "top1_error", "top5_error"):
            logs[f"val_{name}"] = measured[name]


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
            "learning_rate": optimizer.current_rate(),
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
