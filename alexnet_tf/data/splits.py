"""From a `Config` to the splits of its data set, and checks of them."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import Config, absolute
from alexnet_tf.data import prepared, tfds_source
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples
from alexnet_tf.data.labels import class_labels
from alexnet_tf.data.statistics import measure_pixels
from alexnet_tf.storage import caffe_format, dataset_info
from alexnet_tf.storage.run_dir import RunDir

# Bad examples that end no run, however small the data set.
_FEW_BAD = 5


def open_split(config: Config, split: str) -> Examples:
    """Opens a split of the run's data set, prepared if it is prepared."""
    found = find_prepared(config)
    if found:
        directory, manifest = found
        for name, source in manifest["source_splits"].items():
            if source == split:
                return prepared.open_split(directory, manifest, name)
    return open_source(config, split)


def open_run_splits(
    config: Config, run_dir: RunDir
) -> tuple[Examples, Examples]:
    """Opens the training and the validation split of a run and checks them."""
    if not run_dir.dataset.exists():
        read_mean(config)  # Before a data set is made.
    train_split = open_split(config, config.train_split)
    val_split = open_split(config, config.validation_split)
    check_classes(config, train_split, val_split)
    if train_split.count < config.batch_size:
        raise UserError(
            f"--train_split={config.train_split} of {config.dataset} has "
            f"{train_split.count} images, less than one batch; use a "
            f"--batch_size of at most {train_split.count}."
        )
    if config.prepared_dir and not train_split.squares:
        print(
            f"--prepared_dir={config.prepared_dir} has no {config.train_split} "
            f"split of {config.dataset}; reading the data set itself."
        )
    if run_dir.dataset.exists():
        check_run_classes(run_dir, train_split)
        info = dataset_info.read_dataset_info(run_dir)
        before = (info.train_examples, info.validation_examples)
        now = (train_split.count, val_split.count)
        if before != now:
            raise UserError(
                f"{run_dir.path} was started on {before[0]} training and "
                f"{before[1]} validation images; its data set now has {now[0]} "
                f"and {now[1]}.\nRestore the data set, or start a new run with "
                f"--init_from={run_dir.path}."
            )
        names = (train_split.names_sha256, val_split.names_sha256)
        if all(info.names_sha256) and names != tuple(info.names_sha256):
            raise UserError(
                f"{run_dir.path} was started on files with other names than "
                f"those of {config.dataset}.\nRestore the data set, or start a "
                f"new run with --init_from={run_dir.path}."
            )
    return train_split, val_split


def open_source(config: Config, split: str) -> Examples:
    """Opens a split of the data set itself."""
    data_dir = config.data_dir
    return tfds_source.open_split(config.dataset, split, data_dir=data_dir)


def find_prepared(config: Config) -> tuple[Path, dict] | None:
    """Returns the prepared set's directory and manifest, if there is one.

    It must be finished and made of the same data with the same settings.
    """
    directory = Path(config.prepared_dir)
    manifest = prepared.read_manifest(directory) if config.prepared_dir else {}
    if not manifest:
        return None
    names = (
        *("dataset", "image_size", "resize", "exif_orientation"),
        "max_image_pixels",
    )
    source = {name: getattr(absolute(config), name) for name in names}
    prepared.check_source(directory, manifest, source)
    if not manifest["finished"]:
        raise UserError(
            f"--prepared_dir={directory} is not finished; run prepare again "
            "to finish it, or leave out --prepared_dir."
        )
    return directory, manifest


def check_classes(
    config: Config, training: Examples, validation: Examples
) -> None:
    """Checks that both splits have the same classes."""
    if training.class_names != validation.class_names:
        differing = set(training.class_names) ^ set(validation.class_names)
        raise UserError(
            f"the training and validation images of {config.dataset} have "
            "different classes: only one of them has "
            f"{', '.join(sorted(differing)[:3])}."
        )


def check_run_classes(run: RunDir, examples: Examples) -> None:
    """Checks that a run was trained on the classes of a split."""
    trained = dataset_info.read_dataset_info(run).class_names
    now = list(examples.class_names)
    # The run's names may be longer: "n02123045 tabby cat" for "n02123045".
    same = len(trained) == len(now) and all(
        f"{ours} ".startswith(f"{theirs} ")
        for ours, theirs in zip(trained, now, strict=True)
    )
    if not same:
        differing = sorted(set(trained) ^ set(now))[:3]
        raise UserError(
            f"{run.path} was trained on {len(trained)} classes, its data set "
            f"now has {len(now)}; {', '.join(differing) or 'their order'} "
            "differ.\nRestore the data set, or start a new run with "
            f"--init_from={run.path}."
        )


def describe_dataset(
    config: Config,
    run: RunDir,
    training: Examples,
    validation: Examples,
    bad: BadExamples,
) -> dataset_info.DatasetInfo:
    """Returns a run's dataset info, which its first start measures.

    Any start may add or replace its labels.
    """
    names, labels = training.class_names, None
    if config.labels:
        labels = class_labels(names, config.labels)
    if run.dataset.exists():
        info = dataset_info.read_dataset_info(run)
        if labels and labels != info.labels:
            info = dataclasses.replace(info, labels=labels)
            dataset_info.write_dataset_info(run, info)
        return info
    mean_image, geometry = read_mean(config), config.geometry
    found = find_prepared(config) if training.squares else None
    if found:
        measured = prepared.read_statistics(*found, geometry)
    else:
        print("Measuring the mean and the colors of the training images...")
        count = config.statistics_images
        measured = measure_pixels(
            training, num_images=count, geometry=geometry, bad=bad
        )
    if config.mean == "image":
        mean_image = measured.mean_image.astype(np.float32)
    info = dataset_info.DatasetInfo(
        class_names=list(names),
        mean_rgb=measured.mean_rgb.tolist(),
        covariance_rgb=measured.covariance_rgb.tolist(),
        train_examples=training.count,
        validation_examples=validation.count,
        mean_image=mean_image,
        labels=labels,
        names_sha256=(training.names_sha256, validation.names_sha256),
    )
    dataset_info.write_dataset_info(run, info)
    return info


def read_mean(config: Config) -> np.ndarray | None:
    """Returns the center patch of the mean image that --mean names, if any."""
    if config.mean in ("image", "color"):
        return None
    mean = caffe_format.read_mean(Path(config.mean))
    side = config.image_size
    if mean.shape != (side, side, 3):
        raise UserError(
            f"--mean={config.mean} has {mean.shape[1]}x{mean.shape[0]} "
            f"pixels; it needs the sides of --image_size={side}."
        )
    return config.geometry.cut_center(mean)


@contextlib.contextmanager
def reporting_damaged_files(*splits: Examples):
    """Checks the splits' files when reading fails, and names a damaged one."""
    try:
        yield
    except tf.errors.OpError:
        for examples in splits:
            examples.check_files()
        raise


def record_bad_examples(
    config: Config, run: RunDir, *splits: Examples
) -> BadExamples:
    """Returns the record of the bad examples of a run and its splits."""
    total = sum(split.count for split in splits)
    fraction = config.max_bad_fraction
    limit = max(int(fraction * total), _FEW_BAD if fraction else 0)
    return BadExamples(run.bad_examples, limit=limit, total=total)
