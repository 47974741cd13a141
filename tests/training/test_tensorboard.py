"""What TensorBoard shows of a run that is resumed."""

import keras
import pytest
import tensorflow as tf

from alexnet_tf.config.errors import UserError
from alexnet_tf.config.flags import parse
from alexnet_tf.storage.run_dir import RunDir
from alexnet_tf.training.checkpointing import Progress
from alexnet_tf.training.tensorboard import TensorBoard
from tests.support import write_run


def make_callback(run_dir, progress, classes=9):
    config, _ = parse([f"--run_dir={run_dir.path}"])
    callback = TensorBoard(
        run_dir,
        progress,
        lambda steps: [],
        config,
    )
    callback.set_model(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(classes)])
    )
    return callback


def resume(path, classes=9):
    """Returns the (tag, step, value) of what the start of a process writes."""
    run_dir = RunDir(path)
    epochs = len(run_dir.read_history())
    progress = Progress(10, step=10 * epochs, epochs_done=epochs)
    callback = make_callback(run_dir, progress, classes)
    for _ in range(2):  # `fit` may be called more than once.
        callback.on_train_begin()
        callback.on_train_end()
    return [
        (value.tag, event.step, tf.make_ndarray(value.tensor).tolist())
        for file in sorted(path.glob("tensorboard/events.*"))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]


def test_epochs_are_written_from_the_history(tmp_path):
    """Once; also those that another version wrote otherwise, or not at all."""
    errors = [0.5, 0.25, 0.75, 0.25, 0.5]
    losses = [1.0, 0.5, 2.0, 0.25, 3.0]
    top5 = [0.125, 0.0, 0.0, 0.375, 0.0]
    run = write_run(
        tmp_path / "run",
        val_top1_error=errors,
        val_loss=losses,
        val_top5_error=top5,
    )
    found = resume(run)
    points = {}
    for tag, step, value in found:
        points.setdefault(tag, []).append((step, value))
    expected = {
        "error_percent/top1_validation": [50, 25, 75, 25, 50],
        # The epoch with the lowest error, of equals with the lowest loss.
        "best/top1_error_percent": [50, 25, 25, 25, 25],
        "best/top5_error_percent": [12.5, 0, 0, 37.5, 37.5],
    }
    for tag, values in expected.items():
        assert points[tag] == list(enumerate(values, start=1))
    assert [step for step, _ in points["run/settings"]] == [5]
    assert points["run/learning_rate_drops"] == [
        (3, b"Epoch 3: 0.01 -> 0.001"),
        (5, b"Epoch 5: 0.001 -> 0.0001"),
    ]
    assert not {"training_images", "within_epochs/loss"} & points.keys()


@pytest.mark.parametrize(("classes", "has_top5"), [(5, False), (6, True)])
def test_top5_errors_need_more_than_five_classes(tmp_path, classes, has_top5):
    found = resume(write_run(tmp_path / "run"), classes)
    assert has_top5 == any("top5" in tag for tag, *_ in found)


def test_a_lost_file_is_reported(tmp_path):
    run_dir = RunDir(write_run(tmp_path / "run"))
    callback = make_callback(run_dir, Progress(10, step=20, epochs_done=2))
    callback.on_train_begin()
    for file in run_dir.tensorboard.glob("events.*"):
        file.unlink()
    with pytest.raises(UserError, match="the file of events is gone"):
        callback.on_epoch_end(1)


def test_lost_rows_are_left_out(tmp_path):
    run = write_run(tmp_path / "run", val_loss=[2.0, "", 1.0, "", ""])
    losses = [(n, x) for tag, n, x in resume(run) if tag == "loss/validation"]
    assert losses == [(1, 2.0), (3, 1.0)]
