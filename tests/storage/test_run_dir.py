"""Run directories: names of new ones, the newest, and numbers of epochs."""

import json
import os
import re

import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.storage import run_dir
from alexnet_tf.storage.run_dir import RunDir, new_run, newest_run


def test_runs_of_the_same_second_have_directories_of_their_own(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_dir.time, "strftime", lambda form: "2026-11-27")
    with new_run("a") as first, new_run("a") as second, new_run("b") as third:
        assert first == "runs/a-2026-11-27"
        assert second == "runs/a-2026-11-27-2"
        assert third == "runs/b-2026-11-27"
        assert len(os.listdir("runs")) == 3
        (tmp_path / second / "flags.cfg").touch()
    # Those without a file are gone.
    assert os.listdir("runs") == ["a-2026-11-27-2"]


def test_a_run_is_named_by_its_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError), new_run("photos") as path:
        assert re.fullmatch(r"runs/photos-\d{4}-\d\d-\d\d-\d{6}", path)
        raise UserError("not trained")
    assert os.listdir() == []


def test_runs_may_be_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    with pytest.raises(OSError, match="runs/a"), new_run("a"):
        pass
    assert newest_run() == ""


def test_the_newest_run_has_the_newest_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert newest_run() == ""
    (tmp_path / "elsewhere" / "checkpoints").mkdir(parents=True)
    for age, name in enumerate(["new", "group/old", "older", "empty"]):
        place = tmp_path / "runs" / name
        place.mkdir(parents=True)
        if name != "empty":
            (place / "checkpoints").mkdir()
            os.utime(place / "checkpoints", (1e9 - age, 1e9 - age))
    assert newest_run() == "runs/new"
    os.utime(tmp_path / "runs/group/old/checkpoints", (2e9, 2e9))
    assert newest_run() == "runs/group/old"
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere/checkpoints", (3e9, 3e9))
    assert newest_run() == "runs/linked"


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (["0", "1", "2"], ["1", "2", "3"]),
        (["1", "2", "3"], ["1", "2", "3"]),
        (["0"], ["1"]),
        (["1"], ["1"]),
        ([], []),
    ],
)
def test_epochs_count_from_one_in_files_of_all_versions(
    tmp_path, epochs, expected
):
    run = RunDir(tmp_path)
    run.write_history([{"epoch": epoch, "step": "7"} for epoch in epochs])
    rows = run.read_history()
    assert [row["epoch"] for row in rows] == expected
    assert all(row["step"] == "7" for row in rows)
    run.write_history(rows)
    assert run.read_history() == rows


@pytest.mark.parametrize("epochs", [["2"], ["0", "2"], ["1", "1"], ["1", "0"]])
def test_other_numbers_of_epochs_are_refused(tmp_path, epochs):
    run = RunDir(tmp_path)
    run.write_history([{"epoch": epoch} for epoch in epochs])
    with pytest.raises(
        UserError, match=f"epochs .*, expected 1 to {len(epochs)}"
    ):
        run.read_history()


@pytest.mark.parametrize(("first", "best"), [({}, 3), ({"first_epoch": 1}, 2)])
def test_the_best_epoch_counts_from_one(tmp_path, first, best):
    run = RunDir(tmp_path)
    names = ("loss", "num_examples", "epochs", "steps", "parameters")
    result = dict.fromkeys((*names, "top1_error", "top5_error"), 0)
    run.result.write_text(json.dumps(result | {"best_epoch": 2} | first))
    assert run.read_result()["best_epoch"] == best
    assert run.read_result()["first_epoch"] == 1
