"""What may change when a run is resumed: real runs, started again."""

import contextlib
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from alexnet_tf.config.flags import parse, parse_run, to_flagfile
from alexnet_tf.main import main
from alexnet_tf.models.build import build_network
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import read_dataset_info
from alexnet_tf.storage.files import checksum
from alexnet_tf.storage.run_dir import RunDir
from tests.end_to_end.test_survival import outcome
from tests.support import ONE_TOWER, TINY


@pytest.fixture
def resume(tmp_path, finished_run, data_dir, capsys):
    """Returns a function that resumes a run of three epochs."""
    run = RunDir(tmp_path / "run")
    shutil.copytree(finished_run, run.path)
    run.result.unlink()

    def train(*flags, epochs=3):
        code = main(
            [*TINY, f"--data_dir={data_dir}", f"--run_dir={run.path}"]
            + [f"--epochs={epochs}", *flags]
        )
        output = capsys.readouterr()
        return code, output.out, output.err

    train.run = run
    return train


@pytest.mark.parametrize(
    ("flag", "before"),
    [
        ("--batch_size=32", "--batch_size=16"),
        ("--dataset=shapes", "--dataset=shapes/tiny"),
        ("--width=0.2", "--width=0.1"),
        ("--towers=1", "--towers=2"),
        ("--link_precision=float16", "--link_precision=float32"),
        ("--padding=0,2,1,1,0", "--padding=0,2,1,1,1"),
        ("--crop_size=66", "--crop_size=64"),
        ("--seed=2", "--seed=1"),
        ("--exif_orientation=False", "--exif_orientation=True"),
    ],
)
def test_another_batch_size_data_set_or_network_is_rejected(
    resume, flag, before
):
    code, _, error = resume(flag)
    assert code == 2
    assert f"{flag}, but" in error and f"was started with {before}." in error
    assert len(error.splitlines()) <= 3


@pytest.mark.slow
def test_changes_of_the_recipe_are_reported(resume):
    code, output, _ = resume("--momentum=0.8", "--init_from=/nowhere", epochs=4)
    assert code == 0
    assert "--momentum was 0.9; the run continues with 0.8." in output
    assert "--init_from=/nowhere has no effect: the run has weights" in output


@pytest.mark.parametrize(
    "command",
    [
        [*TINY, "--conv6", "--run_dir=RUN"],
        ["evaluate", "RUN"],
        ["predict", "a.jpg", "--run_dir=RUN"],
        ["export", "--run_dir=RUN"],
        ["inspect", "--run_dir=RUN"],
    ],
    ids=lambda command: command[0],
)
def test_a_conv6_that_saw_its_own_tower_only_is_refused(
    tmp_path, capsys, command
):
    """Such a run goes on, or is used, once its flags.cfg says what it is."""
    run = RunDir(tmp_path)
    run.flags.write_text(
        "\n".join([*TINY, "--conv6=True", "--tower_communication=True"])
        + "\n--keep_checkpoints=2\n"
    )
    command = [word.replace("RUN", str(tmp_path)) for word in command]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"error: {run.flags} is of a version whose conv6 saw" in error
    assert "by --tower_communication=conv3,fc6,fc7" in error
    assert len(error.splitlines()) <= 3


@pytest.mark.parametrize(
    ("conv6", "value", "towers", "expected"),
    [
        (True, "False", 2, []),
        (False, "True", 2, ["conv3", "fc6", "fc7"]),
        (True, "True", 1, ["conv3", "conv6", "fc6", "fc7"]),  # It has one.
        (True, "conv3,fc6,fc7", 2, ["conv3", "fc6", "fc7"]),
    ],
)
def test_other_runs_of_that_version_are_read(
    tmp_path, conv6, value, towers, expected
):
    file = tmp_path / "flags.cfg"
    flags = f"--conv6={conv6}\n--towers={towers}\n"
    file.write_text(f"{flags}--tower_communication={value}\n")
    assert parse_run(file).layers_that_see_all_towers() == expected


