"""What a run knows of its data set, and keeps beside its checkpoints."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage.run_dir import RunDir, write_json, write_whole


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """What the network and its input need to know of the data set.

    Args:
        class_names: In the order of the labels.
        mean_rgb: Mean colour, three numbers in 0..255.
        covariance_rgb: 3x3, of pixels in 0..255.
        train_examples: Size of the training split.
        validation_examples: Size of the validation split.
        mean_image: Mean of each pixel of the centre patch, float32
            (crop_size, crop_size, 3) in 0..255; None if it is not used.
    """

    class_names: list[str]
    mean_rgb: list[float]
    covariance_rgb: list[list[float]]
    train_examples: int
    validation_examples: int
    mean_image: np.ndarray | None = None


def unknown_facts(class_names: Sequence[str]) -> DatasetFacts:
    """Returns the facts of a data set that nobody has looked at."""
    return DatasetFacts(
        class_names=list(class_names),
        mean_rgb=[0, 0, 0],
        covariance_rgb=[[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        train_examples=0,
        validation_examples=0,
    )


def write_facts(run: RunDir, facts: DatasetFacts) -> None:
    """Writes dataset.json and, before it, the mean image if there is one."""
    content = dataclasses.asdict(facts)
    mean_image = content.pop("mean_image")
    if mean_image is None:  # One may be left from a start that was killed.
        run.mean_image.unlink(missing_ok=True)
    else:
        write_array(run.mean_image, mean_image)
    write_json(run.dataset, content)


def write_array(file: Path, array: np.ndarray) -> None:
    """Writes a .npy file, completely or not at all."""
    encoded = io.BytesIO()
    np.save(encoded, array)
    write_whole(file, encoded.getvalue())


def read_facts(run: RunDir) -> DatasetFacts:
    """Returns what `write_facts` wrote.

    Raises:
        UserError: if this is not the directory of a run.
    """
    if not run.dataset.exists():
        raise UserError(
            f"{run.path} is not a run directory: it has no "
            f"{run.dataset.name}. Start a run with train --run_dir={run.path}."
        )
    content = json.loads(run.dataset.read_text())
    if run.mean_image.exists():
        content["mean_image"] = np.load(run.mean_image)
    return DatasetFacts(**content)
