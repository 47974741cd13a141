"""Folders of class folders, as people have them."""

import os
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.data import class_folders, folders
from alexnet_tf.data.tfds_source import open_split
from alexnet_tf.main import main
from tests.data.image_files import GOOD, names_and_labels
from tests.support import ONE_TOWER, write_special_files

JPEG = GOOD["rgb"]


def write(root, *files):
    """Writes images; NAME*3 is three of them, NAME0.jpg to NAME2.jpg."""
    for file in files:
        name, _, count = file.partition("*")
        numbers = range(int(count or 0))
        names = [f"{name}{number}.jpg" for number in numbers] or [file]
        for each in names:
            path = os.path.join(os.fsencode(root), os.fsencode(each))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(os.fsdecode(path)).write_bytes(JPEG)
    return root


def counts(root, split=""):
    """Returns the number of images of each class of a split."""
    examples = folders.open_split(root, split)
    labels = list(names_and_labels(examples).values())
    assert len(labels) == examples.count
    return {n: labels.count(i) for i, n in enumerate(examples.class_names)}


def refused(root, split="train"):
    """Returns the message of a folder that is refused, of up to three lines."""
    with pytest.raises(UserError) as caught:
        folders.open_split(root, split)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3 and str(root) in message
    return message


def test_every_tenth_image_of_a_class_is_held_out(tmp_path):
    root = write(tmp_path, "b/*20", "a/*10")
    train = folders.open_split(root, "train")
    validation = folders.open_split(root, "")
    assert train.class_names == validation.class_names == ("a", "b")
    seen, held_out = names_and_labels(train), names_and_labels(validation)
    assert (len(seen), len(held_out)) == (27, 3)
    for part, chosen in [(seen, lambda n: n % 10 < 9), (held_out, None)]:
        names = [
            f"{name}/{file}"
            for name, count in [("a", 10), ("b", 20)]
            for n, file in enumerate(sorted(f"{n}.jpg" for n in range(count)))
            if (chosen(n) if chosen else n % 10 == 9)
        ]
        # Not in the order of the classes, and always in the same one.
        order = np.random.default_rng(0).permutation(len(names))
        assert list(part) == [names[index] for index in order]
        assert all("ab"[label] == name[0] for name, label in part.items())
    (root / "a" / "0.jpg").write_bytes(b"another")
    assert train.load("a/0.jpg").numpy() == b"another"


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        *(("train", "validation"), ("train", "val"), ("train", "valid")),
        *(("train", "test"), ("train", "eval"), ("Train", "Test")),
        *(("TRAIN", "Validation"), ("train", "VAL")),
    ],
)
def test_split_folders_are_found_by_their_names(tmp_path, train, validation):
    root = write(tmp_path, f"{train}/a/*20", f"{train}/b/*10")
    write(root, f"{validation}/b/*3", f"{validation}/a/*1", "classes.jpg")
    assert counts(root, "train") == {"a": 20, "b": 10}
    for name in ("", validation, validation.lower()):
        assert counts(root, name) == {"a": 1, "b": 3}
    assert class_folders.class_names(root) == ("a", "b")
    first, *_ = names_and_labels(folders.open_split(root, ""))
    assert first.startswith(f"{validation}/")


def test_validation_comes_before_test(tmp_path):
    root = write(tmp_path, "train/a/*2", "train/b/*2", "dev/a/*4", "dev/b/*4")
    write(root, "test/a/*3", "test/b/*3", "val/a/*1", "val/b/*1")
    assert counts(root) == counts(root, "val") == {"a": 1, "b": 1}
    assert counts(root, "test") == {"a": 3, "b": 3}
    assert counts(root, "dev") == {"a": 4, "b": 4}
    assert counts(root, "val+test") == {"a": 4, "b": 4}
    message = refused(root, "validation")
    assert "'validation'" in message and "dev, test, train, val" in message


