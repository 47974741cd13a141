"""Data sets by name: TFDS's, or folder:PATH."""

import collections
import difflib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data import class_folders, folders
from alexnet_tf.data.examples import Examples
from alexnet_tf.data.shapes import shapes  # noqa: F401 Registers it.
from alexnet_tf.storage.files import reporting_failed_writes

# Files that TFDS cannot download, and their bytes.
_MANUAL_FILES = {
    "imagenet2012": (
        ("ILSVRC2012_img_train.tar", 147_897_477_120),
        ("ILSVRC2012_img_val.tar", 6_744_924_160),
    )
}


def open_split(dataset: str, split: str, *, data_dir: str = "") -> Examples:
    """Opens a split; generates or downloads the data set if it is missing.

    `dataset` is a TFDS name or "folder:PATH". `split` is a TFDS expression such
    as "train[:90%]", or of a folder "train" or "validation"; "" is the
    validation split, or the test split of a set that has no other. `data_dir`
    is TFDS's directory, "" its default.
    """
    if dataset.startswith("folder:"):
        return folders.open_split(Path(dataset.removeprefix("folder:")), split)
    builder, image, label = _open_builder(dataset, data_dir)
    _prepare(builder)
    split = split or _validation_split(builder.info.splits)
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"split {split!r} of --dataset={dataset} does not exist; it has "
            f"{', '.join(builder.info.splits)}, or parts such as train[:90%]."
        ) from error
    if not count:
        raise UserError(f"split {split!r} of --dataset={dataset} is empty.")
    records = builder.as_dataset(
        split,
        decoders={image: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
    ).map(
        lambda example: {
            "image": example[image],
            "label": example[label],
            "name": example["tfds_id"],
        }
    )
    names = unique_names(builder.info.features[label].names)
    check = partial(_check_records, builder, split)
    return Examples(count, names, records, check_files=check)


def class_names(dataset: str, *, data_dir: str = "") -> tuple[str, ...]:
    """Returns a data set's class names without reading its images."""
    if dataset.startswith("folder:"):
        return class_folders.class_names(Path(dataset.removeprefix("folder:")))
    builder, _, label = _open_builder(dataset, data_dir)
    return unique_names(builder.info.features[label].names)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns class names; the label follows those that occur twice."""
    names = list(map(printable, names))
    times = collections.Counter(names)
    return tuple(
        name if times[name] == 1 else f"{name} ({label})"
        for label, name in enumerate(names)
    )


def _open_builder(dataset, data_dir):
    """Returns a builder, and the names of its image and label."""
    try:
        builder = tfds.builder(dataset, data_dir=data_dir or None)
    except (ValueError, AssertionError) as error:
        raise UserError(_why_not_opened(dataset, error)) from error
    return builder, *_find_features(builder)


def _find_features(builder):
    """Returns the names of the image and the label of an example."""
    found = []
    features = builder.info.features
    wanted = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    for usual, kind in wanted.items():
        names = [name for name, f in features.items() if type(f) is kind]
        if usual not in names and len(names) != 1:
            listed = [
                f"{n} ({type(f).__name__})" for n, f in sorted(features.items())
            ]
            raise UserError(
                f"--dataset={builder.name} has {', '.join(listed)}; expected "
                "an image and a class label (Image, ClassLabel), as for image "
                "classification."
            )
        found.append(usual if usual in names else names[0])
    return found


def _why_not_opened(dataset, error):
    if os.path.isdir(os.path.expanduser(dataset)):
        return f"--dataset={dataset} is a folder; give folder:{dataset}."
    if isinstance(error, tfds.core.registered.DatasetNotFoundError):
        names = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(dataset, names, n=3, cutoff=0.0)
        return (
            f"--dataset={dataset} is not known to TFDS. Similar names: "
            f"{', '.join(near)}; use folder:PATH for a folder of images."
        )
    # TFDS's messages can be a page long; the last clause is the reason.
    reason = str(error).splitlines()[0].split('}": ')[-1]
    return (
        f"--dataset={dataset} cannot be opened: {reason[:150]}\n"
        "TFDS names are NAME, NAME/CONFIG or NAME:VERSION."
    )


def _prepare(builder):
    """Downloads or generates a data set if it does not exist yet."""
    if builder.data_path.exists():
        return
    manual_dir = Path(builder.data_dir_root) / "downloads" / "manual"
    missing = [
        f"{name} ({size / 1e9:.1f} GB)"
        for name, size in _MANUAL_FILES.get(builder.name, ())
        if not (manual_dir / name).exists()
    ]
    if missing:
        raise UserError(
            f"--dataset={builder.name} needs {' and '.join(missing)},\n"
            f"which are not in {manual_dir}.\n"
            "Download them there from https://image-net.org, which needs an "
            "account, or give the --data_dir whose downloads/manual has them."
        )
    path = builder.data_path
    for left in sorted(path.parent.glob(f"incomplete.*_{path.name}")):
        print(
            f"{left} is of a generation that was killed, unless another "
            "process writes it now; remove it."
        )
    with reporting_failed_writes(path):
        try:
            builder.download_and_prepare()
        except Exception as caught:
            # TFDS wraps errors of TensorFlow in a RuntimeError.
            error = caught.__cause__ or caught
            # Downloads fail without a number, or with one of the network.
            of_network = ConnectionError, TimeoutError
            has_number = isinstance(error, OSError) and error.errno
            is_of_disk = has_number and not isinstance(error, of_network)
            if is_of_disk or isinstance(error, tf.errors.OpError):
                raise error from None
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"--dataset={builder.name} cannot be downloaded or generated.\n"
                f"{' '.join(reason.split())[:400]}\n"
                "--debug shows the stack trace. A data set made elsewhere can "
                f"be copied to {path}."
            ) from caught


def _validation_split(splits):
    for split in ("validation", "test"):
        if split in splits:
            return split
    raise UserError(
        "the data set has no validation or test split, only "
        f"{', '.join(splits)}; give --train_split and --validation_split, "
        "such as train[:90%] and train[90%:]."
    )


def _check_records(builder, split):
    """Counts the records of each file of a split."""
    for part in builder.info.splits[split].file_instructions:
        expected = part.examples_in_shard
        try:
            found = sum(1 for _ in tf.data.TFRecordDataset(part.filename))
        except tf.errors.OpError as error:
            found = error.message
        if found != expected:
            raise UserError(
                f"{part.filename} is damaged: expected {expected} records, "
                f"found: {found}.\nRemove {builder.data_path} and start "
                "again: TFDS writes it again."
            )
