"""From where a run stands to its last epoch, with `keras.Model.fit`."""

import sys
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints
from alexnet_tf.training.checkpointing import Checkpoint
from alexnet_tf.training.watchdogs import NonfiniteError


def fit_to_end(
    model: keras.Model,
    batches: Callable[[range], tf.data.Dataset],
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoint: Checkpoint,
    note_batch: Callable[[int], str],
    max_rollbacks: int,
) -> None:
    """Trains, from the step at which the run stands.

    A step that ruins the weights ends the run. Or the run goes back to its
    last checkpoint and leaves that batch out.

    Args:
        model: The model, compiled.
        batches: Makes the dataset of some steps.
        epochs: Epochs of the whole run.
        callbacks: All but the last one,
        checkpoint: which is this; it knows where the run stands.
        note_batch: Notes which examples are in a step's batch, and says so.
        max_rollbacks: How often the run may go back.

    Raises:
        UserError: if the loss or the gradient of a step is not finite, and
            the run may not go back, or not once more.
    """
    progress = checkpoint.progress
    callbacks = [*callbacks, checkpoint]
    iterators.keep_those_of_fit(model)
    while not progress.stopped and progress.epochs_done < epochs:
        rest = progress.steps_to(progress.epochs_done + 1)
        # An epoch that was begun before has fewer steps than the others.
        is_whole = sum(map(len, rest)) == progress.steps_per_epoch
        last = epochs if is_whole else progress.epochs_done + 1
        try:
            _fit(model, batches, last, callbacks, progress)
        except NonfiniteError as error:
            _roll_back(model, checkpoint, note_batch, max_rollbacks, error)


def _fit(model, batches, last_epoch, callbacks, progress):
    steps = progress.steps_to(last_epoch)
    if not steps:  # All of the epoch is done but what follows its last step.
        _end_epoch(model, progress, callbacks)
        return
    first_epoch = progress.epochs_done
    workers = Workers(model.distribute_strategy)
    model.fit(
        workers.distribute(_concatenate(map(batches, steps))),
        steps_per_epoch=sum(map(len, steps)) // (last_epoch - first_epoch),
        initial_epoch=first_epoch,
        epochs=last_epoch,
        callbacks=callbacks,
        shuffle=False,  # The batches are in their order already.
        verbose=_verbosity(workers),
    )


def _verbosity(workers):
    """Returns a moving bar on a screen, a line an epoch in a log file."""
    if not workers.is_chief:
        return 0
    return 1 if sys.stdout.isatty() else 2


def _concatenate(datasets):
    whole, *others = datasets
    for other in others:
        whole = whole.concatenate(other)
    return whole


def _end_epoch(model, progress, callbacks):
    """Does what `fit` does after the last step of an epoch."""
    at_end = keras.callbacks.CallbackList(callbacks, model=model)
    at_end.on_train_begin()
    model.reset_metrics()
    at_end.on_epoch_begin(progress.epochs_done)
    at_end.on_epoch_end(progress.epochs_done, dict(progress.logs))
    at_end.on_train_end()


def _roll_back(model, checkpoint, note_batch, max_rollbacks, error):
    progress = checkpoint.progress
    step, skipped = progress.step, progress.skipped
    told = f"step {step}: {error}.\n{note_batch(step)}"
    good = checkpoints.newest(checkpoint.run.checkpoints)
    if len(skipped) >= max_rollbacks or not good:
        advice = "leave such batches out with --on_nonfinite=rollback"
        if max_rollbacks:
            advice = f"allow more than --max_rollbacks={max_rollbacks}"
        raise UserError(
            f"{told}\nThe last good checkpoint is {good or 'none'}. Try a "
            "lower --learning_rate with --override_learning_rate, or "
            f"{advice}."
        ) from error
    checkpoint.restore(model)
    progress.leave_out([*skipped, step])
    print(
        f"\n{told}\nBack at {good}, going on without that batch; rollback "
        f"{len(progress.skipped)} of at most {max_rollbacks}.",
        flush=True,
    )