@pytest.mark.parametrize("name", ["validation", "val", "test"])
def test_validation_images_alone_can_be_measured(tmp_path, name):
    """Such as ImageNet's, which take a 20th of the space of all."""
    root = write(tmp_path, f"{name}/a/*3", f"{name}/b/*2")
    assert counts(root) == {"a": 3, "b": 2}
    assert class_folders.class_names(root) == ("a", "b")
    message = refused(root, "train")
    assert f"'train' of --dataset=folder:{root} does not exist" in message
    assert f"it has {name}" in message


def test_a_training_folder_alone_is_divided(tmp_path, capsys):
    root = write(tmp_path, "train/a/*20", "train/b/*10", "test/unsorted*5")
    assert counts(root, "train") == {"a": 18, "b": 9}
    assert counts(root) == {"a": 2, "b": 1}
    assert capsys.readouterr().out == (
        f"{root}: split train leaves out every tenth image of a class, for "
        "validation; in neither: test\n"
        f"{root}: split validation is every tenth image of a class, "
        "train+validation all images\n"
    )


@pytest.mark.parametrize("home", ["", "train/"])
@pytest.mark.parametrize(
    ("split", "part"),
    [
        ("train[:90%]", slice(None, 65)),
        ("train[90%:]", slice(65, None)),
        ("train[10:20]", slice(10, 20)),
        ("Train[-12:]", slice(60, None)),
        ("train+validation[:0]", slice(None)),
    ],
)
def test_parts_of_splits_are_those_of_tfds(tmp_path, home, split, part):
    root = write(tmp_path, f"{home}a/*40", f"{home}b/*40")
    whole = list(names_and_labels(folders.open_split(root, "train")).items())
    assert len(whole) == 72
    chosen = names_and_labels(folders.open_split(root, split))
    assert list(chosen.items()) == whole[part]


@pytest.mark.parametrize(
    "split", ["trian", "train[", "train[5%]", "train[:1000]", "all[:3]", "a b"]
)
def test_parts_that_do_not_exist_are_refused(tmp_path, data_dir, split):
    root = write(tmp_path, "a/*20", "b/*20")
    assert "it has train, validation, or parts" in refused(root, split)
    with pytest.raises(UserError, match="does not exist; it has train, val"):
        open_split("shapes/tiny", split, data_dir=data_dir)


@pytest.mark.parametrize(
    "classes",
    [("train", "test"), ("train", "plane"), ("val", "valid"), ("a", "Test")],
)
@pytest.mark.parametrize("split", ["", "train/", "test/"])
def test_classes_may_be_called_like_splits(tmp_path, classes, split):
    root = write(tmp_path, *(f"{split}{name}/*10" for name in classes))
    # One of them has pictures in a folder, too.
    write(root, f"{split}{classes[1]}/more/*10")
    expected = dict(sorted([(classes[0], 10), (classes[1], 20)]))
    if split != "test/":
        expected = {name: n * 9 // 10 for name, n in expected.items()}
    found = counts(root, "test" if split == "test/" else "train")
    assert found == expected


@pytest.mark.parametrize("split", ["", "train/"])
def test_what_systems_and_tools_leave_is_no_image(tmp_path, capsys, split):
    root = write(tmp_path, f"{split}a/*10", f"{split}b/*10")
    junk = [
        *("a/._1.jpg", "a/.hidden.jpg", "b/Thumbs.db", "b/desktop.ini"),
        *(".DS_Store", "._a", "@eaDir/1.jpg", "a/@eaDir/SYNO.jpg"),
        *("__MACOSX/a/1.jpg", ".thumbnails/1.jpg", ".git/b/1.jpg"),
    ]
    write(root, *(f"{split}{file}" for file in junk))
    assert counts(root, "train") == {"a": 9, "b": 9}
    assert counts(root) == {"a": 1, "b": 1}
    output = capsys.readouterr().out
    assert f"{root / split}: 11 files left out: 11 hidden\n" in output
    visible = [f for f, reason in class_folders.find_files(root) if not reason]
    assert len(visible) == 20 and all(f.endswith(".jpg") for f in visible)


def test_suffixes_of_images_in_any_case(tmp_path, capsys):
    names = "1.jpg 2.JPEG 3.jpe 4.JFIF 5.Png 6.gif 7.bmp 8.webp".split()
    others = "1.heic 2.HEIC 3.tif boxes.txt README a.jpg.part".split()
    root = write(tmp_path, *(f"train/{c}/{n}" for c in "ab" for n in names))
    write(root, *(f"train/a/{name}" for name in others), "train/1.jpg")
    write(root, "val/a/*1", "val/b/*1", "train/c/1.tif")
    assert counts(root, "train") == {"a": 8, "b": 8}
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "Folders without images are no classes: c",
        f"{root}/train: 8 files left out: 2 .heic (not read), 2 .tif (not "
        "read), 1 .part (not read), 1 .txt (not read), 1 outside class folders "
        "and 1 more",
    ]


