"""Files that are no images, or not of the format in their names."""

import csv
import dataclasses
import io
import math
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.config.errors import UserError, printable
from alexnet_tf.data import folders, pipeline
from alexnet_tf.data.bad_examples import (
    BAD_LABEL,
    BadExamples,
    decode_rows,
    replace_bad,
)
from alexnet_tf.main import main
from tests.data.image_files import (
    CMYK,
    COLOR,
    GOOD,
    GRAY,
    NO_IMAGE,
    write_folder,
)
from tests.support import ONE_TOWER, full_disk

GEOMETRY = Geometry(72, 64)


def patches_of(root, tmp_path, limit=100):
    """Returns the patch and the label of each file, and the bad examples."""
    split = folders.open_split(root, "train")
    (rows,) = split.in_order(split.count).as_numpy_iterator()
    names = [Path(name.decode()).stem for name in rows["name"]]
    bad = BadExamples(tmp_path / "bad.csv", limit=limit)
    batches = pipeline.evaluation_batches(
        split, batch_size=split.count, geometry=GEOMETRY, bad=bad
    )
    ((images, labels),) = batches.as_numpy_iterator()
    return dict(zip(names, zip(images, labels, strict=True), strict=True)), bad


def test_images_of_all_kinds_are_decoded_correctly(tmp_path):
    root = write_folder(tmp_path, GOOD | GRAY | CMYK, copies=2)
    patches, bad = patches_of(root, tmp_path)
    assert not bad.reasons
    for name, (patch, label) in patches.items():
        assert label in (0, 1)
        expected = COLOR
        if name.startswith("gray"):
            expected = (120, 120, 120)
        if name.startswith("cmyk"):
            image = PIL.Image.open(io.BytesIO(CMYK["cmyk"]))
            expected = image.convert("RGB").getpixel((0, 0))
        np.testing.assert_allclose(patch, patch * 0 + expected, atol=5)


def test_files_that_are_no_images_are_listed_once(tmp_path):
    root = write_folder(tmp_path, {**NO_IMAGE, "rgb": GOOD["rgb"]}, copies=2)
    for _ in range(2):
        patches, bad = patches_of(root, tmp_path)
        for name, (patch, label) in patches.items():
            assert (label == BAD_LABEL) == (not name.startswith("rgb"))
            assert patch.any() == name.startswith("rgb")
    with (tmp_path / "bad.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(NO_IMAGE)
    assert {Path(row["name"]).stem[:-1] for row in rows} == set(NO_IMAGE)
    assert all(row["reason"] for row in rows)
    assert len({row["reason"] for row in rows}) == len(NO_IMAGE)


def test_no_listed_name_is_a_formula_or_controls_a_terminal(tmp_path):
    """And our own reader finds the names again."""
    names = [
        *("=1+1.jpg", "+x.jpg", "-x.jpg", "@SUM(A1).jpg", "'=x.jpg", "'x.jpg"),
        *("x.jpg", "a,'=b.jpg", 'a"b.jpg', "\x1b[2J.jpg", "=\r\n.jpg"),
    ]
    root = tmp_path / "set"
    for name in names:
        for file in ("a/" + name, name.replace(".jpg", "/0.jpg")):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(b"")
    split = folders.open_split(root, "train+validation")
    assert not any(re.search("[^ -~]", name) for name in split.class_names)
    file = tmp_path / "bad.csv"
    bad = BadExamples(file)
    list(
        pipeline.evaluation_batches(
            split, batch_size=32, geometry=GEOMETRY, bad=bad
        )
    )
    assert len(bad.reasons) == 2 * len(names)
    assert set(map(printable, names)) < {Path(n).name for n in bad.reasons}
    again = BadExamples(file)
    assert again.listed == bad.listed == set(bad.reasons)
    for name in names:
        again.add(f"a/{name}", "is listed")
    text = file.read_text()
    assert not re.search("[^ -~\n]", text)
    with file.open(newline="") as lines:
        rows = list(csv.reader(lines))
    assert len(rows) == 1 + len(bad.reasons)
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert {"'=1+1/0.jpg", "''=x/0.jpg", "'x/0.jpg"} <= set(cells)


def test_what_is_listed_no_longer_counts(tmp_path):
    """It may be repaired, or of another data set; but it is listed once."""
    file = tmp_path / "bad.csv"
    with pytest.raises(UserError, match="2 of 9 examples cannot be used"):
        for name in ("a.jpg", "b.jpg"):
            first = BadExamples(file, limit=1, total=9)
            for found in ("a.jpg", name):
                first.add(found, "broken")
            first.check()
    again = BadExamples(file, limit=1, total=9)
    again.check()
    again.add("b.jpg", "broken")
    again.check()
    again.add("c.jpg", "broken")
    with pytest.raises(UserError, match="2 of 9 examples cannot be used"):
        again.check()
    assert file.read_text().splitlines() == [
        *("name,reason", "a.jpg,broken", "b.jpg,broken", "c.jpg,broken")
    ]


def test_labels_out_of_range_are_listed(tmp_path):
    root = write_folder(tmp_path, {"rgb": GOOD["rgb"]}, copies=2)
    split = folders.open_split(root, "train")
    bad = BadExamples(tmp_path / "bad.csv", limit=9)
    fetch = split.fetch
    wrong = dataclasses.replace(
        split, fetch=lambda i: fetch(i) | {"label": fetch(i)["label"] + 1}
    )
    batches = pipeline.evaluation_batches(
        wrong, batch_size=2, geometry=GEOMETRY, bad=bad
    )
    ((_, labels),) = batches.as_numpy_iterator()
    assert sorted(labels) == [BAD_LABEL, 1]
    assert list(bad.reasons.values()) == ["label 2 of 2 classes"]


@pytest.mark.parametrize("texts", ["", "1", "x", "123", "1x3", "xx3", "xxx"])
def test_rows_that_cannot_be_decoded_become_the_placeholder(texts):
    numbers, ok = decode_rows(
        tf.strings.to_number, [tf.constant(list(texts), tf.string)], 0.0
    )
    np.testing.assert_array_equal(ok, [text != "x" for text in texts])
    expected = [0 if text == "x" else int(text) for text in texts]
    np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ([1, 2, 3], [0, 1, 2]),
        ([1, BAD_LABEL, BAD_LABEL, 3, BAD_LABEL], [0, 0, 0, 3, 3]),
        ([BAD_LABEL, BAD_LABEL, 2], [2, 2, 2]),
    ],
)
def test_a_bad_example_is_replaced_by_one_of_its_batch(labels, chosen):
    images = tf.range(len(labels), dtype=tf.int64) * 10
    replaced, new_labels = replace_bad(images, tf.constant(labels, tf.int64))
    np.testing.assert_array_equal(replaced, 10 * np.array(chosen))
    np.testing.assert_array_equal(new_labels, np.array(labels)[chosen])


