"""Golden runs: the bit-exact result of a tiny training.

    python -m tests.end_to_end.golden_runs [release]

records them again in tests/golden/, after a change that alters the numbers on
purpose; the commit says why. With `release` it first adds or replaces the run
of this version, tests/golden/releases/VERSION/:

    run/               as this version leaves it after three of five epochs;
                       every later version resumes, evaluates, exports, predicts
                       with and compares it
    resumed.*          how it ends when it is resumed, recorded again like the
                       golden runs
    alexnet.keras      exported; every later version loads it
    probabilities.npy  of `images`
"""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf import __version__

GOLDEN = Path("tests/golden")
RELEASES = {path.name: path for path in sorted(GOLDEN.glob("releases/*"))}
OLD_RUN = RELEASES["0.1.0"] / "run"
LAYOUTS = {"1x1": "--virtual_devices=1", "2x2": "--virtual_devices=4"}
# 20 steps in five epochs, with dropout, colour noise, decay and a plateau.
FLAGS = (
    f"--dataset=folder:{GOLDEN}/images",
    "--width=0.04",
    "--image_size=72",
    "--crop_size=64",
    "--batch_size=12",
    "--initialisation=code_2012",
    "--learning_rate=0.02",
    "--plateau_patience=2",
    "--epochs=5",
)
# Of a release's run, which stopped after three of the five epochs.
RELEASE_FLAGS = (*FLAGS, LAYOUTS["1x1"], "--epochs=3", "--keep_checkpoints=1")
_SPEEDS = ("images_per_second", "input_wait")


def commands(run_dir, layout):
    """Returns the command lines that make one golden run."""
    flags = [*FLAGS, LAYOUTS[layout]]
    return (
        [*flags, f"--run_dir={run_dir}"],
        ["inspect", *flags, f"--json={run_dir}/network.json"],
    )


def reopen(release, copy):
    """Copies a release's run; returns the command line that resumes it."""
    shutil.copytree(RELEASES[release] / "run", copy)
    (copy / "result.json").unlink()
    return commands(copy, "1x1")[0]


def outcome(run_dir):
    """Returns the result of a run.

    Args:
        run_dir: Directory in which both `commands` were carried out.

    Returns:
        A dictionary of JSON values: `digest`, the SHA-256 of all variables;
        `history`, the rows of history.csv without speeds; `layers`, the layer
        table. And the variables by name.
    """
    newest = max(Path(run_dir).glob("checkpoints/step-*"))
    with np.load(newest / "variables.npz") as file:
        variables = {name: file[name] for name in sorted(file)}
    digest = hashlib.sha256()
    for name, value in variables.items():
        digest.update(name.encode() + value.tobytes())
    with (Path(run_dir) / "history.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    for row in history:
        for name in _SPEEDS:
            del row[name]
    found = {"digest": digest.hexdigest(), "history": history}
    network = Path(run_dir) / "network.json"
    if network.exists():
        _, *layers = json.loads(network.read_text())["layers"]
        found["layers"] = layers  # The input's name has a number.
    return found, variables


def recorded(name, directory=GOLDEN):
    """Returns what was recorded of a layout or "resumed", as `outcome` does."""
    with np.load(directory / f"{name}.npz") as file:
        variables = {path: file[path] for path in file}
    return json.loads((directory / f"{name}.json").read_text()), variables


def images():
    """Returns images of noise."""
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def probabilities(saved_model):
    """Returns the probabilities that a SavedModel gives `images`."""
    signatures = tf.saved_model.load(str(saved_model)).signatures
    answer = signatures["probabilities"](images=tf.constant(images()))
    return answer["probabilities"].numpy()


def _record(name, run_dir, directory=GOLDEN):
    found, variables = outcome(run_dir)
    text = json.dumps(found, indent=1)
    (directory / f"{name}.json").write_text(text + "\n")
    np.savez_compressed(directory / f"{name}.npz", **variables)
    print(directory / name, found["digest"])


def _record_release():
    release = RELEASES[__version__] = GOLDEN / "releases" / __version__
    shutil.rmtree(release, ignore_errors=True)
    run_dir, file = release / "run", release / "alexnet.keras"
    _call([*RELEASE_FLAGS, f"--run_dir={run_dir}"])
    _call(["export", f"--run_dir={run_dir}", f"--keras_file={file}"])
    _compress(file)
    found = probabilities(run_dir / "saved_model")
    np.save(release / "probabilities.npy", found)
    # What export wrote; what no command reads.
    for name in ("saved_model", "tensorboard"):
        shutil.rmtree(run_dir / name)
    for name in (".lock", "labels.txt", "model_card.md"):
        (run_dir / name).unlink()
    for name in ("flags.cfg", "environment.json"):
        text = (run_dir / name).read_text()
        (run_dir / name).write_text(text.replace(f"{Path.cwd()}/", ""))


def _compress(file):
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def _call(arguments):
    command = [sys.executable, "-m", "alexnet_tf.main", *arguments]
    subprocess.run(command, check=True)


def main():
    """Records the golden runs, and this version's run with `release`."""
    if "release" in sys.argv[1:]:
        _record_release()
    with tempfile.TemporaryDirectory() as directory:
        for layout in LAYOUTS:
            run_dir = Path(directory) / layout
            for arguments in commands(run_dir, layout):
                _call(arguments)
            _record(layout, run_dir)
        for release, path in RELEASES.items():
            run_dir = Path(directory) / release
            _call(reopen(release, run_dir))
            _record("resumed", run_dir, path)


if __name__ == "__main__":
    main()