def test_images_in_folders_inside_a_class_are_found(tmp_path, capsys):
    """Tiny ImageNet has train/WNID/images/*.JPEG."""
    root = write(tmp_path / "1", *(f"train/{c}/images/*20" for c in "ab"))
    assert counts(root, "train") == {"a": 18, "b": 18}
    assert "belong to it" not in capsys.readouterr().out
    root = write(tmp_path / "2", "a/2019/*5", "a/2020/5/*5", "b/c/*6", "b/*4")
    assert counts(root, "train") == {"a": 9, "b": 9}
    assert capsys.readouterr().out == (
        f"{root}: folders inside a class belong to it: a/2019, a/2020/5, b/c\n"
    )


def test_classes_of_one_split_only_are_refused(tmp_path):
    """Tiny ImageNet's val/ is one folder of images."""
    root = write(tmp_path, "train/a/images/*3", "train/b/*3", "val/images/*5")
    message = refused(root, "")
    assert (
        f"{root}/val has classes without training images: images; " in message
    )
    assert f"{root}/train has a, b." in message
    flags = [word for word in message.split() if "_split=" in word]
    assert [flag.split("=")[1] for flag in flags] == [
        "train[:90%]",
        "train[90%:].",
    ]
    assert counts(root, "train[:90%]").keys() == {"a", "b"}


def test_classes_without_validation_images_are_named(tmp_path, capsys):
    root = write(tmp_path, "a/*30", "b/*9", "c/*1", "d/*10")
    assert counts(root) == {"a": 3, "b": 0, "c": 0, "d": 1}
    assert capsys.readouterr().out == (
        f"{root}: split validation is every tenth image of a class, "
        "train+validation all images\n"
        f"{root}: 2 of 4 classes have no validation images: b, c\n"
    )
    counts(root, "train[:1]")
    assert "3 of 4 classes have no train[:1] images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "messages"),
    [
        (["x*1000"], ["/CLASS/, only 1,000 outside class folders.", "Sort"]),
        (["a/x.tif", "b/y.heic", "b/.x"], ["1 .tif", "1 .heic", "1 hidden"]),
        ([], ["only empty folders"]),
        (["a/*30"], ["a single class, a, in", "needs two"]),
        (["train/a/*30"], ["a single class, a, in", "/train"]),
        (
            ["photos/train/a/*5", "photos/val/a/*5"],
            ["a single class, photos,", "/photos, which has train, val."],
        ),
        (["a/*9", "b/*9"], ["'validation'", "is empty", "train[80%:]"]),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, files, messages):
    (tmp_path / "empty").mkdir()
    message = refused(write(tmp_path, *files), "")
    for expected in messages:
        assert expected in message


def test_names_that_are_not_utf_8(tmp_path, capsys):
    latin = os.fsdecode("ma\xf1ana".encode("latin-1"))
    root = write(tmp_path, f"{latin}/*10", "b/*9", f"b/x{latin}.jpg")
    write(root, f"{latin}/x.{latin}")
    train = folders.open_split(root, "train")
    assert train.class_names == ("b", r"ma\xf1ana")
    assert r".ma\xf1ana (not read)" in capsys.readouterr().out
    (rows,) = folders.open_split(root, "").in_order(9).as_numpy_iterator()
    assert b"b/xma\xf1ana.jpg" in rows["name"]
    for split in (train, folders.open_split(root, "")):
        for example in split.in_order(1).unbatch():
            assert split.load(example["image"]).numpy() == JPEG