def test_the_network_with_that_conv6_can_be_used(resume, capsys):
    run = resume.run
    own = "--tower_communication=conv3,fc6,fc7"
    config, _ = parse([f"--flagfile={run.flags}", "--conv6", own])
    model = build_network(config, read_dataset_info(run))
    assert model.get_layer("conv6_tower0").kernel.shape == (3, 3, 13, 13)
    shutil.rmtree(run.checkpoints)
    state = {"step": 0, "epochs_done": 0, "val_top1_error": 1.0}
    checkpoints.save(
        run.checkpoints, checkpoints.values_of(model.variables), state
    )
    flags = to_flagfile(config)
    run.flags.write_text(flags.replace(own, "--tower_communication=True"))
    assert main(["evaluate", str(run.path), "--noten_crops"]) == 2
    run.flags.write_text(flags)
    assert main(["evaluate", str(run.path), "--noten_crops"]) == 0
    assert "60 images" in capsys.readouterr().out


def test_a_data_set_that_has_grown_is_rejected(resume):
    facts = json.loads(resume.run.dataset.read_text())
    facts["train_examples"] += 7
    resume.run.dataset.write_text(json.dumps(facts))
    code, _, error = resume()
    assert code == 2
    assert "247 training and 60 validation images" in error
    assert "its data set now has 240 and 60." in error


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory, image_files):
    """A finished run in home/run on home/photos, as a relative path."""
    home = tmp_path_factory.mktemp("home")
    for number, file in enumerate(image_files * 4):
        folder = home / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"{number}.jpg")
    (home / "photos" / "a" / "bad.jpg").touch()
    with contextlib.chdir(home):
        assert train_on_photos("--dataset=folder:photos", "--run_dir=run") == 0
    return RunDir(home / "run")


def train_on_photos(*flags):
    small = [*ONE_TOWER, "--width=0.04", "--batch_size=4", "--epochs=1"]
    return main([*small, *flags])


@pytest.fixture
def interrupted(photo_run, tmp_path):
    """A copy of that run before its end, in tmp_path/run."""
    shutil.copytree(photo_run.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return f"--run_dir={tmp_path}/run"


@pytest.mark.parametrize(
    "path", ["photos", "photos/", "./photos", "~/photos", "{home}/photos"]
)
def test_a_folder_may_be_spelled_in_another_way(
    photo_run, monkeypatch, capsys, path
):
    home = photo_run.path.parent
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    path = path.format(home=home)
    assert train_on_photos(f"--dataset=folder:{path}", "--run_dir=~/run") == 0
    assert capsys.readouterr().out.startswith(f"{home}/run is finished")


@pytest.mark.slow
def test_a_folder_that_has_moved_is_given_anew(
    photo_run, interrupted, tmp_path, monkeypatch, capsys
):
    before = photo_run.path.parent / "photos"
    shutil.copytree(before, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    moved = "--dataset=folder:images/"
    assert train_on_photos(interrupted, moved, "--epochs=2") == 0
    output = capsys.readouterr().out
    assert "with 1 epochs done" in output and "last bits" not in output
    assert (
        f"--dataset was folder:{before}; the run continues with "
        f"folder:{tmp_path}/images.\n" in output
    )
    listed = (tmp_path / "run" / "bad_examples.csv").read_text().splitlines()
    assert len(listed) == 2 and listed[1].startswith("a/bad.jpg,")
    # Its new path is found in any directory.
    monkeypatch.chdir("/")
    assert main(["evaluate", f"{tmp_path}/run", "--noten_crops"]) == 0
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "a").rename(root / "c"), "a, c differ"),
        (lambda root: (root / "b" / "1.jpg").unlink(), "now has 19 and 1."),
        (
            lambda root: (root / "b" / "1.jpg").rename(root / "b" / "x.jpg"),
            "was started on files with other names than those of folder:{root}",
        ),
        (lambda root: shutil.rmtree(root), "no such folder: {root}. If it"),
    ],
)
def test_another_folder_is_refused(
    photo_run, interrupted, tmp_path, capsys, change, message
):
    root = tmp_path / "other"
    shutil.copytree(photo_run.path.parent / "photos", root)
    change(root)
    assert train_on_photos(interrupted, f"--dataset=folder:{root}") == 2
    error = capsys.readouterr().err
    assert message.format(root=root) in error
    assert len(error.splitlines()) <= 3


