"""Errors of runs and their average, against counts in NumPy."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.flags import parse
from alexnet_tf.data import tfds_source as sources
from alexnet_tf.data.decoding import decode_patch
from alexnet_tf.evaluation.classifier import load_signatures
from alexnet_tf.main import main
from alexnet_tf.models.build import load_trained
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.run_dir import RunDir


def probabilities_of(run_dir, split):
    """Returns each image's probabilities of ten views, sliced in NumPy."""
    config, _ = parse([f"--flagfile={run_dir}/flags.cfg"])
    model, _ = load_trained(config, RunDir(run_dir))
    views = []
    for example in split.in_order(1).unbatch().as_numpy_iterator():
        for offset in [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]:
            patch = decode_patch(
                example["image"], offset, config.geometry
            ).numpy()
            views += [patch, patch[:, ::-1]]
    # Extended: probabilities down to 1e-4951 are not zero.
    logits = model.predict(np.array(views), verbose=0).astype(np.longdouble)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    of_views = exponentials / exponentials.sum(axis=1, keepdims=True)
    return of_views.reshape(-1, 10, 12)


def errors_of(probabilities, labels):
    order = np.argsort(-probabilities, axis=1)
    hits = order == labels[:, None]
    return 1 - hits[:, 0].mean(), 1 - hits[:, :5].any(axis=1).mean()


def test_evaluate_measures_what_training_measured(
    finished_run, tmp_path, capsys
):
    file = tmp_path / "evaluation.json"
    flags = [f"--json={file}", f"--figures_dir={tmp_path}"]
    assert main(["evaluate", str(finished_run), *flags]) == 0
    center = json.loads(file.read_text())["center"]
    result = json.loads((finished_run / "result.json").read_text())
    for name in ("top1_error", "top5_error", "num_examples"):
        assert center[name] == pytest.approx(result[name])
    printed = capsys.readouterr().out
    assert f"{center['top1_error']:.1%}" in printed
    assert "published" not in printed
    for suffix in (".png", ".svg"):
        assert f"{tmp_path}/confusion{suffix}\n" in printed
        assert (tmp_path / f"confusion{suffix}").stat().st_size > 1000
    evaluation = json.loads(file.read_text())
    wrong = sum(pair["times"] for pair in evaluation["confused"])
    assert wrong / 60 == pytest.approx(evaluation["ten_crop"]["top1_error"])
    assert sum(row["num_examples"] for row in evaluation["classes"]) == 60


