"""What a run ran on: versions, devices, git commit, data set."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from alexnet_tf.distribution.placement import Placement

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


def describe_environment(
    placement: Placement, dataset: str, train_examples: int
) -> dict:
    """Returns the content of a run's environment.json."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "replicas": [list(devices) for devices in placement.devices],
        "git_commit": _git_commit(),
        "dataset": dataset,
        "train_examples": train_examples,
    }


def _git_commit():
    """Returns the commit of this source code, None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
