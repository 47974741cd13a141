"""Prepared sets: what is in them, killed, damaged, and trained on."""

import json
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
from alexnet_tf.main import main
from tests.data.test_bad_examples import GOOD, GREY, NO_IMAGE, in_a_folder
from tests.support import TINY

GEOMETRY = Geometry(72, 64)


def prepare(directory, dataset, *flags):
    return main(
        [
            "prepare",
            f"--dataset={dataset}",
            f"--prepared_dir={directory}",
            "--image_size=72",
            "--crop_size=64",
            *flags,
        ]
    )


def open_prepared(directory, dataset, split, *flags):
    config, _ = parse(
        [
            f"--dataset={dataset}",
            f"--prepared_dir={directory}",
            "--image_size=72",
            "--crop_size=64",
            *flags,
        ]
    )
    return splits.open_split(config, split)


@pytest.fixture(scope="module")
def prepared_sets(tmp_path_factory, data_dir):
    """shapes/tiny, prepared in both ways."""
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


@pytest.mark.parametrize("ten_crops", [False, True])
def test_both_formats_have_the_patches_of_the_data_set(
    prepared_sets, data_dir, tmp_path, ten_crops
):
    source = tfds_source.open_split("shapes/tiny", "train", data_dir=data_dir)
    expected, labels = evaluation_images(source, tmp_path, ten_crops=ten_crops)
    for encoding in ("raw", "jpeg"):
        split = open_prepared(prepared_sets / encoding, "shapes/tiny", "train")
        assert split.count == 240
        assert split.class_names == source.class_names
        found, found_labels = evaluation_images(
            split, tmp_path, ten_crops=ten_crops
        )
        np.testing.assert_array_equal(found_labels, labels)
        # Mirrored they would differ by about 40.
        assert np.abs(found - expected).mean() < 6


def test_squashed_images_are_prepared_squashed(data_dir, tmp_path):
    flags = ("--resize=squash", "--prepared_format=raw")
    target, dataset = tmp_path / "set", "shapes/tiny"
    assert prepare(target, dataset, *flags, f"--data_dir={data_dir}") == 0
    split = open_prepared(target, dataset, "train", flags[0])
    found, _ = evaluation_images(split, tmp_path)
    source = tfds_source.open_split(dataset, "train", data_dir=data_dir)
    apart = [
        np.abs(evaluation_images(source, tmp_path, geometry=g)[0] - found)
        for g in (Geometry(72, 64, squash=True), GEOMETRY)
    ]
    assert apart[0].mean() < 6 and apart[1].mean() > 2 * apart[0].mean()


def test_sets_from_before_there_was_a_choice_are_read(prepared_sets, tmp_path):
    target = tmp_path / "old"
    shutil.copytree(prepared_sets / "raw", target)
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest.pop("resize") == "shorter_side"
    (target / "manifest.json").write_text(json.dumps(manifest))
    assert open_prepared(target, "shapes/tiny", "train").count == 240
    with pytest.raises(UserError, match="with --resize 'shorter_side', now"):
        open_prepared(target, "shapes/tiny", "train", "--resize=squash")


def training(split, tmp_path, steps, **changed):
    batches = pipeline.training_batches(
        split,
        Data(image_size=72, crop_size=64, **changed),
        batch_size=60,
        steps=steps,
        seed=3,
        bad=bad_examples(tmp_path),
    )
    return list(batches.as_numpy_iterator())


@pytest.mark.parametrize(
    "changed", [{}, {"random_crop": False}, {"horizontal_flip": False}]
)
def test_raw_and_jpeg_give_the_same_batches(prepared_sets, tmp_path, changed):
    raw, jpeg = (
        training(
            open_prepared(prepared_sets / name, "shapes/tiny", "train"),
            tmp_path,
            range(2, 6),
            **changed,
        )
        for name in ("raw", "jpeg")
    )
    for (images, labels), (others, other_labels) in zip(raw, jpeg, strict=True):
        np.testing.assert_array_equal(labels, other_labels)
        difference = images.astype(float) - others
        # JPEG of quality 95; mirrored they would differ by about 40.
        assert np.abs(difference).mean() < 5


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