def test_a_batch_of_bad_examples_only_is_black():
    images, labels = replace_bad(
        tf.zeros((2, 3)), tf.constant([BAD_LABEL, BAD_LABEL])
    )
    assert not images.numpy().any() and not labels.numpy().any()


def test_a_batch_of_odd_size_has_neighbors_too(tmp_path):
    """Its images are read one by one: 131 is a prime above 128."""
    files = {f"rgb{number}": GOOD["rgb"] for number in range(130)}
    root = write_folder(tmp_path, files | {"empty": b""})
    write_folder(root, {"rgb": GOOD["rgb"]}, split="validation")
    (root / "train" / "b").mkdir()
    (root / "train" / "b" / "last.jpg").write_bytes(b"")
    batches = pipeline.training_batches(
        folders.open_split(root, "train"),
        Data(
            image_size=GEOMETRY.image_size,
            crop_size=GEOMETRY.crop_size,
            random_crop=False,
            horizontal_flip=False,
        ),
        batch_size=131,
        steps=range(1),
        seed=1,
    )
    ((images, labels),) = batches.as_numpy_iterator()
    np.testing.assert_allclose(images, images * 0 + np.array(COLOR), atol=5)
    assert not labels.any()


def train(root, run_dir, *flags):
    return main(
        [
            *ONE_TOWER,
            "--virtual_devices=1",
            "--width=0.04",
            f"--dataset=folder:{root}",
            f"--run_dir={run_dir}",
            "--epochs=2",
            "--batch_size=4",
            *flags,
        ]
    )


@pytest.mark.slow
def test_a_run_continues_without_bad_examples(tmp_path, capsys):
    few = {name: GOOD[name] for name in ("rgb", "png", "tiny")}
    root = write_folder(tmp_path / "set", few | NO_IMAGE, copies=6)
    for file in sorted((root / "train").glob("*/*5.jpg")):
        target = root / "validation" / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        file.rename(target / file.name)
    (root / "validation" / "a").mkdir()
    (root / "validation" / "a" / "rgb.jpg").write_bytes(GOOD["rgb"])
    assert train(root, tmp_path / "run", "--max_bad_fraction=0.9") == 0
    output = capsys.readouterr().out
    with (tmp_path / "run" / "bad_examples.csv").open(newline="") as file:
        listed = [row["name"] for row in csv.DictReader(file)]
    assert len(listed) == len(set(listed)) == 6 * len(NO_IMAGE)
    assert "on 4 images" in output  # Of nine for validation.


@pytest.mark.slow
def test_a_few_bad_examples_end_no_run(tmp_path, capsys):
    """However small the data set."""
    good = {f"good{number}": GOOD["rgb"] for number in range(10)}
    root = write_folder(tmp_path / "set", good | {"empty": b""}, copies=5)
    assert train(root / "train", tmp_path / "run") == 0
    listed = (tmp_path / "run" / "bad_examples.csv").read_text()
    assert listed.count("/empty") == 5
    assert train(root, tmp_path / "strict", "--max_bad_fraction=0") == 2
    assert "--max_bad_fraction allows 0;" in capsys.readouterr().err


def test_too_many_bad_examples_end_the_run(tmp_path, capsys):
    root = write_folder(tmp_path / "set", {**GOOD, **NO_IMAGE}, copies=4)
    assert train(root / "train", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "of 64 examples cannot be used, but" in error
    assert "--max_bad_fraction allows 5;" in error
    assert len(error.splitlines()) <= 3
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "go on with --max_bad_fraction=0." in error


@pytest.mark.parametrize("total", [1, 7, 60, 61, 4_321, 1_281_167])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.29, 0.8, 1.0])
def test_the_fraction_that_is_suggested_suffices(total, share):
    count = math.ceil(share * total)
    bad = BadExamples(limit=count - 1, total=total)
    for number in range(count):
        bad.add(str(number), "broken")
    with pytest.raises(UserError) as caught:
        bad.check()
    suggested = float(str(caught.value).split("=")[-1].rstrip("."))
    assert count <= int(suggested * total) and suggested <= 1


def test_a_full_disk_leaves_the_list_as_it_was(tmp_path):
    bad = BadExamples(tmp_path / "bad.csv")
    bad.add("a.jpg", "empty")
    before = bad.file.read_bytes()
    with full_disk(len(before) + 5):
        bad.add("b.jpg", "empty")  # Called by TensorFlow, it cannot raise.
    with pytest.raises(UserError, match="bad.csv cannot be written: File too"):
        bad.check()
    assert bad.file.read_bytes() == before
