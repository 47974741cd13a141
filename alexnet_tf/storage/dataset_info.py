"""What a run records about its data set: dataset.json and mean_image.npy."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.files import write_array, write_json
from alexnet_tf.storage.run_dir import RunDir


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
    mean_image = content.pop("mean_image")
    if mean_image is None:  # A start that was killed may have left one.
        run_dir.mean_image.unlink(missing_ok=True)
    else:
        write_array(run_dir.mean_image, mean_image)
    write_json(run_dir.dataset, content)


def read_dataset_info(run_dir: RunDir) -> DatasetInfo:
    """Returns what `write_dataset_info` wrote."""
    if not run_dir.dataset.exists():
        raise UserError(
            f"{run_dir.path} is not a run directory: it has no "
            f"{run_dir.dataset.name}. Start a run with train "
            f"--run_dir={run_dir.path}."
        )
    content = json.loads(run_dir.dataset.read_text())
    if run_dir.mean_image.exists():
        content["mean_image"] = np.load(run_dir.mean_image)
    return DatasetInfo(**content)
