"""Data sets: from TFDS by name, from folders, or prepared ones."""

import difflib
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from alexnet_tf import prepared
from alexnet_tf.datasets.shapes import shapes  # noqa: F401 Registers it.
from alexnet_tf.errors import UserError
from alexnet_tf.examples import Examples

# What TFDS cannot download by itself: file, bytes.
_MANUAL_FILES = {
    "imagenet2012": (
        ("ILSVRC2012_img_train.tar", 147_897_477_120),
        ("ILSVRC2012_img_val.tar", 6_744_924_160),
    )
}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp"}
# Every tenth image of a folder that has no validation folder.
_HELD_OUT = 10


def open_split(
    dataset: str, split: str, *, data_dir: str = "", image_size: int = 0
) -> Examples:
    """Opens a split, generating or preparing the data set if need be.

    Args:
        dataset: TFDS name, "folder:PATH" or "prepared:PATH".
        split: "train"; "validation"; any TFDS split expression. "" is the
            validation split, or the test split of a set that has none.
        data_dir: TFDS's directory; empty for its default.
        image_size: What a prepared set must have been rescaled to; 0 if that
            does not matter [pixels].

    Raises:
        UserError: if there is no such data set or split, it is not one of
            image classification, or files are missing.
    """
    if dataset.startswith("folder:"):
        return _open_folder(Path(dataset.removeprefix("folder:")), split)
    if prepared.is_prepared(dataset):
        return prepared.open_split(dataset, split, image_size=image_size)
    builder = _open_builder(dataset, data_dir)
    _prepare(builder)
    split = split or _validation_split(builder.info.splits)
    try:
        count = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise UserError(
            f"split {split!r} of --dataset={dataset} does not exist; it has "
            f"{', '.join(builder.info.splits)}, or parts such as train[:90%]."
        ) from error
    if not count:
        raise UserError(f"split {split!r} of --dataset={dataset} is empty.")
    records = builder.as_dataset(
        split,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
    ).map(
        lambda example: {
            "image": example["image"],
            "label": example["label"],
            "name": example["tfds_id"],
        }
    )
    return Examples(records, count, tuple(builder.info.features["label"].names))


def class_names(dataset: str, *, data_dir: str = "") -> tuple[str, ...]:
    """Returns a data set's class names without reading its images."""
    if dataset.startswith("folder:"):
        return open_split(dataset, "train").class_names
    if prepared.is_prepared(dataset):
        return prepared.class_names(dataset)
    return tuple(_open_builder(dataset, data_dir).info.features["label"].names)


def _open_builder(dataset, data_dir):
    try:
        builder = tfds.builder(dataset, data_dir=data_dir or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        names = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(dataset, names, n=3, cutoff=0.0)
        raise UserError(
            f"--dataset={dataset} is not known to TFDS. Near: "
            f"{', '.join(near)}; or folder:PATH for a folder of images."
        ) from error
    except (ValueError, AssertionError) as error:
        # Some of TFDS's messages are a page long; their last clause says why.
        reason = str(error).splitlines()[0].split('}": ')[-1]
        raise UserError(
            f"--dataset={dataset} cannot be opened: {reason[:150]}\n"
            "TFDS names are NAME, NAME/CONFIG or NAME:VERSION."
        ) from error
    features = builder.info.features
    kinds = {name: type(feature) for name, feature in features.items()}
    if (kinds.get("image"), kinds.get("label")) != (
        tfds.features.Image,
        tfds.features.ClassLabel,
    ):
        raise UserError(
            f"--dataset={dataset} has {', '.join(features)}; expected an "
            "image and a class label: a set for image classification."
        )
    return builder


def _prepare(builder):
    """Downloads or generates a data set that is not there yet."""
    if builder.data_path.exists():
        return
    manual_dir = Path(builder.data_dir_root) / "downloads" / "manual"
    wanted = _MANUAL_FILES.get(builder.name, ())
    missing = [
        f"{name} ({size / 1e9:.1f} GB)"
        for name, size in wanted
        if not (manual_dir / name).exists()
    ]
    if missing:
        raise UserError(
            f"--dataset={builder.name} needs {' and '.join(missing)},\n"
            f"which are not in {manual_dir}.\n"
            "Get them from https://image-net.org (an account is needed), or "
            "say where they are with --data_dir."
        )
    builder.download_and_prepare()


def _validation_split(splits):
    for split in ("validation", "test"):
        if split in splits:
            return split
    raise UserError(
        "the data set has no validation or test split, only "
        f"{', '.join(splits)}; give --train_split and --validation_split, "
        "as train[:90%] and train[90%:]."
    )


def _open_folder(path, split):
    """Opens PATH/CLASS/IMAGE, or PATH/SPLIT/CLASS/IMAGE."""
    split = split or "validation"
    divided = (path / "train").is_dir()
    if split not in ("train", "validation"):
        raise UserError(
            f"split {split!r} of --dataset=folder:{path} does not exist; "
            "use train or validation."
        )
    root = path / split if divided else path
    if not root.is_dir():
        raise UserError(f"--dataset=folder:{path}: no such folder: {root}")
    names = tuple(sorted(f.name for f in root.iterdir() if f.is_dir()))
    part = "all" if divided else split
    files, labels = [], []
    for label, name in enumerate(names):
        found = _images_in(root / name, part)
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(
            f"--dataset=folder:{path} has no {split} images in {root}; "
            "expected a folder for each class with .jpg or .png files."
        )
    # Not sorted by class: a shuffle buffer may hold only a part of them.
    order = np.random.default_rng(0).permutation(len(files))
    records = tf.data.Dataset.from_tensor_slices(
        (np.array(files)[order], np.array(labels, np.int64)[order])
    ).map(
        lambda file, label: {
            "image": tf.io.read_file(file),
            "label": label,
            "name": file,
        },
        num_parallel_calls=os.cpu_count(),
    )
    return Examples(records, len(files), names)


def _images_in(folder, part):
    """Returns a class's files: "all", every tenth, or what that leaves."""
    found = sorted(
        str(file)
        for file in folder.iterdir()
        if file.suffix.lower() in _IMAGE_SUFFIXES
    )
    if part == "all":
        return found
    held_out = found[_HELD_OUT - 1 :: _HELD_OUT]
    if part == "validation":
        return held_out
    return sorted(set(found) - set(held_out))
