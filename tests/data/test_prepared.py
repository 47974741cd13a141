"""Prepared sets: their contents, interruption, damage, and training."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.data import Data, Geometry
from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.data import pipeline, splits, tfds_source
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.prepared import StoredImages, read_statistics
from alexnet_tf.main import main
from alexnet_tf.storage.files import checksum
from tests.data.image_files import GOOD, GRAY, NO_IMAGE, write_folder
from tests.support import ONE_TOWER, TINY, full_disk

GEOMETRY = Geometry(72, 64)
SIZES = ("--image_size=72", "--crop_size=64")


def prepare(directory, dataset, *flags):
    return main(
        [
            "prepare",
            f"--dataset={dataset}",
            f"--prepared_dir={directory}",
            *SIZES,
            *flags,
        ]
    )


def open_prepared(directory, dataset, split, *flags):
    config, _ = parse(
        [
            f"--dataset={dataset}",
            f"--prepared_dir={directory}",
            *SIZES,
            *flags,
        ]
    )
    return splits.open_split(config, split)


@pytest.fixture(scope="module")
def prepared_sets(tmp_path_factory, data_dir):
    """shapes/tiny, prepared in both formats."""
    root = tmp_path_factory.mktemp("prepared")
    for encoding in ("jpeg", "raw"):
        flags = (f"--prepared_format={encoding}", f"--data_dir={data_dir}")
        assert prepare(root / encoding, "shapes/tiny", *flags) == 0
    return root


def contents(directory):
    return {
        file.name: file.read_bytes()
        for file in directory.iterdir()
        if file.name != "bad_examples.csv"  # In any order.
    }


def bad_examples(tmp_path):
    return BadExamples(tmp_path / "bad.csv", limit=0)


def evaluation_images(split, tmp_path, **changed):
    settings = dict(geometry=GEOMETRY, bad=bad_examples(tmp_path))
    batches = pipeline.evaluation_batches(
        split, batch_size=split.count, **(settings | changed)
    )
    ((images, labels),) = batches.as_numpy_iterator()
    return images.astype(float), labels


@pytest.mark.parametrize(
    ("name", "count", "ten_crops"),
    [
        ("train", 240, False),
        pytest.param("validation", 60, True, marks=pytest.mark.slow),
    ],
)
def test_both_formats_have_the_patches_of_the_data_set(
    prepared_sets, data_dir, tmp_path, name, count, ten_crops
):
    source = tfds_source.open_split("shapes/tiny", name, data_dir=data_dir)
    expected, labels = evaluation_images(source, tmp_path, ten_crops=ten_crops)
    for encoding in ("raw", "jpeg"):
        split = open_prepared(
            prepared_sets / encoding,
            "shapes/tiny",
            "" if name == "validation" else name,
        )
        assert split.squares and split.count == count
        assert split.class_names == source.class_names
        found, found_labels = evaluation_images(
            split, tmp_path, ten_crops=ten_crops
        )
        np.testing.assert_array_equal(found_labels, labels)
        # Mirrored they would differ by about 40.
        assert np.abs(found - expected).mean() < 6


@pytest.mark.slow
def test_squashed_images_are_prepared_squashed(data_dir, tmp_path):
    flags = ("--resize=squash", "--prepared_format=raw")
    target, dataset, part = tmp_path / "set", "shapes/tiny", "train[:48]"
    flags += (f"--train_split={part}", f"--data_dir={data_dir}")
    assert prepare(target, dataset, *flags) == 0
    split = open_prepared(target, dataset, part, *flags)
    assert split.squares and split.count == 48
    found, _ = evaluation_images(split, tmp_path)
    source = tfds_source.open_split(dataset, part, data_dir=data_dir)
    apart = [
        np.abs(evaluation_images(source, tmp_path, geometry=g)[0] - found)
        for g in (Geometry(72, 64, squash=True), GEOMETRY)
    ]
    assert apart[0].mean() < 6 and apart[1].mean() > 2 * apart[0].mean()


def test_sets_without_a_recorded_resize_are_read(prepared_sets, tmp_path):
    target = tmp_path / "old"
    shutil.copytree(prepared_sets / "raw", target)
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest.pop("resize") == "shorter_side"
    (target / "manifest.json").write_text(json.dumps(manifest))
    assert open_prepared(target, "shapes/tiny", "train").count == 240
    with pytest.raises(UserError, match="with --resize 'shorter_side', now"):
        open_prepared(target, "shapes/tiny", "train", "--resize=squash")


@pytest.mark.parametrize(
    "changed", [{}, {"random_crop": False}, {"horizontal_flip": False}]
)
def test_raw_and_jpeg_give_the_same_batches(prepared_sets, tmp_path, changed):
    raw, jpeg = (
        pipeline.training_batches(
            open_prepared(prepared_sets / name, "shapes/tiny", "train"),
            Data(image_size=72, crop_size=64, **changed),
            batch_size=60,
            steps=range(2, 6),
            seed=3,
            bad=bad_examples(tmp_path),
        ).as_numpy_iterator()
        for name in ("raw", "jpeg")
    )
    for (images, labels), (others, other_labels) in zip(raw, jpeg, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        difference = images.astype(float) - others
        # JPEG of quality 95; mirrored they would differ by about 40.
        assert np.abs(difference).mean() < 5


def test_images_are_read_from_the_right_shard(tmp_path):
    files = [b"a", b"bcd\0", b"ef"]
    images = np.random.default_rng(1).integers(0, 256, (3, 5, 5, 3), np.uint8)
    for kind, shards in {
        "jpeg": [np.frombuffer(f, np.uint8) for f in (b"abcd\0", b"ef")],
        "raw": [images[:2], images[2:]],
    }.items():
        for number, shard in enumerate(shards):
            np.save(tmp_path / f"{kind}{number}.npy", shard)

    def stored(kind, starts, lengths):
        paths = [str(tmp_path / f"{kind}{number}.npy") for number in (0, 0, 1)]
        start = np.load(paths[0], mmap_mode="r").offset
        checksums = np.full(3, -1)  # As of a set of an earlier version.
        return StoredImages(
            np.array(paths, object),
            start + np.array(starts),
            lengths,
            checksums,
        )

    indices = tf.constant([2, 0, 1, 2], tf.int64)
    jpeg = stored("jpeg", [0, 1, 0], np.array([1, 4, 2]))
    assert jpeg.read(indices).numpy().tolist() == [
        files[index] for index in indices
    ]
    patches = stored("raw", [0, 75, 0], np.array([75, 75, 75])).cut(
        5,
        indices,
        tf.constant([(0, 0), (1, 2), (2, 1), (0, 2)]),
        tf.constant([False, False, True, True]),
        3,
    )
    expected = [
        images[2, :3, :3],
        images[0, 1:4, 2:],
        images[1, 2:, 1:4][:, ::-1],
        images[2, :3, 2:][:, ::-1],
    ]
    np.testing.assert_array_equal(patches, expected)


def test_more_shards_than_files_that_may_be_open(prepared_sets, tmp_path):
    target = tmp_path / "many"
    shutil.copytree(prepared_sets / "raw", target)
    manifest = json.loads((target / "manifest.json").read_text())
    shards = manifest["splits"]["validation"]
    for number in range(1, 200):
        text = json.dumps(shards[0])
        shards.append(json.loads(text.replace("00000", f"{number:05d}")))
        for kind in ("csv", "npy"):
            (target / f"validation-{number:05d}.{kind}").hardlink_to(
                target / f"validation-00000.{kind}"
            )
    (target / "manifest.json").write_text(json.dumps(manifest))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(name) for name in os.listdir("/proc/self/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        split = open_prepared(target, "shapes/tiny", "")
        one_each = tf.range(0, 200 * 60, 60, tf.int64)
        offsets = tf.zeros((200, 2), tf.int64)
        found = split.cut(one_each, offsets, tf.zeros(200, bool), 72)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    images = np.load(target / "validation-00000.npy")
    assert split.count == 200 * 60
    np.testing.assert_array_equal(found, [images[0]] * 200)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("raw", "train-00000.npy"),
        ("jpeg", "validation-00000.npy"),
        ("jpeg", "train-00000.csv"),
        ("raw", "mean_image.npy"),
    ],
)
def test_a_flipped_bit_is_found(
    prepared_sets, tmp_path, capsys, encoding, name
):
    target = tmp_path / "set"
    shutil.copytree(prepared_sets / encoding, target)
    file = target / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    config, _ = parse(
        ["--dataset=shapes/tiny", f"--prepared_dir={target}", *SIZES]
    )
    with pytest.raises(UserError, match=f"{name} is damaged"):
        for split in (config.train_split, config.validation_split):
            examples = splits.open_split(config, split)
            with splits.reporting_damaged_files(examples):
                evaluation_images(examples, tmp_path)
        read_statistics(*splits.find_prepared(config), GEOMETRY)
    flag = f"--prepared_format={encoding}"
    assert prepare(target, "shapes/tiny", flag) == 2
    assert f"{file} is damaged" in capsys.readouterr().err


def test_a_set_without_usable_images_is_refused(tmp_path, capsys):
    root = write_folder(tmp_path / "photos", {"empty": b""}, copies=20)
    assert prepare(tmp_path / "set", f"folder:{root}/train") == 2
    error = capsys.readouterr().err
    assert "none of the first" in error and "bad_examples.csv" in error


def changed(**entries):
    """Returns a function that changes entries of a manifest."""
    return lambda text: json.dumps(json.loads(text) | entries).encode()


def changed_shard(**entries):
    """Returns a function that changes entries of the first shard."""

    def change(text):
        manifest = json.loads(text)
        manifest["splits"]["train"][0] |= entries
        return json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: None,
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: bytes(len(text)),
        lambda text: b"\xff\xfe" + text,
        lambda text: b"[" * 100_000,
        lambda text: b"[1, 2]",
        lambda text: b'{"format_version": 2}',
        lambda text: b'{"format_version": 1}',
        lambda text: b'{"cluster": {"worker": []}}',
        changed(image_size=0),
        changed(image_size="72"),
        changed(image_size=10**9),
        changed(class_names=list(range(12))),
        changed(class_names=["a", "b"]),
        changed(encoding="png"),
        changed(splits={"train": [], "validation": []}),
        changed(splits={"train": {}, "validation": 3}),
        changed(statistics={"mean_rgb": [1, 2, None]}),
        changed(
            statistics={
                "mean_rgb": ["1", "2", "3"],
                "covariance_rgb": [[1, 2, 3]] * 3,
            }
        ),
        changed(sha256={"../mean_image.npy": "0"}),
        changed_shard(file="/etc/passwd"),
        changed_shard(file="../train-00000.npy"),
        changed_shard(sha256={"/etc/passwd": "0"}),
        changed_shard(bytes={"train-00000.npy": -1, "train-00000.csv": 9}),
        changed_shard(bytes={"train-00000.npy": 10**15, "train-00000.csv": 9}),
        changed_shard(examples=239),
        changed_shard(examples="240"),
    ],
)
def test_a_damaged_manifest_is_named(prepared_sets, tmp_path, capsys, damage):
    target = tmp_path / "set"
    shutil.copytree(prepared_sets / "raw", target)
    file = target / "manifest.json"
    content = damage(file.read_bytes())
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_prepared(target, "shapes/tiny", "train")
    flag = "--prepared_format=raw"
    assert prepare(target, "shapes/tiny", flag) == 2
    for text in (str(caught.value), capsys.readouterr().err):
        assert str(target) in text and len(text) < 600
        assert len(text.splitlines()) <= 3


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (r"(00001__\d+),\d+,", r"\1,12,", "a label of 12 classes is"),
        (r"(00001__\d+),\d+,", r"\1,-1,", "a label of 12 classes is"),
        (r"(00001__\d+),\d+,", r"\1,cat,", "invalid literal"),
        (r",15552,", ",15551,", "length of an image is"),
        (r",15552,", f",{10**30},", "too large|too big|out of"),
        (r"\n[^\n]+\n$", "\n", "number of images is"),
        (r"name,label", "when,what", "'label'|a label of"),
    ],
)
def test_a_foreign_table_is_named(
    prepared_sets, tmp_path, capsys, before, after, message
):
    """Even if the manifest has its checksum."""
    target = tmp_path / "set"
    shutil.copytree(prepared_sets / "raw", target)
    table, file = target / "train-00000.csv", target / "manifest.json"
    text = re.sub(before, after, table.read_text())
    assert text != table.read_text()
    table.write_text(text)
    manifest = json.loads(file.read_text())
    (shard,) = manifest["splits"]["train"]
    shard["bytes"][table.name] = table.stat().st_size
    shard["sha256"][table.name] = checksum(table)
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=message) as caught:
        open_prepared(target, "shapes/tiny", "train")
    flag = "--prepared_format=raw"
    assert prepare(target, "shapes/tiny", flag) == 2
    assert str(table) in str(caught.value)
    assert str(table) in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_ends_prepare_and_the_same_command_resumes(
    tmp_path, capsys
):
    root = write_folder(tmp_path / "files", {"x": GOOD["rgb"]}, copies=2)
    write_folder(root, {"x": GOOD["rgb"]}, split="validation")
    dataset, raw = f"folder:{root}", "--prepared_format=raw"
    whole, target = tmp_path / "whole", tmp_path / "set"
    assert prepare(whole, dataset, raw) == 0
    for name in ("manifest.json", "train-00000.npy", "mean_image.npy"):
        limit = (whole / name).stat().st_size - 1
        capsys.readouterr()
        with full_disk(limit if ".npy" in name else 0):
            assert prepare(target, dataset, raw) == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"error: {target}/{name} cannot be written")
        assert "File too large" in printed and printed.count("\n") == 1
    assert prepare(target, dataset, raw) == 0
    assert contents(target) == contents(whole)


def test_statistics_are_those_of_all_training_images(prepared_sets):
    directory = prepared_sets / "raw"
    images = np.load(directory / "train-00000.npy")
    assert images.shape == (240, 72, 72, 3)
    np.testing.assert_allclose(
        np.load(directory / "mean_image.npy"), images.mean(axis=0), rtol=1e-6
    )
    statistics = json.loads((directory / "manifest.json").read_text())[
        "statistics"
    ]
    pixels = images[:, ::4, ::4].reshape(-1, 3).astype(float)
    np.testing.assert_allclose(statistics["mean_rgb"], pixels.mean(axis=0))
    covariance = np.cov(pixels.T, bias=True)
    np.testing.assert_allclose(statistics["covariance_rgb"], covariance)
    vectors = np.array(statistics["eigenvectors"])
    np.testing.assert_allclose(
        vectors * statistics["eigenvalues"] @ vectors.T, covariance
    )


def test_a_run_on_a_prepared_set(prepared_sets, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = [*ONE_TOWER, f"--run_dir={run_dir}", "--epochs=1"]
    flags += [f"--prepared_dir={prepared_sets}/raw", "--data_dir=/nowhere"]
    assert main(flags) == 0
    output = capsys.readouterr().out
    assert "(60 validation images)" in output
    assert "Measuring" not in output  # The manifest has the statistics.
    facts = json.loads((run_dir / "dataset.json").read_text())
    manifest = json.loads((prepared_sets / "raw/manifest.json").read_text())
    assert facts["mean_rgb"] == manifest["statistics"]["mean_rgb"]
    assert main(["evaluate", str(run_dir), "--ten_crops"]) == 0


def test_preparing_twice_checks_and_writes_nothing(prepared_sets, capsys):
    before = contents(prepared_sets / "jpeg")
    assert prepare(prepared_sets / "jpeg", "shapes/tiny") == 0
    assert "the checksums of all files match" in capsys.readouterr().out
    assert contents(prepared_sets / "jpeg") == before


@pytest.fixture(scope="module")
def three_shards(tmp_path_factory):
    """A data set of 1,101 training images, and the prepared set."""
    root = tmp_path_factory.mktemp("many")
    images = {
        "rgb": GOOD["rgb"],
        "gray": GRAY["gray"],
        "text": NO_IMAGE["text"],
    }
    write_folder(root / "files", images, copies=367)
    write_folder(root / "files", {"x": GOOD["rgb"]}, split="validation")
    dataset = f"folder:{root / 'files'}"
    assert prepare(root / "prepared", dataset) == 0
    return dataset, root / "prepared"


@pytest.mark.parametrize(
    "after",
    ["manifest.json", "train-00001.npy"],
)
@pytest.mark.slow
def test_killed_and_started_again_it_writes_the_same(
    three_shards, tmp_path, after
):
    dataset, whole = three_shards
    target = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf.main", "prepare", *SIZES]
        + [f"--dataset={dataset}", f"--prepared_dir={target}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    manifest = target / "manifest.json"
    while not (target / after).exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not json.loads(manifest.read_text())["finished"]
    assert prepare(target, dataset) == 0
    assert contents(target) == contents(whole)
    bad = (target / "bad_examples.csv").read_text().splitlines()
    assert len(bad) == 1 + 367 == len(set(bad))


def test_a_damaged_shard_is_named_and_written_again(
    three_shards, tmp_path, capsys
):
    dataset, prepared = three_shards
    target = tmp_path / "set"
    shutil.copytree(prepared, target)
    whole = contents(target)
    shard = target / "train-00001.npy"
    altered = bytearray(shard.read_bytes())
    altered[5000] ^= 1
    shard.write_bytes(altered)
    assert prepare(target, dataset) == 2
    assert f"{shard} is damaged" in capsys.readouterr().err
    shard.write_bytes(altered[:-7])  # Training notices its length.
    flags = [*TINY, f"--dataset={dataset}", f"--prepared_dir={target}"]
    assert main([*flags, f"--run_dir={tmp_path}/run"]) == 2
    assert f"{shard} is damaged" in capsys.readouterr().err
    shard.unlink()
    assert prepare(target, dataset) == 0
    assert contents(target) == whole
    (target / "mean_image.npy").unlink()
    assert prepare(target, dataset) == 0
    assert contents(target) == whole


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prepared_format=raw"], "was made with --prepared_format 'jpeg'"),
        (["--image_size=80"], "was made with --image_size 72"),
        (["--noexif_orientation"], "made with --exif_orientation True"),
        (["--dataset=shapes"], "was made with --dataset 'shapes/tiny'"),
        (["--prepared_dir="], "give --prepared_dir"),
        (["--prepared_dir=tests"], "has other things in it"),
    ],
)
def test_other_settings_are_an_error(prepared_sets, capsys, flags, message):
    assert prepare(prepared_sets / "jpeg", "shapes/tiny", *flags) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) <= 3


def test_names_in_the_tables_of_a_set_are_no_formulas(tmp_path):
    root = write_folder(tmp_path / "set", {"rgb": GOOD["rgb"]}, copies=8)
    (root / "train" / "a").rename(root / "=1+1")
    (root / "train" / "b").rename(root / "\x1b[2J")
    target, dataset = tmp_path / "prepared", f"folder:{root}"
    parts = ("--train_split=train", "--validation_split=train")
    assert prepare(target, dataset, *parts) == 0
    split = open_prepared(target, dataset, "train", *parts)
    assert split.class_names == (r"\x1b[2J", "=1+1")
    (rows,) = split.in_order(8).as_numpy_iterator()
    names = {f"=1+1/rgb{n}.jpg".encode() for n in (0, 2, 4, 6)}
    names |= {rf"\x1b[2J/rgb{n}.jpg".encode() for n in (1, 3, 5, 7)}
    assert set(rows["name"]) == names
    text = (target / "train-00000.csv").read_text()
    assert "\n'=1+1/rgb0.jpg," in text and "\x1b" not in text


def test_prepare_finds_all_bad_examples(tmp_path, capsys):
    root = write_folder(tmp_path / "set", GOOD | GRAY | NO_IMAGE, copies=2)
    (root / "train" / "empty").mkdir()
    (root / "train" / "a" / "folder.jpg").mkdir()
    (root / "train" / "b" / "lost.jpg").symlink_to("nowhere")
    (root / "train" / "a").rename(root / "train" / "c")
    (root / "validation" / "b").mkdir(parents=True)
    (root / "validation" / "b" / "x.jpg").write_bytes(GOOD["rgb"])
    target, dataset = tmp_path / "prepared", f"folder:{root}"
    assert prepare(target, dataset) == 0
    output = capsys.readouterr().out
    left_out = 2 * len(NO_IMAGE)
    assert f"{left_out} were left out, see {target}/bad_examples.csv" in output
    assert f"{root}/train: 1 files left out: 1 broken links" in output
    assert "Folders without images are no classes: empty" in output
    split = open_prepared(target, dataset, "train")
    assert split.class_names == ("b", "c")
    assert split.count == 2 * len(GOOD | GRAY)
    # Nothing is left to be listed.
    images, _ = evaluation_images(split, tmp_path)
    assert len(images) == split.count
    assert isinstance(split.fetch(tf.range(2, dtype=tf.int64)), dict)
