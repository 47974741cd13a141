"""Four virtual devices, a tiny data set and a finished run, for all tests."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest

from alexnet_tf.main import main


def pytest_configure(config):
    """Divides the CPU before TensorFlow starts."""
    if config.getoption("numprocesses", 0) and not hasattr(
        config, "workerinput"
    ):
        return  # The process that starts the others runs no tests.
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 4
    )
    tf.config.list_logical_devices()  # From here on it cannot be changed.


def pytest_collection_modifyitems(items):
    """Starts with what takes longest, so that no process ends long after."""
    first = ("test_survival.py", "test_workers.py", "test_fuzz.py")
    items.sort(key=lambda item: item.path.name not in first)


@contextlib.contextmanager
def made_once(tmp_path_factory, name):
    """Yields a directory that all test processes share, and if it is new."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = root / f"{name}.done"
        yield root / name, not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS directory with shapes/tiny in it."""
    from alexnet_tf.data import tfds_source

    with made_once(tmp_path_factory, "tfds") as (directory, is_new):
        if is_new:
            tfds_source.open_split(
                "shapes/tiny", "train", data_dir=str(directory)
            )
    return str(directory)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, data_dir):
    """The directory of a run of three epochs; not to be changed."""
    from tests.support import TINY

    with made_once(tmp_path_factory, "finished") as (run_dir, is_new):
        if is_new:
            flags = [f"--data_dir={data_dir}", f"--run_dir={run_dir}"]
            flags += ["--epochs=3", "--profile_steps=2", "--summary_steps=5"]
            assert main([*TINY, *flags]) == 0
    return run_dir


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory, finished_run):
    """A copy of that run, exported in all formats, and what was printed."""
    from alexnet_tf.config.commands import EXPORT_FORMATS

    with made_once(tmp_path_factory, "exported") as (directory, is_new):
        run_dir, printed = directory / "run", directory / "printed.txt"
        if is_new:
            shutil.copytree(finished_run, run_dir)
            command = [sys.executable, "-m", "alexnet_tf.main", "export"]
            command.append(f"--run_dir={run_dir}")
            command.append(f"--format={','.join(EXPORT_FORMATS)}")
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    return run_dir, printed.read_text()


@pytest.fixture(scope="session")
def image_files(tmp_path_factory, data_dir):
    """Five JPEG files of the data set."""
    from alexnet_tf.data import tfds_source

    directory = tmp_path_factory.mktemp("images")
    split = tfds_source.open_split(
        "shapes/tiny", "validation", data_dir=data_dir
    )
    files = []
    for number, example in enumerate(split.in_order(1).unbatch().take(5)):
        files.append(directory / f"{number}.jpg")
        files[-1].write_bytes(example["image"].numpy())
    return files
