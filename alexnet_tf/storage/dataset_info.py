"""What a run records about its data set: dataset.json and mean_image.npy."""

import dataclasses
import re
import reprlib
from collections.abc import Sequence

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.files import (
    checksum,
    read_array,
    read_json,
    write_array,
    write_json,
)
from alexnet_tf.storage.run_dir import RunDir

# Entries of dataset.json that all versions write.
_ENTRIES = {
    "class_names": list,
    "mean_rgb": list,
    "covariance_rgb": list,
    "train_examples": int,
    "validation_examples": int,
}


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Classes, sizes and statistics of a data set, of pixels in 0..255.

    `mean_image` is that of the center patches, float32 (crop_size, crop_size,
    3); None if it is not used.
    """

    class_names: list[str]  # In the order of the labels.
    mean_rgb: list[float]
    covariance_rgb: list[list[float]]  # 3x3
    train_examples: int
    validation_examples: int
    mean_image: np.ndarray | None = None
    labels: list[str] | None = None  # Of --labels, see `data.labels`.
    # Of the names of the training and of the validation examples, if known.
    names_sha256: Sequence[str] = ("", "")


def placeholder_info(class_names: Sequence[str]) -> DatasetInfo:
    """Returns the info of a data set whose pixels were not measured."""
    covariance: list[list[float]] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    return DatasetInfo(list(class_names), [0, 0, 0], covariance, 0, 0)


def write_dataset_info(run_dir: RunDir, info: DatasetInfo) -> None:
    """Writes dataset.json and, before it, the mean image if there is one."""
    content = dataclasses.asdict(info)
    del content["mean_image"]
    content["mean_image_sha256"] = ""
    if info.mean_image is None:  # A start that was killed may have left one.
        run_dir.mean_image.unlink(missing_ok=True)
    else:
        write_array(run_dir.mean_image, info.mean_image)
        content["mean_image_sha256"] = checksum(run_dir.mean_image)
    write_json(run_dir.dataset, content)


def read_dataset_info(run_dir: RunDir) -> DatasetInfo:
    """Returns what `write_dataset_info` wrote."""
    if not (run_dir.dataset.exists() or run_dir.flags.exists()):
        raise UserError(
            f"{run_dir.path} is not a run directory: it has no "
            f"{run_dir.dataset.name}. Start a run with train "
            f"--run_dir={run_dir.path}."
        )
    content = read_json(run_dir.dataset, _ENTRIES, run_dir.fix)
    expected = content.pop("mean_image_sha256", None)
    known = {field.name for field in dataclasses.fields(DatasetInfo)}
    count = len(content["class_names"])
    labels = content.get("labels")
    covariance = [_count_numbers(row) for row in content["covariance_rgb"]]
    is_right = {
        **{name: name in known for name in content},
        "class_names": _are_texts(content["class_names"], count),
        "labels": labels is None or _are_texts(labels, count),
        "names_sha256": _are_texts(content.get("names_sha256", ["", ""]), 2),
        "mean_rgb": _count_numbers(content["mean_rgb"]) == 3,
        "covariance_rgb": covariance == [3, 3, 3],
    }
    if wrong := [name for name, right in is_right.items() if not right]:
        name = wrong[0]
        raise UserError(
            f"{run_dir.dataset} has {reprlib.repr(content[name])} for {name}; "
            f"it is damaged or of another version. {run_dir.fix}"
        )
    if expected is None:  # Of a run of version 0.1, whose settings imply it.
        expected = run_dir.flags.exists() and re.search(
            "^--mean=(image|.*[.]binaryproto)$",
            run_dir.flags.read_text(),
            re.MULTILINE,
        )
    mean_image = _read_mean_image(run_dir, expected) if expected else None
    return DatasetInfo(**content, mean_image=mean_image)


def _are_texts(values, count):
    is_list = isinstance(values, list) and len(values) == count
    return is_list and all(isinstance(value, str) for value in values)


def _count_numbers(row):
    """Returns the length of a list of finite numbers, 0 of anything else."""
    if not isinstance(row, list):
        return 0
    is_number = [isinstance(n, (int, float)) and np.isfinite(n) for n in row]
    return len(row) if all(is_number) else 0


def _read_mean_image(run_dir, expected):
    """Returns the mean image; `expected` is its checksum, if that is known."""
    image = read_array(run_dir.mean_image, run_dir.fix)
    if (
        (isinstance(expected, str) and expected != checksum(run_dir.mean_image))
        or image.dtype != np.float32
        or image.shape != (*image.shape[:1] * 2, 3)
        or not np.isfinite(image).all()
    ):
        raise UserError(
            f"{run_dir.mean_image} is not the mean image that this run began "
            f"with. {run_dir.fix}"
        )
    return image
