"""Files that are written completely or stay as they were."""

import errno
import io
import itertools
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.data import tfds_source
from alexnet_tf.evaluation import formats, plots
from alexnet_tf.evaluation.inference import save_signatures
from alexnet_tf.main import main
from alexnet_tf.storage import dataset_info, files
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir
from alexnet_tf.training.checkpointing import Progress
from alexnet_tf.training.tensorboard import TensorBoard
from tests.end_to_end import golden_runs
from tests.support import INFO, ONE_TOWER, SMALL, full_disk, make_trainer

PATCHES = tf.TensorSpec([None, 4], tf.float32, "images")


@pytest.fixture(scope="module")
def network():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(500)])


def signatures(network):
    function = tf.function(
        lambda images: {"probabilities": network(images)},
        input_signature=[PATCHES],
    )
    return {"probabilities": function}


# What is written, and a function of its path and a network that writes it.
WRITERS = {
    "report.json": lambda path, network: files.write_report(
        str(path), {"a": 1}
    ),
    "array.npy": lambda path, network: files.write_array(path, np.ones(9)),
    "history.csv": lambda path, network: RunDir(path.parent).write_history([]),
    "dataset.json": lambda path, network: dataset_info.write_dataset_info(
        RunDir(path.parent), INFO
    ),
    "curves.png": lambda path, network: plots.save(
        Figure(), path.parent, name="curves"
    ),
    "new.keras": formats.write_keras,
    "saved_model": lambda path, network: save_signatures(
        signatures(network), path
    ),
    "a.safetensors": lambda path, network: formats.write_safetensors(
        path, {"a": np.ones(9)}, ["a"]
    ),
    "a.onnx": lambda path, network: formats.write_onnx(
        path, signatures(network), ["a"]
    ),
    "a.tflite": lambda path, network: formats.write_tflite(
        path, signatures(network)
    ),
}
_SLOW = ("a.onnx", "a.tflite")


def contents(path):
    """Returns the bytes of a file, or of each file in a folder."""
    if path.is_file():
        return path.read_bytes()
    return {p: p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW))
        for name in WRITERS
    ],
)
def test_a_full_disk_is_one_line_and_the_older_file_whole(
    name, tmp_path, network, capsys
):
    path, write = tmp_path / name, WRITERS[name]
    write(path, network)
    before = contents(path)
    # At the first bytes, and within a file.
    for limit in (0, 5):
        with full_disk(limit), pytest.raises(UserError) as caught:
            write(path, network)
        message = str(caught.value)
        place = tempfile.gettempdir() if name == "a.tflite" else str(path)
        assert message.startswith(place)
        assert " cannot be written: File too large." in message
        assert len(message.splitlines()) == 1
        assert contents(path) == before
        assert not list(tmp_path.glob(".*"))  # The rest takes no room.
    inode = path.stat().st_ino
    write(path, network)
    assert path.stat().st_ino != inode  # Not written in place.


def test_a_full_disk_at_an_appended_line(tmp_path):
    new, old = tmp_path / "new.csv", tmp_path / "old.csv"
    files.append(old, "a\n")
    for path in (new, old):
        with full_disk(3), pytest.raises(UserError, match="File too large"):
            files.append(path, "long line\n")
    assert not new.exists() and old.read_text() == "a\n"


