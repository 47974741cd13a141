"""The main job and the other commands, from end to end on real files."""

import csv
import json
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

from alexnet_tf.main import main
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS
from tests.support import TINY, tf_config


def read_history(run_dir):
    with (run_dir / "history.csv").open() as file:
        return list(csv.DictReader(file))


def read_scalars(directory):
    """Returns {tag: {step: value}} of TensorBoard's event files."""
    events = event_accumulator.EventAccumulator(
        str(directory), size_guidance={"tensors": 0}
    )
    events.Reload()
    return {
        tag: {
            event.step: float(tensor_util.make_ndarray(event.tensor_proto))
            for event in events.Tensors(tag)
        }
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }


def train(run_dir, data_dir, *flags):
    return main(
        [*TINY, f"--data_dir={data_dir}", f"--run_dir={run_dir}", *flags]
    )


def test_a_run_leaves_all_its_files(finished_run):
    left = {path.name for path in finished_run.iterdir()}
    assert left == {
        "flags.cfg",
        "environment.json",
        "dataset.json",
        "mean_image.npy",
        "history.csv",
        ".lock",
        "checkpoints",
        "tensorboard",
        "saved_model",
        "result.json",
    }
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["replicas"] == [["/device:CPU:0", "/device:CPU:1"]]
    assert environment["train_examples"] == 240
    result = json.loads((finished_run / "result.json").read_text())
    assert result["num_examples"] == 60 and result["epochs"] == 3
    assert result["steps"] == 3 * (240 // 16)
    rows = read_history(finished_run)
    best = min(
        (float(row["val_top1_error"]), float(row["val_loss"]), row["epoch"])
        for row in rows
    )
    assert result["top1_error"] == pytest.approx(best[0])
    assert (result["best_epoch"], result["first_epoch"]) == (int(best[2]), 1)


def test_history_and_tensorboard_agree(finished_run):
    rows = read_history(finished_run)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert {row["learning_rate"] for row in rows} == {"0.01"}
    assert tuple(rows[0]) == HISTORY_COLUMNS
    shown = read_scalars(finished_run / "tensorboard")
    tags = {
        "loss/training": "loss",
        "loss/validation": "val_loss",
        "error_percent/top1_training": "top1_error",
        "error_percent/top1_validation": "val_top1_error",
        "error_percent/top5_training": "top5_error",
        "error_percent/top5_validation": "val_top5_error",
        "training/learning_rate": "learning_rate",
        "training/gradient_norm": "gradient_norm",
        "speed/images_per_second": "images_per_second",
        "speed/input_wait": "input_wait",
    }
    for tag, column in tags.items():
        scale = 100 if "error" in tag else 1
        expected = [scale * float(row[column]) for row in rows]
        assert list(shown[tag]) == [1, 2, 3]
        assert list(shown[tag].values()) == pytest.approx(expected)
    errors = shown["error_percent/top1_validation"].values()
    best = np.minimum.accumulate(list(errors))
    assert list(shown["best/top1_error_percent"].values()) == pytest.approx(
        best
    )
    # Five steps a point, three points an epoch.
    for name, column, scale in (
        ("loss", "loss", 1),
        ("top1_error_percent", "top1_error", 100),
        ("top5_error_percent", "top5_error", 100),
    ):
        points = shown[f"within_epochs/{name}"]
        assert list(points) == list(range(5, 46, 5))
        means = np.reshape(list(points.values()), (3, 3)).mean(axis=1)
        expected = [scale * float(row[column]) for row in rows]
        assert means == pytest.approx(expected, rel=1e-4)
    others = {"learning_rate", "gradient_norm", "images_per_second"}
    for name in others:
        assert list(shown[f"within_epochs/{name}"]) == list(range(5, 46, 5))
    assert all(0 <= float(row["input_wait"]) <= 1 for row in rows)


def test_tensorboard_has_images_text_the_graph_and_settings(finished_run):
    runs = {path.parent for path in finished_run.rglob("events.*")}
    assert runs == {finished_run / "tensorboard"}
    events = event_accumulator.EventAccumulator(
        str(finished_run / "tensorboard"), size_guidance={"tensors": 0}
    )
    events.Reload()
    tags = events.Tags()["tensors"]
    sizes = {}
    pictures = ("training_images", "conv1_kernels/tower0")
    for tag in (*pictures, "validation/confusion", "validation/wrong_answers"):
        assert tag in tags
        *_, last = events.Tensors(tag)
        _, _, encoded = tensor_util.make_ndarray(last.tensor_proto)
        image = tf.image.decode_png(encoded).numpy()
        sizes[tag] = image.shape
        assert image.std() > 10
    # Six by six patches but for the places of those that 16 leave empty.
    assert sizes["training_images"] == (6 * 64, 6 * 64, 3)
    assert sizes["conv1_kernels/tower0"][0] == 4 * 11
    assert min(sizes["validation/confusion"][:2]) > 800

    def text_of(tag):
        (event,) = events.Tensors(tag)
        return tensor_util.make_ndarray(event.tensor_proto).item().decode()

    flags = (finished_run / "flags.cfg").read_text().splitlines()
    assert "| classes | 12 |" in text_of("run/settings")
    assert f"\n    {flags[0]}\n    {flags[1]}\n" in text_of("run/settings")
    result = json.loads((finished_run / "result.json").read_text())
    assert f"| top1 error | {result['top1_error']:.1%} |" in text_of(
        "run/result"
    )
    nodes = {node.name for node in events.Graph().node}
    assert any("conv3_tower1/" in name for name in nodes)
    plugins = events.summary_metadata.values()
    names = {data.plugin_data.plugin_name for data in plugins}
    assert {"hparams", "custom_scalars", "text", "scalars"} <= names
    (profile,) = finished_run.glob("tensorboard/plugins/profile/*/*.xplane.pb")
    assert b"conv3_tower1" in profile.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        "--flagfile={}/flags.cfg",
        # The directory alone names the run, also with settings of the recipe.
        "--run_dir={}",
        "--run_dir={} --epochs=2 --momentum=0.8 --data_dir=/nowhere",
    ],
)
def test_a_finished_run_shows_its_result_and_what_is_next(
    finished_run, capsys, command
):
    assert main(command.format(finished_run).split()) == 0
    result = json.loads((finished_run / "result.json").read_text())
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{finished_run} is finished."
    assert printed[1].startswith("More epochs than --epochs=3 continue it")
    assert printed[2].startswith(
        f"Best epoch {result['best_epoch']} of 3: "
        f"error {result['top1_error']:.1%}, top-5 {result['top5_error']:.1%} "
        "(60 validation images)"
    )
    *_, measure, classify, watch = printed
    program = f"{shlex.quote(sys.orig_argv[0])} -m alexnet_tf.main"
    assert measure.strip() == f"{program} evaluate {finished_run}"
    assert classify.strip() == (
        f"{program} predict PHOTO.jpg --run_dir={finished_run}"
    )
    assert watch.endswith(f"tensorboard --logdir {finished_run}/tensorboard")


