"""Callbacks of `fit`: speed, validation, history, and checks of the run."""

import math
import time
from collections.abc import Callable

import keras

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.schedule import Schedule, show
from alexnet_tf.data.pipeline import InputClock
from alexnet_tf.distribution import iterators
from alexnet_tf.evaluation.predictor import SplitPredictor, measure
from alexnet_tf.models.layers import InputNormalization
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.files import shortest
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir, count_from_one
from alexnet_tf.training.checkpointing import Progress


def after_each(function: Callable[[], None]) -> keras.callbacks.Callback:
    """Returns a callback that calls a function after each step and epoch."""

    def call(number, logs):
        function()

    return keras.callbacks.LambdaCallback(
        on_train_batch_end=call, on_epoch_end=call
    )


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` and `input_wait` to the logs.

    Both cover the training steps of the epoch so far, except the first, which
    includes compiling the step or filling the pipeline. `input_wait` is the
    fraction of that time that the devices waited for a batch.
    """

    def __init__(self, batch_size: int, clock: InputClock, progress: Progress):
        super().__init__()
        self.batch_size = batch_size
        self.clock = clock
        self.progress = progress

    def on_epoch_begin(self, epoch, logs=None):
        """Starts over; an epoch of one step has no figures."""
        self._figures = {"images_per_second": math.nan, "input_wait": math.nan}
        self._waited = 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Adds the figures to the step's logs."""
        now = time.perf_counter()
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

    Keras's validation cannot leave out the padding of the last batch.
    `after_batch` is called after each batch of the validation split.
    """

    def __init__(self, predictor: SplitPredictor, after_batch: Callable):
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
    """Adds a row to the run's history.csv after each epoch.

    Checkpoints have the rows, too, except those of version 0.1.
    """

    def __init__(self, run_dir: RunDir):
        super().__init__()
        self.run_dir = run_dir
        self._rows: list[dict] | None = None

    def recover(self, epochs_done: int) -> None:
        """Makes history.csv agree with the epochs done, and reports it."""
        try:
            found = self.run_dir.read_history()
        except UserError as error:
            print(error)
            found = []
        rows, source = self._rows, "from the checkpoint"
        if rows is None:
            source = "but lost rows stay empty"
            if len(found) > 1 and not epochs_done:
                raise UserError(
                    f"{self.run_dir.history} has {len(found)} rows, but "
                    f"{self.run_dir.checkpoints} has no checkpoint of an epoch."
                    " Restore them from a copy, or give another --run_dir."
                )
            rows = found[:epochs_done]
            missing = range(len(rows) + 1, epochs_done + 1)
            empty = dict.fromkeys(HISTORY_COLUMNS, "")
            rows += [empty | {"epoch": str(epoch)} for epoch in missing]
        if found[:epochs_done] != rows:
            print(
                f"{self.run_dir.history} lacked rows of the {epochs_done} "
                f"epochs done; it is written anew, {source}."
            )
            self.run_dir.write_history(rows)
        self._rows = rows

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's row after those of earlier epochs."""
        step = int(self.model.optimizer.iterations.numpy())
        rate = self.model.optimizer.last_rate()
        row = {"epoch": epoch + 1, "step": step, "learning_rate": rate, **logs}
        row = {column: shortest(row[column]) for column in HISTORY_COLUMNS}
        self._rows = [*self._rows[:epoch], row]
        self.run_dir.write_history(self._rows)

    def get_state(self) -> list[dict] | None:
        """Returns the rows of the epochs done."""
        return self._rows

    def set_state(self, state: list[dict]) -> None:
        """Restores what `get_state` returned."""
        self._rows = count_from_one(state)


class RayReport(keras.callbacks.Callback):
    """Reports each epoch's logs and checkpoint to Ray Train.

    Ray copies the checkpoint to its own storage. The run goes on from that in
    its run directory.
    """

    def __init__(self, run_dir: RunDir):
        super().__init__()
        self.run_dir = run_dir

    def on_epoch_end(self, epoch, logs=None):
        """Reports on all workers, as Ray demands; the chief's report counts."""
        import ray.train  # In requirements-ray.txt.

        checkpoint = None
        if not self.run_dir.worker:
            newest = checkpoints.newest(self.run_dir.checkpoints)
            checkpoint = ray.train.Checkpoint.from_directory(newest)
        metrics = {name: float(value) for name, value in logs.items()}
        ray.train.report({"epoch": epoch + 1, **metrics}, checkpoint)


class ScheduleDates(keras.callbacks.Callback):
    """Prints the dates of a schedule and switches the color noise.

    The optimizer finds its rates by the step; `learning_rate` is the one that
    a run keeps if it goes on without the schedule.
    """

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule

    def on_epoch_begin(self, epoch, logs=None):
        """Prints what changes in the epoch, and switches the noise."""
        schedule = self.schedule
        for date, changes in zip(schedule.dates, schedule.changes, strict=True):
            if epoch <= date < epoch + 1:
                new = ", ".join(f"{n}={show(v)}" for n, v in changes.items())
                print(f"Schedule, {date:g} epochs done: {new}")
        rate = schedule.value("weights", epoch)
        self.model.optimizer.learning_rate = rate
        has_noise = schedule.value("color_noise", epoch)
        layers = [
            layer
            for layer in self.model.layers
            if isinstance(layer, InputNormalization)
        ]
        if any(layer.has_noise != has_noise for layer in layers):
            for layer in layers:
                layer.has_noise = has_noise
            self.model.make_train_function(force=True)  # To trace it again.
            iterators.keep_those_of_fit(self.model)


class NonfiniteError(UserError):
    """The loss or the gradient of a step is infinite or not a number."""


class NonfiniteCheck(keras.callbacks.Callback):
    """Ends training at a nonfinite loss or gradient.

    The loss alone is not enough: ReLU turns NaN into zero, so that only the
    gradient of the layers before it shows it. Adds `gradient_norm` to the logs.
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
        """Adds the norm of the last step to the epoch's logs."""
        logs["gradient_norm"] = self.model.optimizer.gradient_norm()


class StuckLoss(keras.callbacks.Callback):
    """Warns once if the training loss stays at chance level, ln(num_classes).

    That is, within 1 % of it for `patience` steps.
    """

    # Steps between checks, each of the mean loss since the last one.
    _INTERVAL = 100

    def __init__(self, num_classes: int, patience: int = 500):
        super().__init__()
        self.chance = math.log(num_classes)
        self.patience = patience
        self._flat_steps = 0
        self._warned = False
        self._start_epoch()

    def _start_epoch(self):
        # As Keras resets its mean of the loss.
        self._batches, self._steps, self._sum = 0, 0, 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Checks the loss every few steps."""
        self._batches += 1
        if self._batches % self._INTERVAL == 0:
            self._check(self._batches, logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        """Checks the loss of the rest of the epoch."""
        if self._batches > self._steps:
            self._check(self._batches, logs["loss"])
        self._start_epoch()

    def get_state(self) -> dict:
        """Returns what changes during training."""
        return {
            "flat_steps": self._flat_steps,
            "told": self._warned,  # The name in existing checkpoints.
            "epoch": [self._batches, self._steps, self._sum],
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` returned."""
        self._flat_steps, self._warned = state["flat_steps"], state["told"]
        self._batches, self._steps, self._sum = state["epoch"]

    def _check(self, steps, mean_loss):
        """Takes the mean loss over the first `steps` steps of the epoch."""
        new_steps, total = steps - self._steps, float(mean_loss) * steps
        loss = (total - self._sum) / new_steps
        self._steps, self._sum = steps, total
        is_flat = abs(loss - self.chance) <= 0.01 * self.chance
        self._flat_steps = self._flat_steps + new_steps if is_flat else 0
        if self._flat_steps >= self.patience and not self._warned:
            self._warned = True
            print(
                f"The loss has stayed within 1 % of {self.chance:.3f}, "
                f"chance level, for {self._flat_steps} steps. Likely causes: "
                "--learning_rate too high or too\nlow; initial weights that "
                "leave no signal or dead units (--initialization, --width);\n"
                "--dropout_form=inverted with few classes; labels that do not "
                "match their images.\nTraining continues."
            )
