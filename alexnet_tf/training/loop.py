"""Training from where a run stands to its last epoch, with Keras's `fit`."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.distribution import iterators
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints
from alexnet_tf.training.callbacks import NonfiniteError
from alexnet_tf.training.checkpointing import Checkpointer


def fit_to_end(
    model: keras.Model,
    make_batches: Callable[[range], tf.data.Dataset],
    callbacks: Sequence[keras.callbacks.Callback],
    *,
    epochs: int,
    workers: Workers,
    checkpointer: Checkpointer,
    record_batch: Callable[[int], str],
    max_rollbacks: int,
) -> None:
    """Trains until `epochs` epochs are done or the plateau rule stops.

    A step whose loss or gradient is not finite ends the run, or the run goes
    back to its last checkpoint and leaves that batch out. `make_batches`
    returns the dataset of some steps; `record_batch` writes down the examples
    of a step and returns a sentence about them.
    """
    iterators.keep_those_of_fit(model)
    progress = checkpointer.progress
    while not progress.stopped and progress.epochs_done < epochs:
        size = progress.steps_per_epoch
        whole = range(progress.epochs_done * size, epochs * size)
        # `fit` gives all epochs as many steps, but a resumed epoch, or one that
        # leaves out a bad batch, has fewer.
        last = epochs
        if progress.steps_to(epochs) != [whole]:
            last = progress.epochs_done + 1
        try:
            if progress.steps_to(last):
                _fit(model, make_batches, callbacks, progress, last, workers)
            else:
                _finish_epoch(model, callbacks, progress)
        except NonfiniteError as error:
            _roll_back(model, checkpointer, record_batch, max_rollbacks, error)


def _fit(model, make_batches, callbacks, progress, last_epoch, workers):
    steps = progress.steps_to(last_epoch)
    first, *others = map(make_batches, steps)
    for other in others:
        first = first.concatenate(other)
    num_epochs = last_epoch - progress.epochs_done
    model.fit(
        workers.distribute(first),
        steps_per_epoch=sum(map(len, steps)) // num_epochs,
        initial_epoch=progress.epochs_done,
        epochs=last_epoch,
        callbacks=list(callbacks),
        shuffle=False,  # The batches are shuffled already.
        verbose=0,  # `ProgressLine` shows more.
    )


def _finish_epoch(model, callbacks, progress):
    """Does what `fit` does after the last step of an epoch."""
    at_end = keras.callbacks.CallbackList(list(callbacks), model=model)
    at_end.on_train_begin()
    model.reset_metrics()
    at_end.on_epoch_begin(progress.epochs_done)
    at_end.on_epoch_end(progress.epochs_done, dict(progress.logs))
    at_end.on_train_end()


def _roll_back(model, checkpointer, record_batch, max_rollbacks, error):
    progress = checkpointer.progress
    step, skipped = progress.step, progress.skipped
    cause = f"step {step}: {error}.\n{record_batch(step)}"
    good = checkpoints.newest(checkpointer.run_dir.checkpoints)
    if len(skipped) >= max_rollbacks or not good:
        advice = "leave such batches out with --on_nonfinite=rollback"
        if max_rollbacks:
            advice = f"allow more than --max_rollbacks={max_rollbacks}"
        raise UserError(
            f"{cause}\nThe last good checkpoint is {good or 'none'}. Try a "
            "lower --learning_rate with --override_learning_rate, lower rates "
            f"in --schedule, or {advice}."
        ) from error
    checkpointer.restore(model)
    progress.skip([*skipped, step])
    print(
        f"{cause}\nBack at {good}, continuing without that batch; rollback "
        f"{len(progress.skipped)} of at most {max_rollbacks}.",
        flush=True,
    )
