"""Files that are no images, or not the ones their names promise."""

import csv
import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.data import pipeline, tfds_source
from alexnet_tf.data.bad_examples import BAD_LABEL, BadExamples, replace_bad
from alexnet_tf.main import main
from tests.support import TINY

GEOMETRY = Geometry(72, 64)
COLOR = (200, 40, 90)


def encode(kind, size=(90, 80), mode="RGB", color=COLOR):
    image = PIL.Image.new(mode, size, color)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def sixteen_bits():
    """A PNG of 16 bits a channel."""
    pixels = np.full((80, 90, 3), COLOR, np.uint16) * 257
    return tf.io.encode_png(pixels).numpy()


# What has one color, by its name as a .jpg file.
GOOD = {
    "rgb": encode("JPEG"),
    "png": encode("PNG"),
    "bmp": encode("BMP"),
    "gif": encode("GIF"),
    "webp": encode("WEBP"),
    "16_bit": sixteen_bits(),
    "rgba": encode("PNG", mode="RGBA", color=(*COLOR, 255)),
    "tiny": encode("JPEG", size=(1, 1)),
    "long": encode("JPEG", size=(1, 5000)),
    "huge": encode("JPEG", size=(12_000, 9_000)),
    "trailing_bytes": encode("JPEG") + b"\0\0\0",
}
GREY = {"grey": encode("JPEG", mode="L", color=120)}
# CMYK as Photoshop writes it, and TensorFlow and PIL read it.
CMYK = {"cmyk": encode("JPEG", mode="CMYK", color=(0, 128, 128, 20))}
NO_IMAGE = {
    "empty": b"",
    "text": b"this is no picture",
    "truncated": encode("JPEG", size=(400, 300))[:-100],
    "start_of_a_jpeg": b"\xff\xd8\xff\xd9",
    "truncated_png": encode("PNG")[:-30],
}


def in_a_folder(root, files, copies=1):
    """Writes files as PATH/train/CLASS/NAME.jpg, in two classes."""
    for number in range(copies):
        for name, content in files.items():
            folder = root / "train" / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}{number}.jpg").write_bytes(content)
    return root


def patches_of(root, tmp_path, limit=100):
    """Returns each file's patch by name, and what was noted."""
    split = tfds_source.open_split(f"folder:{root}", "train")
    (rows,) = split.in_order(split.count).as_numpy_iterator()
    names = [Path(name.decode()).stem for name in rows["name"]]
    bad = BadExamples(tmp_path / "bad.csv", limit=limit)
    batches = pipeline.evaluation_batches(
        split, batch_size=split.count, geometry=GEOMETRY, bad=bad
    )
    ((images, labels),) = batches.as_numpy_iterator()
    return dict(zip(names, zip(images, labels, strict=True), strict=True)), bad


def test_whatever_is_an_image_is_decoded_rightly(tmp_path):
    root = in_a_folder(tmp_path, GOOD | GREY | CMYK, copies=2)
    patches, bad = patches_of(root, tmp_path)
    assert not bad.reasons
    for name, (patch, label) in patches.items():
        assert label in (0, 1)
        expected = COLOR
        if name.startswith("grey"):
            expected = (120, 120, 120)
        if name.startswith("cmyk"):
            image = PIL.Image.open(io.BytesIO(CMYK["cmyk"]))
            expected = image.convert("RGB").getpixel((0, 0))
        np.testing.assert_allclose(patch, patch * 0 + expected, atol=5)


def test_what_is_no_image_is_named_once(tmp_path):
    root = in_a_folder(tmp_path, {**NO_IMAGE, "rgb": GOOD["rgb"]}, copies=2)
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


def test_labels_out_of_range_are_noted(tmp_path):
    root = in_a_folder(tmp_path, {"rgb": GOOD["rgb"]}, copies=2)
    split = tfds_source.open_split(f"folder:{root}", "train")
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
    root = in_a_folder(tmp_path, files | {"empty": b""})
    (root / "train" / "b").mkdir()
    (root / "train" / "b" / "last.jpg").write_bytes(b"")
    split = tfds_source.open_split(f"folder:{root}", "train")
    batches = pipeline.training_batches(
        split,
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
            *TINY,
            f"--dataset=folder:{root}",
            f"--run_dir={run_dir}",
            "--epochs=2",
            "--batch_size=4",
            *flags,
        ]
    )


def test_a_run_goes_on_without_them(tmp_path, capsys):
    few = {name: GOOD[name] for name in ("rgb", "png", "tiny")}
    root = in_a_folder(tmp_path / "set", few | NO_IMAGE, copies=6)
    for file in sorted((root / "train").glob("*/*5.jpg")):
        target = root / "validation" / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        file.rename(target / file.name)
    (root / "validation" / "a").mkdir()
    (root / "validation" / "a" / "rgb.jpg").write_bytes(GOOD["rgb"])
    assert train(root, tmp_path / "run", "--max_bad_fraction=0.9") == 0
    told = capsys.readouterr().out
    with (tmp_path / "run" / "bad_examples.csv").open(newline="") as file:
        noted = {row["name"] for row in csv.DictReader(file)}
    assert len(noted) == 6 * len(NO_IMAGE)
    assert "on 4 images" in told  # Of nine for validation.


def test_too_many_of_them_end_the_run(tmp_path, capsys):
    root = in_a_folder(tmp_path / "set", {**GOOD, **NO_IMAGE}, copies=4)
    (root / "train").rename(root / "set")
    assert train(root / "set", tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert "--max_bad_fraction allows 0;" in told
    assert len(told.splitlines()) <= 3
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("now", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_classes_that_a_run_does_not_have_are_counted(tmp_path, capsys, now):
    root = in_a_folder(tmp_path / "set", GREY, copies=24)
    (root / "train").rename(root / "images")
    assert train(root / "images", tmp_path / "run", "--epochs=1") == 0
    (tmp_path / "run" / "result.json").unlink()
    if now == 1:
        shutil.rmtree(root / "images" / "b")
    else:
        (root / "images" / "c").mkdir()
        (root / "images" / "c" / "rgb.jpg").write_bytes(GOOD["rgb"])
    capsys.readouterr()
    assert train(root / "images", tmp_path / "run", "--epochs=1") == 2
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.count(f"trained on 2 classes, its data set now has {now}") == 2
    assert len(told.splitlines()) <= 4