def test_a_data_set_of_another_kind_is_refused(interrupted, capsys):
    assert train_on_photos(interrupted, "--dataset=shapes/tiny") == 2
    assert "was started with --dataset=folder:/" in capsys.readouterr().err


def rates(run):
    return [float(row["learning_rate"]) for row in run.read_history()]


def rates_in_hparams(run):
    """Returns the learning rate that HPARAMS shows after each start."""
    files = sorted(run.tensorboard.glob("events.*"), key=os.path.getmtime)
    events = tf.compat.v1.train.summary_iterator
    found = []
    for event in itertools.chain(*(events(str(file)) for file in files)):
        for value in event.summary.value:
            if value.tag == metadata.SESSION_START_INFO_TAG:
                plugin = value.metadata.plugin_data
                data = plugin_data_pb2.HParamsPluginData.FromString(
                    plugin.content
                )
                settings = data.session_start_info.hparams
                found.append(settings["learning_rate"].number_value)
    return found


@pytest.mark.slow
def test_the_rate_that_the_run_has_reached_wins(resume):
    code, output, _ = resume("--learning_rate=0.5", epochs=4)
    assert code == 0
    assert "Learning rate 0.01, which the run has reached, instead" in output
    assert "from --learning_rate=0.5; --override_learning_rate" in output
    assert rates(resume.run) == pytest.approx([0.01] * 4)
    assert rates_in_hparams(resume.run)[-1] == 0.01
    assert "--learning_rate=0.01\n" in resume.run.flags.read_text()


@pytest.mark.slow
def test_another_rate_is_forced_once(resume):
    flags = ("--learning_rate=0.003", "--override_learning_rate")
    drop = ("--plateau_patience=1", "--plateau_drops=5", "--plateau_factor=3")
    code, output, _ = resume(*flags, *drop, epochs=4)
    assert code == 0
    assert "Learning rate 0.01 -> 0.003: --override" in output
    assert rates(resume.run)[3] == pytest.approx(0.003)
    assert rates_in_hparams(resume.run)[-1] == 0.003
    assert "--learning_rate=0.003\n" in resume.run.flags.read_text()
    resume.run.result.unlink()
    # The same command again: what the plateau rule made of it since stays.
    code, output, _ = resume(*flags, *drop, epochs=5)
    assert code == 0 and "0.003: --override" not in output
    newest = checkpoints.read_state(checkpoints.newest(resume.run.checkpoints))
    assert newest["forced_rate"] == 0.003
    errors = [float(r["val_top1_error"]) for r in resume.run.read_history()]
    drops = errors[3] >= min(errors[:3])  # No better than the best before.
    assert rates(resume.run)[4] == pytest.approx(0.003 / (3 if drops else 1))


@pytest.mark.slow
def test_a_rate_forced_from_the_start_is_not_forced_again(resume):
    """A new run that is started again with the same command."""
    shutil.rmtree(resume.run.path)
    flags = ("--learning_rate=0.003", "--override_learning_rate")
    assert resume(*flags, epochs=1)[0] == 0
    resume.run.result.unlink()
    code, output, _ = resume(*flags, epochs=1)
    assert code == 0 and "with 1 epochs done" in output
    assert "override" not in output


