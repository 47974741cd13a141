"""All commands read, turn and refuse the same image files."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config.data import Data
from alexnet_tf.data import folders, pipeline, prepared
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.main import main
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.run_dir import RunDir
from tests.data.image_kinds import (
    BAD,
    GOOD,
    ORIENTATIONS,
    exif,
    lying,
    photo,
    with_segment,
)

SIZES = {"image_size": 72, "crop_size": 64}
NONE = BadExamples(limit=0)
FLAGS = [f"--{name}={value}" for name, value in SIZES.items()]


@pytest.fixture(scope="module")
def run_dir(finished_run, tmp_path_factory):
    """A copy of a finished run, as if it had been trained on folders."""
    copy = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(finished_run, copy)
    file = copy / "dataset.json"
    content = json.loads(file.read_text())
    content["class_names"].sort()
    file.write_text(json.dumps(content))
    return copy


@pytest.fixture(scope="module")
def refused(run_dir, tmp_path_factory):
    """A data set with the run's classes, files that are refused among them."""
    root = tmp_path_factory.mktemp("refused")
    for split in ("train", "validation"):
        names = read_dataset_info(RunDir(Path(run_dir))).class_names
        for name, good in zip(names, GOOD.values(), strict=False):
            folder = root / split / name
            folder.mkdir(parents=True)
            (folder / "good.jpg").write_bytes(good)
        for name, (content, _) in BAD.items():
            file = folder / f"{name.replace('/', '')}.jpg"
            file.write_bytes(content)
    return root


def check_reasons(found):
    """Compares reasons by file name with those that are expected."""
    found = {Path(name).stem: reason for name, reason in found.items()}
    expected = {name.replace("/", ""): r for name, (_, r) in BAD.items()}
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name]


def listed(file):
    with file.open(newline="") as lines:
        return {row["name"]: row["reason"] for row in csv.DictReader(lines)}


def test_training_refuses_what_would_be_misread(refused, tmp_path):
    examples = folders.open_split(refused, "train")
    bad = BadExamples(tmp_path / "bad.csv")
    batches = pipeline.training_batches(
        examples,
        Data(**SIZES),
        batch_size=examples.count,
        steps=range(1),
        seed=1,
        bad=bad,
    )
    assert len(list(batches)) == 1
    check_reasons(listed(bad.file))


def test_evaluation_refuses_it(refused, run_dir):
    flags = [f"--dataset=folder:{refused}", "--max_bad_fraction=1"]
    assert main(["evaluate", str(run_dir), *flags, "--noten_crops"]) == 0
    check_reasons(listed(run_dir / "bad_examples.csv"))


def test_prepare_refuses_it(refused, tmp_path):
    flags = [f"--dataset=folder:{refused}", f"--prepared_dir={tmp_path}/set"]
    assert main(["prepare", *flags, *FLAGS]) == 0
    reasons = listed(tmp_path / "set" / "bad_examples.csv")
    for split in ("train", "validation"):
        start = f"{split}/"
        check_reasons({n: r for n, r in reasons.items() if n.startswith(start)})


@pytest.mark.parametrize(
    "model", ["--run_dir={}", "--saved_model={}/saved_model"]
)
def test_predictions_refuse_it(refused, run_dir, model, capsys):
    """Those of `classify`, exported or not."""
    folder = refused / "validation"
    assert main(["predict", str(folder), model.format(run_dir)]) == 1
    errors = capsys.readouterr().err.splitlines()
    pairs = (line.split(": cannot be read: ") for line in errors if ":" in line)
    check_reasons(dict(pairs))


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """One photograph, stored in all eight ways, for training and validation."""
    root = tmp_path_factory.mktemp("turned")
    for split in ("train", "validation"):
        for number, transpose in ORIENTATIONS:
            folder = root / split / ("a" if number < 5 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            stored = lying(photo(size=(120, 90)), transpose)
            file = with_segment(stored, 0xE1, exif(number))
            (folder / f"{number}.jpg").write_bytes(file)
    return root


@pytest.mark.parametrize(
    "encoding", ["jpeg", pytest.param("raw", marks=pytest.mark.slow)]
)
def test_prepared_photographs_are_upright(turned, tmp_path, encoding):
    """And are not turned again when they are read."""
    flags = [f"--dataset=folder:{turned}", f"--prepared_format={encoding}"]
    spread = {}
    for exif_flag in ("--exif_orientation", "--noexif_orientation"):
        directory = tmp_path / exif_flag
        target = f"--prepared_dir={directory}"
        assert main(["prepare", *flags, target, *FLAGS, exif_flag]) == 0
        manifest = prepared.read_manifest(directory)
        split = prepared.open_split(directory, manifest, "train")
        batches = pipeline.evaluation_batches(
            split, batch_size=8, geometry=Data(**SIZES).geometry, bad=NONE
        )
        ((images, _),) = batches.as_numpy_iterator()
        difference = images.astype(float) - images[0]
        spread[exif_flag] = np.abs(difference).mean(axis=(1, 2, 3)).max()
    assert (
        spread["--exif_orientation"] < 4 < 20 < spread["--noexif_orientation"]
    )


def test_predictions_do_not_depend_on_how_a_photograph_lies(
    turned, run_dir, tmp_path
):
    """Whether the network is the run's or exported."""
    scores = []
    for model in ("--run_dir={}", "--saved_model={}/saved_model"):
        file = tmp_path / "predictions.json"
        words = ["predict", str(turned / "train"), f"--json={file}"]
        assert main([*words, model.format(run_dir)]) == 0
        for best in json.loads(file.read_text()).values():
            scores.append([score for _, score in best])
    assert len(scores) == 16
    np.testing.assert_allclose(scores, scores[:1] * 16, atol=0.001)
