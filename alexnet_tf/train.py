"""The main job: trains the network and leaves a run directory behind."""

import sys
from pathlib import Path

import keras
import numpy as np

from alexnet_tf import assembly, callbacks, checkpoints, evaluation, splits
from alexnet_tf.config import Config, check_same_run, parse, to_flagfile
from alexnet_tf.dataset_facts import DatasetFacts, read_facts, write_facts
from alexnet_tf.environment import describe_environment
from alexnet_tf.errors import UserError
from alexnet_tf.inference import save_classifier
from alexnet_tf.pixel_statistics import measure_pixels, read_pixels
from alexnet_tf.plateau import PlateauRule
from alexnet_tf.run_dir import RunDir, write_json, write_whole
from alexnet_tf.saving import Checkpoint, Progress
from alexnet_tf.stopping import StopRequest


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
    if run_dir.flags.exists():
        old, _ = parse([f"--flagfile={run_dir.flags}"])
        check_same_run(old, config)
    source = _find_source(config, run_dir)
    placement = assembly.make_placement(config)
    training = splits.open_split(config, config.train_split)
    validation = splits.open_split(config, config.validation_split)
    _check_splits(config, training, validation)
    if config.prepared_dir and not training.squares:
        print(
            f"--prepared_dir={config.prepared_dir} has no {config.train_split} "
            f"split of {config.dataset}, which is read itself."
        )
    if run_dir.dataset.exists():
        splits.check_run_classes(run_dir, training)
    with splits.naming_damaged_files(training, validation):
        _train(config, run_dir, placement, source, training, validation)
    return 0


def _train(config, run_dir, placement, source, training, validation):
    bad = splits.note_bad_examples(config, run_dir, training, validation)
    facts = _learn_facts(config, run_dir, training, validation, bad)
    write_whole(run_dir.flags, to_flagfile(config))
    write_json(
        run_dir.environment,
        describe_environment(placement, config.dataset, facts.train_examples),
    )

    model = assembly.make_trainer(config, facts, placement)
    validator = assembly.make_predictor(model, config, validation, bad)
    per_epoch = training.count // config.batch_size
    rule = PlateauRule(config.plateau_patience, config.plateau_drops)
    stuck = callbacks.StuckLoss(len(facts.class_names))
    progress, stop = Progress(per_epoch), StopRequest()
    checkpoint = Checkpoint(
        run_dir,
        progress,
        {"plateau": rule, "stuck_loss": stuck},
        stop,
        keep=config.keep_checkpoints,
        every_steps=config.checkpoint_every_steps,
    )
    checkpoint.restore(model)
    if source:
        _start_from(source, model)
    _announce(run_dir, model, placement, facts, progress)
    with stop:
        _fit(
            model,
            lambda steps: assembly.training_batches(
                config, training, steps, bad
            ),
            progress,
            config.epochs,
            [
                callbacks.Throughput(config.batch_size),
                callbacks.Validation(validator, checkpoint.stop_if_asked),
                callbacks.BadExampleLimit(bad),
                stuck,
                keras.callbacks.TensorBoard(
                    run_dir.tensorboard, write_graph=False
                ),
                callbacks.History(run_dir),
                callbacks.PlateauSchedule(rule, config.plateau_factor),
                checkpoint,
            ],
        )
    _finish(config, run_dir, model, validator)


def _find_source(config, run_dir):
    """Returns the checkpoint that a new run starts from, None for none."""
    begun = checkpoints.newest(run_dir.checkpoints)
    if begun or not config.init_from:
        return None
    source = RunDir(Path(config.init_from))
    read_facts(source)  # An error if it is not a run.
    return assembly.best_checkpoint(source)


def _start_from(source, model):
    taken, left = checkpoints.restore_fitting(source, model)
    if not taken:
        raise UserError(
            f"--init_from: no layer of {source} fits this network; its names "
            "and shapes come from --width, --towers, --kernels and --crop_size."
        )
    print(f"Weights from {source}: {', '.join(taken)}")
    print(f"Weights drawn anew: {', '.join(left) or 'none'}")


def _check_splits(config, training, validation):
    if training.count < config.batch_size:
        raise UserError(
            f"--train_split={config.train_split} of {config.dataset} has "
            f"{training.count} images, not even one batch; use a "
            f"--batch_size below {config.batch_size}."
        )
    splits.check_classes(config, training, validation)


def _learn_facts(config, run_dir, training, validation, bad):
    """Returns dataset.json, which the first start of the run writes."""
    if run_dir.dataset.exists():
        return read_facts(run_dir)
    geometry = assembly.make_geometry(config)
    if training.squares:
        measured = read_pixels(*splits.find_prepared(config), geometry)
    else:
        print("Measuring the mean and the colours of the training images...")
        measured = measure_pixels(
            training,
            num_images=config.statistics_images,
            geometry=geometry,
            bad=bad,
        )
    with_image = config.mean == "image"
    facts = DatasetFacts(
        class_names=list(training.class_names),
        mean_rgb=measured.mean_rgb.tolist(),
        covariance_rgb=measured.covariance_rgb.tolist(),
        train_examples=training.count,
        validation_examples=validation.count,
        mean_image=measured.mean_image.astype(np.float32)
        if with_image
        else None,
    )
    write_facts(run_dir, facts)
    return facts


def _announce(run_dir, model, placement, facts, progress):
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


def _fit(model, batches, progress, epochs, parts):
    """Goes through what is left of the run, an interrupted epoch first."""
    per_epoch = progress.steps_per_epoch

    def fit(last_epoch):
        steps = range(progress.step, last_epoch * per_epoch)
        first_epoch = progress.epochs_done
        model.fit(
            batches(steps),
            steps_per_epoch=len(steps) // (last_epoch - first_epoch),
            initial_epoch=first_epoch,
            epochs=last_epoch,
            callbacks=parts,
            shuffle=False,  # The batches are in their order already.
            # A moving bar on a screen, a line an epoch in a log file.
            verbose=1 if sys.stdout.isatty() else 2,
        )

    if progress.batches == per_epoch:  # All of it but validation.
        _end_epoch(model, progress.epochs_done, parts)
    elif progress.batches:
        fit(progress.epochs_done + 1)
    if not progress.stopped and progress.epochs_done < epochs:
        fit(epochs)


def _end_epoch(model, epoch, parts):
    """Does what `fit` does after the last step of an epoch."""
    at_end = keras.callbacks.CallbackList(parts, model=model)
    at_end.on_train_begin()
    at_end.on_epoch_begin(epoch)
    at_end.on_epoch_end(epoch, model.get_metrics_result())
    at_end.on_train_end()


def _finish(config, run_dir, model, validator):
    """Measures and exports the best checkpoint; result.json comes last."""
    state = assembly.restore_best(model, run_dir)
    predicted = validator.predict()
    measured = evaluation.measure(predicted["center"], predicted["labels"])
    save_classifier(
        assembly.make_best_classifier(config, run_dir), run_dir.saved_model
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