def test_appending_where_nothing_can_be_written():
    with pytest.raises(UserError, match="written: (Permission|Read-only)"):
        files.append(Path("/sys/x.csv"), "a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_only_seen_when_syncing(monkeypatch, tmp_path, number):
    """As on network storage."""
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})

    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=os.strerror(number)):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_folder_whose_replacement_fails_comes_back(monkeypatch, tmp_path):
    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "a").write_text("older")

    def replace(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with files.written_aside(path) as aside:
            aside.mkdir()
            (aside / "a").write_text("newer")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(UserError, match="No space left"):
            write()
    assert (path / "a").read_text() == "older"
    # As after a kill between the two renamings.
    path.rename(tmp_path / ".former-saved_model")
    write()
    assert (path / "a").read_text() == "newer"
    assert os.listdir(tmp_path) == ["saved_model"]


def test_folders_and_devices_are_not_replaced_by_files(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    names = sorted(os.listdir(tmp_path))
    for name in names:
        with pytest.raises(UserError, match=f"{name} cannot be written"):
            files.write_json(tmp_path / name, {})
    assert sorted(os.listdir(tmp_path)) == names
    assert (tmp_path / "folder" / "a").exists()


def tensorboard_of(tmp_path, *flags, batches=(), step=0):
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    run_dir.flags.touch()
    run_dir.environment.write_text("{}")
    return TensorBoard(
        run_dir,
        Progress(15, step=step),
        lambda steps: batches,
        parse(flags)[0],
    )


def check_line(caught, path):
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be written: ")
    assert len(message.splitlines()) == 1


def test_a_full_disk_at_tensorboards_files(tmp_path):
    # A resumed run has written the graph.
    writer = tensorboard_of(tmp_path, step=15)
    writer.set_model(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(9)])
    )
    writer.on_train_begin()
    row = dict.fromkeys(HISTORY_COLUMNS, 0.5)
    writer.run_dir.write_history([{**row, "epoch": 1, "step": 15}])
    with full_disk(200), pytest.raises(UserError) as caught:
        writer.on_epoch_end(0)
    check_line(caught, writer.run_dir.tensorboard)


@pytest.mark.parametrize("limit", [0, 100, 5000, 20_000, 40_000])
def test_a_full_disk_at_tensorboards_first_pages(tmp_path, limit):
    """Nothing is found, the settings, or the images are cut."""
    _, model = make_trainer((1, 1), *SMALL)
    batch = np.zeros((4, 67, 67, 3), np.uint8), np.zeros(4)
    writer = tensorboard_of(tmp_path, batches=[batch])
    writer.set_model(model)
    with full_disk(limit), pytest.raises(UserError) as caught:
        writer.on_train_begin()
    check_line(caught, writer.run_dir.tensorboard)


def test_a_profile_that_cannot_be_written(tmp_path):
    writer = tensorboard_of(tmp_path, "--profile_steps=1")
    for _ in range(10):
        writer.on_train_batch_begin(0)
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    (tmp_path / "run" / "tensorboard" / "plugins").write_text("in the way")
    with pytest.raises(UserError) as caught:
        writer.on_train_batch_begin(0)
    check_line(caught, writer.run_dir.tensorboard)


@pytest.mark.parametrize("limit", [0, 50_000])
def test_a_full_disk_for_generated_data(tmp_path, limit, capsys):
    """Nothing is left, and the next start generates it again."""
    with full_disk(limit), pytest.raises(UserError) as caught:
        tfds_source.open_split("shapes/tiny", "train", data_dir=str(tmp_path))
    check_line(caught, tmp_path / "shapes" / "tiny" / "1.0.0")
    assert not list(tmp_path.glob("shapes/tiny/*"))


def test_a_full_disk_for_the_logs_of_workers(tmp_path, capsys):
    """They are appended to."""
    log = tmp_path / "worker-1.log"
    log.write_text("older\n")
    command = ["launch", *golden_runs.FLAGS, f"--run_dir={tmp_path}"]
    with full_disk(log.stat().st_size + 5):
        assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {log} cannot be written: File too large")
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == [log.name] and log.read_text() == "older\n"


