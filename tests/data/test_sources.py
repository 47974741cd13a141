"""Data sets by name and folders of images, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.data import tfds_source
from alexnet_tf.data.shapes.render import CLASS_NAMES
from alexnet_tf.main import main
from tests.support import TINY


@pytest.fixture
def folder(tmp_path):
    """Two classes with 20 and 10 grey images, and a file of another kind."""
    for name, count in [("b", 20), ("a", 10)]:
        (tmp_path / name).mkdir()
        for number in range(count):
            image = np.full((8, 8, 3), number, np.uint8)
            file = tmp_path / name / f"{number:02d}.JPEG"
            file.write_bytes(tf.io.encode_jpeg(image).numpy())
        (tmp_path / name / "notes.txt").write_text("no image")
    return tmp_path


def names_and_labels(examples):
    (rows,) = examples.in_order(examples.count).as_numpy_iterator()
    names = [name.decode() for name in rows["name"]]
    return dict(zip(names, rows["label"].tolist(), strict=True))


def test_a_tfds_data_set_opens_by_name(data_dir):
    train = tfds_source.open_split("shapes/tiny", "train", data_dir=data_dir)
    validation = tfds_source.open_split("shapes/tiny", "", data_dir=data_dir)
    assert train.class_names == CLASS_NAMES
    for split in (train, validation):
        labels = names_and_labels(split)
        assert len(labels) == split.count
        counts = np.bincount(list(labels.values()))
        assert len(counts) == 12 and len(set(counts)) == 1
    assert not set(names_and_labels(train)) & set(names_and_labels(validation))


def test_a_part_of_a_split_is_a_split(data_dir):
    part = tfds_source.open_split(
        "shapes/tiny", "train[:25%]", data_dir=data_dir
    )
    assert part.count == 60 == len(names_and_labels(part))


def test_a_folder_of_class_folders_holds_every_tenth_image_back(folder):
    train = tfds_source.open_split(f"folder:{folder}", "train")
    validation = tfds_source.open_split(f"folder:{folder}", "")
    assert train.class_names == validation.class_names == ("a", "b")
    seen = names_and_labels(train)
    held_out = names_and_labels(validation)
    assert (len(seen), len(held_out)) == (27, 3) == (
        train.count,
        validation.count,
    )  # fmt: skip
    assert not set(seen) & set(held_out)
    for name, label in (seen | held_out).items():
        assert ("a", "b")[label] == name.split("/")[-2]
        assert train.load(name).numpy() == Path(name).read_bytes()
    # Not in the order of the classes.
    labels = list(seen.values())
    assert labels != sorted(labels)


def test_a_folder_with_train_and_validation_is_taken_as_it_is(folder):
    for split in ("train", "validation"):
        (folder / split).mkdir()
    (folder / "a").rename(folder / "train" / "a")
    (folder / "b").rename(folder / "train" / "b")
    (folder / "validation" / "a").mkdir()
    (folder / "validation" / "b").mkdir()
    (folder / "train" / "a" / "00.JPEG").rename(
        folder / "validation" / "a" / "00.JPEG"
    )
    assert tfds_source.open_split(f"folder:{folder}", "train").count == 29
    assert tfds_source.open_split(f"folder:{folder}", "validation").count == 1


def test_validation_images_alone_can_be_measured(folder):
    """As ImageNet's, which take a 20th of the space of all."""
    (folder / "validation").mkdir()
    (folder / "a").rename(folder / "validation" / "a")
    (folder / "b").rename(folder / "validation" / "b")
    split = tfds_source.open_split(f"folder:{folder}", "validation")
    assert split.count == 30 and split.class_names == ("a", "b")
    assert tfds_source.class_names(f"folder:{folder}") == ("a", "b")
    with pytest.raises(UserError, match="no train images in .*train"):
        tfds_source.open_split(f"folder:{folder}", "train")


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
def test_what_is_not_there_is_named(data_dir, dataset, split, message):
    with pytest.raises(UserError, match=message) as caught:
        tfds_source.open_split(dataset, split, data_dir=data_dir)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no images in"):
        tfds_source.open_split(f"folder:{tmp_path}", "train")


def test_classes_of_one_name_are_unique_names():
    names = tfds_source.unique_names(("crane", "maillot", "crane"))
    assert names == ("crane (0)", "maillot", "crane (2)")


def test_a_class_that_training_does_not_have_is_told(folder):
    for split in ("train", "validation"):
        (folder / split).mkdir()
    (folder / "a").rename(folder / "train" / "a")
    (folder / "b").rename(folder / "validation" / "b")
    with pytest.raises(UserError, match="classes without training images: b"):
        tfds_source.open_split(f"folder:{folder}", "validation")


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
    else:  # Its length, 8 bytes, stands before a record; 16 are checksums.
        first = 16 + int.from_bytes(content[:8], "little")
        content = content[:first]
    file.write_bytes(content)
    flags = [*TINY, f"--data_dir={root}", f"--run_dir={tmp_path}/run"]
    assert main([*flags, "--epochs=1", "--statistics_images=10"]) == 2
    error = capsys.readouterr().err
    assert f"{file} is damaged" in error and len(error.splitlines()) <= 3
