"""The names of the package itself."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import alexnet_tf
from alexnet_tf.config.errors import UserError

NAMES = sorted({*alexnet_tf.__all__} - {"__version__"})


def test_importing_the_package_imports_nothing_else():
    program = "import sys; before = {*sys.modules}; import alexnet_tf; "
    program += "dir(alexnet_tf); alexnet_tf.__version__; "
    program += "print(*({*sys.modules} - before))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True
    )
    loaded = set(done.stdout.decode().split())
    assert "alexnet_tf" in loaded
    assert not {name.split(".")[0] for name in loaded} - (
        {"alexnet_tf"} | sys.stdlib_module_names
    )
    assert not [name for name in loaded if name.startswith("alexnet_tf.")]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_documented_and_listed(name):
    assert inspect.getdoc(getattr(alexnet_tf, name))
    assert name in dir(alexnet_tf)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'alexnt'"):
        alexnet_tf.alexnt  # noqa: B018
    with pytest.raises(ImportError):
        exec("from alexnet_tf import alexnt")


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(alexnet_tf.__file__).read_text())
    (block, *_) = [node for node in tree.body if isinstance(node, ast.If)]
    homes = {
        alias.name: node.module.removeprefix("alexnet_tf.")
        for node in block.body
        for alias in node.names
    }
    assert homes == alexnet_tf._HOMES
    assert sorted(homes) == NAMES
    assert Path(alexnet_tf.__file__).with_name("py.typed").exists()


def fit(errors, **arguments):
    """Fits a model of one weight, whose validation error is given."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(alexnet_tf.MomentumSGD(0.1), "mse")
    errors = iter(errors)

    def add_error(epoch, logs):
        logs["error"] = next(errors)

    given = keras.callbacks.LambdaCallback(on_epoch_end=add_error)
    schedule = alexnet_tf.PlateauSchedule(**arguments)
    history = model.fit(
        np.ones((4, 1)),
        np.ones((4, 1)),
        epochs=9,
        verbose=0,
        callbacks=[given, schedule],
    )
    return len(history.epoch), float(model.optimizer.learning_rate.numpy())


def test_the_plateau_schedule_is_a_callback_of_fit(capsys):
    """Two drops by 2, and the end at the third plateau of an epoch."""
    errors = [0.5, 0.4, 0.4, 0.3, 0.3, 0.3, 0.2, 0.1, 0.0]
    epochs, rate = fit(
        errors, patience=1, factor=2.0, max_drops=2, monitor="error"
    )
    assert epochs == 6
    assert rate == pytest.approx(0.1 / 4)
    printed = capsys.readouterr().out
    assert "0.1 -> 0.05 (drop 1 of 2): 1 epochs without error below" in printed


def test_a_monitor_that_is_not_there_is_named():
    with pytest.raises(UserError, match="not in the logs, .* have loss, error"):
        fit([0.5])


def test_a_run_predicts_image_files(finished_run, image_files, tmp_path):
    run = alexnet_tf.load_run(finished_run)
    answers = run.predict(image_files)
    assert len(answers) == len(image_files)
    (label, score), *others = answers[0]
    assert isinstance(label, str) and len(others) == 4
    assert 1 >= score >= max(score for _, score in others)
    assert run.model.name == "alexnet"
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UserError, match="a.jpg cannot be read: Unknown image"):
        run.predict([image_files[0], tmp_path / "a.jpg"])
    assert run.predict([]) == []


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        alexnet_tf.load_run(tmp_path)
