"""The main job: trains the network and leaves a run directory behind."""

import contextlib
import dataclasses
from pathlib import Path

from alexnet_tf import (
    assembly,
    callbacks,
    checkpoints,
    evaluation,
    loop,
    resuming,
    splits,
    watchdogs,
    weights,
)
from alexnet_tf.config import Config, to_flagfile
from alexnet_tf.environment import describe_environment
from alexnet_tf.inference import save_endpoints
from alexnet_tf.input_clock import InputClock
from alexnet_tf.multi_worker import Workers
from alexnet_tf.plateau import PlateauRule
from alexnet_tf.progress import Progress
from alexnet_tf.run_dir import RunDir, write_json, write_whole
from alexnet_tf.saving import Checkpoint
from alexnet_tf.stopping import StopRequest
from alexnet_tf.tensorboard_pages import TensorBoardPages


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
    if run_dir.result.exists():
        print(f"{run_dir.path} is finished:\n{run_dir.result.read_text()}")
        return 0
    earlier = resuming.earlier_settings(config, run_dir)
    # Found before work starts; once a run has begun it goes on by itself.
    source = None
    if config.init_from and not checkpoints.newest(run_dir.checkpoints):
        source = weights.best_checkpoint(RunDir(Path(config.init_from)))
    placement = assembly.make_placement(config, run_dir)
    workers = Workers(placement.strategy)
    run_dir = dataclasses.replace(run_dir, worker=workers.index)
    lock = run_dir.locked() if workers.is_chief else contextlib.nullcontext()
    with workers.naming_lost_ones():
        # The chief makes a data set that is not there yet.
        examples = workers.chief_first(lambda: _open_splits(config, run_dir))
        with lock, splits.naming_damaged_files(*examples):
            _train(
                config, earlier, run_dir, placement, workers, source, *examples
            )
            workers.wait()  # For the chief, without whom they could not end.
    return 0


def _open_splits(config, run_dir):
    """Returns the training and the validation split, checked."""
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


def _train(
    config, earlier, run_dir, placement, workers, source, training, validation
):
    bad = splits.note_bad_examples(config, run_dir, training, validation)
    facts = workers.chief_first(
        lambda: splits.learn_facts(config, run_dir, training, validation, bad)
    )
    model = assembly.make_trainer(config, facts, placement)
    rule = PlateauRule(config.plateau_patience, config.plateau_drops)
    stuck = watchdogs.StuckLoss(len(facts.class_names))
    stop = StopRequest(workers.total if workers.count > 1 else None)
    checkpoint = _make_checkpoint(
        config,
        run_dir,
        training.count // config.batch_size,
        {"plateau": rule, "stuck_loss": stuck},
        stop,
    )
    if checkpoint.restore(model) and earlier:
        config = resuming.settle_learning_rate(
            config, earlier, model, checkpoint.progress
        )
    if source:
        weights.start_from(source, model)
    workers.wait()  # Until all have read what the chief will write anew.
    if workers.is_chief:
        _write_settings(config, run_dir, placement, facts)
    _announce(run_dir, workers, model, placement, facts, checkpoint.progress)

    validator = assembly.make_predictor(model, config, validation, bad)
    clock = InputClock()

    # Each may use what those before it add to the logs.
    def make_batches(steps):
        return assembly.training_batches(
            config, training, steps, bad, clock, workers.share
        )

    parts = [
        watchdogs.NonfiniteCheck(),
        watchdogs.BadExampleLimit(bad),
        callbacks.Throughput(config.batch_size, clock, checkpoint.progress),
        callbacks.Validation(validator, checkpoint.stop_if_asked),
        stuck,
        *(_records(config, run_dir, make_batches) if workers.is_chief else ()),
        callbacks.PlateauSchedule(rule, config.plateau_factor),
    ]
    with stop.listening():
        _fit(config, run_dir, model, training, make_batches, parts, checkpoint)
    _finish(config, run_dir, workers, model, validator)


