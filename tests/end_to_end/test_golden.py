"""Golden runs reproduce the recorded bits; runs of earlier versions work."""

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
from alexnet_tf.storage.run_dir import RunDir
from tests.end_to_end import golden_runs

# On another processor sums round differently.
TOLERANCE = 1e-6
# Of the loss in result.json. Version 0.1 decoded JPEG files by TensorFlow's
# default method, up to a few gray levels away from today's pixels.
LOSS_TOLERANCE = {"0.1.0": 2e-3}
# What is printed when the run of a release resumes.
ANNOUNCED = {
    "0.1.0": (
        "continues with --exif_orientation=False",
        "in another order. It continues in the new one.\n",
    )
}
IMAGE = next(golden_runs.GOLDEN.glob("images/validation/*/00.jpg"))


def check(found, variables, name, capsys, directory=golden_runs.GOLDEN):
    """Compares a run with a golden one: bits, or values within 1e-6."""
    expected, expected_variables = golden_runs.recorded(name, directory)
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


@pytest.mark.parametrize(
    "layout", ["2x2", pytest.param("1x1", marks=pytest.mark.slow)]
)
def test_a_golden_run(layout, tmp_path, capsys):
    for arguments in golden_runs.commands(tmp_path, layout):
        assert main(arguments) == 0
    found, variables = golden_runs.outcome(tmp_path)
    check(found, variables, layout, capsys)
    expected, _ = golden_runs.recorded(layout)
    assert found["layers"] == expected["layers"]


@pytest.mark.parametrize(
    "release",
    [
        # The oldest is the most different.
        oldest := min(golden_runs.RELEASES),
        *(
            pytest.param(release, marks=pytest.mark.slow)
            for release in golden_runs.RELEASES.keys() - {oldest}
        ),
    ],
)
def test_a_run_of_a_release(release, tmp_path, capsys):
    """It is evaluated, predicts, is exported, compared and resumed."""
    directory, run_dir = golden_runs.RELEASES[release], tmp_path / "run"
    resume = golden_runs.reopen(release, run_dir)
    shutil.copy(directory / "run" / "result.json", run_dir)
    file = tmp_path / "results.json"
    shared = [f"--run_dir={run_dir}", f"--json={file}"]

    def results_of(command, *arguments):
        assert main([command, *arguments]) == 0
        return json.loads(file.read_text())

    before = json.loads((run_dir / "result.json").read_text())
    measured = results_of("evaluate", str(run_dir), shared[1])["center"]
    tolerance = LOSS_TOLERANCE.get(release, TOLERANCE)
    assert measured["loss"] == pytest.approx(before["loss"], abs=tolerance)
    for name in ("top1_error", "top5_error", "num_examples"):
        assert measured[name] == before[name], name

    assert main(["export", shared[0]]) == 0
    saved_model = run_dir / "saved_model"
    np.testing.assert_allclose(
        golden_runs.probabilities(saved_model),
        np.load(directory / "probabilities.npy"),
        atol=TOLERANCE,
    )
    (predicted,) = results_of("predict", str(IMAGE), *shared).values()
    model = f"--saved_model={saved_model}"
    (exported,) = results_of("predict", str(IMAGE), model, shared[1]).values()
    assert [label for label, _ in predicted] == [label for label, _ in exported]
    classes = {path.parent.name for path in IMAGE.parents[1].glob("*/*")}
    assert {label for label, _ in predicted} == classes
    for (_, score), (_, other) in zip(predicted, exported, strict=True):
        assert score == pytest.approx(other, abs=TOLERANCE)

    figures = f"--figures_dir={tmp_path}"
    (compared,) = results_of(
        "compare", str(run_dir), figures, shared[1]
    ).values()
    assert compared["top1_error"] == [before["top1_error"]]

    capsys.readouterr()
    assert main([f"--flagfile={run_dir}/flags.cfg", shared[0]]) == 0
    printed = capsys.readouterr().out
    rows = RunDir(directory / "run").read_history()
    columns = ("val_top1_error", "val_loss")
    best = min(rows, key=lambda row: [float(row[c]) for c in columns])["epoch"]
    assert "is finished" in printed and f"Best epoch {best} of 3: " in printed
    (run_dir / "result.json").unlink()
    assert main(resume) == 0
    printed = capsys.readouterr().out
    for text in ("with 3 epochs done", *ANNOUNCED.get(release, ())):
        assert text in printed
    # Settings that did not exist are not added.
    settings = (directory / "run" / "flags.cfg").read_text()
    has_exif = "--exif_orientation" in settings
    assert parse_run(run_dir / "flags.cfg").exif_orientation == has_exif
    # Version 0.1 counted epochs from 0.
    assert RunDir(run_dir).read_history()[:3] == rows
    assert (run_dir / "history.csv").read_text().splitlines()[1][:2] == "1,"
    check(*golden_runs.outcome(run_dir), "resumed", capsys, directory)


@pytest.mark.slow
def test_an_old_run_continues_within_an_epoch(tmp_path, capsys):
    run_dir = tmp_path / "run"
    arguments = golden_runs.reopen("0.1.0", run_dir)
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


def test_an_old_run_without_its_history_goes_on(tmp_path, capsys):
    """Its checkpoints have no rows."""
    run_dir = tmp_path / "run"
    arguments = golden_runs.reopen("0.1.0", run_dir)
    (run_dir / "history.csv").unlink()
    assert main(arguments) == 0
    assert "lost rows stay empty" in capsys.readouterr().out
    rows = RunDir(run_dir).read_history()
    assert [row["epoch"] for row in rows] == list("12345")
    assert [bool(row["val_loss"]) for row in rows] == 3 * [False] + 2 * [True]
    (run_dir / "result.json").unlink()
    assert main(arguments) == 0
    assert "lacked rows" not in capsys.readouterr().out


@pytest.mark.parametrize("release", golden_runs.RELEASES)
def test_a_keras_file_of_a_release_is_loaded(release):
    directory = golden_runs.RELEASES[release]
    network = keras.saving.load_model(directory / "alexnet.keras")
    np.testing.assert_allclose(
        tf.nn.softmax(network(golden_runs.images())),
        np.load(directory / "probabilities.npy"),
        atol=TOLERANCE,
    )
