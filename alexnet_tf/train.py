"""The main job: trains the network and leaves a run directory behind.

`_train` is the recipe, from top to bottom (Sec. 5).
"""

import contextlib
import dataclasses

import keras

from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.labels import run_labels
from alexnet_tf.data.pipeline import (
    InputClock,
    names_of_step,
    training_batches,
)
from alexnet_tf.distribution.devices import Devices, connect
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.evaluation.inference import make_signatures, save_signatures
from alexnet_tf.evaluation.predictor import SplitPredictor, measure
from alexnet_tf.models.build import best_checkpoint, load_best
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetInfo
from alexnet_tf.storage.files import write_json, write_whole
from alexnet_tf.storage.run_dir import (
    RunDir,
    open_run,
)
from alexnet_tf.training import callbacks, resume
from alexnet_tf.training.checkpointing import (
    Checkpointer,
    MetricTotals,
    Progress,
    ProgressTracker,
    StopOnRequest,
)
from alexnet_tf.training.loop import fit_to_end
from alexnet_tf.training.plateau import PlateauRule, PlateauSchedule
from alexnet_tf.training.signals import StopRequest
from alexnet_tf.training.tensorboard import TensorBoard
from alexnet_tf.training.trainer import (
    build_trainer,
    find_initial_weights,
    initialize_from,
)


def run(config: Config) -> int:
    """Trains the network, or resumes an interrupted run; returns 0."""
    run_dir = open_run(config.run_dir)
    config = resume.with_former_defaults(config, run_dir)
    previous = resume.check_settings(config, run_dir)
    if resume.is_finished(run_dir):
        print(
            f"{run_dir.path} is finished; another run needs another --run_dir."
            f"\n{run_dir.result.read_text()}"
        )
        return 0
    _train(config, run_dir, previous)
    return 0


def _train(config: Config, run_dir: RunDir, previous: Config | None) -> None:
    """Trains from where the run stands until it is finished.

    Args:
        config: The settings.
        run_dir: The run directory.
        previous: The settings of the run's last start, if it is resumed.
    """
    source = find_initial_weights(config, run_dir, previous)
    devices = connect(config, run_dir.path)
    workers = devices.workers
    run_dir = dataclasses.replace(run_dir, worker=workers.index)
    with contextlib.ExitStack() as stack:
        stack.enter_context(workers.reporting_lost_workers())
        # The chief makes a data set that is not there yet.
        train_split, val_split = workers.chief_first(
            lambda: splits.open_run_splits(config, run_dir)
        )
        stack.enter_context(run_dir.locked())
        stack.enter_context(
            splits.reporting_damaged_files(train_split, val_split)
        )
        bad = splits.record_bad_examples(
            config, run_dir, train_split, val_split
        )
        info = workers.chief_first(
            lambda: splits.describe_dataset(
                config, run_dir, train_split, val_split, bad
            )
        )
        steps_per_epoch = train_split.steps_per_epoch(config.batch_size)
        model = build_trainer(
            config, info, devices, steps_per_epoch=steps_per_epoch
        )

        # What a checkpoint contains besides variables.
        progress = Progress(steps_per_epoch)
        if config.override_learning_rate:
            # A new run starts with it; resumed, it is not set back to it.
            progress.forced_rate = config.full_learning_rate
        rule = PlateauRule(config.plateau_patience, config.plateau_drops)
        stuck_loss = callbacks.StuckLoss(len(info.class_names))
        history = callbacks.History(run_dir)
        totals = MetricTotals(workers)
        checkpointer = Checkpointer(
            run_dir,
            progress,
            totals,
            workers,
            {"plateau": rule, "stuck_loss": stuck_loss, "history": history},
            keep=config.keep_checkpoints,
            every_steps=config.checkpoint_every_steps,
            from_start=config.rollbacks > 0,
        )
        restored = checkpointer.restore(model)
        if restored and previous:
            config = resume.settle_learning_rate(
                config, previous, model, progress
            )
        if source:
            initialize_from(source, model)
        workers.wait()  # Until all have read what the chief will overwrite.
        if workers.is_chief:
            resume.write_settings(
                config,
                run_dir,
                devices.layout.devices,
                info.train_examples,
                previous,
            )
            history.recover(progress.epochs_done)
        _announce(config, run_dir, devices, model, info, progress)

        clock = InputClock()

        def make_batches(steps):
            return training_batches(
                train_split,
                config,
                batch_size=config.batch_size,
                steps=steps,
                seed=config.seed,
                bad=bad,
                clock=clock,
                shard=workers.shard,
            )

        rates: keras.callbacks.Callback
        if schedule := config.rate_schedule:
            rates = callbacks.ScheduleDates(schedule)
        else:
            rates = PlateauSchedule(rule, config.plateau_factor)
        validator = SplitPredictor(config, model, val_split, devices, bad)
        stop = StopRequest(workers.total if workers.count > 1 else None)
        stop_on_request = StopOnRequest(stop, checkpointer)
        records = [
            history,
            TensorBoard(
                run_dir,
                make_batches(range(1)),
                settings=dataclasses.asdict(config),
                profile_steps=config.profile_steps,
                is_new=not restored,
            ),
        ]
        with stop.listening():
            fit_to_end(
                model,
                make_batches,
                # Each may use what those before it add to the logs.
                [
                    callbacks.NonfiniteCheck(),
                    callbacks.Throughput(config.batch_size, clock, progress),
                    callbacks.Validation(validator, stop_on_request.check),
                    keras.callbacks.LambdaCallback(
                        on_train_batch_end=lambda batch, logs: bad.check(),
                        on_epoch_end=lambda epoch, logs: bad.check(),
                    ),
                    stuck_loss,
                    *(records if workers.is_chief else []),
                    rates,
                    totals,
                    ProgressTracker(progress),
                    checkpointer,
                    *([callbacks.RayReport(run_dir)] if workers.in_ray else []),
                    stop_on_request,
                ],
                epochs=config.epochs,
                workers=workers,
                checkpointer=checkpointer,
                record_batch=lambda step: _record_batch(
                    config, run_dir, train_split, step
                ),
                max_rollbacks=config.rollbacks,
            )
        workers.wait()  # Until the last checkpoint is written.
        _finish(config, run_dir, workers, model, progress, validator)
        workers.wait()  # Workers that end early would end the chief, too.