def _records(config, run_dir, make_batches):
    """Returns the callbacks that write what people look at."""
    return (
        callbacks.History(run_dir),
        TensorBoardPages(
            run_dir,
            make_batches(range(1)),
            settings=dataclasses.asdict(config),
            profile_steps=config.profile_steps,
        ),
    )


def _make_checkpoint(config, run_dir, steps_per_epoch, parts, stop):
    progress = Progress(steps_per_epoch)
    if config.override_learning_rate:
        # A new run begins with it; started again, it is not set back to it.
        progress.forced_rate = config.full_learning_rate
    return Checkpoint(
        run_dir,
        progress,
        parts,
        stop,
        keep=config.keep_checkpoints,
        every_steps=config.checkpoint_every_steps,
        from_start=config.on_nonfinite == "rollback",
    )


def _fit(config, run_dir, model, training, make_batches, parts, checkpoint):
    may_roll_back = config.on_nonfinite == "rollback"
    loop.fit_to_end(
        model,
        make_batches,
        epochs=config.epochs,
        callbacks=parts,
        checkpoint=checkpoint,
        note_batch=lambda step: _note_batch(config, run_dir, training, step),
        max_rollbacks=config.max_rollbacks if may_roll_back else 0,
    )


def _note_batch(config, run_dir, training, step):
    """Writes down which examples are in a step's batch, and says so."""
    names = assembly.names_of_step(config, training, step)
    file = run_dir.nonfinite(step)
    if not run_dir.worker:
        write_whole(file, "\n".join(names) + "\n")
    return f"Its {len(names)} examples, {names[0]} and others, are in {file}."


def _write_settings(config, run_dir, placement, facts):
    environment = describe_environment(
        placement, config.dataset, facts.train_examples
    )
    resuming.tell_changes(run_dir, environment)
    write_whole(run_dir.flags, to_flagfile(config))
    write_json(run_dir.environment, environment)


def _announce(run_dir, workers, model, placement, facts, progress):
    if workers.count > 1:
        print(f"Worker {workers.index} of {workers.count}.")
    print(
        f"Network: {model.count_params():,} parameters, "
        f"{len(facts.class_names)} classes\n"
        f"Data: {facts.train_examples:,} training and "
        f"{facts.validation_examples:,} validation images"
    )
    for number, devices in enumerate(placement.devices):
        print(f"Replica {number}: {', '.join(devices)}")
    if "GPU" not in placement.leads[0]:
        print("No GPU is used.")
    print(
        f"Run directory: {run_dir.path}\n"
        f"Watch it: tensorboard --logdir {run_dir.tensorboard}"
    )
    if progress.step:
        print(
            f"Going on after step {progress.step}, with "
            f"{progress.epochs_done} epochs done."
        )


def _finish(config, run_dir, workers, model, validator):
    """Measures and exports the best checkpoint; result.json comes last."""
    workers.wait()  # Until the last one is written.
    state = weights.restore_best(model, run_dir)
    predicted = validator.predict()
    if not workers.is_chief:
        return
    measured = evaluation.measure(predicted["center"], predicted["labels"])
    save_endpoints(
        assembly.make_best_endpoints(config, run_dir), run_dir.saved_model
    )
    newest = checkpoints.read_state(checkpoints.newest(run_dir.checkpoints))
    result = {
        **measured,
        "best_epoch": state["epochs_done"] - 1,
        "epochs": newest["epochs_done"],
        "steps": newest["step"],
        "parameters": model.count_params(),
    }
    write_json(run_dir.result, result)
    print(
        f"Best after epoch {state['epochs_done']}: validation top-1 error "
        f"{measured['top1_error']:.4f}, top-5 error "
        f"{measured['top5_error']:.4f} on {measured['num_examples']} images\n"
        f"Exported to {run_dir.saved_model}; results in {run_dir.result}"
    )
