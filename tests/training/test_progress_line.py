"""The line of progress, on real terminals of several sizes and in files."""

import contextlib
import os
import pty
import re
import shutil
import threading

import keras
import pytest
import tensorflow as tf

from alexnet_tf.distribution.workers import Workers
from alexnet_tf.storage.run_dir import HISTORY_COLUMNS, RunDir
from alexnet_tf.training import progress_line
from alexnet_tf.training.checkpointing import (
    Checkpointer,
    MetricTotals,
    Progress,
    ProgressTracker,
)
from alexnet_tf.training.loop import fit_to_end
from alexnet_tf.training.progress_line import ProgressLine, show_duration
from tests.end_to_end import golden_runs

STEPS = 4


class Figures(keras.callbacks.Callback):
    """Adds what others add in a run, and prints something of its own."""

    def on_train_batch_end(self, batch, logs=None):
        logs |= {"top1_error": 0.342, "top5_error": 0.081}
        logs |= {"images_per_second": 1690.4} if batch else {}
        if batch == 2:
            print("A message,", "in two parts.")

    def on_epoch_end(self, epoch, logs=None):
        logs |= {"top1_error": 0.333, "top5_error": 0.08}
        logs |= {"images_per_second": 1680.0, "val_loss": 0.5}
        logs |= {"val_top1_error": 0.29 - epoch / 100, "val_top5_error": 0.0}


class Rows(keras.callbacks.Callback):
    """Writes history.csv."""

    def __init__(self, run_dir):
        super().__init__()
        self.run_dir, self.rows = run_dir, run_dir.read_history()

    def on_epoch_end(self, epoch, logs=None):
        row = dict.fromkeys(HISTORY_COLUMNS, "") | logs
        self.rows.append(row | {"epoch": str(epoch + 1)})
        self.run_dir.write_history(self.rows)