def test_a_path_with_spaces_is_quoted(finished_run, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "it's a run")
    assert main([f"--run_dir={run}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    measure, classify, watch = map(shlex.split, printed[-3:])
    assert measure[-1] == str(run)
    assert classify[-1] == f"--run_dir={run}"
    assert watch[-1] == f"{run}/tensorboard"


def test_a_run_that_the_plateau_rule_ended_does_not_go_on(
    finished_run, tmp_path, capsys
):
    run = shutil.copytree(finished_run, tmp_path / "run")
    last = checkpoints.newest(run / "checkpoints")
    state = checkpoints.read_state(last) | {"stopped": True}
    with np.load(last / "variables.npz") as values:
        checkpoints.save(run / "checkpoints", dict(values), state)
    assert main([f"--run_dir={run}", "--epochs=9"]) == 0
    printed = capsys.readouterr().out
    assert f"ended it; --init_from={run} starts another" in printed
    assert main([f"--run_dir={run}", "--epochs=9", "--init_from=x"]) == 0


def test_a_finished_run_is_not_taken_for_another_one(finished_run, capsys):
    flags = [f"--flagfile={finished_run}/flags.cfg"]
    assert main([*flags, "--seed=2"]) == 2
    told = capsys.readouterr().err
    assert "--seed=2, but" in told and "another --run_dir" in told
    assert main([*flags, "--lrn=off"]) == 2


@pytest.mark.parametrize(
    ("command", "flag", "owner"),
    [
        ("train", "--workers=4", "launch"),
        ("evaluate", "--curves_only", "figures"),
        ("export", "--json=file", "evaluate, predict"),
        ("benchmark", "--nooverride_learning_rate", "train, launch"),
    ],
)
def test_flags_of_other_commands_are_refused(command, flag, owner, capsys):
    assert main([command, flag]) == 2
    told = capsys.readouterr().err
    assert f"is a flag of {owner}" in told and command in told


def weights_of(run_dir):
    checkpoint = checkpoints.newest(run_dir / "checkpoints")
    with np.load(checkpoint / "variables.npz") as saved:
        return {name: saved[name] for name in saved}


@pytest.mark.slow
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_run_with_more_epochs_ends_as_if_it_never_stopped(
    tmp_path, data_dir, finished_run, is_finished
):
    assert train(tmp_path / "run", data_dir, "--epochs=1") == 0
    result = tmp_path / "run" / "result.json"
    if not is_finished:
        result.unlink()
    assert train(tmp_path / "run", data_dir, "--epochs=3") == 0
    assert result.read_text() == (finished_run / "result.json").read_text()
    for row, other in zip(
        read_history(tmp_path / "run"), read_history(finished_run), strict=True
    ):
        for name in set(HISTORY_COLUMNS) - {"images_per_second", "input_wait"}:
            assert row[name] == other[name], name
    ours, theirs = weights_of(tmp_path / "run"), weights_of(finished_run)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_profile_that_the_rest_of_an_epoch_ends_in(tmp_path, data_dir):
    """That rest has 12 steps, the profile is of steps 10 to 14."""
    flags = ("--checkpoint_every_steps=3", "--keep_checkpoints=9")
    assert train(tmp_path, data_dir, "--epochs=1", *flags) == 0
    (tmp_path / "result.json").unlink()
    first, *others = sorted((tmp_path / "checkpoints").iterdir())
    for checkpoint in others:
        shutil.rmtree(checkpoint)
    assert first.name == "step-00000003"
    flags = ("--epochs=2", "--profile_steps=5")
    assert train(tmp_path, data_dir, *flags) == 0
    assert list(tmp_path.glob("tensorboard/plugins/profile/*/*.xplane.pb"))


def test_a_place_where_nothing_can_be_written_is_told(
    tmp_path, data_dir, capsys
):
    (tmp_path / "file").touch()
    assert train(tmp_path / "file" / "run", data_dir) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/file/run cannot be written: Not a dir" in told
    assert len(told.splitlines()) <= 3


def test_a_batch_larger_than_the_data_set_is_refused(
    tmp_path, data_dir, capsys
):
    run_dir = tmp_path / "run"
    assert train(run_dir, data_dir, "--batch_size=242") == 2
    assert "has 240 images" in capsys.readouterr().err
    assert not run_dir.exists()


def test_splits_with_different_classes_are_refused(
    tmp_path, image_files, capsys
):
    for folder in ("train/a", "train/c", "validation/a", "validation/b"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        shutil.copy(image_files[0], tmp_path / "set" / folder)
    flags = [f"--dataset=folder:{tmp_path}/set", "--batch_size=2"]
    assert train(tmp_path / "run", tmp_path, *flags) == 2
    assert "classes without training images: b" in capsys.readouterr().err


def test_a_run_with_another_network_is_refused(finished_run, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert main([*TINY, f"--run_dir={run}", "--width=0.2"]) == 2
    assert "--width=0.2" in capsys.readouterr().err


@pytest.mark.slow
def test_plateaus_drop_the_rate_and_end_the_run(tmp_path, data_dir, capsys):
    """At a learning rate of zero nothing improves after the first epoch."""
    flags = ["--learning_rate=0", "--plateau_patience=1", "--plateau_drops=2"]
    flags += ["--towers=1", "--virtual_devices=1"]
    assert train(tmp_path, data_dir, *flags, "--epochs=9") == 0
    assert len(read_history(tmp_path)) == 4
    told = capsys.readouterr().out
    assert "drop 1 of 2" in told and "drop 2 of 2" in told
    assert "Training ends" in told
    # Ended by the rule, it does not go on.
    (tmp_path / "result.json").unlink()
    assert train(tmp_path, data_dir, *flags, "--epochs=20") == 0
    assert len(read_history(tmp_path)) == 4


@pytest.mark.slow
def test_a_new_run_starts_from_the_layers_that_fit(
    finished_run, data_dir, tmp_path, capsys
):
    flags = [f"--init_from={finished_run}", "--epochs=1", "--learning_rate=0"]
    assert train(tmp_path / "run", data_dir, *flags, "--conv6") == 0
    told = capsys.readouterr().out
    assert "New random weights: conv6_tower0, conv6_tower1\n" in told
    assert "conv5_tower1, fc6_tower0" in told
    best = checkpoints.best(finished_run / "checkpoints")
    with np.load(best / "variables.npz") as saved:
        ours = weights_of(tmp_path / "run")
        for name in ("conv1_tower0/kernel", "fc8_tower1/kernel"):
            np.testing.assert_array_equal(ours[name], saved[name])
    # Started again, the run goes on with its own weights.
    (tmp_path / "run" / "result.json").unlink()
    flags = [*flags, "--epochs=2", "--init_from=/nowhere"]
    assert train(tmp_path / "run", data_dir, *flags, "--conv6") == 0
    assert "with 1 epochs done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "message"),
    [("/nowhere", "/nowhere is not a run"), ("RUN", "no layer of .* fits")],
)
def test_a_start_from_nothing_is_refused(
    finished_run, data_dir, tmp_path, capsys, source, message
):
    source = source.replace("RUN", str(finished_run))
    flags = [f"--init_from={source}", "--width=0.2"]
    assert train(tmp_path / "run", data_dir, *flags) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--cluster=tf_config"], "TF_CONFIG='' does not name"),
        (["train", "--dataset=folder:/nowhere"], "no such folder"),
        (["train", f"--run_dir={__file__}"], "is a file"),
        (["evaluate", "/nowhere"], "/nowhere is not a run directory"),
        (["evaluate"], "give --run_dir"),
        (["figures"], "at least one run directory"),
        (["export", "--run_dir=/nowhere"], "is not a run directory"),
        (["predict"], "at least one image"),
        (["predict", "a.jpg"], "give --run_dir"),
        (["predict", "a.jpg", "--saved_model=/nowhere"], "is not a SavedModel"),
        (["inspect", "--virtual_devices=3"], "multiple of 2"),
        (
            ["inspect", "--virtual_devices=4", "--batch_size=5"],
            "cannot be divided among 2 replicas",
        ),
        (["inspect", "--towers=5"], "towers=5 does not divide"),
        (["--run_dir=x", "--gpus=9"], "gpus=9"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(
    arguments, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told
    assert len(told.splitlines()) <= 3
    assert not list(tmp_path.iterdir())


def test_workers_are_given_their_run_directory(monkeypatch, capsys):
    """Each would make another one."""
    addresses = ["localhost:9000", "localhost:9001"]
    monkeypatch.setenv("TF_CONFIG", tf_config(addresses, 1))
    assert main(list(TINY)) == 2
    assert "give --run_dir" in capsys.readouterr().err


def test_the_paper_names_the_files_it_misses(tmp_path, capsys):
    flags = [f"--data_dir={tmp_path}/data", f"--run_dir={tmp_path}/run"]
    assert main(["--flagfile=flags/paper.cfg", *flags]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 3
    assert not (tmp_path / "run").exists()
    for word in ("ILSVRC2012_img_train.tar (147.9 GB)", "6.7 GB", "manual"):
        assert word in told
