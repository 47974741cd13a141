"""A run's checkpoints: when they are written, and how a run goes on from one.

All that training depends on is a variable (weights, momentum, learning rate,
counters of random draws, sums of metrics), a function of the step (the data),
or the state of an object that can give and take it (`Stateful`).
"""

from pathlib import Path
from typing import Protocol

import keras
import tensorflow as tf

from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints, variables
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.progress import Progress
from alexnet_tf.training.signals import StopRequest


class Stateful(Protocol):
    """What survives an interruption beside variables."""

    def get_state(self) -> dict:
        """Returns JSON values."""

    def set_state(self, state: dict) -> None:
        """Takes what `get_state` returned."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the run each epoch, now and then between, and when asked to stop.

    Args:
        run: The run directory.
        progress: How far the run is; kept up to date.
        parts: What is saved beside variables, by name.
        stop: Asked after each step.
        keep: Newest checkpoints to keep beside the best one.
        every_steps: Steps between checkpoints within an epoch; 0 for none.
        from_start: Whether to save before the first step, too.
    """

    def __init__(
        self,
        run: RunDir,
        progress: Progress,
        parts: dict[str, Stateful],
        stop: StopRequest,
        *,
        keep: int,
        every_steps: int,
        from_start: bool,
    ):
        super().__init__()
        self.run = run
        self.progress = progress
        self.parts = parts
        self.stop = stop
        self.keep = keep
        self.every_steps = every_steps
        self.from_start = from_start
        self.sums = {}

    def restore(self, model: keras.Model) -> Path | None:
        """Takes up a run where its newest whole checkpoint left it.

        Args:
            model: The model, compiled, with its optimizer built.

        Returns:
            The checkpoint, None if the run has none.

        Raises:
            UserError: if there are checkpoints, but all are damaged.
        """
        checkpoint = checkpoints.newest(self.run.checkpoints)
        if checkpoint is None:
            return None
        variables.restore(
            checkpoint, model.variables + model.optimizer.variables
        )
        state = checkpoints.read_state(checkpoint)
        self.progress.set_state(state)
        for name, part in self.parts.items():
            part.set_state(state["parts"][name])
        self.sums = variables.read_prefixed(checkpoint, _SUMS)
        return checkpoint

    def on_train_begin(self, logs=None):
        """Saves a run that may have to come back to its start."""
        if self.from_start and self.progress.step == 0:
            self._save({})

    def on_epoch_begin(self, epoch, logs=None):
        """Gives the metrics of an epoch that was interrupted their sums."""
        if self.sums:
            _set_sums(self.model, self._workers(), self.sums)
            self.sums = {}
        self._note_figures()  # If its last steps were left out.

    def on_train_batch_end(self, batch, logs=None):
        """Counts, saves, and stops if asked to."""
        self.progress.advance()
        self._note_figures()
        self.stop_if_asked()
        if self.every_steps and self.progress.step % self.every_steps == 0:
            self._save({})

    def on_epoch_end(self, epoch, logs=None):
        """Saves the run with the epoch's error."""
        self.progress.epochs_done = epoch + 1
        self.progress.logs = {}
        self.progress.stopped = self.model.stop_training
        self._save(logs)
        if self.stop.is_made():
            self._exit()

    def _note_figures(self):
        """Keeps the figures of an epoch whose steps are done."""
        progress = self.progress
        if progress.batches >= progress.steps_per_epoch and not progress.logs:
            # Not `logs`, which Keras sums over the replicas in another way
            # than the figures of the epoch.
            results = self.model.get_metrics_result()
            progress.logs = {n: float(results[n]) for n in results}

    def stop_if_asked(self) -> None:
        """Saves the run in the middle of an epoch and ends the process."""
        if self.stop.is_made():
            self._save({})
            self._exit()

    def _exit(self):
        # Not before the chief has saved, who would miss the others.
        self._workers().wait()
        self.stop.exit(self.progress.step)

    def _workers(self):
        return Workers(self.model.distribute_strategy)

    def _save(self, logs):
        workers = self._workers()
        values = variables.values_of(
            self.model.variables + self.model.optimizer.variables
        )
        if self.progress.batches and not self.progress.logs:
            values |= _get_sums(self.model, workers)
        if not workers.is_chief:
            return
        state = {
            **self.progress.get_state(),
            "val_top1_error": logs.get("val_top1_error"),
            "val_loss": logs.get("val_loss"),
            "parts": {n: part.get_state() for n, part in self.parts.items()},
        }
        checkpoints.save(self.run.checkpoints, values, state)
        checkpoints.prune(self.run.checkpoints, keep=self.keep)


_SUMS = "metric_sums/"


def _replica_sums(model):
    """Returns the variables of metrics by name, one for each replica."""
    results = model.distribute_strategy.experimental_local_results
    return {
        f"{_SUMS}{number}": results(variable.value)
        for number, variable in enumerate(model.metrics_variables)
    }


def _get_sums(model, workers):
    return {
        name: workers.gather(tf.stack(replicas).numpy())
        for name, replicas in _replica_sums(model).items()
    }


def _set_sums(model, workers, sums):
    for name, replicas in _replica_sums(model).items():
        saved = sums[name]
        count = len(replicas) * workers.count
        if len(saved) != count:  # Other devices than before.
            first = saved.sum(axis=0, keepdims=True)
            saved = [*first, *([0 * first[0]] * (count - 1))]
        own = saved[len(replicas) * workers.index :]
        for replica, value in zip(replicas, own, strict=False):
            replica.assign(value)
