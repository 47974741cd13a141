"""When checkpoints are written, and how a run continues from one.

Everything that training depends on is a variable (weights, momentum, learning
rate, counters of random draws, metric totals), a function of the step (the
data), or the state of an object with `get_state` and `set_state`, in JSON.
"""

import dataclasses
import shlex
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_tf.config.commands import call
from alexnet_tf.config.errors import UserError
from alexnet_tf.data.shuffling import ORDER_VERSION
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.signals import StopRequest

_TOTALS = "metric_sums/"


@dataclasses.dataclass
class Progress:
    """How far a run is."""

    steps_per_epoch: int
    step: int = 0  # Steps done.
    epochs_done: int = 0  # Epochs done, including their validation.
    stopped: bool = False  # Whether the plateau rule has ended training.
    # Steps left out because they made the weights nonfinite.
    skipped: list[int] = dataclasses.field(default_factory=list)
    # Learning rate last set by --override_learning_rate.
    forced_rate: float | None = None
    # Metrics of an epoch that only lacks its validation.
    logs: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def steps_in_epoch(self) -> int:
        """Steps done of the current epoch."""
        return self.step - self.epochs_done * self.steps_per_epoch

    def advance(self) -> None:
        """Counts a step, and the skipped ones after it."""
        self.step += 1
        self.skip(self.skipped)

    def skip(self, steps: list[int]) -> None:
        """Leaves out steps that have not been done."""
        self.skipped = steps
        while self.step in self.skipped:
            self.step += 1

    def steps_to(self, epoch: int) -> list[range]:
        """Returns the steps that remain until `epoch` epochs are done."""
        start, stop = self.step, epoch * self.steps_per_epoch
        holes = sorted(n for n in self.skipped if start <= n < stop)
        starts = [start, *(hole + 1 for hole in holes)]
        return [part for part in map(range, starts, [*holes, stop]) if part]

    def get_state(self) -> dict:
        """Returns what changes during training."""
        state = dataclasses.asdict(self)
        del state["steps_per_epoch"]
        return state

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` returned; `state` may contain more."""
        for name in self.get_state():
            setattr(self, name, state[name])


class ProgressTracker(keras.callbacks.Callback):
    """Keeps a `Progress` up to date."""

    def __init__(self, progress: Progress):
        super().__init__()
        self.progress = progress

    def on_epoch_begin(self, epoch, logs=None):
        """Keeps the metrics of an epoch whose last steps were left out."""
        self._keep_logs()

    def on_train_batch_begin(self, batch, logs=None):
        """Counts skipped steps for the optimizer, whose rate is by step."""
        if self.progress.skipped:
            self.model.optimizer.iterations.assign(self.progress.step)

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self.progress.advance()
        self._keep_logs()

    def on_epoch_end(self, epoch, logs=None):
        """Counts the epoch."""
        self.progress.epochs_done = epoch + 1
        self.progress.logs = {}
        self.progress.stopped = self.model.stop_training

    def _keep_logs(self):
        progress = self.progress
        is_last = progress.steps_in_epoch >= progress.steps_per_epoch
        if is_last and not progress.logs:
            # Not `logs`, which Keras sums over the replicas in another way
            # than the metrics of the epoch.
            results = self.model.get_metrics_result()
            progress.logs = {name: float(results[name]) for name in results}


class MetricTotals(keras.callbacks.Callback):
    """Carries an interrupted epoch's metric totals into the resumed epoch."""

    def __init__(self, workers: Workers):
        super().__init__()
        self.workers = workers
        self._saved: dict = {}

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the totals, after Keras has reset them."""
        for name, saved in self._saved.items():
            replicas = self._variables()[name]
            count = len(replicas) * self.workers.count
            if len(saved) != count:  # Other devices than before.
                total = saved.sum(axis=0)
                saved = [total, *([0 * total] * (count - 1))]
            own = saved[len(replicas) * self.workers.index :]
            for replica, value in zip(replicas, own, strict=False):
                replica.assign(value)
        self._saved = {}

    def read(self, checkpoint: Path) -> None:
        """Reads the totals to be restored from a checkpoint."""
        self._saved = checkpoints.read_prefixed(checkpoint, _TOTALS)

    def values(self) -> dict:
        """Returns the totals of all replicas, for a checkpoint."""
        return {
            name: self.workers.gather(tf.stack(replicas).numpy())
            for name, replicas in self._variables().items()
        }

    def _variables(self):
        """Returns the metrics' variables by name, one for each replica."""
        results = self.model.distribute_strategy.experimental_local_results
        return {
            f"{_TOTALS}{number}": results(variable.value)
            for number, variable in enumerate(self.model.metrics_variables)
        }


@dataclasses.dataclass(eq=False)
class Checkpointer(keras.callbacks.Callback):
    """Saves the run; must come after the callbacks whose state it saves."""

    run_dir: RunDir
    progress: Progress
    totals: MetricTotals
    workers: Workers
    parts: dict  # Other objects with state, by name.
    keep: int  # Newest checkpoints to keep besides the best one.
    every_steps: int  # Steps between checkpoints within an epoch; 0 for none.
    from_start: bool  # Whether to save before the first step, too.

    def __post_init__(self):
        super().__init__()
        self._last_saved: tuple[int, int] | None = None

    def restore(self, model: keras.Model) -> Path | None:
        """Restores and returns the newest undamaged checkpoint, if any.

        The model must be compiled, with its optimizer built.
        """
        checkpoint = checkpoints.newest(self.run_dir.checkpoints)
        if checkpoint is None:
            return None
        variables = model.variables + model.optimizer.variables
        checkpoints.restore(checkpoint, variables)
        state = checkpoints.read_state(checkpoint)
        if "parts" not in state:
            raise UserError(
                f"{checkpoint} is imported, not trained, and "
                f"{self.run_dir.result} is lost. Import it again, or start a "
                f"new run with --init_from={self.run_dir.path}."
            )
        self.progress.set_state(state)
        for name, part in self.parts.items():
            if name in state["parts"]:  # "history" is not in those of 0.1.
                part.set_state(state["parts"][name])
        self.totals.read(checkpoint)
        self._last_saved = None  # After a rollback, steps are saved again.
        # The first checkpoints do not record it.
        if state.get("order_version", 1) != ORDER_VERSION:
            self._report_other_order()
        return checkpoint

    def _report_other_order(self):
        text = "An earlier version of this program shuffled the images of this "
        text += "run in another order. It continues in the new one"
        if self.progress.steps_in_epoch:
            text += (
                f": the rest of epoch {self.progress.epochs_done + 1} may "
                "repeat images of its\nbeginning, and leave out others"
            )
        print(f"{text}.")

    def on_train_begin(self, logs=None):
        """Saves a run that may have to roll back to its start."""
        if self.from_start and self.progress.step == 0:
            self.save()

    def on_train_batch_end(self, batch, logs=None):
        """Saves every few steps."""
        if self.every_steps and self.progress.step % self.every_steps == 0:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        """Saves the run with the epoch's validation error."""
        self.save(logs)

    def save(self, logs: dict | None = None) -> None:
        """Writes a checkpoint, unless one was just written.

        `logs` are the metrics of an epoch that is finished.
        """
        now = (self.progress.step, self.progress.epochs_done)
        if now == self._last_saved:
            return
        self._last_saved = now
        variables = self.model.variables + self.model.optimizer.variables
        values = checkpoints.values_of(variables)
        if self.progress.steps_in_epoch and not self.progress.logs:
            values |= self.totals.values()
        if not self.workers.is_chief:
            return
        state = {
            **self.progress.get_state(),
            "order_version": ORDER_VERSION,
            "val_top1_error": logs["val_top1_error"] if logs else None,
            "val_loss": logs["val_loss"] if logs else None,
            "parts": {n: part.get_state() for n, part in self.parts.items()},
        }
        checkpoints.save(self.run_dir.checkpoints, values, state)
        checkpoints.prune(self.run_dir.checkpoints, keep=self.keep)

    def stop_on(self, request: StopRequest) -> None:
        """Saves and ends the process if a stop is requested."""
        if request.is_made():
            self.save()
            # Not before the chief has saved, which needs the other workers.
            self.workers.wait()
            flag = f"--run_dir={self.run_dir.path}"
            how = f"To resume: {call(flag)}"
            if self.workers.count > 1:
                how = f"The same command with {shlex.quote(flag)} resumes."
            request.exit(f"Stopped after step {self.progress.step}. {how}")
