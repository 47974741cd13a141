"""Checkpoints: complete, kept or removed, rejected where they do not fit."""

import os
import shutil

import keras
import numpy as np
import pytest

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.network import Network
from alexnet_tf.models.alexnet import alexnet
from alexnet_tf.storage import checkpoints
from tests.support import full_disk


def make_variables(scale):
    return [
        keras.Variable(scale * np.ones((2, 3), "float32"), name="w"),
        keras.Variable(np.int64(7), name="n", dtype="int64"),
    ]


def save(directory, step, error, scale=1, loss=1.0):
    checkpoints.save(
        directory,
        checkpoints.values_of(make_variables(scale)),
        {"step": step, "val_top1_error": error, "val_loss": loss},
    )


def test_values_and_state_come_back(tmp_path):
    save(tmp_path, 7, 0.25, scale=5)
    checkpoint = checkpoints.newest(tmp_path)
    found = make_variables(0)
    checkpoints.restore(checkpoint, found)
    for variable, saved in zip(found, make_variables(5), strict=True):
        np.testing.assert_array_equal(variable.numpy(), saved.numpy())
    assert checkpoints.read_state(checkpoint)["step"] == 7


def test_all_variables_of_a_network_have_different_paths():
    net = alexnet(
        3, Network(width=0.1), crop_size=64, noise_basis=np.eye(3).tolist()
    )
    paths = [variable.path for variable in net.variables]
    assert len(set(paths)) == len(paths)
    assert "conv1_tower0/kernel" in paths
    assert sum("seed_generator" in path for path in paths) == 6


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step, error in enumerate([0.9, 0.3, 0.5, 0.3, 0.6, 0.7]):
        save(tmp_path, step, error)
        checkpoints.prune(tmp_path, keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000001", "step-00000004", "step-00000005"]
    assert checkpoints.best(tmp_path).name == "step-00000001"
    assert checkpoints.newest(tmp_path).name == "step-00000005"


def test_the_loss_decides_between_equal_errors(tmp_path):
    for step, loss in enumerate([0.9, 0.4, 0.6]):
        save(tmp_path, step, 0.25, loss=loss)
    save(tmp_path, 3, 0.5, loss=0.1)
    assert checkpoints.best(tmp_path).name == "step-00000001"
    checkpoints.prune(tmp_path, keep=1)
    assert checkpoints.best(tmp_path).name == "step-00000001"


def test_an_interrupted_write_is_no_checkpoint(tmp_path):
    save(tmp_path, 1, 0.5)
    (tmp_path / ".writing").mkdir()
    (tmp_path / ".writing" / "variables.npz").write_bytes(b"PK")
    assert checkpoints.newest(tmp_path).name == "step-00000001"
    save(tmp_path, 2, 0.5)
    assert checkpoints.newest(tmp_path).name == "step-00000002"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert checkpoints.newest(tmp_path / "none") is None
    assert checkpoints.best(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("v", (2, 3), "no variable v"),
        ("w", (3, 2), r"\(2, 3\) in .*\(3, 2\) in this network"),
    ],
)
def test_another_network_is_refused(tmp_path, name, shape, message):
    save(tmp_path, 1, 0.5)
    variable = keras.Variable(np.zeros(shape, "float32"), name=name)
    with pytest.raises(UserError, match=message):
        checkpoints.restore(checkpoints.newest(tmp_path), [variable])


def shorten(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [shorten, flip_a_bit, lambda f: f.unlink()])
@pytest.mark.parametrize(
    "name", ["variables.npz", "state.json", "manifest.json"]
)
def test_a_damaged_checkpoint_is_reported_and_skipped(
    tmp_path, capsys, harm, name
):
    save(tmp_path, 1, 0.5)
    save(tmp_path, 2, 0.4)
    harm(tmp_path / "step-00000002" / name)
    assert checkpoints.newest(tmp_path).name == "step-00000001"
    assert "step-00000002 is damaged" in capsys.readouterr().err
    assert checkpoints.best(tmp_path).name == "step-00000001"
    checkpoints.prune(tmp_path, keep=2)
    harm(tmp_path / "step-00000001" / name)
    with pytest.raises(UserError, match="all checkpoints in .* are damaged"):
        checkpoints.newest(tmp_path)


@pytest.mark.parametrize("harm", [shorten, flip_a_bit])
@pytest.mark.parametrize("count", [1, 2])
def test_the_newest_whole_checkpoint_is_never_removed(tmp_path, harm, count):
    for step, error in enumerate([0.1, 0.5, 0.6, 0.7]):
        save(tmp_path, step, error)
    for step in range(4 - count, 4):
        harm(tmp_path / f"step-{step:08d}" / "variables.npz")
    checkpoints.prune(tmp_path, keep=1)
    assert checkpoints.newest(tmp_path).name == f"step-{3 - count:08d}"
    assert checkpoints.best(tmp_path).name == "step-00000000"


def test_pruning_reads_a_checkpoint_once(tmp_path):
    """It would keep a damaged one; a changed time reveals the damage."""
    for step, is_seen in enumerate([False, True, False]):
        save(tmp_path, step, 0.5 + step)
        checkpoints.prune(tmp_path, keep=1)
        file = tmp_path / f"step-{step:08d}" / "variables.npz"
        times = file.stat()
        flip_a_bit(file)
        if not is_seen:
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000000", "step-00000001", "step-00000002"]
    save(tmp_path, 3, 0.4)
    checkpoints.prune(tmp_path, keep=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000001", "step-00000003"]


def test_other_names_are_no_checkpoints(tmp_path):
    save(tmp_path, 1, 0.5)
    (tmp_path / "step-00000015.bak").mkdir()
    (tmp_path / "step-last").write_text("1")
    assert checkpoints.newest(tmp_path).name == "step-00000001"
    checkpoints.prune(tmp_path, keep=1)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_checkpoint_within_an_epoch_is_never_the_best(tmp_path):
    save(tmp_path, 1, 0.5)
    save(tmp_path, 2, None)
    assert checkpoints.best(tmp_path).name == "step-00000001"
    assert checkpoints.newest(tmp_path).name == "step-00000002"
    checkpoints.prune(tmp_path, keep=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_nonfinite_values_are_not_saved(tmp_path):
    save(tmp_path, 1, 0.5)
    with pytest.raises(UserError, match="w has .* last good .*step-00000001"):
        save(tmp_path, 2, 0.4, scale=np.inf)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_leaves_earlier_checkpoints_intact(tmp_path):
    save(tmp_path, 1, 0.5)
    failing = pytest.raises(UserError, match="cannot be written: File too lar")
    with failing, full_disk(100):
        save(tmp_path, 2, 0.4)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoints.damage(tmp_path / "step-00000001") == ""


def test_a_kill_while_one_is_removed_leaves_no_part(tmp_path, monkeypatch):
    """The next removal removes the rest."""
    for step, error in enumerate((0.3, 0.2, 0.4), start=1):
        save(tmp_path, step, error)

    def killed(path):
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.prune(tmp_path, keep=1)
    names = {"step-00000002", "step-00000003"}
    assert {path.name for path in tmp_path.glob("step-*")} == names
    assert checkpoints.best(tmp_path).name == "step-00000002"
    checkpoints.prune(tmp_path, keep=1)
    assert {path.name for path in tmp_path.iterdir()} == names