@pytest.mark.slow
def test_a_run_with_names_that_are_not_utf_8(tmp_path, capsys):
    """On parts of its images; bad files are listed each by its name."""
    names = [os.fsdecode(bytes([0xE0 + n])) for n in range(8)]
    root = write(tmp_path / "set", *(f"{name}/*10" for name in names))
    for name in names[:2]:
        (root / "a").mkdir(exist_ok=True)
        (root / "a" / f"{name}.jpg").write_bytes(b"")
    write(root, "a/z*6")
    flags = ["--train_split=train[:90%]", "--validation_split=train[90%:]"]
    flags += [*ONE_TOWER, "--width=0.04", "--epochs=1", "--batch_size=8"]
    flags += [f"--dataset=folder:{root}", f"--run_dir={tmp_path}/run"]
    assert main(flags) == 0
    output = capsys.readouterr().out
    assert "Data: 72 training and 8 validation images" in output
    bad = (tmp_path / "run" / "bad_examples.csv").read_text()
    assert r"a/\xe0.jpg" in bad and r"a/\xe1.jpg" in bad
    word = str(root / names[0])
    assert main(["predict", word, f"--run_dir={tmp_path}/run"]) == 0
    assert r"\xe" in capsys.readouterr().out
    linked = tmp_path / names[0]
    linked.symlink_to(root)
    assert main([f"--dataset=folder:{linked}"]) == 2
    error = capsys.readouterr().err
    assert "not UTF-8" in error and len(error.splitlines()) == 1


def test_links_are_followed_but_not_in_circles(tmp_path, capsys):
    other = write(tmp_path / "elsewhere", "a/*10", "b/*10")
    root = write(tmp_path / "set", "c/*10")
    (root / "a").symlink_to(other / "a")
    (root / "b").mkdir()
    for file in (other / "b").iterdir():
        (root / "b" / file.name).symlink_to(file)
    expected = {"a": 9, "b": 9, "c": 9}
    assert counts(root, "train") == expected
    assert capsys.readouterr().out == ""
    (root / "a" / "gone.jpg").symlink_to("/nowhere/x.jpg")
    (root / "c" / "itself.jpg").symlink_to("itself.jpg")
    (root / "c" / "parent").symlink_to(root)
    (root / "all").symlink_to(tmp_path)
    (root / "c" / "there").symlink_to(other / "loop")
    (other / "loop").mkdir()
    (other / "loop" / "back").symlink_to(root / "c")
    (root / "c" / "folder.jpg").mkdir()
    (root / "d").symlink_to("d")
    assert counts(root, "train") == expected
    output = capsys.readouterr().out
    assert "3 broken links" in output and "3 link loops" in output
    assert class_folders.class_names(root) == tuple(expected)


@pytest.mark.parametrize("place", ["", "a", "b/deeper"])
def test_special_and_huge_files_are_not_opened(
    tmp_path, monkeypatch, capsys, place
):
    """Opening a FIFO would wait forever."""
    monkeypatch.chdir(tmp_path)  # Names of sockets are short.
    root = write(Path("set"), "a/*10", "b/*10", "b/deeper/*10")
    reasons = write_special_files(root / place)
    found = dict(class_folders.find_files(root / place))
    assert {name: found[name] for name in reasons} == reasons
    assert counts(root, "train") == {"a": 9, "b": 18}
    output = capsys.readouterr().out
    assert "6 files left out: 2 FIFO (not a regular file), 2 device" in output
    assert "1 over 256 MB, 1 socket (not a regular file)" in output


@pytest.mark.parametrize("dataset", ["{}", "./photos", "~/photos", "photos"])
def test_a_folder_without_its_prefix_is_suggested(
    tmp_path, monkeypatch, dataset
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "photos", "a/*10", "b/*10")
    dataset = dataset.format(tmp_path / "photos")
    with pytest.raises(UserError, match=f"is a folder; give folder:{dataset}"):
        open_split(dataset, "train")
