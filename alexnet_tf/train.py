"""The main job: trains the network and leaves a run directory behind.

`_train` is the recipe, from top to bottom (Sec. 5).
"""

import contextlib
import dataclasses
import shlex
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import keras

from alexnet_tf.config.commands import call
from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.labels import run_labels, without_ids
from alexnet_tf.data.pipeline import InputClock, names_of_step, training_batches
from alexnet_tf.distribution.devices import Devices, connect
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.evaluation import confusion, gallery
from alexnet_tf.evaluation.inference import make_signatures, save_signatures
from alexnet_tf.evaluation.predictor import SplitPredictor, measure
from alexnet_tf.models.build import best_checkpoint, load_trained
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetInfo, read_dataset_info
from alexnet_tf.storage.files import write_json, write_whole
from alexnet_tf.storage.run_dir import RunDir, open_run
from alexnet_tf.training import callbacks, resume
from alexnet_tf.training.checkpointing import (
    Checkpointer,
    MetricTotals,
    Progress,
    ProgressTracker,
)
from alexnet_tf.training.loop import fit_to_end
from alexnet_tf.training.plateau import PlateauSchedule
from alexnet_tf.training.progress_line import ProgressLine, show_duration
from alexnet_tf.training.signals import StopRequest
from alexnet_tf.training.tensorboard import TensorBoard
from alexnet_tf.training.trainer import (
    build_trainer,
    find_initial_weights,
    initialize_from,
)


def run(config: Config) -> int:
    """Trains the network, or continues a run; returns 0."""
    run_dir = open_run(config.run_dir)
    config = resume.with_former_defaults(config, run_dir)
    previous = resume.check_settings(config, run_dir)
    result = resume.find_result(run_dir)
    if result and (reason := resume.reason_to_stop(result, config, run_dir)):
        print(f"{run_dir.path} is finished.\n{reason}")
        _show_result(result, run_dir)
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
    start = time.monotonic()
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

        # What a checkpoint contains besides variables.
        progress = Progress(steps_per_epoch)
        if config.override_learning_rate:
            # A new run starts with it; resumed, it is not set back to it.
            progress.forced_rate = config.full_learning_rate
        plateau = PlateauSchedule(
            config.plateau_patience, config.plateau_factor, config.plateau_drops
        )
        stuck_loss = callbacks.StuckLoss(len(info.class_names))
        history = callbacks.History(run_dir)
        tensorboard = TensorBoard(run_dir, progress, make_batches, config)
        totals = MetricTotals(workers)
        checkpointer = Checkpointer(
            run_dir,
            progress,
            totals,
            workers,
            {
                "plateau": plateau.rule,
                "stuck_loss": stuck_loss,
                "history": history,
                "tensorboard": tensorboard,
            },
            keep=config.keep_checkpoints,
            every_steps=config.checkpoint_every_steps,
            from_start=config.rollbacks > 0,
        )
        restored = checkpointer.restore(model)
        if restored and previous:
            config = resume.keep_initial_weights(config, previous)
            config = resume.settle_learning_rate(
                config, previous, model, progress
            )
            tensorboard.config = config
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
            run_dir.result.unlink(missing_ok=True)  # It has fewer epochs.
        _announce(config, run_dir, devices, model, info, progress)

        schedule = config.rate_schedule
        rates = callbacks.ScheduleDates(schedule) if schedule else plateau
        validator = SplitPredictor(config, model, val_split, devices, bad)
        stop = StopRequest(workers.total if workers.count > 1 else None)
        stop_if_requested = partial(checkpointer.stop_on, stop)
        line = ProgressLine(
            run_dir,
            progress,
            epochs=config.epochs,
            batch_size=config.batch_size,
            num_classes=len(info.class_names),
        )
        records = [history, tensorboard, line]
        with stop.listening(), line.on_screen():
            fit_to_end(
                model,
                make_batches,
                # Each may use what those before it add to the logs.
                [
                    callbacks.NonfiniteCheck(),
                    callbacks.Throughput(config.batch_size, clock, progress),
                    callbacks.Validation(validator, stop_if_requested),
                    callbacks.after_each(bad.check),
                    stuck_loss,
                    *(records if workers.is_chief else []),
                    rates,
                    totals,
                    ProgressTracker(progress),
                    checkpointer,
                    *([callbacks.RayReport(run_dir)] if workers.in_ray else []),
                    callbacks.after_each(stop_if_requested),
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
        _finish(
            config, run_dir, workers, model, progress, validator, tensorboard
        )
        if workers.is_chief:
            taken = show_duration(time.monotonic() - start)
            print(f"Took {taken}{' since it was resumed' if restored else ''}.")
            _show_result(run_dir.read_result(), run_dir)
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
    if schedule := config.rate_schedule:
        print("Learning rates: --schedule")
        rate, first = config.learning_rate, schedule.value("weights", 0)
        if rate not in (Config.learning_rate, first):
            print(f"--learning_rate={rate:g} has no effect beside it.")
        late = [f"{d:g}" for d in schedule.dates if d >= config.epochs]
        if late:
            dates = ", ".join(late)
            print(f"It has dates after --epochs={config.epochs}: {dates}.")
    print(f"Run directory: {run_dir.path}\nWatch it: {_tensorboard(run_dir)}")
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
    tensorboard: TensorBoard,
) -> None:
    """Evaluates and exports the best checkpoint; writes result.json last."""
    checkpoints.restore(best_checkpoint(run_dir), model.variables)
    predicted = validator.predict()
    if not workers.is_chief:
        return
    measured = measure(predicted["center"], predicted["labels"])
    network, best = load_trained(config, run_dir)
    labels = run_labels(config, run_dir)
    signatures = make_signatures(network, labels, config.geometry)
    save_signatures(signatures, run_dir.saved_model)
    result = {
        **measured,
        "first_epoch": 1,
        "best_epoch": best["epochs_done"],
        "epochs": progress.epochs_done,
        "steps": progress.step,
        "parameters": model.count_params(),
    }
    counts = confusion.count_answers(predicted["center"], predicted["labels"])
    names = without_ids(labels)
    figures = {
        "confusion": confusion.draw_confusion(counts, names),
        "wrong_answers": gallery.draw_first_wrong_answers(
            validator, signatures, names
        ),
    }
    tensorboard.write_result(result, figures)
    write_json(run_dir.result, result)


def _show_result(result: dict, run_dir: RunDir) -> None:
    """Prints the result of a run, and what to do with it."""
    if "best_epoch" in result:  # Not in that of imported weights.
        top5 = f", top-5 {result['top5_error']:.1%}"
        has_few = len(read_dataset_info(run_dir).class_names) <= 5
        print(
            f"Best epoch {result['best_epoch']} of {result['epochs']}: error "
            f"{result['top1_error']:.1%}{'' if has_few else top5} "
            f"({result['num_examples']:,} validation images)\n"
            f"Exported to {run_dir.saved_model}; results in {run_dir.result}"
        )
    path = run_dir.path
    print(
        "Next:\n"
        f"  {call('evaluate', path)}\n"
        f"  {call('predict', 'PHOTO.jpg', f'--run_dir={path}')}\n"
        f"  {_tensorboard(run_dir)}"
    )


def _tensorboard(run_dir):
    """Returns the command that shows a run in TensorBoard."""
    program = Path("tensorboard")
    if not shutil.which(program):  # The environment is not activated.
        program = Path(sys.orig_argv[0]).with_name("tensorboard")
    return shlex.join([str(program), "--logdir", str(run_dir.tensorboard)])
