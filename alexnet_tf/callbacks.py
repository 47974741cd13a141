"""What happens during `fit`: speed, learning rate, history, checkpoints.

They belong in this order: `Throughput` first, since it adds to the logs that
the others record, and `Checkpoint` last, since it saves their state.
"""

import dataclasses
import time

import keras

from alexnet_tf import checkpoints
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


class Checkpoint(keras.callbacks.Callback):
    """Saves the run after each epoch.

    Args:
        run: The run directory.
        rule: The plateau rule, whose state is saved with the variables.
        keep: Newest checkpoints to keep beside the best one.
    """

    def __init__(self, run: RunDir, rule: PlateauRule, keep: int):
        super().__init__()
        self.run = run
        self.rule = rule
        self.keep = keep

    def on_epoch_end(self, epoch, logs=None):
        """Writes a checkpoint and removes old ones."""
        variables = self.model.variables + self.model.optimizer.variables
        state = {
            "epochs_done": epoch + 1,
            "step": int(self.model.optimizer.iterations.numpy()),
            "val_top1_error": logs["val_top1_error"],
            "stopped": self.model.stop_training,
            "plateau": dataclasses.asdict(self.rule),
        }
        checkpoints.save(self.run.checkpoints, variables, state)
        checkpoints.prune(self.run.checkpoints, keep=self.keep)


def restore(
    run: RunDir, model: keras.Model, rule: PlateauRule
) -> tuple[int, bool]:
    """Takes up a run where its newest checkpoint left it.

    Args:
        run: The run directory.
        model: The model, compiled, with its optimizer built.
        rule: The plateau rule; gets its state back, but keeps its settings.

    Returns:
        Epochs done, 0 if there is no checkpoint, and whether the rule has
        ended training.
    """
    checkpoint = checkpoints.newest(run.checkpoints)
    if checkpoint is None:
        return 0, False
    checkpoints.restore(checkpoint, model.variables + model.optimizer.variables)
    state = checkpoints.read_state(checkpoint)
    for name in ("best", "wait", "drops"):
        setattr(rule, name, state["plateau"][name])
    return state["epochs_done"], state["stopped"]
