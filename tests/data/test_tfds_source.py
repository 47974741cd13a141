"""Data sets by name, and errors in names."""

import importlib
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alexnet_tf.config.errors import UserError
from alexnet_tf.data import tfds_source
from alexnet_tf.data.shapes.render import CLASS_NAMES
from alexnet_tf.main import main
from tests.data.image_files import names_and_labels
from tests.support import TINY


def test_a_tfds_data_set_opens_by_name(data_dir):
    train = tfds_source.open_split("shapes/tiny", "train", data_dir=data_dir)
    validation = tfds_source.open_split("shapes/tiny", "", data_dir=data_dir)
    assert train.class_names == CLASS_NAMES
    names = set()
    for split in (train, validation):
        labels = names_and_labels(split)
        assert len(labels) == split.count
        counts = np.bincount(list(labels.values()))
        assert len(counts) == 12 and len(set(counts)) == 1
        assert not names & set(labels)
        names |= set(labels)


def test_a_part_of_a_split_is_a_split(data_dir):
    part = tfds_source.open_split(
        "shapes/tiny", "train[:25%]", data_dir=data_dir
    )
    assert part.count == 60 == len(names_and_labels(part))


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("imagnet2012", "train", "imagnet2012 is not known.*imagenet2012"),
        ("folder:/nowhere", "train", "no such folder: /nowhere"),
        ("shapes/tiny", "dev", "'dev'.*train, validation"),
        ("shapes/tiny", "train[:0%]", r"'train\[:0%\]' .* is empty"),
        ("shapes/huge", "train", "BuilderConfig huge not found"),
        ("shapes:9.9.9", "train", "cannot be loaded at version 9.9.9"),
        ("two words", "train", "two words cannot be opened"),
        ("", "train", "NAME:VERSION"),
        ("coco", "train", "expected an image and a class label"),
        ("imagenet2012", "train", "ILSVRC2012_img_train.tar .147.9 GB."),
    ],
)
def test_what_does_not_exist_is_named(data_dir, dataset, split, message):
    with pytest.raises(UserError, match=message) as caught:
        tfds_source.open_split(dataset, split, data_dir=data_dir)
    assert len(str(caught.value).splitlines()) <= 3


def write_builder(directory, **features):
    """Writes a TFDS data set of two examples as its user would; its name."""
    values = {
        tfds.features.Image: np.zeros((8, 8, 3), np.uint8),
        tfds.features.ClassLabel: 1,
    }
    example = {name: values.get(type(f), [1]) for name, f in features.items()}

    class MySet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = directory

        def _info(self):
            features_dict = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features_dict)

        def _split_generators(self, manager):
            return {"train": [(number, example) for number in range(2)]}

        def _generate_examples(self):
            raise NotImplementedError

    MySet(data_dir=directory).download_and_prepare()
    return "my_set"


class Failing(tfds.core.GeneratorBasedBuilder):
    """A data set that cannot be made, for the reason in `fail`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask its authors for photos.zip."
    fail = None

    def _info(self):
        features = tfds.features.FeaturesDict({"image": IMAGE, "label": LABEL})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        self.fail(manager)

    def _generate_examples(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (
            # Others are tried for minutes, but end as this one.
            lambda self, m: m.download("http:///photos.zip"),
            "cannot be downloaded or generated.\nInvalidURL: .*photos.zip",
        ),
        (
            lambda self, m: socket.create_connection(("127.0.0.1", 9)),
            "or generated.\\nConnectionRefusedError: .*refused",
        ),
        (
            lambda self, m: m.manual_dir / "photos.zip",
            "or generated.\nAssertionError: .*photos.zip",
        ),
        (
            lambda self, m: importlib.import_module("no_such_package"),
            "ModuleNotFoundError: No module named 'no_such_package'",
        ),
        (
            lambda self, m: Path("/dev/full").write_text("full"),
            "failing/1.0.0 cannot be written: No space left on device",
        ),
    ],
)
def test_why_a_data_set_cannot_be_made(tmp_path, monkeypatch, fail, message):
    monkeypatch.setattr(Failing, "fail", fail)
    with pytest.raises(UserError, match=message) as caught:
        tfds_source.open_split("failing", "train", data_dir=str(tmp_path))
    assert len(str(caught.value).splitlines()) <= 3
    assert not list(tmp_path.glob("failing/1.0.0"))


IMAGE = tfds.features.Image(shape=(8, 8, 3))
LABEL = tfds.features.ClassLabel(names=["a", "b"])
OTHER = tfds.features.ClassLabel(num_classes=5)


@pytest.mark.parametrize(
    "features",
    [
        {"image": IMAGE, "labels": LABEL},
        {"photo": IMAGE, "species": LABEL},
        {"image": IMAGE, "label": LABEL, "coarse_label": OTHER},
    ],
)
def test_image_and_label_may_have_other_names(tmp_path, features):
    name = write_builder(tmp_path, **features)
    split = tfds_source.open_split(name, "train", data_dir=str(tmp_path))
    assert split.class_names == ("a", "b")
    assert list(names_and_labels(split).values()) == [1, 1]
    assert tfds_source.class_names(name, data_dir=str(tmp_path)) == ("a", "b")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image": IMAGE, "a": LABEL, "b": OTHER}, r"b \(ClassLabel\)"),
        (
            {"image": IMAGE, "label": tfds.features.Sequence(LABEL)},
            r"has image \(Image\), label \(Sequence\); expected",
        ),
    ],
)
def test_other_kinds_of_labels_are_refused(tmp_path, features, message):
    name = write_builder(tmp_path, **features)
    with pytest.raises(UserError, match=message):
        tfds_source.open_split(name, "train", data_dir=str(tmp_path))


def test_classes_of_the_same_name_become_unique():
    names = tfds_source.unique_names(("crane", "maillot", "crane"))
    assert names == ("crane (0)", "maillot", "crane (2)")


@pytest.mark.parametrize(
    "damage",
    [
        *("flip", "cut at a record"),
        pytest.param("cut", marks=pytest.mark.slow),
        pytest.param("empty", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_record_file_is_named(data_dir, tmp_path, capsys, damage):
    root = tmp_path / "tfds"
    shutil.copytree(data_dir, root)
    (file,) = root.glob("**/tiny/*/shapes-train.tfrecord*")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        content = content[:-10]
    elif damage == "empty":
        content = b""
    else:  # 8 bytes of length and 8 of checksums surround a record.
        first = 16 + int.from_bytes(content[:8], "little")
        content = content[:first]
    file.write_bytes(content)
    flags = [*TINY, f"--data_dir={root}", f"--run_dir={tmp_path}/run"]
    assert main([*flags, "--epochs=1", "--statistics_images=10"]) == 2
    error = capsys.readouterr().err
    assert f"{file} is damaged" in error and len(error.splitlines()) <= 3
