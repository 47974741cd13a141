"""Folders of class folders."""

from pathlib import Path

import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.data import folders
from tests.data.image_files import names_and_labels


@pytest.fixture
def folder(tmp_path):
    """Two classes with 20 and 10 gray images, and a file of another kind."""
    for name, count in [("b", 20), ("a", 10)]:
        (tmp_path / name).mkdir()
        for number in range(count):
            image = tf.fill((8, 8, 3), tf.constant(number, tf.uint8))
            file = tmp_path / name / f"{number:02d}.JPEG"
            file.write_bytes(tf.io.encode_jpeg(image).numpy())
        (tmp_path / name / "notes.txt").write_text("no image")
    return tmp_path


def move(folder, name, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / name).rename(target)


def test_a_folder_of_class_folders_holds_every_tenth_image_back(folder):
    train = folders.open_split(folder, "train")
    validation = folders.open_split(folder, "")
    assert train.class_names == validation.class_names == ("a", "b")
    seen = names_and_labels(train)
    held_out = names_and_labels(validation)
    assert (len(seen), len(held_out)) == (27, 3)
    assert (train.count, validation.count) == (27, 3)
    assert not set(seen) & set(held_out)
    for name, label in (seen | held_out).items():
        assert ("a", "b")[label] == name.split("/")[-2]
        assert train.load(name).numpy() == Path(name).read_bytes()
    # Not in the order of the classes.
    labels = list(seen.values())
    assert labels != sorted(labels)


def test_folders_for_train_and_validation_are_used_as_they_are(folder):
    move(folder, "a", folder / "train" / "a")
    move(folder, "b", folder / "train" / "b")
    (folder / "validation" / "b").mkdir(parents=True)
    move(folder, "train/a/00.JPEG", folder / "validation" / "a" / "00.JPEG")
    assert folders.open_split(folder, "train").count == 29
    assert folders.open_split(folder, "validation").count == 1


def test_validation_images_alone_can_be_measured(folder):
    """Such as ImageNet's, which take a 20th of the space of all."""
    move(folder, "a", folder / "validation" / "a")
    move(folder, "b", folder / "validation" / "b")
    split = folders.open_split(folder, "validation")
    assert split.count == 30 and split.class_names == ("a", "b")
    assert folders.class_names(folder) == ("a", "b")
    with pytest.raises(UserError, match="no train images in .*train"):
        folders.open_split(folder, "train")


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no images in"):
        folders.open_split(tmp_path, "train")


def test_a_class_without_training_images_is_an_error(folder):
    move(folder, "a", folder / "train" / "a")
    move(folder, "b", folder / "validation" / "b")
    with pytest.raises(UserError, match="classes without training images: b"):
        folders.open_split(folder, "validation")
