"""Golden runs: the bit-exact result of a tiny training.

    python -m tests.end_to_end.golden_runs [--old_run]

records them again in tests/golden/, after a change that alters the numbers on
purpose; the commit says why. With --old_run it also replaces golden/run, a
finished run as an earlier version left it, which every later version must
resume, evaluate and export, and golden/alexnet.keras, which it must load.

Last recorded when JPEG files began to be decoded exactly; with TensorFlow's
default method, as for the old run, the former bits came out. The end of the old
run, resumed on other pixels, is recorded as golden/resumed since.
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

GOLDEN = Path("tests/golden")
OLD_RUN = GOLDEN / "run"
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
# Of the old run, which stopped after three of the five epochs.
OLD_FLAGS = (*FLAGS, LAYOUTS["1x1"], "--epochs=3", "--keep_checkpoints=1")
_SPEEDS = ("images_per_second", "input_wait")


def commands(run_dir, layout):
    """Returns the command lines that make one golden run."""
    flags = [*FLAGS, LAYOUTS[layout]]
    return (
        [*flags, f"--run_dir={run_dir}"],
        ["inspect", *flags, f"--json={run_dir}/network.json"],
    )


def resume_command(run_dir):
    """Returns the command line that resumes a copy of the old run."""
    return [*FLAGS, LAYOUTS["1x1"], f"--run_dir={run_dir}"]


def copy_old_run(run_dir):
    """Copies the old run, as if its last epochs had been interrupted."""
    shutil.copytree(OLD_RUN, run_dir)
    (run_dir / "result.json").unlink()


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


def recorded(name):
    """Returns what was recorded of a layout or "resumed", as `outcome` does."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        variables = {variable: file[variable] for variable in file}
    return json.loads((GOLDEN / f"{name}.json").read_text()), variables


def _record(name, run_dir):
    found, variables = outcome(run_dir)
    text = json.dumps(found, indent=1)
    (GOLDEN / f"{name}.json").write_text(text + "\n")
    np.savez_compressed(GOLDEN / f"{name}.npz", **variables)
    print(name, found["digest"])


def images():
    """Returns images of noise."""
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def probabilities(saved_model):
    """Returns the probabilities that a SavedModel gives `images`."""
    signatures = tf.saved_model.load(str(saved_model)).signatures
    answer = signatures["probabilities"](images=tf.constant(images()))
    return answer["probabilities"].numpy()


def _record_old_run():
    shutil.rmtree(OLD_RUN, ignore_errors=True)
    _call([*OLD_FLAGS, f"--run_dir={OLD_RUN}"])
    file = GOLDEN / "alexnet.keras"
    _call(["export", f"--run_dir={OLD_RUN}", f"--keras_file={file}"])
    _compress(file)
    np.save(
        GOLDEN / "probabilities.npy", probabilities(OLD_RUN / "saved_model")
    )
    shutil.rmtree(OLD_RUN / "saved_model")  # Large, and can be made again.


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
    """Records the golden runs, and the old run with --old_run."""
    with tempfile.TemporaryDirectory() as directory:
        for layout in LAYOUTS:
            run_dir = Path(directory) / layout
            for arguments in commands(run_dir, layout):
                _call(arguments)
            _record(layout, run_dir)
        if "--old_run" in sys.argv:
            _record_old_run()
        run_dir = Path(directory) / "resumed"
        copy_old_run(run_dir)
        _call(resume_command(run_dir))
        _record("resumed", run_dir)


if __name__ == "__main__":
    main()
