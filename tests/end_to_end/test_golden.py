"""Golden runs reproduce the recorded bits; runs of earlier versions work."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import alexnet_tf.models.alexnet  # noqa: F401 Registers its layers.
from alexnet_tf.config.flags import parse_run
from alexnet_tf.main import main
from alexnet_tf.storage import checkpoints
from tests.end_to_end import golden_runs

# On another processor sums round differently.
TOLERANCE = 1e-6
# The old run was trained, and its results were measured, when JPEG files were
# decoded by TensorFlow's default method, up to a few gray levels away from
# today's pixels.
OLD_PIXELS = 2e-3


def check(found, variables, name, capsys):
    """Compares a run with a golden one: bits, or values within 1e-6."""
    expected, expected_variables = golden_runs.recorded(name)
    if found["digest"] == expected["digest"]:
        assert found["history"] == expected["history"]
        return
    assert variables.keys() == expected_variables.keys()
    with capsys.disabled():
        print(f"\n{name}: not the recorded bits; values are compared")
    for path, value in variables.items():
        np.testing.assert_allclose(
            value.astype(float),
            expected_variables[path],
            rtol=TOLERANCE,
            atol=TOLERANCE,
            err_msg=path,
        )
    for row, other in zip(found["history"], expected["history"], strict=True):
        for column in other:
            assert float(row[column]) == pytest.approx(
                float(other[column]), rel=1e-4, abs=1e-4
            )


@pytest.mark.parametrize("layout", golden_runs.LAYOUTS)
def test_a_golden_run(layout, tmp_path, capsys):
    for arguments in golden_runs.commands(tmp_path, layout):
        assert main(arguments) == 0
    found, variables = golden_runs.outcome(tmp_path)
    check(found, variables, layout, capsys)
    expected, _ = golden_runs.recorded(layout)
    assert found["layers"] == expected["layers"]


@pytest.fixture
def old_run(tmp_path):
    """A run of three epochs as an earlier version left it."""
    return shutil.copytree(golden_runs.OLD_RUN, tmp_path / "run")


def test_an_old_run_resumes_to_the_same_bits(tmp_path, capsys):
    """In the new order: not to the bits of a run that began with it.

    Without EXIF orientation, which did not exist.
    """
    run_dir = tmp_path / "run"
    before = (golden_runs.OLD_RUN / "history.csv").read_text().splitlines()
    assert main(golden_runs.reopen_old_run(run_dir)) == 0
    printed = capsys.readouterr().out
    assert "with 3 epochs done" in printed
    assert "continues with --exif_orientation=False" in printed
    assert "exif_orientation" not in (run_dir / "flags.cfg").read_text()
    # Its epochs were counted from 0; the rest is as it was.
    after = (run_dir / "history.csv").read_text().splitlines()
    for number, (row, former) in enumerate(zip(after, before, strict=False)):
        if number:
            former = former.replace(f"{number - 1},", f"{number},", 1)
        assert row == former
    result = json.loads((run_dir / "result.json").read_text())
    errors = [
        (float(row["val_top1_error"]), float(row["val_loss"]), row["epoch"])
        for row in csv.DictReader(after)
    ]
    assert str(result["best_epoch"]) == min(errors)[2]
    assert "in another order. It continues in the new one.\n" in printed
    check(*golden_runs.outcome(run_dir), "resumed", capsys)


@pytest.mark.slow
def test_an_old_run_continues_within_an_epoch(tmp_path, capsys):
    run_dir = tmp_path / "run"
    arguments = golden_runs.reopen_old_run(run_dir)
    last = checkpoints.newest(run_dir / "checkpoints")
    state = checkpoints.read_state(last) | {"step": 14}
    with np.load(last / "variables.npz") as values:
        checkpoints.save(run_dir / "checkpoints", dict(values), state)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "after step 14, with 3 epochs done" in printed
    assert "the rest of epoch 4 may repeat images" in printed
    assert len(golden_runs.outcome(run_dir)[0]["history"]) == 5
    # From its next checkpoint on, it is a run of this version.
    (run_dir / "result.json").unlink()
    assert main(arguments) == 0
    assert "order" not in capsys.readouterr().out


def test_an_old_run_is_evaluated(old_run, tmp_path):
    """Without EXIF orientation; its validation set has no EXIF data."""
    assert not parse_run(old_run / "flags.cfg").exif_orientation
    file = tmp_path / "errors.json"
    assert main(["evaluate", str(old_run), f"--json={file}"]) == 0
    found = json.loads(file.read_text())["center"]
    result = json.loads((old_run / "result.json").read_text())
    assert found["loss"] == pytest.approx(result["loss"], abs=OLD_PIXELS)
    for name in ("top1_error", "top5_error", "num_examples"):
        assert found[name] == result[name], name


def test_an_old_run_exports_the_same_model(old_run):
    assert main(["export", f"--run_dir={old_run}"]) == 0
    np.testing.assert_allclose(
        golden_runs.probabilities(old_run / "saved_model"),
        np.load(golden_runs.GOLDEN / "probabilities.npy"),
        atol=TOLERANCE,
    )


def test_an_old_keras_file_is_loaded():
    network = keras.saving.load_model(golden_runs.GOLDEN / "alexnet.keras")
    np.testing.assert_allclose(
        tf.nn.softmax(network(golden_runs.images())),
        np.load(golden_runs.GOLDEN / "probabilities.npy"),
        atol=TOLERANCE,
    )


def test_the_flags_of_an_old_run_are_read(capsys):
    """They have former names, and its epochs were counted from 0."""
    flags = [f"--flagfile={golden_runs.OLD_RUN}/flags.cfg"]
    assert main([*flags, f"--run_dir={golden_runs.OLD_RUN}"]) == 0
    printed = capsys.readouterr().out
    assert "is finished" in printed and "Best epoch 1 of 3: " in printed