def train(directory, *, epochs=3, classes=10, step=0):
    """Trains a linear model from a step on."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse")
    run_dir = RunDir(directory)
    progress = Progress(STEPS, step=step, epochs_done=step // STEPS)
    line = ProgressLine(
        run_dir, progress, epochs=epochs, batch_size=100, num_classes=classes
    )
    workers = Workers(tf.distribute.get_strategy())
    totals = MetricTotals(workers)
    checkpointer = Checkpointer(
        *(run_dir, progress, totals, workers, {}),
        keep=1,
        every_steps=0,
        from_start=False,
    )

    def batches(steps):
        x = tf.zeros((len(steps), 4, 3))
        return tf.data.Dataset.from_tensor_slices((x, x[..., :2]))

    with line.on_screen():
        fit_to_end(
            model,
            batches,
            [Figures(), Rows(run_dir), line, ProgressTracker(progress)],
            epochs=epochs,
            workers=workers,
            checkpointer=checkpointer,
            record_batch=str,
            max_rollbacks=0,
        )


@pytest.fixture
def terminal(monkeypatch):
    """Returns a function that calls another one on a terminal.

    It returns the lines that stay, and all that were drawn.
    """

    def show(columns, function, *arguments, **options):
        reader, writer = pty.openpty()
        parts = []

        def read():
            with contextlib.suppress(OSError):  # The other end is closed.
                while part := os.read(reader, 1000):
                    parts.append(part)

        thread = threading.Thread(target=read)
        thread.start()
        with (
            open(writer, "w", encoding="ascii") as screen,
            monkeypatch.context() as patch,
        ):
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(progress_line, "_MOVING", 0.0)
            patch.setattr("sys.stdout", screen)
            function(*arguments, **options)
        thread.join()
        os.close(reader)
        lines = b"".join(parts).decode("ascii").split("\r\n")
        drawn = [re.split(r"\r\x1b\[K", line) for line in lines]
        assert drawn[-1][-1] == ""  # The cursor is at the start of a line.
        return [parts[-1] for parts in drawn[:-1]], sum(drawn, [])

    return show


@pytest.mark.parametrize("columns", [120, 80, 60, 40, 20])
def test_a_line_moves_and_one_stays_for_each_epoch(terminal, tmp_path, columns):
    stay, drawn = terminal(columns, train, tmp_path)
    assert [line for line in stay if line[:5] != "Epoch"] == [
        "A message, in two parts."
    ] * 3
    assert max(len(line) for line in drawn if line[:1] == "E") < columns
    lines = [line for line in stay if line[:5] == "Epoch"]
    for number, line in enumerate(lines, start=1):
        assert line.startswith(f"Epoch {number}/3")
        if columns >= 40:
            assert f"error 33.3% (val {30 - number}.0)" in line
        assert ("top-5  8.0% (val  0.0)" in line) == (columns >= 60)
        assert ("1,680 img/s" in line) == (columns >= 80)
    assert len(lines) == 3
    # The steps of the second epoch.
    moving = [line for line in drawn if "Epoch 2/3" in line and "34.2%" in line]
    if columns <= 40:  # Equal lines are drawn once.
        assert bool(moving) == (columns == 40)
        return
    first, second, third, fourth = moving
    assert all("(val 29.0)" in line for line in moving)
    assert ("top-5  8.1% (val  0.0)" in second) == (columns == 120)
    assert "1,690 img/s" in second
    if columns >= 80:
        bars = [re.search(r"\[(=*)>( *)\]", line) for line in moving]
        assert {len(bar[0]) for bar in bars} == {24 if columns == 120 else 14}
        assert bars[-1][2] == "" < bars[0][2] and bars[0][1]
        assert second.endswith(" left") and third.endswith(" left")
        assert fourth.endswith("validation ...")


def test_the_first_step_is_announced(terminal, tmp_path):
    _, drawn = terminal(80, train, tmp_path)
    assert [line for line in drawn if "compiling" in line] == [
        "Epoch 1/3  [>           ]  compiling ..."
    ]


def test_a_resumed_run_counts_to_the_end_of_the_run(terminal, tmp_path):
    """Within the second of three epochs, with the error of the first."""
    shutil.copytree(golden_runs.OLD_RUN, tmp_path / "run")
    run_dir = RunDir(tmp_path / "run")
    rows = run_dir.read_history()
    run_dir.write_history([rows[0] | {"val_top1_error": "0.5"}])
    stay, drawn = terminal(80, train, run_dir.path, step=6)
    assert [line[:9] for line in stay if line[:5] == "Epoch"] == [
        "Epoch 2/3",
        "Epoch 3/3",
    ]
    first = next(line for line in drawn if "34.2%" in line)
    assert "(val 50.0)" in first
    assert "[========>   ]" in first  # After the third of four steps.
    assert not any("Epoch 2/2" in line for line in drawn)


@pytest.mark.parametrize("classes", [2, 5])
def test_few_classes_have_no_top5_error(terminal, tmp_path, classes):
    stay, drawn = terminal(120, train, tmp_path, classes=classes)
    assert "33.3%" in stay[1] and "top-5" not in "".join(stay + drawn)


def test_a_message_of_an_error_begins_a_line(terminal, tmp_path):
    def fail():
        run_dir = RunDir(tmp_path)
        progress = Progress(STEPS)
        line = ProgressLine(
            run_dir, progress, epochs=1, batch_size=1, num_classes=9
        )
        with pytest.raises(ZeroDivisionError), line.on_screen():
            line.on_epoch_begin(0)
            1 / 0  # noqa: B018
        print("error")

    assert terminal(80, fail)[0] == ["error"]


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_a_file_has_a_line_once_a_minute(
    tmp_path, monkeypatch, capsys, seconds
):
    monkeypatch.setattr(progress_line, "_PRINTED", seconds)
    train(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    within = [line for line in lines if re.match(r"Epoch 1/3  +\d+%", line)]
    assert len(within) == (0 if seconds else STEPS)
    assert lines.count("A message, in two parts.") == 3
    after = [line for line in lines if re.match(r"Epoch ./3  error", line)]
    assert len(after) == 3 and len(lines) == 6 + 3 * len(within)
    assert "top-5  8.0% (val  0.0)  1,680 img/s  " in after[0]
    assert after[0].endswith(" left") and not after[2].endswith(" left")
    for part, line in zip((25, 50, 75, 100), within, strict=False):
        assert f"{part}%  error 34.2%  top-5  8.1%" in line


def test_time_left_is_that_of_the_run(tmp_path):
    """With 90 s between the steps of two epochs, at 50 images a second."""
    line = ProgressLine(
        *(RunDir(tmp_path), Progress(1000)),
        epochs=10,
        batch_size=100,
        num_classes=9,
    )
    line._between = 90.0
    logs = {"images_per_second": 50.0}
    left = line._time_left(logs, epoch=7, step=100)
    seconds = (3 * 1000 - 100) * 100 / 50 + 3 * 90
    assert left == f"{seconds / 3600:.1f} h left" == "1.7 h left"
    assert line._time_left(logs, epoch=10, step=0) == ""
    assert line._time_left({}, epoch=7, step=100) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5990, "100 min")),
        *((6000, "1.7 h"), (172_000, "47.8 h"), (172_800, "2.0 days")),
    ],
)
def test_durations(seconds, text):
    assert show_duration(seconds) == text