@pytest.mark.parametrize(
    ("flags", "rollbacks", "advice"),
    [
        ((), 0, "with --on_nonfinite=rollback."),
        pytest.param(
            ("--on_nonfinite=rollback", "--max_rollbacks=2"),
            2,
            "more than --max_rollbacks=2.",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_nonfinite_gradient_stops_the_run(resume, flags, rollbacks, advice):
    """One pixel of each image is so large that its square is infinite."""
    image = np.load(resume.run.mean_image)
    image[0, 0, 0] = 3e38
    np.save(resume.run.mean_image, image)
    facts = json.loads(resume.run.dataset.read_text())
    facts["mean_image_sha256"] = checksum(resume.run.mean_image)
    resume.run.dataset.write_text(json.dumps(facts))
    code, output, error = resume(*flags, epochs=4)
    assert code == 2
    step = 45 + rollbacks
    assert f"error: step {step}: " in error and "gradient_norm is nan" in error
    assert f"last good checkpoint is {resume.run.path}" in error
    assert "step-00000045. " in error and advice in error
    assert len(error.splitlines()) <= 5
    assert output.count("continuing without that batch") == rollbacks
    for number in range(45, step + 1):
        names = resume.run.nonfinite(number).read_text().splitlines()
        assert len(set(names)) == 16
        assert all("shapes-train.tfrecord" in name for name in names)
    assert names[0] in error


@pytest.mark.slow
def test_a_run_from_before_schedules_goes_on_without(resume):
    text = resume.run.flags.read_text()
    resume.run.flags.write_text(text.replace("--schedule=\n", ""))
    code, output, _ = resume("--schedule=0: weights=1", epochs=3)
    assert code == 0
    assert "started before --schedule existed" in output
    assert "Learning rates: --schedule" not in output
    assert "--schedule=" not in resume.run.flags.read_text()


@pytest.mark.slow
def test_a_schedule_may_begin_change_and_end(resume):
    """Without it, the run keeps the last rate."""
    dates = "0: weights=0.02; 4: weights=0; 5.5: weights=1"
    flags = [f"--schedule={dates}", "--learning_rate=0.3"]
    code, output, _ = resume(*flags, epochs=4)
    assert code == 0
    assert f"--schedule was ; the run continues with {dates}." in output
    assert (
        "Learning rates: --schedule\n"
        "--learning_rate=0.3 has no effect beside it.\n"
        "It has dates after --epochs=4: 4, 5.5.\n"
    ) in output
    for epochs, schedule in [(5, "0: weights=0.02; 4: weights=0.003"), (6, "")]:
        resume.run.result.unlink()
        code, output, _ = resume(f"--schedule={schedule}", epochs=epochs)
        assert code == 0
        assert f"the run continues with {schedule}." in output
    expected = [0.01, 0.01, 0.01, 0.02, 0.003, 0.003]
    assert rates(resume.run) == pytest.approx(expected)


FOUR_DEVICES = (*TINY, "--virtual_devices=4")
# 15 steps an epoch: dates at steps 6, 15, 24 and 30.
SCHEDULE = (
    "--schedule=0: weights=0.02, biases=0.04; 0.4: fc6.weights=0.01;"
    "1: conv1.weights=0, conv1.biases=0, color_noise=off;"
    "1.6: weights=0.005; 2: conv1.weights=0.01, color_noise=on"
)


@pytest.fixture(
    scope="module",
    params=[ONE_TOWER, FOUR_DEVICES],
    ids=["1 x 1", "2 x 2"],
)
def scheduled_run(request, tmp_path_factory, data_dir):
    """An uninterrupted run with all its checkpoints, and its flags."""
    run = RunDir(tmp_path_factory.mktemp("scheduled"))
    flags = [
        *(*request.param, SCHEDULE, f"--data_dir={data_dir}", "--width=0.04"),
        *("--epochs=3", "--checkpoint_every_steps=5", "--keep_checkpoints=99"),
        *("--color_noise=code_2012", "--color_noise_shrink"),
    ]
    assert main([*flags, f"--run_dir={run.path}"]) == 0
    return run, flags


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        *("00000005", "00000010", "00000015-2", "00000020"),
        *("00000025", "00000030-2", "00000035"),
    ],
)
def test_a_schedule_is_exact_across_its_dates(scheduled_run, tmp_path, step):
    """From a checkpoint within an epoch, or of its end."""
    whole, flags = scheduled_run
    run = RunDir(tmp_path / "run")
    shutil.copytree(whole.path, run.path)
    run.result.unlink()
    names = sorted(path.name for path in run.checkpoints.iterdir())
    for name in names[names.index(f"step-{step}") + 1 :]:
        shutil.rmtree(run.checkpoints / name)
    assert main([*flags, f"--run_dir={run.path}"]) == 0
    assert outcome(run.path) == outcome(whole.path)
    assert rates(run) == [0.02, 0.005, 0.005]