def _announce(
    config: Config,
    run_dir: RunDir,
    devices: Devices,
    model: keras.Model,
    info: DatasetInfo,
    progress: Progress,
) -> None:
    """Prints what is trained on what, and how far it is."""
    workers = devices.workers
    if workers.count > 1:
        print(f"Worker {workers.index} of {workers.count}.")
    print(
        f"Network: {model.count_params():,} parameters, "
        f"{len(info.class_names)} classes\n"
        f"Data: {info.train_examples:,} training and "
        f"{info.validation_examples:,} validation images"
    )
    left_out = info.train_examples % config.batch_size
    if config.order == "fixed" and left_out:
        print(
            f"--order=fixed leaves the same {left_out} training images out of "
            f"every epoch: they do not fill a batch of {config.batch_size}."
        )
    for number, names in enumerate(devices.layout.devices):
        print(f"Replica {number}: {', '.join(names)}")
    if "GPU" not in devices.layout.primaries[0]:
        print("No GPU is used.")
    if config.schedule:
        print("Learning rates: --schedule")
    print(
        f"Run directory: {run_dir.path}\n"
        f"Watch it: tensorboard --logdir {run_dir.tensorboard}"
    )
    if progress.step:
        print(
            f"Resuming after step {progress.step}, with "
            f"{progress.epochs_done} epochs done."
        )


def _record_batch(config, run_dir, train_split, step):
    """Writes down the examples of a step; returns a sentence about them."""
    names = names_of_step(
        train_split,
        config,
        batch_size=config.batch_size,
        step=step,
        seed=config.seed,
    )
    file = run_dir.nonfinite(step)
    if not run_dir.worker:
        write_whole(file, "\n".join(names) + "\n")
    return f"Its {len(names)} examples, {names[0]} and others, are in {file}."


def _finish(
    config: Config,
    run_dir: RunDir,
    workers: Workers,
    model: keras.Model,
    progress: Progress,
    validator: SplitPredictor,
) -> None:
    """Evaluates and exports the best checkpoint; writes result.json last."""
    checkpoint = best_checkpoint(run_dir)
    checkpoints.restore(checkpoint, model.variables)
    predicted = validator.predict()
    if not workers.is_chief:
        return
    measured = measure(predicted["center"], predicted["labels"])
    network, best = load_best(config, run_dir)
    labels = run_labels(config, run_dir)
    save_signatures(
        make_signatures(network, labels, config.geometry), run_dir.saved_model
    )
    result = {
        **measured,
        "best_epoch": best["epochs_done"] - 1,
        "epochs": progress.epochs_done,
        "steps": progress.step,
        "parameters": model.count_params(),
    }
    write_json(run_dir.result, result)
    print(
        f"Best after epoch {best['epochs_done']}: validation top-1 error "
        f"{measured['top1_error']:.4f}, top-5 error "
        f"{measured['top5_error']:.4f} on {measured['num_examples']} images\n"
        f"Exported to {run_dir.saved_model}; results in {run_dir.result}"
    )