def test_the_last_checkpoint_may_be_worse_than_the_best(
    finished_run, tmp_path, capsys
):
    """Its weights are zero here, so that all classes tie, which is wrong."""
    run = RunDir(shutil.copytree(finished_run, tmp_path / "run"))
    best = checkpoints.best(run.checkpoints)
    values = checkpoints.read_prefixed(best, "")
    state = checkpoints.read_state(checkpoints.newest(run.checkpoints))
    state |= {"step": state["step"] + 1, "val_top1_error": 1.0}
    zeros = {name: np.zeros_like(value) for name, value in values.items()}
    checkpoints.save(run.checkpoints, zeros, state)
    found = {}
    for name in ("best", "last"):
        file = tmp_path / f"{name}.json"
        flags = [f"--checkpoint={name}", "--noten_crops", f"--json={file}"]
        assert main(["evaluate", str(run.path), *flags]) == 0
        assert f"{run.path}, {name} after epoch" in capsys.readouterr().out
        found[name] = json.loads(file.read_text())["center"]["top1_error"]
    assert found["best"] == pytest.approx(run.read_result()["top1_error"])
    assert found["last"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("devices", [(1, 2), (2, 1), (0, 4)])
def test_runs_may_divide_the_cpu_in_different_ways(
    finished_run, tmp_path, devices
):
    """In a process of its own, as TensorFlow divides it once."""
    runs = []
    for number in devices:
        run = shutil.copytree(finished_run, tmp_path / f"run{number}")
        flags = (run / "flags.cfg").read_text()
        changed = re.sub(
            r"--virtual_devices=\d+", f"--virtual_devices={number}", flags
        )
        (run / "flags.cfg").write_text(changed)
        runs.append(str(run))
    words = ["evaluate", *runs, "--noten_crops", f"--figures_dir={tmp_path}"]
    command = [sys.executable, "-m", "alexnet_tf.main", *words]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert "average of 2 runs" in output.stdout


def test_a_run_that_takes_no_figures_is_refused_first(capsys):
    assert main(["evaluate", "/proc/self"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --run_dir=/proc/self cannot be written")


def copy_run(finished_run, copy):
    """Copies a run for a data set of folders, which sorts its classes."""
    shutil.copytree(finished_run, copy)
    info = json.loads((copy / "dataset.json").read_text())
    info["class_names"].sort()
    (copy / "dataset.json").write_text(json.dumps(info))
    return info["class_names"]


def test_a_split_without_usable_images_is_refused(
    finished_run, tmp_path, capsys
):
    run = tmp_path / "run"
    for name in copy_run(finished_run, run):
        folder = tmp_path / "set" / "validation" / name
        folder.mkdir(parents=True)
        (folder / "empty.jpg").touch()
    flags = [f"--dataset=folder:{tmp_path}/set", "--noten_crops"]
    assert main(["evaluate", str(run), *flags]) == 2
    assert "none of the 12 images can be used" in capsys.readouterr().err


def test_runs_that_leave_out_other_images_are_not_averaged(
    finished_run, image_files, tmp_path, capsys
):
    """The end of a tall file is missing, which only squashing needs."""
    runs = [tmp_path / "a", tmp_path / "b"]
    names, _ = (copy_run(finished_run, run) for run in runs)
    with (runs[1] / "flags.cfg").open("a") as flags:
        flags.write("--resize=squash\n")
    for name in names:
        folder = tmp_path / "set" / "validation" / name
        folder.mkdir(parents=True)
        shutil.copy(image_files[0], folder)
    grain = np.random.default_rng(0).integers(0, 256, (600, 100, 3), np.uint8)
    tall = tf.io.encode_jpeg(grain).numpy()
    (folder / "tall.jpg").write_bytes(tall[: int(0.8 * len(tall))])
    flags = [f"--dataset=folder:{tmp_path}/set", "--noten_crops"]
    assert main(["evaluate", *map(str, runs), *flags]) == 2
    assert "b leaves out other images" in capsys.readouterr().err


def test_evaluate_agrees_with_a_count_in_numpy(
    finished_run, data_dir, tmp_path
):
    file = tmp_path / "evaluation.json"
    flags = ["--split=train[:50]", "--batch_size=7", "--virtual_devices=1"]
    flags.append(f"--figures_dir={tmp_path}")
    assert main(["evaluate", str(finished_run), f"--json={file}", *flags]) == 0
    center = json.loads(file.read_text())["center"]
    signatures = load_signatures(finished_run / "saved_model")
    split = sources.open_split("shapes/tiny", "train[:50]", data_dir=data_dir)
    examples = list(split.records.as_numpy_iterator())
    images = np.array([e["image"] for e in examples], object)
    best = signatures["classify"](image_bytes=tf.constant(images))
    labels = best["labels"].numpy()
    truth = [split.class_names[e["label"]].encode() for e in examples]
    hits = labels == np.array(truth, object)[:, None]
    assert center["num_examples"] == 50
    assert center["top1_error"] == pytest.approx(1 - hits[:, 0].mean())
    assert center["top5_error"] == pytest.approx(1 - hits.any(axis=1).mean())


def check_errors(found, of_views, labels):
    """Compares errors with those of the probabilities of ten views."""
    for crops, probabilities in [
        ("center", of_views[:, 0]),
        ("ten_crop", of_views.mean(axis=1)),
    ]:
        top1, top5 = errors_of(probabilities, labels)
        assert found[crops]["top1_error"] == pytest.approx(top1)
        assert found[crops]["top5_error"] == pytest.approx(top5)
        loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
        assert found[crops]["loss"] == pytest.approx(float(loss), rel=1e-4)
        assert found[crops]["num_examples"] == len(labels)


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (1, "search", "--weights=search is for the average of several runs;"),
        (1, "1", "--weights=1 is for the average of several runs; give more"),
        (2, "0.5,0.3,0.2", "has 3 numbers for 2 runs; give one for each, in"),
        (3, "0.5,0.5", "has 2 numbers for 3 runs; give one for each, in the"),
    ],
)
def test_weights_that_do_not_fit(finished_run, capsys, count, weights, message):
    words = ["evaluate", *(count * [str(finished_run)])]
    assert main([*words, f"--weights={weights}"]) == 2
    output = capsys.readouterr()
    assert message in output.err and not output.out


def scaled_copy(run, copy, layer, factor):
    """Returns a copy of a run with the weights of a layer times a factor."""
    shutil.copytree(run, copy)
    newest = checkpoints.best(copy / "checkpoints")
    state = checkpoints.read_state(newest)
    with np.load(newest / "variables.npz") as file:
        values = {
            name: file[name] * (factor if name.startswith(layer) else 1)
            for name in file
        }
    shutil.rmtree(copy / "checkpoints")
    checkpoints.save(copy / "checkpoints", values, state)
    return copy


@pytest.fixture
def certain_run(finished_run, tmp_path):
    """A run with logits so far apart that softmax is zero for most classes."""
    return scaled_copy(finished_run, tmp_path / "certain", "fc8", 5e3)


@pytest.fixture
def other_run(finished_run, tmp_path):
    """A run that answers otherwise."""
    return scaled_copy(finished_run, tmp_path / "other", "conv1", -3)


def test_ten_crops_and_runs_are_averaged_by_their_probabilities(
    certain_run, other_run, data_dir, tmp_path, capsys
):
    """Also those of a network that is certain, of which none becomes zero."""
    runs, file = [certain_run, other_run], tmp_path / "evaluation.json"
    # 23 images: the last batch has one, for two replicas.
    flags = ["--split=train[:23]", "--batch_size=20", f"--json={file}"]
    flags.append("--weights=search")
    assert main(["evaluate", *map(str, runs), *flags]) == 0
    printed = capsys.readouterr().out
    assert "average of 2 runs, 23 images" in printed
    measured = json.loads(file.read_text())
    split = sources.open_split("shapes/tiny", "train[:23]", data_dir=data_dir)
    labels = np.array([e["label"] for e in split.records.as_numpy_iterator()])
    views = [probabilities_of(run, split) for run in runs]
    assert (views[0] < 1e-50).mean() > 0.5
    first, second = measured["weights"]
    others = [*measured["runs"].values(), measured["equal_weights"]]
    for found, of_views in [
        *zip(others, [*views, np.mean(views, axis=0)], strict=True),
        (measured, first * views[0] + second * views[1]),
    ]:
        check_errors(found, of_views, labels)
    lowest = min(errors["ten_crop"]["top1_error"] for errors in others)
    assert measured["ten_crop"]["top1_error"] <= lowest
    shown = f"{first:.4f},{second:.4f}"
    assert f"average of 2 runs with weights {shown}, 23 images" in printed
    assert f"optimistic;\nmeasure others with --weights={shown} " in printed
    wrong = sum(pair["times"] for pair in measured["confused"])
    assert wrong / 23 == pytest.approx(measured["ten_crop"]["top1_error"])


def test_the_labels_of_a_network_that_is_certain_are_in_order(
    certain_run, image_files, data_dir, tmp_path
):
    """Even those with a probability of zero."""
    file = tmp_path / "predictions.json"
    words = [*map(str, image_files), f"--run_dir={certain_run}"]
    assert main(["predict", *words, f"--json={file}"]) == 0
    split = sources.open_split(
        "shapes/tiny", "validation[:5]", data_dir=data_dir
    )
    center = probabilities_of(certain_run, split)[:, 0]
    expected = np.argsort(-center, axis=1)[:, :5]
    found = list(json.loads(file.read_text()).values())
    for best, classes in zip(found, expected, strict=True):
        labels = [label for label, _ in best]
        assert labels == [split.class_names[number] for number in classes]
    assert any(best[-1][1] == 0 for best in found)


def test_runs_on_other_images_are_not_averaged(
    finished_run, other_run, tmp_path, capsys
):
    changed = shutil.copytree(other_run, tmp_path / "changed")
    with (changed / "flags.cfg").open("a") as file:
        file.write("--validation_split=train\n")
    assert main(["evaluate", str(finished_run), str(changed)]) == 2
    printed = capsys.readouterr().err
    assert f"is measured on --split=train, {finished_run} on (def" in printed
    assert "give --split" in printed
    assert len(printed.splitlines()) <= 3