def test_a_run_on_a_prepared_set(prepared_sets, data_dir, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = [*TINY, f"--run_dir={run_dir}", "--epochs=1"]
    flags += [f"--prepared_dir={prepared_sets}/raw", "--data_dir=/nowhere"]
    assert main(flags) == 0
    told = capsys.readouterr().out
    assert "on 60 images" in told
    assert "Measuring" not in told  # The manifest has the statistics.
    facts = json.loads((run_dir / "dataset.json").read_text())
    manifest = json.loads((prepared_sets / "raw/manifest.json").read_text())
    assert facts["mean_rgb"] == manifest["statistics"]["mean_rgb"]
    assert main(["evaluate", str(run_dir), "--ten_crops"]) == 0


@pytest.mark.slow
def test_a_run_can_do_without(data_dir, tmp_path, capsys):
    config, _ = parse(
        [
            "--dataset=shapes/tiny",
            f"--prepared_dir={tmp_path}/nothing",
            f"--data_dir={data_dir}",
        ]
    )
    assert not splits.open_split(config, "train").squares
    flags = [*TINY, f"--data_dir={data_dir}", f"--run_dir={tmp_path}/run"]
    flags += [f"--prepared_dir={tmp_path}/nothing", "--epochs=1"]
    assert main(flags) == 0
    assert (
        f"--prepared_dir={tmp_path}/nothing has no" in capsys.readouterr().out
    )


def test_preparing_twice_checks_and_writes_nothing(prepared_sets, capsys):
    before = contents(prepared_sets / "jpeg")
    assert prepare(prepared_sets / "jpeg", "shapes/tiny") == 0
    assert "checksums of all files match" in capsys.readouterr().out
    assert contents(prepared_sets / "jpeg") == before


@pytest.fixture
def many_files(tmp_path):
    """A folder of 1,100 training images: three shards."""
    root = tmp_path / "many"
    images = {
        "rgb": GOOD["rgb"],
        "grey": GREY["grey"],
        "text": NO_IMAGE["text"],
    }
    return in_a_folder(root, images, copies=367), tmp_path


@pytest.mark.parametrize(
    "after",
    ["manifest.json", pytest.param("train-00001.npy", marks=pytest.mark.slow)],
)
def test_killed_and_started_again_it_writes_the_same(many_files, after):
    root, tmp_path = many_files
    (root / "validation" / "a").mkdir(parents=True)
    (root / "validation" / "a" / "x.jpg").write_bytes(GOOD["rgb"])
    assert prepare(tmp_path / "whole", f"folder:{root}") == 0
    target = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf.main", "prepare"]
        + ["--image_size=72", "--crop_size=64"]
        + [f"--dataset=folder:{root}", f"--prepared_dir={target}"],
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
    assert prepare(target, f"folder:{root}") == 0
    assert contents(target) == contents(tmp_path / "whole")
    bad = (target / "bad_examples.csv").read_text().splitlines()
    assert len(bad) == 1 + 367 == len(set(bad))


def test_a_damaged_shard_is_named_and_mended(many_files, capsys):
    root, tmp_path = many_files
    (root / "validation" / "a").mkdir(parents=True)
    (root / "validation" / "a" / "x.jpg").write_bytes(GOOD["rgb"])
    target, dataset = tmp_path / "set", f"folder:{root}"
    assert prepare(target, dataset) == 0
    whole = contents(target)
    shard = target / "train-00001.npy"
    altered = bytearray(shard.read_bytes())
    altered[5000] ^= 1
    shard.write_bytes(altered)
    assert prepare(target, dataset) == 2
    assert f"{shard} is damaged" in capsys.readouterr().err
    shard.write_bytes(altered[:-7])  # Shorter: training notices, too.
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
    ("flags", "told"),
    [
        (["--prepared_format=raw"], "was made with --prepared_format 'jpeg'"),
        (["--image_size=80"], "was made with --image_size 72"),
        (["--dataset=shapes"], "was made with --dataset 'shapes/tiny'"),
        (["--prepared_dir="], "give --prepared_dir"),
        (["--prepared_dir=tests"], "has other things in it"),
    ],
)
def test_what_does_not_fit_is_told(prepared_sets, capsys, flags, told):
    assert prepare(prepared_sets / "jpeg", "shapes/tiny", *flags) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) <= 3


def test_everything_bad_is_found_ahead(tmp_path, capsys):
    root = in_a_folder(tmp_path / "set", GOOD | GREY | NO_IMAGE, copies=2)
    (root / "train" / "empty").mkdir()
    (root / "train" / "a" / "folder.jpg").mkdir()  # Cannot be read.
    (root / "train" / "b" / "lost.jpg").symlink_to("nowhere")
    (root / "train" / "a").rename(root / "train" / "c")
    (root / "validation" / "b").mkdir(parents=True)
    (root / "validation" / "b" / "x.jpg").write_bytes(GOOD["rgb"])
    target, dataset = tmp_path / "prepared", f"folder:{root}"
    assert prepare(target, dataset) == 0
    told = capsys.readouterr().out
    left_out = 2 * len(NO_IMAGE) + 2
    assert f"{left_out} were left out, see {target}/bad_examples.csv" in told
    assert "Folders without images are no classes: empty" in told
    split = open_prepared(target, dataset, "train")
    assert split.class_names == ("b", "c")
    assert split.count == 2 * len(GOOD | GREY)
    # Nothing is left to be noted.
    images, _ = evaluation_images(split, tmp_path)
    assert len(images) == split.count
    assert isinstance(split.fetch(tf.range(2, dtype=tf.int64)), dict)
