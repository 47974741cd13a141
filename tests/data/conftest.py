"""Splits that several modules of these tests read."""

import shutil

import pytest

from alexnet_tf.data import tfds_source


@pytest.fixture(scope="session", params=["in order", "in any order"])
def split(request, data_dir, tmp_path_factory):
    """The training split of shapes/tiny, from TFRecords or as a folder."""
    records = tfds_source.open_split("shapes/tiny", "train", data_dir=data_dir)
    if request.param == "in order":
        assert records.fetch is None
        return records
    root = tmp_path_factory.mktemp("folder")
    for number, example in enumerate(records.records.as_numpy_iterator()):
        folder = root / "train" / f"{example['label']:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(example["image"])
    # Or a part of the training images is held out.
    shutil.copytree(folder, root / "validation" / folder.name)
    return tfds_source.open_split(f"folder:{root}", "train")
