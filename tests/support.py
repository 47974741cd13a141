"""Settings and helpers shared by the tests of several packages."""

import contextlib
import csv
import dataclasses
import hashlib
import ipaddress
import json
import os
import resource
import signal
import socket
import struct
from pathlib import Path
from unittest import mock

import numpy as np
import tensorflow as tf

from alexnet_tf.config.flags import parse, to_flagfile
from alexnet_tf.distribution.devices import connect
from alexnet_tf.models.tower_builder import TowerBuilder
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import (
    DatasetInfo,
    placeholder_info,
    write_dataset_info,
)
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir
from alexnet_tf.training.trainer import build_trainer

# Settings with which the whole main job takes seconds.
TINY = (
    "--dataset=shapes/tiny",
    "--width=0.1",
    "--image_size=72",
    "--crop_size=64",
    "--batch_size=16",
    "--virtual_devices=2",
    "--initialization=code_2012",
)
# The same without the split, where that does not matter: faster.
ONE_TOWER = (*TINY, "--towers=1", "--virtual_devices=1")
# Settings of a small network.
SMALL = ("--width=0.1", "--image_size=72", "--crop_size=67")
# Devices a replica, replicas.
LAYOUTS = [(1, 1), (2, 1), (1, 2), (2, 2)]
INFO = DatasetInfo(
    class_names=[str(number) for number in range(10)],
    mean_rgb=[120.0, 110.0, 100.0],
    covariance_rgb=np.diag([2000.0, 1000.0, 3000.0]).tolist(),
    train_examples=0,
    validation_examples=0,
)


def make_trainer(layout, *flags, classes=10):
    """Returns the devices and the compiled network for a layout."""
    devices_per_replica, replicas = layout
    config, _ = parse(
        [
            f"--virtual_devices={devices_per_replica * replicas}",
            f"--devices_per_replica={devices_per_replica}",
            *flags,
        ]
    )
    names = [str(number) for number in range(classes)]
    info = dataclasses.replace(INFO, class_names=names)
    devices = connect(config)
    assert len(devices.layout.devices) == replicas
    return devices, build_trainer(config, info, devices)


@contextlib.contextmanager
def zero_weights():
    """Builds networks with zeros for weights.

    At full size most of the time of a construction goes into random values,
    which shapes, counts and traces do not need.
    """

    def zeros(builder, name):
        return {"kernel_initializer": "zeros", "bias_initializer": "zeros"}

    with mock.patch.object(TowerBuilder, "_initializers", zeros):
        yield


def free_addresses(count, host="localhost"):
    """Returns addresses with ports that were free a moment ago."""
    ipv6 = ":" in host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server((host, 0), family=family))
            for _ in range(count)
        ]
        ports = [server.getsockname()[1] for server in servers]
    return [f"[{host}]:{port}" if ipv6 else f"{host}:{port}" for port in ports]


def tf_config(addresses, index):
    """Returns TF_CONFIG for a worker."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def history_columns(*, rates=(0.01, 0.01, 0.001, 0.001, 0.0001), **changed):
    """Returns columns of history.csv, with an epoch for each learning rate."""
    epochs = np.arange(len(rates))
    columns = {name: [0.0] * len(rates) for name in HISTORY_COLUMNS}
    columns |= {
        "epoch": (epochs + 1).tolist(),
        "step": (1000 * (epochs + 1)).tolist(),
        "learning_rate": list(rates),
        "loss": (2.5 / (epochs + 1)).tolist(),
        "val_loss": (2.4 / (epochs + 1)).tolist(),
        "top1_error": (0.9 / (epochs + 1)).tolist(),
        "val_top1_error": (0.8 / (epochs + 1)).tolist(),
    }
    return columns | changed


def write_run(path, *, classes=12, **changed):
    """Writes a run's settings, history and classes; returns its directory."""
    run = RunDir(path)
    columns = history_columns(**changed)
    run.write_history(
        [
            dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]
    )
    names = [f"class {number}" for number in range(classes)]
    write_dataset_info(run, placeholder_info(names))
    config, _ = parse([f"--run_dir={path}"])
    run.flags.write_text(to_flagfile(config))
    return path


@contextlib.contextmanager
def full_disk(limit=0):
    """Lets no file grow beyond `limit` bytes, as if the disk were full.

    Print nothing meanwhile: pytest keeps output in files.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def lines_of(figure):
    """Returns {label: (xs, ys)} of each panel."""
    return [
        {line.get_label(): line.get_data() for line in axes.get_lines()}
        for axes in figure.axes
    ]


def write_special_files(folder):
    """Makes NAME.jpg files that must not be opened; returns their reasons."""
    os.mkfifo(folder / "fifo.jpg")
    os.symlink("fifo.jpg", folder / "link.jpg")
    os.symlink("/dev/zero", folder / "zero.jpg")
    os.symlink("/dev/tty", folder / "terminal.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.jpg"))
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(100 << 30)
    kinds = ["FIFO", "FIFO", "device", "device", "socket"]
    names = ["fifo", "link", "zero", "terminal", "socket"]
    reasons = {
        f"{name}.jpg": f"{kind} (not a regular file)"
        for name, kind in zip(names, kinds, strict=True)
    }
    return reasons | {"sparse.jpg": "over 256 MB"}


def listening(pid):
    """Returns the (address, port) pairs on which a process listens."""
    sockets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # It is closed by now.
            sockets.add(os.readlink(file))
    found = []
    for table in ("tcp", "tcp6"):
        rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        for row in map(str.split, rows):
            if row[3] != "0A" or f"socket:[{row[9]}]" not in sockets:
                continue
            host, port = row[1].split(":")
            words = struct.iter_unpack("!I", bytes.fromhex(host))
            packed = b"".join(struct.pack("=I", word) for (word,) in words)
            found.append((str(ipaddress.ip_address(packed)), int(port, 16)))
    return found


def outcome(run_dir):
    """Returns all that a disturbed run must have in common with a whole one.

    The first is a digest of all variables.
    """
    newest = checkpoints.newest(Path(run_dir) / "checkpoints")
    with np.load(newest / "variables.npz") as saved:
        digest = hashlib.sha256()
        for name in sorted(saved):
            digest.update(name.encode() + saved[name].tobytes())
    with (Path(run_dir) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    state = checkpoints.read_state(newest)
    for row in [*rows, *state["parts"]["history"]]:
        del row["images_per_second"], row["input_wait"]
    return (
        digest.hexdigest(),
        rows,
        state,
        _scalars(run_dir),
    )


def _scalars(run_dir):
    """Returns the values of each tag and step in the event files."""
    found = {}
    for file in sorted(Path(run_dir).glob("tensorboard/**/events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if "second" in value.tag or "wait" in value.tag:
                    continue
                if value.HasField("tensor"):
                    number = tf.make_ndarray(value.tensor)
                    if number.shape == () and number.dtype != object:
                        key = value.tag, event.step
                        found.setdefault(key, set()).add(float(number))
    return found