# Root may write anywhere; /sys, where it may make no folder, stands for a place
# without permission, and a file in the path for one that cannot be made.
@pytest.mark.parametrize("place", ["/sys", "FILE"])
@pytest.mark.parametrize(
    "command",
    [
        [*golden_runs.FLAGS, "--run_dir=PLACE/new"],
        ["launch", *golden_runs.FLAGS, "--run_dir=PLACE/new"],
        [*ONE_TOWER, "--data_dir=PLACE/new", "--run_dir=RUN/new"],
        ["prepare", golden_runs.FLAGS[0], "--prepared_dir=PLACE/new"],
        ["compare", "RUN", "--figures_dir=PLACE/new"],
        ["compare", "RUN", "--figures_dir=RUN/f", "--json=PLACE/new.json"],
        ["figures", "RUN", "--curves_only", "--figures_dir=PLACE/new"],
    ],
)
def test_a_place_without_permission(tmp_path, capsys, command, place):
    release = golden_runs.RELEASES["0.2.0"]
    run = str(shutil.copytree(release / "run", tmp_path / "run"))
    (tmp_path / "file").touch()
    place = place.replace("FILE", str(tmp_path / "file"))
    words = [w.replace("RUN", run).replace("PLACE", place) for w in command]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and f"{place}" in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_a_full_disk_at_each_file_of_a_training(tmp_path, monkeypatch, capsys):
    """One line each time; the same command then ends as if nothing were."""
    opened: list[Path] = []
    failing = 0
    real_open = io.open

    def open_or_fail(file, mode="r", *arguments, **options):
        is_ours = str(file).startswith(str(tmp_path))
        # A folder's name is that of a temporary file without a name.
        if set(mode) & set("wax") and is_ours and not Path(file).is_dir():
            opened.append(Path(file))
            # Again and again: ZIP files are tried in several modes.
            if failing and opened[failing - 1 : failing] == [Path(file)]:
                number = errno.ENOSPC
                raise OSError(number, os.strerror(number), str(file))
        return real_open(file, mode, *arguments, **options)

    flags = [*golden_runs.FLAGS, golden_runs.LAYOUTS["1x1"], "--epochs=2"]
    assert main([*flags, f"--run_dir={tmp_path}/whole"]) == 0
    expected = golden_runs.outcome(tmp_path / "whole")[0]
    monkeypatch.setattr(io, "open", open_or_fail)
    for number in itertools.count(1):
        failing = number
        opened.clear()
        run = tmp_path / str(number)
        capsys.readouterr()
        if main([*flags, f"--run_dir={run}"]) == 0:
            break
        error = capsys.readouterr().err
        named = opened[number - 1].name.removeprefix(".writing-")
        with capsys.disabled():
            print(f"\n{named}: {error}", end="")
        assert str(run) in error or named in error
        assert "No space left on device" in error
        assert len(error.splitlines()) <= 2
        failing = 0
        assert main([*flags, f"--run_dir={run}"]) == 0
        assert golden_runs.outcome(run)[0] == expected
    assert failing > 10


def test_a_full_disk_for_the_output(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        # The rest stays in the buffer, as at the end of a process.
        assert main(["--help"]) == 2
        full.flush()
    error = capsys.readouterr().err
    assert "the output or a temporary file: No space left" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (float(np.float32(0.01)), "0.01"),
        (float(np.float32(1 / 3)), "0.33333334"),
        (float(np.float32(1e-30)), "1e-30"),
        (float(np.float32(3e38)), "3e+38"),
        (0.01, "0.01"),
        (1 / 3, "0.3333333333333333"),
        (1.643987094328697, "1.643987094328697"),
        (1e300, "1e+300"),
        (0.75, "0.75"),
        (16777217, "16777217"),
        (15, "15"),
        (float("nan"), "nan"),
    ],
)
def test_the_shortest_text_of_a_number(number, text):
    assert files.shortest(number) == text


def test_numbers_come_back():
    """Each in its own precision, so that nothing is lost."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 20_000, np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    texts = [files.shortest(float(value)) for value in values]
    np.testing.assert_array_equal(np.array(texts, "float32"), values)
    values = random.normal(size=20_000)
    texts = [files.shortest(value) for value in values]
    np.testing.assert_array_equal(np.array(texts, float), values)
