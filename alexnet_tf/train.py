"""The main job: trains the network and leaves a run directory behind."""

import contextlib
import dataclasses
from pathlib import Path

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.input_clock import InputClock
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training import (
    assembly,
    building,
    callbacks,
    loop,
    watchdogs,
    weights,
)
from alexnet_tf.training import resume as resuming
from alexnet_tf.training.checkpointing import Checkpoint
from alexnet_tf.training.job import Job
from alexnet_tf.training.plateau import PlateauRule
from alexnet_tf.training.progress import Progress
from alexnet_tf.training.signals import StopRequest
from alexnet_tf.training.tensorboard import TensorBoardPages


def run(config: Config, words: list[str]) -> int:
    """Trains, or goes on with a run that was interrupted.

    Args:
        config: The settings.
        words: Nothing; all commands are called alike.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if the settings do not fit the machine, the data or an
            earlier start of the run.
    """
    run_dir = assembly.open_run(config)
    earlier = resuming.earlier_settings(config, run_dir)
    if run_dir.result.exists():
        print(
            f"{run_dir.path} is finished; another run needs another --run_dir."
            f"\n{run_dir.result.read_text()}"
        )
        return 0
    source = _find_source(config, run_dir, earlier)
    placement = assembly.make_placement(config, run_dir)
    workers = Workers(placement.strategy)
    run_dir = dataclasses.replace(run_dir, worker=workers.index)
    lock = run_dir.locked() if workers.is_chief else contextlib.nullcontext()
    with workers.naming_lost_ones():
        # The chief makes a data set that is not there yet.
        examples = workers.chief_first(lambda: _open_splits(config, run_dir))
        with lock, splits.naming_damaged_files(*examples):
            bad = splits.note_bad_examples(config, run_dir, *examples)
            _train(
                Job(
                    *(config, run_dir, earlier, source, placement, workers),
                    *(*examples, bad),
                )
            )
            workers.wait()  # For the chief, without whom they could not end.
    return 0


def _find_source(config, run_dir, earlier):
    """Returns the checkpoint of another run that this one begins with."""
    if not earlier and config.freeze and not config.init_from:
        raise UserError(
            f"--freeze={config.freeze} without --init_from would keep random "
            "weights; give --init_from=RUN_DIR, or leave it out."
        )
    # Once a run has begun it goes on by itself.
    if not config.init_from or checkpoints.newest(run_dir.checkpoints):
        return None
    return weights.best_checkpoint(RunDir(Path(config.init_from)))


def _open_splits(config, run_dir):
    """Returns the training and the validation split, checked."""
    if not run_dir.dataset.exists():
        # A mistake in --mean is told before a data set is made.
        splits.read_mean(config)
    training = splits.open_split(config, config.train_split)
    validation = splits.open_split(config, config.validation_split)
    splits.check_splits(config, training, validation)
    if config.prepared_dir and not training.squares:
        print(
            f"--prepared_dir={config.prepared_dir} has no {config.train_split} "
            f"split of {config.dataset}, which is read itself."
        )
    if run_dir.dataset.exists():
        splits.check_run_classes(run_dir, training)
        resuming.check_data(run_dir, training, validation)
    return training, validation


def _train(job):
    facts = job.workers.chief_first(
        lambda: splits.learn_facts(
            job.config, job.run_dir, job.training, job.validation, job.bad
        )
    )
    model = building.make_trainer(job.config, facts, job.placement)
    rule = PlateauRule(job.config.plateau_patience, job.config.plateau_drops)
    stuck = watchdogs.StuckLoss(len(facts.class_names))
    stop = StopRequest(job.workers.total if job.workers.count > 1 else None)
    checkpoint = _make_checkpoint(
        job, {"plateau": rule, "stuck_loss": stuck}, stop
    )
    job = _take_up(job, model, checkpoint)
    if job.workers.is_chief:
        job.write_settings(facts)
    job.announce(model, facts, checkpoint.progress)
    validator = assembly.make_predictor(
        model, job.config, job.validation, job.bad
    )
    clock = InputClock()
    make_batches = _batch_maker(job, clock)
    # Each may use what those before it add to the logs.
    parts = [
        watchdogs.NonfiniteCheck(),
        callbacks.Throughput(job.config.batch_size, clock, checkpoint.progress),
        callbacks.Validation(validator, checkpoint.stop_if_asked),
        watchdogs.BadExampleLimit(job.bad),
        stuck,
        *(_records(job, make_batches) if job.workers.is_chief else ()),
        callbacks.PlateauSchedule(rule, job.config.plateau_factor),
    ]
    with stop.listening():
        _fit(job, model, make_batches, parts, checkpoint)
    job.finish(model, validator)


def _make_checkpoint(job, parts, stop):
    config = job.config
    progress = Progress(job.training.count // config.batch_size)
    if config.override_learning_rate:
        # A new run begins with it; started again, it is not set back to it.
        progress.forced_rate = config.full_learning_rate
    return Checkpoint(
        job.run_dir,
        progress,
        parts,
        stop,
        keep=config.keep_checkpoints,
        every_steps=config.checkpoint_every_steps,
        from_start=config.on_nonfinite == "rollback",
    )


def _take_up(job, model, checkpoint):
    """Takes up the run where it stands, or begins it from another's weights.

    Returns:
        The job, with the learning rate that counts.
    """
    config = job.config
    if checkpoint.restore(model) and job.earlier:
        config = resuming.settle_learning_rate(
            config, job.earlier, model, checkpoint.progress
        )
    if job.source:
        weights.start_from(job.source, model)
    job.workers.wait()  # Until all have read what the chief will write anew.
    return dataclasses.replace(job, config=config)


def _batch_maker(job, clock):
    """Returns what makes the dataset of some steps."""
    return lambda steps: assembly.training_batches(
        *(job.config, job.training, steps, job.bad, clock, job.workers.share)
    )


def _records(job, make_batches):
    """Returns the callbacks that write what people look at."""
    return (
        callbacks.History(job.run_dir),
        TensorBoardPages(
            job.run_dir,
            make_batches(range(1)),
            settings=dataclasses.asdict(job.config),
            profile_steps=job.config.profile_steps,
        ),
    )


def _fit(job, model, make_batches, parts, checkpoint):
    may_roll_back = job.config.on_nonfinite == "rollback"
    loop.fit_to_end(
        model,
        make_batches,
        epochs=job.config.epochs,
        callbacks=parts,
        checkpoint=checkpoint,
        note_batch=job.note_batch,
        max_rollbacks=job.config.max_rollbacks if may_roll_back else 0,
    )
