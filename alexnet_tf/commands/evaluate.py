"""Measures the top-1 and top-5 error of runs, and of their average."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config
from alexnet_tf.data import splits
from alexnet_tf.data.labels import are_imagenets, run_labels, without_ids
from alexnet_tf.distribution.devices import connect
from alexnet_tf.distribution.placement import find_devices
from alexnet_tf.evaluation import confusion, error_report, plots
from alexnet_tf.evaluation.ensemble import average, search_weights
from alexnet_tf.evaluation.predictor import (
    SplitPredictor,
    bar_verbosity,
    measure,
)
from alexnet_tf.models.build import best_checkpoint, load_trained
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.files import write_report
from alexnet_tf.storage.run_dir import open_run

_TITLES = {"center": "center crop", "ten_crop": "ten crops"}


def run(config: Config, runs: list[Config]) -> int:
    """Prints the errors of best checkpoints on --split.

    Several runs are averaged as the paper averages networks: by their
    probabilities (Sec. 6).
    """
    # All of them before the first is measured, which may take long.
    names = _check(runs)
    if config.weights and len(runs) < 2:
        raise UserError(
            f"--weights={config.weights} is for the average of several runs; "
            "give more, or leave it out."
        )
    given = config.average_weights()
    if given and len(given) != len(runs):
        raise UserError(
            f"--weights={config.weights} has {len(given)} numbers for "
            f"{len(runs)} runs; give one for each, in their order."
        )
    results: dict[str, dict] = {}
    predictions: list[dict[str, np.ndarray]] = []
    labels: list[np.ndarray] = []
    for settings in runs:
        predicted, title = _predict(settings)
        labels.append(predicted.pop("labels"))
        # Nothing but their labels identifies the images that are left.
        if not np.array_equal(labels[0], labels[-1]):
            raise UserError(
                f"{settings.run_dir} leaves out other images than the runs "
                "before it, see their bad_examples.csv; evaluate them one by "
                "one."
            )
        errors = _report(title, predicted, labels[0])
        results[settings.run_dir] = errors
        predictions.append(predicted)
    details: dict[str, Any] = {"runs": results}
    *_, crops = predicted  # Ten, if there are any.
    count = len(runs)
    if count > 1:
        predicted = _average(predictions, count * [1 / count])
        errors = _report(f"average of {count} runs", predicted, labels[0])
    if config.weights:
        details["equal_weights"] = errors
        all_logits = [predicted[crops] for predicted in predictions]
        weights = given or search_weights(all_logits, labels[0])
        details["weights"] = weights
        shown = ",".join(f"{weight:.4f}" for weight in weights)
        predicted = _average(predictions, weights)
        title = f"average of {count} runs with weights {shown}"
        errors = _report(title, predicted, labels[0])
        if not given:
            print(
                "Warning: these images chose the weights, so their errors are "
                "optimistic;\nmeasure others with "
                f"--weights={shown} and another --split or --dataset."
            )
    if are_imagenets(names):
        print("published: ILSVRC-2012 validation, ten crops, Table 2")
        published = error_report.PUBLISHED
        print(error_report.format_errors(published, num_classes=len(names)))
    logits = predicted[crops]
    classes = error_report.class_errors(logits, labels[0], names)
    counts = confusion.count_answers(logits, labels[0])
    pairs = error_report.confused_pairs(counts, names)
    text = error_report.format_details(classes, pairs, num_classes=len(names))
    print(f"\n{text}\n")
    details |= {"classes": classes, "confused": pairs}
    write_report(config.json, {**errors, **details})
    figure = confusion.draw_confusion(counts, without_ids(names))
    directory = config.figures_dir or Path(runs[0].run_dir, "figures")
    plots.save(figure, directory, name="confusion")
    return 0


def _check(runs):
    """Returns the runs' labels; checks that they can be averaged."""
    first = runs[0]
    names = read_dataset_info(open_run(first.run_dir)).class_names
    for settings in runs:
        run_dir = open_run(settings.run_dir)
        best_checkpoint(run_dir)
        if read_dataset_info(run_dir).class_names != names:
            raise UserError(
                f"{settings.run_dir} has other classes than {first.run_dir}; "
                "only runs on one data set can be averaged."
            )
        for flag, value in _measured(settings).items():
            other = _measured(first)[flag]
            if value != other:
                raise UserError(
                    f"{settings.run_dir} is measured on --{flag}="
                    f"{value or '(default)'}, {first.run_dir} on "
                    f"{other or '(default)'}; give --{flag} to measure both on "
                    "the same images."
                )
    # Once for all: TensorFlow cannot divide the CPU again.
    largest = max(runs, key=lambda settings: settings.virtual_devices)
    find_devices(gpus=largest.gpus, virtual_devices=largest.virtual_devices)
    return run_labels(first, open_run(first.run_dir))


def _measured(settings):
    """Returns the data set and the split that are measured."""
    split = settings.split or settings.validation_split
    return {"dataset": settings.dataset, "split": split}


def _predict(settings):
    """Returns a run's predictions, and a title that says of which weights."""
    run_dir = open_run(settings.run_dir)
    devices = connect(settings)
    examples = splits.open_split(settings, _measured(settings)["split"])
    splits.check_run_classes(run_dir, examples)
    bad = splits.record_bad_examples(settings, run_dir, examples)
    model, state = load_trained(settings, run_dir, devices)
    predictor = SplitPredictor(
        settings, model, examples, devices, bad, ten_crops=settings.ten_crops
    )
    bar = keras.utils.Progbar(predictor.num_batches, verbose=bar_verbosity())
    with splits.reporting_damaged_files(examples):
        predicted = predictor.predict(after_batch=lambda: bar.add(1))
    left_out = examples.count - len(predicted["labels"])
    if left_out == examples.count:
        raise UserError(
            f"none of the {left_out} images can be used, see {bad.file}; "
            "repair them, or give another --split or --dataset."
        )
    if left_out:
        print(f"{left_out} images are left out, see {bad.file}")
    epochs = state["epochs_done"]
    origin = (
        f"{settings.checkpoint} after epoch {epochs}" if epochs else "imported"
    )
    return predicted, f"{settings.run_dir}, {origin}"


def _average(predictions, weights):
    """Returns the weighted averages of runs, for the center and ten crops."""
    return {
        crops: average([each[crops] for each in predictions], weights)
        for crops in predictions[0]
    }


def _report(title, predicted, labels):
    """Prints and returns the errors for the center crop and for ten."""
    errors = {crops: measure(x, labels) for crops, x in predicted.items()}
    rows = {_TITLES[crops]: errors[crops] for crops in errors}
    print(f"{title}, {len(labels):,} images")
    num_classes = predicted["center"].shape[1]
    print(error_report.format_errors(rows, num_classes=num_classes))
    return errors
